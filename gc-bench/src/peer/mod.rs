//! Collectors of other runtimes, and memory that the program frees itself, with the same workloads:
//! rows beside this project's, from the same session.
//!
//! The program of a collector (`peers/`) takes the samples as the workloads here do, and
//! everything that is computed from samples is computed here, by the same code.

pub(crate) mod go;
pub(crate) mod java;
pub(crate) mod kits;
pub(crate) mod node;
pub(crate) mod run;
mod safepoints;
mod samples;

use std::fmt;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// The values of `--peer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    G1,
    Parallel,
    Zgc,
    Go,
    /// Of Node.js.
    V8,
    /// No collector: `malloc` and `free`, in this program.
    Manual,
}

impl Peer {
    const ALL: [Self; 6] = [Self::G1, Self::Parallel, Self::Zgc, Self::Go, Self::V8, Self::Manual];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::G1 => "g1",
            Self::Parallel => "parallel",
            Self::Zgc => "zgc",
            Self::Go => "go",
            Self::V8 => "v8",
            Self::Manual => "manual",
        }
    }

    /// Whether it is a collector of the JVM.
    pub(crate) fn is_of_jvm(self) -> bool {
        matches!(self, Self::G1 | Self::Parallel | Self::Zgc)
    }

    /// Whether it has a heap, with a size that can be set.
    pub(crate) fn has_heap(self) -> bool {
        self != Self::Manual
    }

    /// Whether a run fails for which that size is too small.
    pub(crate) fn keeps_to_heap(self) -> bool {
        !matches!(self, Self::Manual | Self::Go)
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }

    /// Reads a name from the command line, where the help lists them all.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        let choices = [
            (Self::G1, "HotSpot's default: generational, mostly concurrent marking, evacuates in pauses"),
            (Self::Parallel, "HotSpot's for throughput: generational, collects in pauses"),
            (Self::Zgc, "HotSpot's for latency: concurrent, with a load barrier; generational from JDK 23 on"),
            (Self::Go, "Go's: concurrent marking, nothing is moved"),
            (Self::V8, "V8's: generational, marks concurrently; an isolate with a heap of its own for each thread"),
            (Self::Manual, "no collector: the program frees its memory itself, by malloc and free"),
        ];
        PossibleValuesParser::new(choices.map(|(choice, help)| PossibleValue::new(choice.name()).help(help)))
            .map(|name| Self::by_name(&name).expect("one of the values"))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
