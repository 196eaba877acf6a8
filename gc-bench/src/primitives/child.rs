//! The process of a group: it measures, and tells each row as soon as it has it.

use std::fmt::Display;
use std::io::{self, BufRead, Write};
use std::process::exit;
use std::thread;
use std::time::Duration;

use gc_core::sys::SysError;
use serde::{Deserialize, Serialize};

use super::effort::{Effort, clock_ns};
use super::row::{Figures, Group, Outcome, Per, Row};
use super::{barrier, batch, chunk, fault, take_away, touch, view};
use crate::failure::Failure;
use crate::process::cpu_time;

/// What a group's process is told, as one line on its standard input. The pipe stays open until the parent is gone: then
/// the process ends, too.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) group: Group,
    pub(crate) sizes: Vec<u64>,
    pub(crate) quick: bool,
    /// Whether anybody looks at [`Message::Progress`].
    pub(crate) progress: bool,
}

/// What it says, a line each on its standard output.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    Progress { what: String },
    Clock { ns: f64 },
    Row(Box<Row>),
    Done { cpu_s: f64 },
    Failure { why: String },
}

/// A group that has said nothing new for so long hangs: a thread waits for a page that nobody brings.
const LONGEST: Duration = Duration::from_secs(150);

/// `gc-bench measure-primitives`: reads an [`Order`], answers with [`Message`]s.
pub(crate) fn main() -> Result<(), Failure> {
    // A panic anywhere is the end of this group and one line.
    std::panic::set_hook(Box::new(|panic| {
        say(&Message::Failure { why: Failure::run(format!("panic: {panic}")).line() });
        exit(1);
    }));
    let mut stdin = io::stdin().lock();
    let mut line = String::new();
    let order = stdin.read_line(&mut line).ok().and_then(|_| serde_json::from_str::<Order>(&line).ok());
    let Some(order) = order else {
        return Err(Failure::input("measure-primitives is how gc-bench runs itself: use `gc-bench primitives`"));
    };
    drop(stdin);
    // The parent writes nothing more: the end of the pipe is its end, however it came, and nobody wants the rows then.
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        exit(1);
    });
    thread::spawn(|| {
        thread::sleep(LONGEST);
        say(&Message::Failure { why: format!("not done after {} s", LONGEST.as_secs()) });
        exit(1);
    });
    say(&Message::Clock { ns: clock_ns() });
    let mut reporter = Reporter { group: order.group, effort: Effort::new(order.quick), progress: order.progress };
    let sizes: Vec<usize> = order.sizes.iter().map(|&size| size as usize).collect();
    match order.group {
        Group::TakeAway => take_away::measure(&mut reporter, &sizes),
        Group::Fault => fault::measure(&mut reporter),
        Group::Batch => batch::measure(&mut reporter),
        Group::Chunk => chunk::measure(&mut reporter),
        Group::View => view::measure(&mut reporter, &sizes),
        Group::Touch => touch::measure(&mut reporter),
        Group::Barrier => barrier::measure(&mut reporter),
    }
    say(&Message::Done { cpu_s: cpu_time().as_secs_f64() });
    // The memory is given back by the end of the process, not piece by piece.
    exit(0)
}

fn say(message: &Message) {
    let mut line = serde_json::to_vec(message).expect("plain data");
    line.push(b'\n');
    let mut out = io::stdout().lock();
    // A parent that is gone: see `main`.
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// Where a group's rows go.
pub(super) struct Reporter {
    group: Group,
    pub(super) effort: Effort,
    progress: bool,
}

/// What a row is of.
#[derive(Clone, Copy)]
pub(super) struct What<'a> {
    pub(super) name: &'a str,
    /// Bytes that one call is made over.
    pub(super) bytes: usize,
    pub(super) per: Per,
    /// The first kernel that has it.
    pub(super) since: &'static str,
}

impl Reporter {
    /// Says what is being done, to whoever watches.
    pub(super) fn progress(&self, what: &str) {
        if self.progress {
            say(&Message::Progress { what: what.to_owned() });
        }
    }

    /// Measures a row and tells it. Samples are nanoseconds; an error is a refusal.
    pub(super) fn row(&mut self, what: What<'_>, measure: impl FnOnce(Effort) -> Result<Vec<f64>, SysError>) {
        self.row_or(what, measure);
    }

    /// As [`row`](Self::row), for what fails in other ways, too.
    pub(super) fn row_or<E: Display>(&mut self, what: What<'_>, measure: impl FnOnce(Effort) -> Result<Vec<f64>, E>) {
        self.progress(what.name);
        let outcome = match measure(self.effort) {
            Ok(samples) => match Figures::of(samples) {
                Some(figures) => Outcome::Measured(figures),
                // Only what needs a second thread may be without samples.
                None => Outcome::LeftOut { why: "no second thread came to run: the processors are busy".into() },
            },
            Err(error) => Outcome::Refused { why: error.to_string(), since: what.since.into() },
        };
        self.tell(what, outcome);
    }

    /// A row that the kernel would refuse.
    pub(super) fn refused(&mut self, what: What<'_>, why: impl Into<String>) {
        self.tell(what, Outcome::Refused { why: why.into(), since: what.since.into() });
    }

    /// A row that the machine has not enough of something for.
    pub(super) fn left_out(&mut self, what: What<'_>, why: impl Into<String>) {
        self.tell(what, Outcome::LeftOut { why: why.into() });
    }

    fn tell(&mut self, what: What<'_>, outcome: Outcome) {
        let row = Row {
            group: self.group,
            what: what.name.to_owned(),
            bytes: what.bytes as u64,
            per: what.per,
            outcome,
            ratio: None,
        };
        say(&Message::Row(Box::new(row)));
    }
}
