//! What happened when in the measured part of a run, with the keys that its JSON has.

use serde::{Deserialize, Serialize};

/// One stop of the program's threads. Times count from the start of the measured part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stop {
    pub(crate) kind: String,
    pub(crate) start_ns: u64,
    pub(crate) duration_ns: u64,
    /// Of it, until the last thread stood still.
    pub(crate) safepoint_ns: u64,
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
}
