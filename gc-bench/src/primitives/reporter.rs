//! Messages between the bench and the process of a group: each row is sent as soon as it is
//! measured.

use std::fmt::Display;
use std::io::{self, Write};

use gc_core::sys::SysError;
use serde::{Deserialize, Serialize};

use super::effort::Effort;
use super::row::{Figures, Group, Outcome, Per, Row};

/// What a group's process is told, as one line on its standard input. The pipe stays open until the
/// parent is gone: then the process ends, too.
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

/// Tells the parent.
pub(super) fn say(message: &Message) {
    let mut line = serde_json::to_vec(message).expect("plain data");
    line.push(b'\n');
    let mut out = io::stdout().lock();
    // A parent that is gone: its process ends, too.
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// Where a group's rows go.
pub(super) struct Reporter {
    pub(super) group: Group,
    pub(super) effort: Effort,
    pub(super) progress: bool,
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
    /// Prints progress for the user.
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
