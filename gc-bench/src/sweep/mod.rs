//! `gc-bench sweep`: workloads, barriers, heaps and options in one file, run in a random order,
//! here or in shards on several machines; and `gc-bench merge`, which puts the shards together.

pub(crate) mod file;
pub(crate) mod jobs;
pub(crate) mod made;
pub(crate) mod merge;
pub(crate) mod order;
pub(crate) mod session;
pub(crate) mod table;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::failure::Failure;
use crate::journal::{Journal, Request, this_build};
use crate::machine;
use crate::output::{OutputArgs, Outputs, REPORT};
use crate::plan::Plan;
use crate::record::{Head, RUNS};
use crate::results::Document;
use crate::size::parse_count;
use file::Sweep;
use jobs::{Jobs, Scheduler};
use made::{Part, Swept};
use order::{Shard, order};
use session::{Line, document};

/// `gc-bench sweep`.
#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// The sweep: TOML, or JSON where its name ends in .json; below there is what it says
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Make only this part of the runs: K/N is the K-th of N pieces of the order. `gc-bench merge`
    /// puts the reports together
    #[arg(long, value_name = "K/N")]
    shard: Option<Shard>,

    /// Go on behind the runs that were made before, if there are some; where all were made, say so
    #[arg(long)]
    resume: bool,

    /// Run nothing, and print what makes the runs in --shards: a script for `sbatch`, or an indexed
    /// Job for `kubectl apply`
    #[arg(long, value_name = "SCHEDULER", value_enum, requires = "shards", conflicts_with_all = ["shard", "resume"])]
    job_array: Option<Scheduler>,

    /// With --job-array: how many shards
    #[arg(long, value_name = "N", value_parser = parse_count, requires = "job_array")]
    shards: Option<u64>,

    /// With --job-array kubernetes: the image of a container that has gc-bench on its path
    #[arg(long, value_name = "IMAGE", requires = "job_array")]
    image: Option<String>,

    #[command(flatten)]
    output: OutputArgs,
}

/// What a request for a sweep leads to.
pub(crate) enum Asked {
    /// A script, to be printed.
    Script(String),
    /// All runs were made before, and this report has them.
    Done(PathBuf),
    /// A report, and where it goes; the journal goes when it is there.
    Report(Box<Document>, Outputs, Journal<Line>),
}

/// Of a shard, or of the whole: what the report is called, and the file that runs are kept in.
fn names(shard: Shard, output: &OutputArgs) -> (String, PathBuf) {
    let suffix = if shard.of == 1 { String::new() } else { format!("-{}-of-{}", shard.number, shard.of) };
    let journal = output.out.clone().unwrap_or_default().join(format!("gc-bench-sweep{suffix}.runs"));
    (format!("{REPORT}{suffix}"), journal)
}

/// Refuses a sweep of which nothing can be run here.
fn check(sweep: &Sweep) -> Result<(), Failure> {
    let memory = machine::memory();
    let refused = sweep.runs.plans.iter().map(|plan| plan.check(memory)).collect::<Vec<_>>();
    if refused.iter().any(Result::is_ok) { Ok(()) } else { refused.into_iter().collect() }
}

/// What a report of this sweep says of it, before anything is run.
fn swept(sweep: &Sweep, head: &Head, shard: Shard) -> Result<Swept, Failure> {
    let (command, when) = (head.command.clone(), head.when.clone());
    let (cpu_model, cpus) = (head.machine.cpu_model.clone(), head.machine.cpus);
    let part = Part { shard, command, when, cpu_model, cpus, kernel: head.kernel.release.clone() };
    Ok(Swept {
        build: this_build()?,
        repeats: sweep.runs.schedule.repeats,
        timeout_s: sweep.timeout.as_secs_f64(),
        settings: sweep.runs.settings(),
        shards: vec![part],
        runs: Vec::new(),
    })
}

/// Whether a report is of this very sweep and shard.
fn is_its_report(path: &Path, seed: u64, own: &Swept) -> bool {
    let Ok(Document { order, sweep: Some(found), .. }) = Document::read(path) else { return false };
    let shards = |of: &Swept| of.shards.iter().map(|part| part.shard).collect::<Vec<_>>();
    order.seed == seed && found.difference(own).is_none() && shards(&found) == shards(own)
}

impl SweepArgs {
    /// Makes the runs, or what was asked for instead.
    pub(crate) fn run(&self) -> Result<Asked, Failure> {
        let sweep = file::read(&self.file)?;
        if let (Some(scheduler), Some(shards)) = (self.job_array, self.shards) {
            let jobs = Jobs { file: &self.file, sweep: &sweep, shards, output: &self.output };
            return jobs.script(scheduler, self.image.as_deref()).map(Asked::Script);
        }
        check(&sweep)?;
        let (shard, all) = (self.shard.unwrap_or(Shard::WHOLE), sweep.runs.all());
        shard.check(all)?;
        let (name, path) = names(shard, &self.output);
        let (mut head, seed) = (Head::now(RUNS), sweep.runs.schedule.seed);
        let swept = swept(&sweep, &head, shard)?;
        let mut output = self.output.clone();
        let report = self.output.json_file(&name).filter(|report| self.resume && is_its_report(report, seed, &swept));
        match report {
            Some(report) if !path.exists() => return Ok(Asked::Done(report)),
            // Its session was killed between the report and the page.
            Some(_) => output.force = true,
            None => {}
        }
        // Makes the folder that the journal is in, too.
        let outputs = Outputs::prepare_as(&output, &name)?;
        let more = json!({ "shard": shard.to_string(), "timeout_s": swept.timeout_s, "seed": seed });
        let anew = self.output.force && !self.resume;
        let mut journal = Journal::of(&path, &mut Request::new(&sweep.runs, more)?, anew)?;
        let places = &order(sweep.runs.plans.len(), sweep.runs.schedule.repeats, seed)[shard.range(all)];
        let (made, of) = (journal.len(), places.len());
        if made > 0 && !self.resume {
            let goes_on = "--resume goes on behind them, --force drops them";
            return Err(Failure::input(format!("{} has {made} of {of} runs of this sweep: {goes_on}", path.display())));
        }
        if made > 0 {
            eprintln!("gc-bench: {made} of {of} runs were made before");
        }
        let lines = session::run(&sweep, places, &mut journal)?;
        head.environment.end();
        let labels = sweep.runs.plans.iter().map(Plan::label).collect();
        Ok(Asked::Report(Box::new(document(head, (seed, labels), swept, lines)), outputs, journal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_files_of_its_own() {
        let output = OutputArgs { json: None, html: None, out: Some("d".into()), force: false };
        assert_eq!(names(Shard::WHOLE, &output), ("gc-bench-report".into(), "d/gc-bench-sweep.runs".into()));
        let (report, journal) = names(Shard { number: 2, of: 3 }, &output);
        assert_eq!((&*report, journal), ("gc-bench-report-2-of-3", "d/gc-bench-sweep-2-of-3.runs".into()));
    }
}
