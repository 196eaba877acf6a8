//! What a session found, with the keys of its JSON.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::configuration::{self, Configuration};
use crate::failure::Failure;
use crate::record::{Head, RUNS, Record};
use crate::sweep::made::Swept;

/// A whole report of runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Document {
    #[serde(flatten)]
    pub(crate) head: Head,
    /// What was asked for and could not be run here, and why.
    pub(crate) left_out: Vec<String>,
    pub(crate) order: Order,
    /// The runs of each configuration summed up, in the order in which they were asked for.
    pub(crate) configurations: Vec<Configuration>,
    /// In the order in which they were made.
    pub(crate) runs: Vec<Record>,
    /// Of a sweep; no key without one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) sweep: Option<Swept>,
}

/// In which order the runs were made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Of the random order: the same seed gives the same order.
    pub(crate) seed: u64,
    /// The configurations' labels, as they were asked for.
    pub(crate) configurations: Vec<String>,
    /// Of each run, in the order in which they were made, the number of its configuration, from 0.
    pub(crate) runs: Vec<usize>,
    /// The outcome of `--until-ci`; no key without it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) until: Option<Outcome>,
}

/// What became of a session that runs until its intervals are narrow.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The half width that was asked for, as a share.
    pub(crate) half_width: f64,
    /// The widest interval at the end.
    pub(crate) widest: f64,
    pub(crate) reached: bool,
}

/// What says whether the rest can be read.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Document {
    /// Reads a report of runs.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path);
        let text = text.map_err(|e| Failure::input(format!("cannot read {}: {e}", path.display())))?;
        let is_none = |e| Failure::input(format!("{} is no report of runs: {e}", path.display()));
        let Format { format } = serde_json::from_str(&text).map_err(is_none)?;
        if format != RUNS {
            let path = path.display();
            return Err(Failure::input(format!("{path} has keys of format {format}, and this gc-bench reads {RUNS}")));
        }
        serde_json::from_str(&text).map_err(is_none)
    }

    pub(crate) fn new(head: Head, left_out: Vec<String>, order: Order, runs: Vec<Record>) -> Self {
        let configurations = configuration::all(&order.configurations, &runs);
        Self { head, left_out, order, configurations, runs, sweep: None }
    }
}
