//! A sweep as many jobs of a cluster, a shard each.

use std::path::Path;
use std::{env, fs};

use clap::ValueEnum;

use super::file::Sweep;
use super::order::Shard;
use crate::failure::Failure;
use crate::output::OutputArgs;

/// What runs the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scheduler {
    /// A script for `sbatch`, on machines that share a folder
    Slurm,
    /// An indexed Job with the sweep in a ConfigMap, for `kubectl apply -f -`
    Kubernetes,
}

/// What the jobs are to do.
pub(crate) struct Jobs<'a> {
    pub(crate) file: &'a Path,
    pub(crate) sweep: &'a Sweep,
    pub(crate) shards: u64,
    pub(crate) output: &'a OutputArgs,
}

/// Text that a shell takes as it is.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn path(of: &Path) -> Result<&str, Failure> {
    let refuse = || Failure::input(format!("{} is not UTF-8, as a script is", of.display()));
    of.to_str().filter(|text| !text.contains('\n')).ok_or_else(refuse)
}

/// A string of YAML: one of JSON is one.
fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

const GIB: u64 = 1 << 30;

impl Jobs<'_> {
    pub(crate) fn script(&self, scheduler: Scheduler, image: Option<&str>) -> Result<String, Failure> {
        Shard { number: 1, of: self.shards }.check(self.sweep.runs.all())?;
        if self.output.json.is_some() || self.output.html.is_some() || self.output.force {
            let why = "each shard has files of its own in the folder of --out";
            return Err(Failure::input(format!("{why}: leave out --json, --html, --force")));
        }
        match (scheduler, image) {
            (Scheduler::Slurm, None) => self.slurm(),
            (Scheduler::Slurm, Some(_)) => Err(Failure::input("--image is of --job-array kubernetes: leave it out")),
            (Scheduler::Kubernetes, Some(image)) => self.kubernetes(image),
            (Scheduler::Kubernetes, None) => Err(Failure::input(
                "--job-array kubernetes needs --image: a container's image that has gc-bench on its path",
            )),
        }
    }

    /// What the jobs do, in a line.
    fn about(&self) -> String {
        let (runs, shards) = (self.sweep.runs.all(), self.shards);
        format!("gc-bench sweep: {runs} runs in {shards} shard{}", if shards == 1 { "" } else { "s" })
    }

    fn slurm(&self) -> Result<String, Failure> {
        let failed = |e| Failure::run(format!("cannot tell where this program or folder is: {e}"));
        let (program, folder) = (env::current_exe().map_err(failed)?, env::current_dir().map_err(failed)?);
        let [program, folder, file] = [path(&program)?, path(&folder)?, path(self.file)?].map(quoted);
        let out = self.output.out.as_deref().map(path).transpose()?.map(quoted);
        let (shards, about) = (self.shards, self.about());
        let reports = out.as_ref().map(|out| format!("{out}/")).unwrap_or_default();
        let option = out.map(|out| format!(" --out {out}")).unwrap_or_default();
        Ok(format!(
            "\
#!/bin/bash
# {about}, a job each. Submit this with sbatch, where
# all machines share the folder below and the program; submitted again, it goes on where it ended.
# When all are done, in that folder:
#   gc-bench merge {reports}gc-bench-report-*-of-{shards}.json{option}
#SBATCH --job-name=gc-bench-sweep
#SBATCH --array=1-{shards}
#SBATCH --output=gc-bench-sweep-%a.log
#SBATCH --open-mode=append
# Figures are those of the whole machine: nothing else runs on it.
#SBATCH --exclusive
#SBATCH --mem=0
# A job that is taken off its machine comes back, and goes on.
#SBATCH --requeue
set -eu
cd -- {folder}
exec {program} sweep {file} --shard \"$SLURM_ARRAY_TASK_ID/{shards}\" --resume{option}
"
        ))
    }

    fn kubernetes(&self, image: &str) -> Result<String, Failure> {
        if self.output.out.is_some() {
            return Err(Failure::input("reports of the Job are in its volume of results: leave out --out"));
        }
        let unread = |e| Failure::input(format!("cannot read {}: {e}", self.file.display()));
        let sweep = fs::read_to_string(self.file).map_err(unread)?;
        let is_json = self.file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        let file = if is_json { "sweep.json" } else { "sweep.toml" };
        let plans = &self.sweep.runs.plans;
        let heap = plans.iter().map(|plan| plan.heap.heap_bytes).max().unwrap_or(0);
        // Side metadata, and what the bench itself keeps of a run.
        let memory = (heap + heap / 16).div_ceil(GIB) + 1;
        let cpus = plans.iter().map(|plan| plan.work.threads()).max().unwrap_or(1) + 1;
        let (shards, about) = (self.shards, self.about());
        let run = format!(
            "exec gc-bench sweep /sweep/{file} --shard $((JOB_COMPLETION_INDEX + 1))/{shards} --resume --out /results"
        );
        let mut text = format!(
            "\
# {about}, a pod each. The claim gc-bench-results must be there, and be one that all pods can write
# to. When all are done, where that volume is: gc-bench merge gc-bench-report-*-of-{shards}.json
apiVersion: v1
kind: ConfigMap
metadata:
  name: gc-bench-sweep
data:
  {file}: {}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: gc-bench-sweep
spec:
  completionMode: Indexed
  completions: {shards}
  parallelism: {shards}
  backoffLimit: {shards}
  template:
    metadata:
      labels:
        app: gc-bench-sweep
    spec:
      # One that is ended goes on where it ended.
      restartPolicy: OnFailure
      # Figures are those of the whole machine: no two of them share one.
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            - topologyKey: kubernetes.io/hostname
              labelSelector:
                matchLabels:
                  app: gc-bench-sweep
      containers:
        - name: gc-bench
          image: {}
          command: [\"/bin/sh\", \"-c\", {}]
          # Whole processors: those of the mutators and one more; the largest heap and 1 GiB.
          resources:
            requests: &size
              cpu: {cpus}
              memory: {memory}Gi
            limits: *size
",
            string(&sweep),
            string(image),
            string(&run),
        );
        if plans.iter().any(|plan| plan.heap.barrier.is_page()) {
            text.push_str(
                "          \
          # The page barrier needs userfaultfd, which the runtime's own profile forbids.
          securityContext:
            seccompProfile:
              type: Unconfined
",
            );
        }
        text.push_str(
            "          \
          volumeMounts:
            - name: sweep
              mountPath: /sweep
            - name: results
              mountPath: /results
      volumes:
        - name: sweep
          configMap:
            name: gc-bench-sweep
        - name: results
          persistentVolumeClaim:
            claimName: gc-bench-results
",
        );
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_and_yaml_take_text_as_it_is() {
        assert_eq!(
            (quoted("/a/b-1.toml"), quoted("a b"), quoted("it's")),
            ("/a/b-1.toml".into(), "'a b'".into(), "'it'\\''s'".into())
        );
        assert_eq!(
            (quoted("$(x)"), quoted(""), string("a: \"b\"\n")),
            ("'$(x)'".into(), "''".into(), "\"a: \\\"b\\\"\\n\"".into())
        );
    }
}
