//! Free blocks: who may take them, in which order, and when their memory goes back to the system.
//!
//! Single blocks are taken last in, first out, so that physical pages are reused while they are in the caches. Runs
//! come from a bitmap. The stack may hold entries whose block has been taken as part of a run since; such an entry is
//! passed over, because the bitmap is what counts.

mod awaiting;

pub(crate) use self::awaiting::Awaiting;
use self::awaiting::Waiter;
use crate::lock::{Condvar, Mutex};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Who asks for blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taker {
    /// A mutator, for new objects: leaves the relocation reserve alone, and those who stalled before it go first.
    Mutator,
    /// A mutator that copies an object: leaves the collector threads what they need to go on.
    MutatorCopy,
    /// A collector thread.
    Collector,
}

struct State {
    free: Box<[u64]>,
    stack: Vec<u32>,
    committed: Box<[u64]>,
    freed_at: Box<[u32]>,
    /// Stalled threads, in the order in which they get blocks.
    waiting: VecDeque<Waiter>,
    /// The name of the next.
    next: u64,
    /// Blocks that all of them wait for.
    awaited: usize,
    /// Blocks whose memory is being given back: neither free nor in use.
    lent: usize,
    /// Blocks kept for relocation.
    reserve: usize,
}

/// The free blocks of a heap.
pub(crate) struct FreeSpace {
    state: Mutex<State>,
    /// Notified when somebody who waits has got blocks, or is the first now, and by the collector when waiting is over.
    returned: Condvar,
    /// Mirrors of what the lock guards, to be read without it.
    free: AtomicUsize,
    committed: AtomicUsize,
    committed_peak: AtomicUsize,
    /// Blocks ever taken: the measure of allocation.
    taken: AtomicUsize,
    /// Blocks from here on have never been taken.
    ever_taken: AtomicUsize,
    born: Instant,
}

fn bit(map: &[u64], block: usize) -> bool {
    map[block / 64] >> (block % 64) & 1 == 1
}

fn set(map: &mut [u64], block: usize, value: bool) {
    let mask = 1 << (block % 64);
    if value {
        map[block / 64] |= mask;
    } else {
        map[block / 64] &= !mask;
    }
}

impl FreeSpace {
    pub(crate) fn new(blocks: usize, reserve: usize) -> FreeSpace {
        let words = blocks.div_ceil(64);
        let mut free = vec![0; words].into_boxed_slice();
        (0..blocks).for_each(|block| set(&mut free, block, true));
        let state = State {
            free,
            // The lowest block on top.
            stack: (0..blocks as u32).rev().collect(),
            committed: vec![0; words].into_boxed_slice(),
            freed_at: vec![0; blocks].into_boxed_slice(),
            waiting: VecDeque::new(),
            next: 0,
            awaited: 0,
            lent: 0,
            reserve,
        };
        FreeSpace {
            state: Mutex::new(state),
            returned: Condvar::new(),
            free: AtomicUsize::new(blocks),
            committed: AtomicUsize::new(0),
            committed_peak: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            ever_taken: AtomicUsize::new(0),
            born: Instant::now(),
        }
    }

    /// Free blocks now.
    pub(crate) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// Blocks ever taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Blocks from this one on have never been taken.
    pub(crate) fn ever_taken(&self) -> usize {
        self.ever_taken.load(Ordering::Relaxed)
    }

    /// Blocks whose memory is committed, now and at most.
    pub(crate) fn committed(&self) -> (usize, usize) {
        (self.committed.load(Ordering::Relaxed), self.committed_peak.load(Ordering::Relaxed))
    }

    pub(crate) fn reserve(&self) -> usize {
        self.state.lock().reserve
    }

    /// Whole blocks are committed from the start (pretouched heaps).
    pub(crate) fn all_committed(&self) {
        let mut state = self.state.lock();
        state.committed.fill(u64::MAX);
        let blocks = state.freed_at.len();
        self.committed.store(blocks, Ordering::Relaxed);
        self.committed_peak.fetch_max(blocks, Ordering::Relaxed);
    }

    /// Takes one block, the one freed last.
    pub(crate) fn take(&self, taker: Taker) -> Option<usize> {
        let mut state = self.state.lock();
        self.may(&state, taker, 1).then(|| self.pop(&mut state))
    }

    /// Takes the free block of the lowest address: compaction packs towards the start.
    pub(crate) fn take_lowest(&self) -> Option<usize> {
        let mut state = self.state.lock();
        let (index, word) = state.free.iter().enumerate().find(|(_, word)| **word != 0)?;
        let block = index * 64 + word.trailing_zeros() as usize;
        self.mark_taken(&mut state, block);
        Some(block)
    }

    /// Takes `count` blocks in a row; the first is returned.
    pub(crate) fn take_run(&self, taker: Taker, count: usize) -> Option<usize> {
        let mut state = self.state.lock();
        if !self.may(&state, taker, count) {
            return None;
        }
        self.pop_run(&mut state, count)
    }

    fn pop_run(&self, state: &mut State, count: usize) -> Option<usize> {
        let first = first_run(&state.free, state.freed_at.len(), count)?;
        (first..first + count).for_each(|block| self.mark_taken(state, block));
        Some(first)
    }

    fn may(&self, state: &State, taker: Taker, count: usize) -> bool {
        let free = self.free.load(Ordering::Relaxed);
        let kept = match taker {
            Taker::Mutator if state.is_compacted_for_a_run() => return false,
            Taker::Mutator => state.reserve + state.awaited,
            Taker::MutatorCopy => state.reserve / 2,
            Taker::Collector => 0,
        };
        free >= kept + count
    }

    fn pop(&self, state: &mut State) -> usize {
        loop {
            // The bitmap says that a block is free, and every free block has an entry on the stack.
            let block = state.stack.pop().expect("a free block is on the stack") as usize;
            if bit(&state.free, block) {
                self.mark_taken(state, block);
                return block;
            }
        }
    }

    fn mark_taken(&self, state: &mut State, block: usize) {
        set(&mut state.free, block, false);
        self.free.fetch_sub(1, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.ever_taken.fetch_max(block + 1, Ordering::Relaxed);
        if !bit(&state.committed, block) {
            set(&mut state.committed, block, true);
            let now = self.committed.fetch_add(1, Ordering::Relaxed) + 1;
            self.committed_peak.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// Gives blocks back, to stalled threads first.
    pub(crate) fn give(&self, blocks: impl IntoIterator<Item = usize>) {
        let mut state = self.state.lock();
        self.put_back(&mut state, blocks);
        self.serve(state);
    }

    fn put_back(&self, state: &mut State, blocks: impl IntoIterator<Item = usize>) {
        let now = self.born.elapsed().as_millis() as u32;
        for block in blocks {
            debug_assert!(!bit(&state.free, block));
            set(&mut state.free, block, true);
            state.freed_at[block] = now;
            state.stack.push(block as u32);
            self.free.fetch_add(1, Ordering::Relaxed);
        }
        self.tidy(state);
    }

    /// Passed-over entries must not pile up.
    fn tidy(&self, state: &mut State) {
        if state.stack.len() > 2 * state.freed_at.len() {
            let mut seen = vec![0_u64; state.free.len()].into_boxed_slice();
            let mut kept = Vec::with_capacity(self.free());
            for &block in state.stack.iter().rev() {
                if bit(&state.free, block as usize) && !bit(&seen, block as usize) {
                    set(&mut seen, block as usize, true);
                    kept.push(block);
                }
            }
            kept.reverse();
            state.stack = kept;
        }
    }

    /// Wakes all who wait, to look again whether waiting still makes sense.
    pub(crate) fn wake_all(&self) {
        self.serve(self.state.lock());
        self.returned.notify_all();
    }

    /// The blocks of a range that are free, committed, and have been free for at least `delay`, taken out of the free
    /// space while their memory is given back; [`uncommitted`](Self::uncommitted) returns them. None while threads wait for blocks.
    pub(crate) fn idle(&self, delay: Duration, range: Range<usize>) -> Vec<usize> {
        let mut state = self.state.lock();
        if state.awaited > 0 {
            return Vec::new();
        }
        let now = self.born.elapsed().as_millis() as u32;
        let delay = delay.as_millis().min(u128::from(u32::MAX)) as u32;
        let blocks: Vec<usize> = range
            .filter(|&b| bit(&state.free, b) && bit(&state.committed, b))
            .filter(|&b| now.wrapping_sub(state.freed_at[b]) >= delay)
            .collect();
        for &block in &blocks {
            set(&mut state.free, block, false);
            self.free.fetch_sub(1, Ordering::Relaxed);
        }
        state.lent += blocks.len();
        blocks
    }

    /// Returns blocks whose memory has been given back to the bottom of the stack: they are used last.
    pub(crate) fn uncommitted(&self, blocks: &[usize]) {
        let mut state = self.state.lock();
        let mut stack: Vec<u32> = blocks.iter().map(|&b| b as u32).collect();
        for &block in blocks {
            set(&mut state.free, block, true);
            set(&mut state.committed, block, false);
        }
        if blocks.is_empty() {
            return;
        }
        state.lent -= blocks.len();
        self.free.fetch_add(blocks.len(), Ordering::Relaxed);
        self.committed.fetch_sub(blocks.len(), Ordering::Relaxed);
        stack.append(&mut state.stack);
        state.stack = stack;
        self.tidy(&mut state);
        self.serve(state);
    }
}

/// Lowest run of `count` set bits.
fn first_run(map: &[u64], blocks: usize, count: usize) -> Option<usize> {
    let mut length = 0;
    let mut block = 0;
    while block < blocks {
        if map[block / 64] == 0 {
            length = 0;
            block = (block / 64 + 1) * 64;
            continue;
        }
        length = if bit(map, block) { length + 1 } else { 0 };
        block += 1;
        if length == count {
            return Some(block - count);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_freed_last_is_taken_first() {
        let space = FreeSpace::new(8, 0);
        let taken: Vec<_> = (0..8).map(|_| space.take(Taker::Mutator).unwrap()).collect();
        assert_eq!(taken, (0..8).collect::<Vec<_>>());
        assert_eq!(space.take(Taker::Mutator), None);
        space.give([3, 5]);
        assert_eq!(space.take(Taker::Mutator), Some(5));
        assert_eq!(space.committed(), (8, 8));
    }

    #[test]
    fn runs_and_single_blocks_do_not_overlap() {
        let space = FreeSpace::new(130, 0);
        assert_eq!(space.take_run(Taker::Mutator, 70), Some(0));
        assert_eq!(space.take(Taker::Mutator), Some(70));
        space.give(10..20);
        assert_eq!(space.take_run(Taker::Mutator, 60), None);
        assert_eq!(space.take_run(Taker::Mutator, 59), Some(71));
        let rest: Vec<_> = std::iter::from_fn(|| space.take(Taker::Mutator)).collect();
        assert_eq!(rest.len(), 10);
        assert!(rest.iter().all(|b| (10..20).contains(b)));
    }

    #[test]
    fn idle_memory_is_used_last() {
        let space = FreeSpace::new(4, 0);
        for _ in 0..4 {
            space.take(Taker::Mutator);
        }
        space.give([0, 1, 2]);
        let idle = space.idle(Duration::ZERO, 0..2);
        assert_eq!(idle, [0, 1]);
        assert_eq!(space.free(), 1);
        space.uncommitted(&idle);
        assert_eq!((space.free(), space.committed()), (3, (2, 4)));
        assert_eq!(space.take(Taker::Mutator), Some(2));
    }
}
