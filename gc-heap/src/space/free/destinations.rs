//! The destinations of flips: blocks that mutators may not allocate, for a plan to take.
//!
//! A plan takes what is withheld out of the free blocks, and is lent it: what it has taken needs no
//! further block to be withheld in its place. Otherwise mutators would wait from the plan on until
//! as many sources are free. The sources replace what was lent, one by one, and each leaves the
//! mutators its part of the gain. So when all are free, as much is withheld as before the plan.

use super::{AllocClass, FreeSpace, State};
use crate::space::Block;

impl State {
    /// Blocks that mutators may not allocate.
    pub(super) fn kept(&self) -> usize {
        self.reserve + self.destinations.saturating_sub(self.lent)
    }
}

impl FreeSpace {
    /// Withholds this many blocks from mutators, in addition to the reserve, as destinations of the
    /// next flip. Serves waiters if the number has decreased. No flip runs.
    pub(crate) fn keep(&self, destinations: usize) {
        let mut state = self.state.lock();
        (state.destinations, state.lent) = (destinations, 0);
        self.serve(state);
    }

    /// Blocks that mutators may not allocate: the reserve, and the destinations of the next flip.
    pub(crate) fn kept(&self) -> usize {
        self.state.lock().kept()
    }

    /// Takes one block, the lowest, as a destination: of the ones that are withheld, as long as
    /// there are any.
    pub(crate) fn take_destination(&self) -> Option<Block> {
        let mut state = self.state.lock();
        if !self.may_allocate(&state, AllocClass::Collector, 1) {
            return None;
        }
        state.lent += 1;
        let (block, commits) = self.pop(&mut state);
        drop(state);
        if commits {
            self.note(block, 1);
        }
        Some(block)
    }

    /// Gives destinations back that the plan does not need. They are withheld again.
    pub(crate) fn return_destinations(&self, blocks: impl ExactSizeIterator<Item = Block>) {
        let mut state = self.state.lock();
        state.lent -= blocks.len();
        drop(state);
        self.free_blocks(blocks);
    }

    /// Blocks that were withheld, and that the plan has taken.
    pub(crate) fn lent(&self) -> usize {
        let state = self.state.lock();
        state.lent.min(state.destinations)
    }

    /// Frees a source; `lent` of the blocks that were withheld are not replaced yet. Serves stalled
    /// threads.
    pub(crate) fn free_source(&self, block: Block, lent: usize) {
        let mut state = self.state.lock();
        state.lent = lent;
        self.put_back(&mut state, [block]);
        self.serve(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can_take(space: &FreeSpace) -> usize {
        let taken: Vec<_> = std::iter::from_fn(|| space.take(AllocClass::Mutator)).collect();
        space.free_blocks(taken.iter().copied());
        taken.len()
    }

    /// Of 30 free blocks 20 are withheld, and a plan takes 10 of them as destinations of 15
    /// sources.
    #[test]
    fn what_a_plan_has_taken_is_not_withheld_once_more() {
        let space = FreeSpace::new(60, 2).unwrap();
        let sources: Vec<_> = (0..15).map(|_| space.take(AllocClass::Mutator).unwrap()).collect();
        let _live: Vec<_> = (0..15).map(|_| space.take(AllocClass::Mutator).unwrap()).collect();
        space.keep(20);
        assert_eq!(can_take(&space), 8);
        let destinations: Vec<_> = (0..11).map(|_| space.take_destination().unwrap()).collect();
        assert_eq!((can_take(&space), space.lent()), (8, 11), "as many as before");
        // One too many.
        space.return_destinations(destinations[10..].iter().copied());
        let lent = space.lent();
        assert_eq!((can_take(&space), lent), (8, 10));
        let gained = sources.iter().enumerate().map(|(index, &source)| {
            space.free_source(source, lent * (14 - index) / 15);
            can_take(&space)
        });
        let gained: Vec<_> = gained.collect();
        assert!(gained.is_sorted() && gained[0] <= 9, "{gained:?}");
        assert_eq!((gained[7] - 8, gained[14] - 8, space.kept()), (2, 5, 22), "a third of the sources");
    }

    /// A plan may take more than what is withheld.
    #[test]
    fn no_more_is_lent_than_was_withheld() {
        let space = FreeSpace::new(20, 2).unwrap();
        space.keep(4);
        let destinations: Vec<_> = (0..6).map(|_| space.take_destination().unwrap()).collect();
        assert_eq!((space.lent(), space.kept(), can_take(&space)), (4, 2, 12));
        space.return_destinations(destinations.into_iter());
        assert_eq!((space.lent(), can_take(&space)), (0, 14));
    }
}
