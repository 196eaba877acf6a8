//! Ephemerons for which there is no room in the marker's lists: the blocks that hold them are
//! passed over until nothing more is marked. See "Ephemerons" in `docs/protocol.md`.

use super::mark::Marker;
use super::reclaim::each_pair;
use crate::space::{Block, Offset};
use gc_core::remembered::Sort;
use gc_core::zeroed::push;

/// Number of passes after which there is room for twice as many waiting pairs.
const PASSES: u64 = 4;

/// The least room after that.
const LEAST_ROOM: usize = 1024;

/// The passes of a marking.
#[derive(Debug, Default)]
pub(super) struct Passes {
    count: u64,
    /// What was marked when the last pass ended without having marked anything.
    at_rest: Option<u64>,
}

impl Passes {
    /// Marks the values of pairs in these blocks whose keys are marked, and everything reachable
    /// from them, until the keys of all other pairs have no mark. The caller is the only marker
    /// that runs, and has nothing else to mark. `marked`: objects that others have marked so far.
    ///
    /// A pass marks what it finds before it goes on to the next pair, and the passes go up and down
    /// in turns: of a chain of pairs in the order of their addresses, or in the reverse order, one
    /// of two passes finds all. Whatever the order, the number of passes grows with the logarithm
    /// of the chain's length: after some there is room for twice as many waiting pairs.
    pub(super) fn run<const MANY: bool>(&mut self, marker: &mut Marker<'_, MANY>, marked: u64) {
        let (inner, shared) = (marker.inner, marker.shared);
        while shared.has_pair_blocks() && self.at_rest != Some(marked + marker.marked()) {
            let before = marked + marker.marked();
            if self.count > 0 && self.count.is_multiple_of(PASSES) {
                shared.waiting.widen(LEAST_ROOM);
            }
            // Otherwise pairs would come to wait twice.
            shared.waiting.take_all(|pair| shared.add_pair_block(inner, pair));
            if shared.take_remembered_pairs() {
                inner.each_remembered(|pair, sort| {
                    if sort == Sort::Pair {
                        marker.pass_over_pair(pair);
                    }
                });
            }
            let blocks = inner.memory.blocks.len();
            let down = !self.count.is_multiple_of(2);
            for index in 0..blocks {
                let block = Block::new(if down { blocks - 1 - index } else { index });
                if shared.pair_blocks.remove(block) {
                    marker.pass_over(block, down);
                }
            }
            self.count += 1;
            inner.report.counters.ephemeron_passes.add(1);
            self.at_rest = Some(before);
        }
    }
}

impl<const MANY: bool> Marker<'_, MANY> {
    /// The pairs of a block, in the order of their addresses or against it.
    fn pass_over(&mut self, block: Block, down: bool) {
        let inner = self.inner;
        let mut pairs = Vec::new();
        let mut complete = true;
        if down {
            each_pair(inner, block, |pair| complete &= push(&mut pairs, pair).is_ok());
        }
        if down && complete {
            pairs.into_iter().rev().for_each(|pair| self.pass_over_pair(pair));
        } else {
            each_pair(inner, block, |pair| self.pass_over_pair(pair));
        }
    }

    fn pass_over_pair(&mut self, pair: Offset) {
        self.scan_pair(pair);
        if !self.stack.is_empty() {
            self.drain();
        }
    }
}
