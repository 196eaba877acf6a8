//! Free blocks: who may take them, in which order, and when their memory goes back to the system.
//!
//! Single blocks are taken last in, first out, so that physical pages are reused while they are in the caches; those without
//! memory come last. Runs come from the tree of `runs`. All allocation waits for the lock: what is done under it takes time by
//! what is asked for, never by what the heap holds, and what comes back in large numbers comes in slices.

mod awaiting;
mod order;
mod runs;

pub(crate) use self::awaiting::StallTicket;
use self::awaiting::Waiter;
use self::order::{List, Order};
use self::runs::Runs;
use crate::lock::{Condvar, Mutex};
use crate::space::BLOCK_BYTES;
use gc_core::views::Dumps;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Who asks for blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllocClass {
    /// A mutator, for new objects: leaves the relocation reserve alone, and those who stalled before it go first.
    Mutator,
    /// A mutator that copies an object: leaves the collector threads what they need to go on.
    MutatorCopy,
    /// A collector thread.
    Collector,
}

/// Blocks that change hands while the lock is held once.
const SLICE: usize = 64;

struct State {
    free: Runs,
    order: Order,
    committed: Box<[bool]>,
    freed_at: Box<[u32]>,
    /// Stalled threads, in the order in which they get blocks.
    waiting: VecDeque<Waiter>,
    /// The name of the next.
    next: u64,
    /// Blocks that all of them wait for.
    awaited: usize,
    /// Blocks whose memory is being given back: nobody's, and not to be taken.
    lent: usize,
    /// Blocks kept for relocation.
    reserve: usize,
    /// Blocks kept besides, for the destinations of a flip.
    destinations: usize,
}

/// What there was at one moment. Of each two figures that say something about one another:
/// `live_bytes` <= bytes of `used` <= those of `committed` <= those of `committed_peak`; `used` <= `taken`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Blocks that hold something, or are about to.
    pub(crate) used: usize,
    /// Blocks whose memory is there, and the most that there were.
    pub(crate) committed: usize,
    pub(crate) committed_peak: usize,
    /// Blocks ever taken.
    pub(crate) taken: usize,
    /// Found by the last marking.
    pub(crate) live_bytes: u64,
}

/// The free blocks of a heap.
pub(crate) struct FreeSpace {
    state: Mutex<State>,
    /// Notified when somebody who waits has got blocks, or is the first now, and by the collector when waiting is over.
    returned: Condvar,
    /// Written under the lock: who has it reads what fits together, and who wants one of them needs no lock.
    free: AtomicUsize,
    committed: AtomicUsize,
    committed_peak: AtomicUsize,
    live_bytes: AtomicU64,
    /// Blocks ever taken: the measure of allocation.
    taken: AtomicUsize,
    /// Of these, for new objects.
    allocated: AtomicUsize,
    /// Blocks from here on have never been taken.
    high_water_mark: AtomicUsize,
    born: Instant,
    /// Told of blocks that are taken, when the lock is free again.
    dumps: Option<Arc<Dumps>>,
}

/// Adds to a figure that is only ever written under the lock, which the caller holds: a load and a store do, others may read
/// meanwhile.
fn add(figure: &AtomicUsize, change: isize) {
    figure.store(figure.load(Ordering::Relaxed).wrapping_add_signed(change), Ordering::Relaxed);
}

impl FreeSpace {
    pub(crate) fn new(blocks: usize, reserve: usize) -> FreeSpace {
        let mut order = Order::new(blocks);
        // The lowest block comes first.
        (0..blocks).rev().for_each(|block| order.push_first(List::Bare, block));
        let state = State {
            free: Runs::new(blocks),
            order,
            committed: vec![false; blocks].into_boxed_slice(),
            freed_at: vec![0; blocks].into_boxed_slice(),
            waiting: VecDeque::new(),
            next: 0,
            awaited: 0,
            lent: 0,
            reserve,
            destinations: 0,
        };
        FreeSpace {
            state: Mutex::new(state),
            returned: Condvar::new(),
            free: AtomicUsize::new(blocks),
            committed: AtomicUsize::new(0),
            committed_peak: AtomicUsize::new(0),
            live_bytes: AtomicU64::new(0),
            taken: AtomicUsize::new(0),
            allocated: AtomicUsize::new(0),
            high_water_mark: AtomicUsize::new(0),
            born: Instant::now(),
            dumps: None,
        }
    }

    /// Has the blocks that are taken dumped.
    pub(crate) fn dumped(self, dumps: Option<Arc<Dumps>>) -> FreeSpace {
        FreeSpace { dumps, ..self }
    }

    /// Blocks that were just taken are dumped. Of one that has its memory already two loads.
    fn note(&self, block: usize, count: usize) {
        if let Some(dumps) = &self.dumps {
            dumps.note(block * BLOCK_BYTES, count * BLOCK_BYTES);
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

    /// Blocks ever taken for new objects.
    pub(crate) fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Blocks from this one on have never been taken.
    pub(crate) fn high_water_mark(&self) -> usize {
        self.high_water_mark.load(Ordering::Relaxed)
    }

    /// Bytes that the last marking found live.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }

    /// A marking has found so much live, and nothing of what it found dead is free yet.
    pub(crate) fn set_live_bytes(&self, bytes: u64) {
        let _state = self.state.lock();
        self.live_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Figures of one moment.
    pub(crate) fn figures(&self) -> Figures {
        let state = self.state.lock();
        Figures {
            used: state.freed_at.len() - state.lent - self.free.load(Ordering::Relaxed),
            committed: self.committed.load(Ordering::Relaxed),
            committed_peak: self.committed_peak.load(Ordering::Relaxed),
            taken: self.taken.load(Ordering::Relaxed),
            live_bytes: self.live_bytes.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn reserve(&self) -> usize {
        self.state.lock().reserve
    }

    /// All memory is there from the start (pretouched heaps). Nothing has been taken yet.
    pub(crate) fn all_committed(&self) {
        let mut state = self.state.lock();
        let blocks = state.freed_at.len();
        for block in (0..blocks).rev() {
            state.order.remove(List::Bare, block);
            state.order.push_first(List::Committed, block);
            state.committed[block] = true;
        }
        self.committed.store(blocks, Ordering::Relaxed);
        self.committed_peak.store(blocks, Ordering::Relaxed);
        drop(state);
        self.note(0, blocks);
    }

    /// Keeps so many blocks from mutators, besides the reserve, so that the next flip has something to copy to. Who waits is served where
    /// these are less than before.
    pub(crate) fn keep(&self, destinations: usize) {
        let mut state = self.state.lock();
        state.destinations = destinations;
        self.serve(state);
    }

    /// What mutators leave alone: the reserve, and the destinations of the next flip.
    pub(crate) fn kept(&self) -> usize {
        self.state.lock().kept()
    }

    /// Takes one block, the one freed last.
    pub(crate) fn take(&self, taker: AllocClass) -> Option<usize> {
        let mut state = self.state.lock();
        let block = self.may(&state, taker, 1).then(|| {
            self.is_for(taker, 1);
            self.pop(&mut state)
        })?;
        drop(state);
        self.note(block, 1);
        Some(block)
    }

    /// Takes so many blocks, or none.
    pub(crate) fn take_many(&self, taker: AllocClass, count: usize) -> Option<Vec<usize>> {
        let mut blocks = Vec::new();
        while blocks.len() < count {
            let mut state = self.state.lock();
            let left = count - blocks.len();
            if !self.may(&state, taker, left) {
                drop(state);
                self.give(blocks);
                return None;
            }
            blocks.extend((0..left.min(SLICE)).map(|_| self.pop(&mut state)));
        }
        self.is_for(taker, count);
        blocks.iter().for_each(|&block| self.note(block, 1));
        Some(blocks)
    }

    /// Counts blocks that are taken for new objects.
    fn is_for(&self, taker: AllocClass, count: usize) {
        if taker == AllocClass::Mutator {
            self.allocated.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Takes the free block of the lowest address: compaction packs towards the start.
    pub(crate) fn take_lowest(&self) -> Option<usize> {
        let mut state = self.state.lock();
        let block = state.free.first(1)?;
        self.mark_taken(&mut state, block);
        drop(state);
        self.note(block, 1);
        Some(block)
    }

    /// Takes `count` blocks in a row; the first is returned.
    pub(crate) fn take_run(&self, taker: AllocClass, count: usize) -> Option<usize> {
        let mut state = self.state.lock();
        if !self.may(&state, taker, count) {
            return None;
        }
        let first = self.pop_run(&mut state, count)?;
        self.is_for(taker, count);
        drop(state);
        self.note(first, count);
        Some(first)
    }

    fn pop_run(&self, state: &mut State, count: usize) -> Option<usize> {
        let first = state.free.first(count)?;
        (first..first + count).for_each(|block| self.mark_taken(state, block));
        Some(first)
    }

    fn may(&self, state: &State, taker: AllocClass, count: usize) -> bool {
        let free = self.free.load(Ordering::Relaxed);
        let kept = match taker {
            AllocClass::Mutator if state.is_compacted_for_a_run() => return false,
            AllocClass::Mutator => state.kept() + state.awaited,
            AllocClass::MutatorCopy => state.reserve / 2,
            AllocClass::Collector => 0,
        };
        free >= kept + count
    }

    fn pop(&self, state: &mut State) -> usize {
        let block = state.order.first(List::Committed).or_else(|| state.order.first(List::Bare));
        let block = block.expect("a free block is in one of the lists");
        self.mark_taken(state, block);
        block
    }

    fn mark_taken(&self, state: &mut State, block: usize) {
        debug_assert!(state.free.is_free(block));
        state.free.set(block, false);
        add(&self.free, -1);
        add(&self.taken, 1);
        if block >= self.high_water_mark.load(Ordering::Relaxed) {
            self.high_water_mark.store(block + 1, Ordering::Relaxed);
        }
        if state.committed[block] {
            state.order.remove(List::Committed, block);
        } else {
            state.order.remove(List::Bare, block);
            state.committed[block] = true;
            let now = self.committed.fetch_add(1, Ordering::Relaxed) + 1;
            self.committed_peak.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// Gives blocks back, to stalled threads first.
    pub(crate) fn give(&self, blocks: impl IntoIterator<Item = usize>) {
        let mut blocks = blocks.into_iter().peekable();
        while blocks.peek().is_some() {
            let mut state = self.state.lock();
            self.put_back(&mut state, blocks.by_ref().take(SLICE));
            self.serve(state);
        }
    }

    fn put_back(&self, state: &mut State, blocks: impl IntoIterator<Item = usize>) {
        let now = self.born.elapsed().as_millis() as u32;
        for block in blocks {
            state.freed_at[block] = now;
            self.put(state, List::Committed, block);
        }
    }

    fn put(&self, state: &mut State, list: List, block: usize) {
        debug_assert!(!state.free.is_free(block));
        state.free.set(block, true);
        state.order.push_first(list, block);
        add(&self.free, 1);
    }

    /// Wakes all who wait, to look again whether waiting still makes sense.
    pub(crate) fn wake_all(&self) {
        self.serve(self.state.lock());
        self.returned.notify_all();
    }

    /// Free blocks whose memory is there.
    pub(crate) fn free_committed(&self) -> usize {
        self.state.lock().order.len(List::Committed)
    }

    /// At most `most` free blocks whose memory is there, and that have been free for at least `delay`: those for the longest. They
    /// are nobody's while their memory is given back; [`uncommitted`](Self::uncommitted) returns them. In the order of their
    /// addresses. None while threads wait for blocks.
    pub(crate) fn idle(&self, delay: Duration, most: usize) -> Vec<usize> {
        let mut state = self.state.lock();
        let mut blocks = Vec::new();
        if state.awaited > 0 {
            return blocks;
        }
        let now = self.born.elapsed().as_millis() as u32;
        let delay = delay.as_millis().min(u128::from(u32::MAX)) as u32;
        while blocks.len() < most
            && let Some(block) = state.order.last(List::Committed)
            && now.wrapping_sub(state.freed_at[block]) >= delay
        {
            state.order.remove(List::Committed, block);
            state.free.set(block, false);
            add(&self.free, -1);
            state.lent += 1;
            blocks.push(block);
        }
        drop(state);
        blocks.sort_unstable();
        blocks
    }

    /// Returns blocks whose memory was to be given back. `gone`: it was, and they are used last, the lowest first.
    /// Otherwise it is still there, and they are as if freed just now.
    pub(crate) fn uncommitted(&self, blocks: &[usize], gone: bool) {
        if blocks.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state.lent -= blocks.len();
        if gone {
            for &block in blocks.iter().rev() {
                state.committed[block] = false;
                self.put(&mut state, List::Bare, block);
            }
            self.committed.fetch_sub(blocks.len(), Ordering::Relaxed);
        } else {
            self.put_back(&mut state, blocks.iter().copied());
        }
        self.serve(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_freed_last_is_taken_first() {
        let space = FreeSpace::new(8, 0);
        let taken: Vec<_> = (0..8).map(|_| space.take(AllocClass::Mutator).unwrap()).collect();
        assert_eq!(taken, (0..8).collect::<Vec<_>>());
        assert_eq!(space.take(AllocClass::Mutator), None);
        space.give([3, 5]);
        assert_eq!(space.take(AllocClass::Mutator), Some(5));
        assert_eq!((space.figures().committed, space.figures().committed_peak), (8, 8));
    }

    #[test]
    fn runs_and_single_blocks_do_not_overlap() {
        let space = FreeSpace::new(130, 0);
        assert_eq!(space.take_run(AllocClass::Mutator, 70), Some(0));
        assert_eq!(space.take(AllocClass::Mutator), Some(70));
        space.give(10..20);
        assert_eq!(space.take_run(AllocClass::Mutator, 60), None);
        assert_eq!(space.take_run(AllocClass::Mutator, 59), Some(71));
        let rest: Vec<_> = std::iter::from_fn(|| space.take(AllocClass::Mutator)).collect();
        assert_eq!(rest.len(), 10);
        assert!(rest.iter().all(|b| (10..20).contains(b)));
    }

    #[test]
    fn idle_memory_is_used_last() {
        let space = FreeSpace::new(4, 0);
        for _ in 0..4 {
            space.take(AllocClass::Mutator);
        }
        space.give([0, 1, 2]);
        let idle = space.idle(Duration::ZERO, 2);
        assert_eq!(idle, [0, 1], "those that have been free for the longest");
        assert_eq!((space.free(), space.figures().used), (1, 1), "what is given back is nobody's");
        space.uncommitted(&idle, true);
        let figures = space.figures();
        assert_eq!((space.free(), figures.committed, figures.committed_peak), (3, 2, 4));
        let taken = [space.take(AllocClass::Mutator), space.take(AllocClass::Mutator), space.take(AllocClass::Mutator)];
        assert_eq!(taken, [Some(2), Some(0), Some(1)]);
    }

    /// The kernel may refuse: what is still there is neither lost nor counted as gone.
    #[test]
    fn memory_that_could_not_be_given_back_is_still_there() {
        let space = FreeSpace::new(4, 0);
        let taken: Vec<_> = std::iter::from_fn(|| space.take(AllocClass::Mutator)).collect();
        space.give(taken);
        let idle = space.idle(Duration::ZERO, 3);
        space.uncommitted(&idle, false);
        assert_eq!((space.free(), space.figures().committed, space.free_committed()), (4, 4, 4));
        assert_eq!(space.idle(Duration::from_secs(1), 4), [], "asked for again no sooner than others");
    }

    #[test]
    fn many_blocks_are_taken_at_once_or_none() {
        let space = FreeSpace::new(300, 4);
        let many = space.take_many(AllocClass::Mutator, 200).unwrap();
        assert_eq!((many.len(), space.free()), (200, 100));
        assert_eq!((space.take_many(AllocClass::Mutator, 97), space.free()), (None, 100), "four are reserved");
        assert_eq!(space.take_many(AllocClass::Mutator, 96).map(|blocks| blocks.len()), Some(96));
        let waiting = space.await_blocks(1, false);
        assert_eq!(space.take_many(AllocClass::Mutator, 2), None, "one that stalled goes first");
        space.give(many);
        assert!(waiting.take(Duration::ZERO).is_some());
    }

    /// All allocation waits for the lock, so what is done under it must not grow with the heap. Of each the least of several times
    /// counts, and a search of all blocks takes 256 times as long in the larger heap.
    #[test]
    fn a_run_is_found_in_a_time_that_does_not_grow_with_the_heap() {
        let checkered = |blocks: usize| {
            let space = FreeSpace::new(blocks, 0);
            while space.take(AllocClass::Mutator).is_some() {}
            space.give((0..blocks - 64).step_by(2));
            space.give(blocks - 32..blocks);
            space
        };
        let time = |space: &FreeSpace| {
            let begun = Instant::now();
            for _ in 0..8 {
                let first = space.take_run(AllocClass::Mutator, 2).unwrap();
                space.give(first..first + 2);
            }
            begun.elapsed()
        };
        let spaces = [1 << 9, 1 << 17].map(checkered);
        let mut least = [Duration::MAX; 2];
        for _ in 0..100 {
            for (least, space) in least.iter_mut().zip(&spaces) {
                *least = (*least).min(time(space));
            }
        }
        assert!(least[1] < 16 * least[0], "{least:?}");
    }
}
