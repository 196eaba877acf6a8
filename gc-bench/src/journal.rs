//! Runs kept in a file as they are made, so that a session that is interrupted goes on where it
//! ended.
//!
//! The first line says what was asked for, and each line after it is a run. A run is appended when
//! it is over, in one write; a line that is not whole (its session was killed in the write) is
//! dropped. One session has the file at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;
use crate::plan::{Plan, Runs};
use crate::record::Record;

/// What a session is to do: another one's runs are not mixed with its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// What makes the runs: those of two builds are not figures of either.
    build: String,
    /// Of the order: the session that goes on makes the same.
    seed: u64,
    repeats: u64,
    plans: Vec<Value>,
    /// What else tells it from other requests.
    #[serde(skip_serializing_if = "Value::is_null", default)]
    more: Value,
}

impl Request {
    pub(crate) fn new(runs: &Runs, more: Value) -> Result<Self, Failure> {
        let (seed, repeats) = (runs.schedule.seed, runs.schedule.repeats);
        Ok(Self { build: this_build()?, seed, repeats, plans: runs.settings(), more })
    }

    /// Whether both ask for the same, save for the build and the seed.
    fn is_as(&self, other: &Self) -> bool {
        (self.repeats, &self.plans, &self.more) == (other.repeats, &other.plans, &other.more)
    }
}

/// The runs of a session that were made so far, a line each.
#[derive(Debug)]
pub(crate) struct Journal<Line = Record> {
    path: PathBuf,
    file: File,
    kept: Vec<Line>,
}

fn failed(path: &Path, what: &str, e: &io::Error) -> Failure {
    Failure::run(format!("cannot {what} {}: {e}", path.display()))
}

/// What tells this build from others: a hash of its program.
pub(crate) fn this_build() -> Result<String, Failure> {
    static BUILD: OnceLock<String> = OnceLock::new();
    if let Some(build) = BUILD.get() {
        return Ok(build.clone());
    }
    let program = fs::read("/proc/self/exe");
    let program = program.map_err(|e| Failure::run(format!("cannot read this program: {e}")))?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&program);
    Ok(BUILD.get_or_init(|| format!("{:016x}", hasher.finish())).clone())
}

/// How long a session waits for the file of another one: where that was just killed, a process that
/// it was about to start has the file until it executes its program.
const PATIENCE: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(20);

/// Takes the file for this session alone.
fn lock(path: &Path, file: &File) -> Result<(), Failure> {
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if waited < PATIENCE => {
                sleep(STEP);
                waited += STEP;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::input(format!("another session writes to {}: wait for it", path.display())));
            }
            Err(TryLockError::Error(e)) => return Err(failed(path, "lock", &e)),
        }
    }
}

impl Journal {
    /// Of these runs, which take the seed of the session that began the file, if there is one.
    pub(crate) fn open(path: &Path, runs: &mut Runs) -> Result<Self, Failure> {
        let mut request = Request::new(runs, Value::Null)?;
        let journal = Self::of(path, &mut request, false)?;
        runs.schedule.seed = request.seed;
        Ok(journal)
    }

    /// The run of that plan and repeat, if it was made before.
    pub(crate) fn take(&mut self, plan: &Plan) -> Option<Record> {
        let label = plan.label();
        let at = self.kept.iter().position(|run| run.repeat == plan.repeat && run.settings.label() == label)?;
        Some(self.kept.swap_remove(at))
    }
}

impl<Line: Serialize + DeserializeOwned> Journal<Line> {
    /// Of that request, which takes the seed of the session that began the file, if there is one;
    /// where it begins anew, what the file has is dropped.
    pub(crate) fn of(path: &Path, request: &mut Request, anew: bool) -> Result<Self, Failure> {
        let open = OpenOptions::new().read(true).create(true).append(true).open(path);
        let mut file = open.map_err(|e| failed(path, "write", &e))?;
        lock(path, &file)?;
        let mut text = Vec::new();
        if !anew {
            file.read_to_end(&mut text).map_err(|e| failed(path, "read", &e))?;
        }
        let whole: Vec<&[u8]> =
            text.split_inclusive(|&byte| byte == b'\n').take_while(|line| line.ends_with(b"\n")).collect();
        let (mut kept, mut length) = (Vec::new(), 0);
        // A session that has made no run leaves nothing to be mixed.
        if let [first, made @ ..] = &whole[..]
            && !made.is_empty()
        {
            let begun: Option<Request> = serde_json::from_slice(first).ok();
            let refuse = |why: &str| {
                Err(Failure::input(format!("{} has runs of another {why}: move it away or delete it", path.display())))
            };
            let Some(begun) = begun.filter(|begun| begun.is_as(request)) else {
                return refuse("request");
            };
            if begun.build != request.build {
                return refuse("build");
            }
            (request.seed, length) = (begun.seed, first.len());
            for line in made {
                let Ok(record) = serde_json::from_slice(line) else { break };
                kept.push(record);
                length += line.len();
            }
        }
        let mut begin = || {
            file.set_len(length as u64)?;
            if length == 0 { file.write_all(&line(request)) } else { Ok(()) }
        };
        begin().map_err(|e| failed(path, "write", &e))?;
        Ok(Self { path: path.to_owned(), file, kept })
    }

    /// How many runs were made before this session.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// All runs that were made before this session.
    pub(crate) fn take_all(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.kept)
    }

    /// Keeps a run that was just made.
    pub(crate) fn keep(&mut self, run: &Line) -> Result<(), Failure> {
        self.file.write_all(&line(run)).map_err(|e| failed(&self.path, "write", &e))
    }

    /// The report has them all.
    pub(crate) fn remove(self) {
        // One that stays says the same as the report.
        let _ = fs::remove_file(self.path);
    }
}

fn line(of: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(of).expect("plain data");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples::record;
    use crate::schedule::Schedule;

    fn runs(of: &[Record], seed: u64) -> Runs {
        let plans = of.iter().map(|run| run.settings.clone()).collect();
        Runs { plans, schedule: Schedule { seed, ..Schedule::once() }, left_out: Vec::new() }
    }

    /// A report of a session that went on is that of one that nothing cut.
    #[test]
    fn a_figure_is_read_back_as_it_was() {
        let mut random = crate::rng::SplitMix::new(7);
        for _ in 0..20_000 {
            // From 0 to 2, as shares are and seconds may be.
            let figure = (random.next() >> 11) as f64 / (1u64 << 52) as f64;
            let read: f64 = serde_json::from_slice(&line(&figure)).unwrap();
            assert_eq!(read.to_bits(), figure.to_bits());
        }
    }

    #[test]
    fn a_session_goes_on_where_it_was_interrupted() {
        let path = std::env::temp_dir().join(format!("gc-bench-journal-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let made = [record("gcbench", 1), record("message-ring", 1)];
        let mut first = runs(&made, 7);
        let mut journal = Journal::open(&path, &mut first).unwrap();
        assert_eq!((journal.len(), journal.take(&first.plans[0]).is_none()), (0, true));
        journal.keep(&made[0]).unwrap();
        drop(journal);
        // The second is not whole: its session ended in the write.
        let half = line(&made[1]);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&half[..half.len() / 2]).unwrap();
        let mut again = runs(&made, 8);
        let mut journal = Journal::open(&path, &mut again).unwrap();
        assert_eq!((journal.len(), again.schedule.seed), (1, 7), "in the same order");
        let found = journal.take(&again.plans[0]).unwrap();
        assert_eq!(serde_json::to_value(&found).unwrap(), serde_json::to_value(&made[0]).unwrap());
        assert!(journal.take(&again.plans[0]).is_none() && journal.take(&again.plans[1]).is_none());
        journal.keep(&made[1]).unwrap();
        drop(journal);
        let journal = Journal::open(&path, &mut again).unwrap();
        assert_eq!(journal.len(), 2);
        let second = Journal::open(&path, &mut again).expect_err("two sessions would write to one file");
        assert!(second.code() == 2 && second.line().contains("another session"), "{second}");
        drop(journal);
        let other = Journal::open(&path, &mut runs(&made[..1], 7)).expect_err("another request");
        assert_eq!((other.code(), other.line().contains("another request")), (2, true));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen(&this_build().unwrap(), "another", 1)).unwrap();
        let other = Journal::open(&path, &mut again).expect_err("the runs of another build are not these");
        assert_eq!((other.code(), other.line().contains("another build")), (2, true), "{other}");
        let request = text.lines().next().unwrap();
        fs::write(&path, format!("{request}\n")).unwrap();
        assert_eq!(Journal::open(&path, &mut runs(&made[..1], 9)).unwrap().len(), 0, "nothing was made");
        fs::write(&path, text).unwrap();
        let other = Journal::open(&path, &mut runs(&made[..1], 7)).expect_err("another request");
        assert_eq!(other.code(), 2);
        Journal::open(&path, &mut again).unwrap().remove();
        assert!(!path.exists());
    }
}
