//! How a run ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Done,
    /// The heap, or the virtual machine of a peer, had too little memory.
    OutOfMemory,
    /// It took longer than it was given.
    TimedOut,
    /// It panicked, or a signal ended its process.
    Crashed,
    /// It went wrong otherwise, such as by a checksum.
    Failed,
    /// It could not begin: no such heap can be built here, or one that holds what is alive at once.
    Impossible,
}

impl Status {
    /// Of a run that is not done.
    pub(crate) fn of(failure: &Failure) -> Self {
        let line = failure.line();
        let says = |parts: &[&str]| parts.iter().any(|part| line.contains(part));
        match failure {
            Failure::Input(_) => Self::Impossible,
            _ if says(&["out of memory", "OutOfMemoryError"]) => Self::OutOfMemory,
            _ if says(&["took longer than"]) => Self::TimedOut,
            _ if says(&["panic: ", "ended without a result"]) => Self::Crashed,
            _ => Self::Failed,
        }
    }

    /// Whether more memory, or more time, would have let the run be done.
    pub(crate) fn is_shortage(self) -> bool {
        matches!(self, Self::Impossible | Self::OutOfMemory | Self::TimedOut)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Done => "done",
            Self::OutOfMemory => "out of memory",
            Self::TimedOut => "timed out",
            Self::Crashed => "crashed",
            Self::Failed => "failed",
            Self::Impossible => "impossible",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_no_shortage() {
        for (failure, status) in [
            (Failure::run("gcbench: out of memory: a heap of 4 MiB"), Status::OutOfMemory),
            (Failure::run("x: its process ended: java.lang.OutOfMemoryError"), Status::OutOfMemory),
            (Failure::run("gcbench: took longer than 3 s"), Status::TimedOut),
            (Failure::input("a heap of 1 MiB cannot hold it"), Status::Impossible),
            (Failure::run("gcbench: panic: index out of bounds"), Status::Crashed),
            (Failure::run("gcbench: its process ended without a result (signal: 11)"), Status::Crashed),
            (Failure::run("json: the checksum is wrong"), Status::Failed),
        ] {
            assert_eq!(Status::of(&failure), status, "{failure}");
            let shortage = matches!(status, Status::OutOfMemory | Status::TimedOut | Status::Impossible);
            assert_eq!(status.is_shortage(), shortage);
        }
    }
}
