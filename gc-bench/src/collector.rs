//! The collector of a run under one name: a barrier, the memory that it works on, and whether it
//! has generations; or a peer.

use std::fmt;
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use gc_heap::{Backing, Barrier, HeapBuilder, ParseOptionError};

use crate::peer::Peer;

/// The values of `--barrier`, and those of `--peer`, of which one is no collector at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Collector {
    barrier: Barrier,
    backing: Backing,
    generations: bool,
    /// Then the others say nothing.
    peer: Option<Peer>,
}

/// The name of [`Barrier::Page`] on [`Backing::Anonymous`].
const PAGE_ANONYMOUS: &str = "page-anonymous";

/// The name of [`Barrier::Load`] with generations.
const GENERATIONS: &str = "load-generations";

impl Collector {
    pub(crate) const LOAD: Self = Self::new(Barrier::Load);
    pub(crate) const STW: Self = Self::new(Barrier::StopTheWorld);
    pub(crate) const PAGE: Self = Self::new(Barrier::Page);
    pub(crate) const PAGE_ANONYMOUS: Self = Self { backing: Backing::Anonymous, ..Self::PAGE };
    pub(crate) const GENERATIONS: Self = Self { generations: true, ..Self::LOAD };

    const fn new(barrier: Barrier) -> Self {
        Self { barrier, backing: Backing::Memfd, generations: false, peer: None }
    }

    pub(crate) const fn of_peer(peer: Peer) -> Self {
        Self { peer: Some(peer), ..Self::LOAD }
    }

    /// The peer, if it is no collector of this project.
    pub(crate) fn peer(self) -> Option<Peer> {
        self.peer
    }

    pub(crate) fn name(self) -> &'static str {
        match (self.peer, self.backing) {
            (Some(peer), _) => peer.name(),
            (None, Backing::Anonymous) => PAGE_ANONYMOUS,
            (None, _) if self.generations => GENERATIONS,
            (None, _) => self.barrier.name(),
        }
    }

    /// Whether it uses the page barrier.
    pub(crate) fn is_page(self) -> bool {
        self.peer.is_none() && self.barrier == Barrier::Page
    }

    /// Configures the heap's builder with it.
    pub(crate) fn apply(self, builder: HeapBuilder) -> HeapBuilder {
        builder.barrier(self.barrier).backing(self.backing).generations(self.generations)
    }

    /// Reads a name from the command line, where the help lists them all.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        let choices = [
            (Self::LOAD, "Test each loaded reference; compact concurrently"),
            (Self::GENERATIONS, "The same, collecting young objects alone most of the time"),
            (
                Self::STW,
                "The baseline: the same collector with the program stopped for the whole collection, the load barrier's \
                 test compiled in",
            ),
            (Self::PAGE, "Unmap every page and map it again, repaired, on the next access (Linux 5.14, userfaultfd)"),
            (
                Self::PAGE_ANONYMOUS,
                "The same on private anonymous memory, whose pages are moved (Linux 6.8) or copied instead of mapped again",
            ),
        ];
        PossibleValuesParser::new(choices.map(|(choice, help)| PossibleValue::new(choice.name()).help(help)))
            .try_map(|name| name.parse::<Self>())
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Collector {
    type Err = ParseOptionError;

    fn from_str(text: &str) -> Result<Self, ParseOptionError> {
        match (text, Peer::by_name(text)) {
            (PAGE_ANONYMOUS, _) => Ok(Self::PAGE_ANONYMOUS),
            (GENERATIONS, _) => Ok(Self::GENERATIONS),
            (_, Some(peer)) => Ok(Self::of_peer(peer)),
            _ => text.parse().map(Self::new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_s_name_is_read_as_it_is_printed() {
        for (collector, name) in [
            (Collector::LOAD, "load"),
            (Collector::STW, "stw"),
            (Collector::PAGE, "page"),
            (Collector::PAGE_ANONYMOUS, "page-anonymous"),
            (Collector::GENERATIONS, "load-generations"),
            (Collector::of_peer(Peer::G1), "g1"),
            (Collector::of_peer(Peer::V8), "v8"),
            (Collector::of_peer(Peer::Go), "go"),
            (Collector::of_peer(Peer::Manual), "manual"),
        ] {
            assert_eq!((collector.to_string().as_str(), name.parse()), (name, Ok(collector)));
            assert_eq!(collector.is_page(), name.starts_with("page"));
        }
        assert!("memfd".parse::<Collector>().is_err());
    }
}
