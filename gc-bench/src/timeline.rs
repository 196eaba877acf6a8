//! What happened when in the measured part of a run, with the keys that its JSON has.

use serde::{Deserialize, Serialize};

/// One stop of the program's threads. Times count from the start of the measured part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stop {
    /// The mutator that it stopped, where each has a heap of its own; else it stopped all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) mutator: Option<u64>,
    pub(crate) kind: String,
    pub(crate) start_ns: u64,
    pub(crate) duration_ns: u64,
    /// Of it, until the last thread stood still.
    pub(crate) safepoint_ns: u64,
    /// Of it, before the measured part began.
    #[serde(default)]
    pub(crate) before_ns: u64,
}

/// One phase of a cycle. Times count from the start of the measured part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) start_ns: u64,
    pub(crate) duration_ns: u64,
}

/// The heap at one moment, from the start of the measured part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Occupancy {
    pub(crate) at_ns: u64,
    pub(crate) used_bytes: u64,
    pub(crate) committed_bytes: u64,
    /// What the system holds for it; not of private memory, where reading it takes too long.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) resident_bytes: Option<u64>,
}

/// One mutator's samples: they, and the time in which it was idle, are the whole measured part.
/// Times count from its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sampled {
    /// Its number in the heap's events.
    pub(crate) mutator: u64,
    /// Whether its samples are the operations that metered latency is of.
    pub(crate) metered: bool,
    pub(crate) operations: u64,
    pub(crate) operations_ns: u64,
    /// Samples of other work.
    pub(crate) other: u64,
    pub(crate) other_ns: u64,
    /// The thread waited for a due time, for another thread, or was not there yet or any more.
    pub(crate) idle_ns: u64,
    /// Samples of 100 us and more: the start, and the length in nanoseconds.
    pub(crate) long_samples: Vec<(u64, u64)>,
    /// If they were asked for: stretches in order, each with its length in nanoseconds and how many
    /// samples tile it; 0: it was idle.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) stretches: Vec<(u64, u64)>,
}

/// What mutators lost besides stops, of one kind: the mutator, the start, the length, and how much
/// of that was lost, in nanoseconds.
pub(crate) type Delay = (u64, u64, u64, u64);
