//! Runs of which some may end for lack of memory: each is kept in a file when it is over, so that
//! the same command goes on behind the last one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::journal::this_build;
use crate::machine::Memory;
use crate::plan::Plan;
use crate::record::Record;
use crate::session::{Meter, run_within};
use crate::status::Status;

/// What a run cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) ops: u64,
    pub(crate) wall_s: f64,
    /// Processor time, of it that of the collector's threads.
    pub(crate) cpu_s: f64,
    pub(crate) collector_cpu_s: f64,
    /// How long all threads were stopped.
    pub(crate) stopped_s: f64,
    pub(crate) cycles: u64,
}

impl Cost {
    fn of(record: &Record) -> Self {
        Self {
            ops: record.ops,
            wall_s: record.wall_s,
            cpu_s: record.cpu_s,
            collector_cpu_s: record.threads.collector.cpu_ns as f64 / 1e9,
            stopped_s: record.pauses.total_ns as f64 / 1e9,
            cycles: record.cycles,
        }
    }
}

/// A run that was tried, as a line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Try {
    /// What ran it: another build needs another heap.
    build: String,
    /// What was run, without its heap's size.
    settings: String,
    heap_bytes: u64,
    /// Which of the tries with this heap it is, from 1.
    number: u64,
    /// How long the run's process took, and what the run cost; absent where it was not done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) took_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) cost: Option<Cost>,
    /// And then why not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) why: Option<String>,
}

/// All tries of this build so far.
pub(crate) struct Tries {
    path: PathBuf,
    file: File,
    build: String,
    made: BTreeMap<(String, u64, u64), Try>,
}

impl Tries {
    /// Of that file, which is made if it is not there: one that cannot be written is found before
    /// anything is run.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Failure> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Failure::input(format!("cannot read {}: {e}", path.display()))),
        };
        let build = this_build()?;
        let (mut made, mut others) = (BTreeMap::new(), 0);
        // The last line may be cut, where the machine went down.
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        for line in whole.lines() {
            let Ok(of) = serde_json::from_str::<Try>(line) else { continue };
            if of.build != build {
                others += 1;
                continue;
            }
            made.insert((of.settings.clone(), of.heap_bytes, of.number), of);
        }
        if others > 0 {
            eprintln!("gc-bench: {others} tries of another build are not counted");
        }
        if !text.is_empty() && made.is_empty() && others == 0 {
            return Err(Failure::input(format!("{} has no tries: name another file with --keep", path.display())));
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).and_then(|file| {
            if whole.len() < text.len() { file.set_len(whole.len() as u64).map(|()| file) } else { Ok(file) }
        });
        let file = file.map_err(|e| Failure::input(format!("cannot write to {}: {e}", path.display())))?;
        Ok(Self { path, file, build, made })
    }

    pub(crate) fn len(&self) -> usize {
        self.made.len()
    }

    /// The `number`-th run of a plan with a heap of that size: the one that was made before, or
    /// another. One that takes longer than `limit` counts as not done.
    pub(crate) fn run(
        &mut self,
        plan: &Plan,
        (heap_bytes, number): (u64, u64),
        limit: Option<Duration>,
        memory: Memory,
        meter: &mut Meter,
    ) -> Result<Try, Failure> {
        let settings = settings(plan);
        if let Some(of) = self.made.get(&(settings.clone(), heap_bytes, number)) {
            return Ok(of.clone());
        }
        let mut plan = plan.clone();
        plan.heap.heap_bytes = heap_bytes;
        let began = Instant::now();
        let result = plan.check(memory).and_then(|()| run_within(&plan, limit, meter));
        let (took_s, cost, why) = match result {
            Ok(record) => (Some(began.elapsed().as_secs_f64()), Some(Cost::of(&record)), None),
            Err(failure) if Status::of(&failure).is_shortage() => (None, None, Some(failure.line())),
            Err(failure) => return Err(failure),
        };
        let build = self.build.clone();
        self.keep(Try { build, settings, heap_bytes, number, took_s, cost, why })
    }

    fn keep(&mut self, of: Try) -> Result<Try, Failure> {
        let mut line = serde_json::to_vec(&of).expect("plain data");
        line.push(b'\n');
        let written = self.file.write_all(&line);
        written.map_err(|e| Failure::run(format!("cannot write to {}: {e}", self.path.display())))?;
        self.made.insert((of.settings.clone(), of.heap_bytes, of.number), of.clone());
        Ok(of)
    }
}

/// The plan's settings without what changes from try to try.
fn settings(plan: &Plan) -> String {
    let mut plan = plan.clone();
    (plan.heap.heap_bytes, plan.repeat) = (0, 1);
    serde_json::to_string(&plan).expect("plain data")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_was_tried_is_not_tried_again() {
        let path = std::env::temp_dir().join(format!("gc-bench-tries-{}", std::process::id()));
        let build = this_build().unwrap();
        let of = |number, took_s| {
            let (build, settings) = (build.clone(), "s".into());
            Try { build, settings, heap_bytes: MIB, number, took_s, cost: None, why: None }
        };
        let mut tries = Tries::open(path.clone()).unwrap();
        tries.keep(of(1, Some(2.5))).unwrap();
        tries.keep(of(2, None)).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        for cut in 0..30 {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let made = Tries::open(path.clone()).unwrap().made;
            assert_eq!(made.len(), if cut == 0 { 2 } else { 1 }, "{cut}");
            assert_eq!(made[&("s".to_owned(), MIB, 1)], of(1, Some(2.5)));
        }
        fs::write(&path, whole.replace(&build, "another")).unwrap();
        assert!(Tries::open(path.clone()).unwrap().made.is_empty(), "of another build");
        fs::write(&path, "something else\n").unwrap();
        assert!(Tries::open(path.clone()).is_err_and(|e| e.line().contains("--keep")));
        fs::remove_file(path).unwrap();
    }
}
