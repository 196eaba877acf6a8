//! Free blocks: who may take them, in which order, and when their memory goes back to the system.
//!
//! Single blocks are taken last in, first out, so that physical pages are reused while they are in the caches. Runs
//! come from a bitmap. The stack may hold entries whose block has been taken as part of a run since; such an entry is
//! passed over, because the bitmap is what counts.

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
    /// Stalled threads, in the order in which they get blocks: a name for each, and how many it waits for.
    waiting: VecDeque<(u64, usize)>,
    /// The name of the next.
    next: u64,
    /// Blocks that all of them wait for.
    awaited: usize,
    /// Blocks that mutators have got for new objects.
    handed: u64,
    /// Blocks whose memory is being given back: neither free nor in use.
    lent: usize,
    /// Blocks kept for relocation.
    reserve: usize,
}

impl State {
    fn is_first(&self, name: u64) -> bool {
        self.waiting.front().is_some_and(|&(first, _)| first == name)
    }
}

/// The free blocks of a heap.
pub(crate) struct FreeSpace {
    state: Mutex<State>,
    /// Notified when blocks come back while somebody waits, and by the collector when waiting is over.
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
            handed: 0,
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
        self.may(&state, taker, 1).then(|| {
            state.handed += u64::from(taker == Taker::Mutator);
            self.pop(&mut state)
        })
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
        let first = self.pop_run(&mut state, count)?;
        state.handed += if taker == Taker::Mutator { count as u64 } else { 0 };
        Some(first)
    }

    fn pop_run(&self, state: &mut State, count: usize) -> Option<usize> {
        let first = first_run(&state.free, state.freed_at.len(), count)?;
        (first..first + count).for_each(|block| self.mark_taken(state, block));
        Some(first)
    }

    fn may(&self, state: &State, taker: Taker, count: usize) -> bool {
        let free = self.free.load(Ordering::Relaxed);
        let kept = match taker {
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

    /// Gives blocks back; stalled threads are told.
    pub(crate) fn give(&self, blocks: impl IntoIterator<Item = usize>) {
        let mut state = self.state.lock();
        let now = self.born.elapsed().as_millis() as u32;
        for block in blocks {
            debug_assert!(!bit(&state.free, block));
            set(&mut state.free, block, true);
            state.freed_at[block] = now;
            state.stack.push(block as u32);
            self.free.fetch_add(1, Ordering::Relaxed);
        }
        self.tidy(&mut state);
        if state.awaited > 0 {
            self.returned.notify_all();
        }
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

    /// Begins to wait for `count` blocks: from now on who comes later leaves that many alone.
    pub(crate) fn await_blocks(&self, count: usize) -> Awaiting<'_> {
        let mut state = self.state.lock();
        let name = state.next;
        state.next += 1;
        state.waiting.push_back((name, count));
        state.awaited += count;
        Awaiting { space: self, name, count }
    }

    /// Blocks that mutators have got for new objects, ever.
    pub(crate) fn handed(&self) -> u64 {
        self.state.lock().handed
    }

    /// Wakes all who wait, to look again whether waiting still makes sense.
    pub(crate) fn wake_all(&self) {
        let _state = self.state.lock();
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
        if state.awaited > 0 {
            self.returned.notify_all();
        }
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

/// A place in the queue of those who stalled.
pub(crate) struct Awaiting<'a> {
    space: &'a FreeSpace,
    name: u64,
    count: usize,
}

impl Awaiting<'_> {
    /// Tries to take (`run`: in a row), and if that fails waits until blocks come back, the collector calls, or the
    /// time is over. The result is the first block taken, or the blocks themselves.
    pub(crate) fn take(&self, run: bool, timeout: Duration) -> Option<Vec<usize>> {
        let mut state = self.space.state.lock();
        if let Some(taken) = self.try_take(&mut state, run) {
            return Some(taken);
        }
        if timeout.is_zero() {
            return None;
        }
        state = self.space.returned.wait_for(state, timeout);
        self.try_take(&mut state, run)
    }

    /// Whether nobody is before this one: what comes back is for it.
    pub(crate) fn is_first(&self) -> bool {
        self.space.state.lock().is_first(self.name)
    }

    /// Whether what is free now is all that can be had without a cycle: nobody is before this one, and no block's memory is being
    /// given back, after which the block is free again.
    pub(crate) fn has_all(&self) -> bool {
        let state = self.space.state.lock();
        state.is_first(self.name) && state.lent == 0
    }

    fn try_take(&self, state: &mut State, run: bool) -> Option<Vec<usize>> {
        let before =
            state.waiting.iter().take_while(|(name, _)| *name != self.name).map(|(_, count)| count).sum::<usize>();
        if self.space.free.load(Ordering::Relaxed) < state.reserve + before + self.count {
            return None;
        }
        let taken = if run {
            let first = self.space.pop_run(state, self.count)?;
            (first..first + self.count).collect()
        } else {
            (0..self.count).map(|_| self.space.pop(state)).collect()
        };
        state.handed += self.count as u64;
        Some(taken)
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        let mut state = self.space.state.lock();
        state.waiting.retain(|(name, _)| *name != self.name);
        state.awaited -= self.count;
        // What this one leaves behind may be enough for the next, or it is the next's turn to have a cycle of its own.
        if !state.waiting.is_empty() {
            self.space.returned.notify_all();
        }
    }
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
    fn the_reserve_is_for_relocation_and_the_stalled_go_first() {
        let space = FreeSpace::new(4, 1);
        let waiting = space.await_blocks(2);
        assert!(space.take(Taker::Mutator).is_some());
        assert_eq!(space.take(Taker::Mutator), None, "two are awaited and one is reserved");
        assert_eq!(waiting.take(false, Duration::ZERO).unwrap().len(), 2);
        drop(waiting);
        assert_eq!(space.await_blocks(1).take(false, Duration::ZERO), None);
        assert!(space.take(Taker::Collector).is_some());
    }

    /// Who comes later and is awake earlier must not get what another waits for: that one would be out of memory although
    /// there was some, over and over.
    #[test]
    fn the_stalled_are_served_in_the_order_in_which_they_came() {
        let space = FreeSpace::new(8, 1);
        let all: Vec<_> = std::iter::from_fn(|| space.take(Taker::Mutator)).collect();
        let [first, second, third] = [2, 1, 1].map(|count| space.await_blocks(count));
        assert!(first.is_first() && !second.is_first());
        space.give([all[0], all[1]]);
        assert_eq!(second.take(false, Duration::ZERO), None, "both are the first's");
        space.give([all[2]]);
        assert_eq!(third.take(false, Duration::ZERO), None);
        let handed = space.handed();
        assert_eq!(second.take(false, Duration::ZERO).unwrap().len(), 1, "and this one is not");
        drop(second);
        assert_eq!(third.take(false, Duration::ZERO), None);
        assert_eq!(first.take(false, Duration::ZERO).unwrap().len(), 2);
        assert_eq!(space.handed(), handed + 3);
        drop(first);
        assert!(third.is_first());
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

    /// Else memory that is given back all the time is never there when somebody looks.
    #[test]
    fn who_waits_for_blocks_is_not_out_of_memory_while_some_are_given_back() {
        let space = FreeSpace::new(4, 0);
        let taken: Vec<_> = std::iter::from_fn(|| space.take(Taker::Mutator)).collect();
        space.give(taken);
        let idle = space.idle(Duration::ZERO, 0..4);
        assert_eq!(idle.len(), 4);
        let waiting = space.await_blocks(1);
        assert_eq!(waiting.take(false, Duration::ZERO), None);
        assert!(waiting.is_first() && !waiting.has_all());
        space.uncommitted(&idle);
        assert!(waiting.has_all() && space.idle(Duration::ZERO, 0..4).is_empty());
        assert!(waiting.take(false, Duration::ZERO).is_some());
    }
}
