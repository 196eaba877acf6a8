//! Collectors of other runtimes, with the same workloads: rows beside this project's, from the
//! same session.
//!
//! A peer's program (`peers/java/Peer.java`) takes the samples as the workloads here do, and
//! everything that is computed from samples is computed here, by the same code.

pub(crate) mod java;
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
}

impl Peer {
    const ALL: [Self; 3] = [Self::G1, Self::Parallel, Self::Zgc];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::G1 => "g1",
            Self::Parallel => "parallel",
            Self::Zgc => "zgc",
        }
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
