//! Uncommitting free blocks.

use super::chunks::first_of;
use super::{CHUNK_BLOCKS, FreeSpace, State, add};
use crate::space::Block;
use std::time::Duration;

/// What [`FreeSpace::take_uncommittable`] has found.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    /// Blocks to be uncommitted, in the order of their addresses.
    pub(crate) blocks: Vec<Block>,
    /// How many it has looked at. 0: there are no more.
    pub(crate) looked: usize,
}

/// Neighbours whose memory has been free for the longest; none where they stay with others.
pub(super) struct Last {
    pub(super) first: Block,
    pub(super) count: usize,
}

impl FreeSpace {
    /// Free blocks whose memory is there.
    pub(crate) fn free_committed(&self) -> usize {
        self.state.lock().order.len()
    }

    /// Looks at `most` free blocks whose memory is there, or somewhat more, which have been free
    /// for at least `delay`: those for the longest. They cannot be allocated while their memory is
    /// uncommitted; [`uncommitted`](Self::uncommitted) returns them. None while threads wait for
    /// blocks.
    ///
    /// Blocks of a huge page come all at once, when the last of them has been free for so long;
    /// before that they are passed over, for one more `delay`.
    pub(crate) fn take_uncommittable(&self, delay: Duration, most: usize) -> Idle {
        let mut state = self.state.lock();
        if state.blocks_wanted > 0 {
            return Idle::default();
        }
        self.take_idle(&mut state, delay, most)
    }

    /// As [`take_uncommittable`](Self::take_uncommittable), also while threads wait for blocks.
    pub(super) fn take_idle(&self, state: &mut State, delay: Duration, most: usize) -> Idle {
        let mut idle = Idle::default();
        let now = self.born.elapsed().as_millis() as u32;
        let delay = delay.as_millis().min(u128::from(u32::MAX)) as u32;
        while idle.looked < most
            && let Some(Last { first, count }) = self.take_last(state, now, delay)
        {
            idle.looked += count.max(1);
            idle.blocks.extend(first.run(count));
            add(&self.free, -(count as isize));
            add(&self.uncommitting, count as isize);
        }
        idle.blocks.sort_unstable();
        idle
    }

    /// Takes the block whose memory has been free for the longest, and at least for `delay`, out of
    /// the free ones; of a huge page all or, after a look, none.
    pub(super) fn take_last(&self, state: &mut State, now: u32, delay: u32) -> Option<Last> {
        let (block, since) = state.order.last()?;
        if now.wrapping_sub(since) < delay {
            return None;
        }
        let (first, count) = match state.chunks.undivided(block) {
            None => (block, 1),
            Some(chunk) if state.chunks.is_idle(chunk, now, delay) && state.free.chunk(chunk) == u32::MAX => {
                (first_of(chunk), CHUNK_BLOCKS)
            }
            Some(_) => {
                state.order.remove(block);
                state.order.push_first([block].into_iter(), now).for_each(drop);
                (block, 0)
            }
        };
        for block in first.run(count) {
            state.order.remove(block);
            state.free.take(block);
        }
        Some(Last { first, count })
    }

    /// Uncommits neighbours that [`take_uncommittable`](Self::take_uncommittable) has given.
    /// `false`: they have their memory still.
    pub(crate) fn uncommit(&self, run: &[Block]) -> bool {
        let gone = (self.uncommit)(run);
        self.uncommitted(run, gone);
        gone
    }

    /// Returns blocks whose memory was to be given back. `gone`: it was. Otherwise it is still
    /// there, and they are as if freed just now.
    pub(super) fn uncommitted(&self, blocks: &[Block], gone: bool) {
        if blocks.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        add(&self.uncommitting, -(blocks.len() as isize));
        if gone {
            self.chunks_gone(&mut state, blocks);
            let freed = state.free.give(blocks.iter().copied()) as isize;
            add(&self.free, freed);
            add(&self.committed, -freed);
            add(&self.given_back, freed);
            self.check(&state);
        } else {
            self.put_back(&mut state, blocks.iter().copied());
        }
        self.serve(state);
    }
}

#[cfg(test)]
mod tests {
    use super::super::AllocClass;
    use super::*;

    #[test]
    fn what_has_been_free_for_the_longest_goes_back_first() {
        let space = FreeSpace::new(4, 0).unwrap();
        for _ in 0..4 {
            space.take(AllocClass::Mutator);
        }
        let [zero, one, two] = [0, 1, 2].map(Block::new);
        space.free_blocks([two, one, zero]);
        let idle = space.take_uncommittable(Duration::ZERO, 2).blocks;
        assert_eq!(idle, [one, two]);
        assert_eq!((space.free(), space.figures().used), (1, 1), "what is given back is nobody's");
        space.uncommitted(&idle, true);
        let figures = space.figures();
        assert_eq!((space.free(), figures.committed, figures.committed_peak), (3, 2, 4));
        let taken = [space.take(AllocClass::Mutator), space.take(AllocClass::Mutator), space.take(AllocClass::Mutator)];
        assert_eq!(taken, [zero, one, two].map(Some));
        assert_eq!(space.figures().committed, 4);
    }

    /// The kernel may refuse: what is still there is neither lost nor counted as gone.
    #[test]
    fn memory_that_could_not_be_given_back_is_still_there() {
        let space = FreeSpace::new(4, 0).unwrap();
        let taken: Vec<_> = std::iter::from_fn(|| space.take(AllocClass::Mutator)).collect();
        space.free_blocks(taken);
        let idle = space.take_uncommittable(Duration::ZERO, 3).blocks;
        space.uncommitted(&idle, false);
        assert_eq!((space.free(), space.figures().committed, space.free_committed()), (4, 4, 4));
        assert_eq!(
            space.take_uncommittable(Duration::from_secs(1), 4).blocks,
            [],
            "asked for again no sooner than others"
        );
    }
}
