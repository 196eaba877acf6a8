//! Blocks at a place that the taker names: those behind a large array, so that it grows.

use super::{AllocClass, FreeSpace, State, TakenRun};
use crate::space::Block;
use std::sync::atomic::Ordering;

/// What there is behind an array.
pub(crate) enum Behind {
    /// The blocks, which were free.
    Taken(TakenRun),
    /// Free blocks, and too little memory for them.
    Short,
    /// Blocks of which some are being uncommitted, or lent, by another thread.
    Busy,
    /// Other objects, or the end of the heap.
    InUse,
}

impl FreeSpace {
    /// Takes these blocks in a row for a mutator, or none. As those of
    /// [`begin_run`](Self::begin_run), they may lack memory. `lent`: blocks that the caller has
    /// waited for, instead of which it takes these; they are free afterwards.
    pub(crate) fn begin_behind(&self, first: Block, count: usize, lent: Vec<Block>) -> Behind {
        let taker = AllocClass::Mutator;
        let has_waited = !lent.is_empty();
        let mut state = self.state.lock();
        self.put_back(&mut state, lent);
        let is_there = first.number() + count <= self.blocks;
        let is_busy = state.giving > 0 || self.uncommitting.load(Ordering::Relaxed) > 0;
        let behind = if !is_there || !first.run(count).all(|block| state.free.is_free(block)) {
            if is_there && is_busy { Behind::Busy } else { Behind::InUse }
        } else if !has_waited && !self.may_allocate(&state, taker, count) {
            Behind::Short
        } else {
            self.take_at(&mut state, first, count, taker).map_or(Behind::InUse, Behind::Taken)
        };
        let complete = matches!(behind, Behind::Taken(TakenRun::Complete(_)));
        // What it has waited for was counted when it got that.
        if complete && !has_waited {
            self.is_for(taker, count);
        }
        if has_waited {
            // Those that it did not need.
            self.serve(state);
        } else {
            drop(state);
        }
        if complete {
            self.note(first, count);
        }
        behind
    }

    /// Takes free blocks in a row. So much memory is free; `None`: some of it cannot be lent.
    pub(super) fn take_at(&self, state: &mut State, first: Block, count: usize, taker: AllocClass) -> Option<TakenRun> {
        let is_bare = |block: &Block| !state.order.contains(*block);
        let lacks = self.has_bare_blocks() && first.run(count).filter(is_bare).count() > self.unassigned(state);
        let taken = if lacks {
            TakenRun::Lacking(self.lend(state, first.run(count).collect(), Some(taker))?)
        } else {
            for block in first.run(count) {
                state.free.take(block);
                self.mark_taken(state, block);
            }
            self.check(state);
            TakenRun::Complete(first)
        };
        self.run_was_taken(first, count);
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn taken(behind: Behind) -> Option<Block> {
        match behind {
            Behind::Taken(TakenRun::Complete(first)) => Some(first),
            _ => None,
        }
    }

    #[test]
    fn blocks_behind_are_taken_where_all_of_them_are_free() {
        let space = FreeSpace::new(100, 0).unwrap();
        let run = space.take_run(AllocClass::Mutator, 10).unwrap();
        assert_eq!(run, Block::new(90));
        assert!(matches!(space.begin_behind(run + 10, 1, Vec::new()), Behind::InUse), "the heap ends there");
        let other = space.take_run(AllocClass::Mutator, 5).unwrap();
        assert!(matches!(space.begin_behind(other + 3, 3, Vec::new()), Behind::InUse));
        space.free_blocks(run.run(10));
        assert_eq!(taken(space.begin_behind(other + 5, 4, Vec::new())), Some(run));
        assert_eq!((space.free(), space.figures().used), (91, 9));
        assert!(matches!(space.begin_behind(other + 5, 5, Vec::new()), Behind::InUse));
        assert_eq!(taken(space.begin_behind(other + 9, 6, Vec::new())), Some(run + 4));
    }

    /// The collector's thread gives memory back at any time: an array that is copied for that has
    /// lost its place although nothing is behind it.
    #[test]
    fn blocks_that_are_being_given_back_are_not_in_use() {
        let space = FreeSpace::new(20, 0).unwrap();
        let run = space.take_run(AllocClass::Mutator, 10).unwrap();
        space.free_blocks((run + 6).run(4));
        let idle = space.take_uncommittable(Duration::ZERO, 4).blocks;
        assert!(idle.contains(&(run + 6)), "{idle:?}");
        assert!(matches!(space.begin_behind(run + 6, 2, Vec::new()), Behind::Busy));
        space.uncommitted(&idle, true);
        assert_eq!(taken(space.begin_behind(run + 6, 2, Vec::new())), Some(run + 6));
    }

    #[test]
    fn what_a_thread_has_waited_for_becomes_what_lies_behind() {
        let space = FreeSpace::new(20, 4).unwrap();
        let run = space.take_run(AllocClass::Mutator, 10).unwrap();
        space.free_blocks([run + 8, run + 9]);
        let others = space.take_many(AllocClass::Mutator, 8).unwrap();
        assert_eq!(others.last(), Some(&Block::new(7)));
        assert!(matches!(space.begin_behind(run + 8, 2, Vec::new()), Behind::Short), "four blocks are reserved");
        assert_eq!(taken(space.begin_behind(run + 8, 2, others[6..].to_vec())), Some(run + 8));
        assert_eq!((space.free(), space.figures().used), (4, 16));
        // Where it does not lie behind, it is free again.
        assert!(matches!(space.begin_behind(run + 9, 2, others[..2].to_vec()), Behind::InUse));
        assert_eq!(space.free(), 6);
    }

    #[test]
    fn a_run_that_grows_has_free_offsets_on_both_sides() {
        let space = FreeSpace::limited(100, 50, 0, |_| true).unwrap();
        let grows = |count| match space.begin_run(AllocClass::Mutator, count, true) {
            Some(TakenRun::Complete(first)) => first.number(),
            _ => panic!("there is memory"),
        };
        assert_eq!((grows(10), grows(9)), (45, 73));
        assert_eq!(space.take_run(AllocClass::Mutator, 4), Some(Block::new(96)), "others from the end");
        assert_eq!(taken(space.begin_behind(Block::new(55), 10, Vec::new())), Some(Block::new(55)));
        assert_eq!(space.figures().used, 33);
    }
}
