//! Free blocks: which thread may allocate them, in which order, and when their memory is
//! uncommitted.
//!
//! Single blocks are taken from the bottom of the heap upwards, runs for large objects from the top
//! downwards: large objects move in pauses only, and a block of small ones among them would divide
//! what is free there. The lowest blocks are usually also those used last: blocks above them stay
//! free for longer, and are uncommitted. All allocation waits for the lock: the time that it is
//! held depends on the request, never on the size of the heap, and large numbers of blocks are
//! freed in slices.
//!
//! A heap may have more blocks, which are offsets, than its maximum of memory: see `limit`. Free is
//! what may still be used, so blocks for which there is no memory do not count.

mod behind;
mod chunks;
mod destinations;
mod figures;
mod limit;
mod order;
mod runs;
mod stall_queue;
mod uncommit;

pub(crate) use self::behind::Behind;
use self::chunks::Chunks;
pub(crate) use self::chunks::{CHUNK_BLOCKS, TakenChunk, blocks_of};
use self::figures::add;
pub(crate) use self::limit::{Lacking, TakenRun};
use self::order::Order;
use self::runs::Runs;
pub(crate) use self::stall_queue::StallTicket;
use self::stall_queue::Waiter;
use crate::lock::{Condvar, Mutex};
use crate::space::{BLOCK_BYTES, Block};
use gc_core::views::Dumps;
use gc_core::zeroed::{NoMemory, with_room};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// The class of an allocation of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllocClass {
    /// A mutator, for new objects: may not use the relocation reserve, and threads that stalled
    /// before it go first.
    Mutator,
    /// A mutator that copies an object: may not use the blocks that the collector threads need to
    /// progress.
    MutatorCopy,
    /// A collector thread.
    Collector,
}

/// Maximum number of blocks processed while the lock is held once.
pub(crate) const SLICE: usize = 64;

/// What uncommits neighbours.
type Uncommit = Box<dyn Fn(&[Block]) -> bool + Send + Sync>;

struct State {
    free: Runs,
    /// Free blocks whose memory is there.
    order: Order,
    /// Which chunks are huge pages.
    chunks: Chunks,
    /// Stalled threads, in the order in which they get blocks.
    waiting: VecDeque<Waiter>,
    /// Number of the next waiter.
    next: u64,
    /// Blocks that all of them wait for.
    blocks_wanted: usize,
    /// Blocks reserved for relocation.
    reserve: usize,
    /// Further blocks reserved as destinations of a flip.
    destinations: usize,
    /// Destinations that a flip has taken, and that its sources have not replaced yet.
    lent: usize,
    /// Free blocks whose memory is on its way to others.
    giving: usize,
}

/// The free blocks of a heap.
pub(crate) struct FreeSpace {
    /// All of the heap.
    blocks: usize,
    /// How many of them may have memory at once.
    limit: usize,
    /// Uncommits neighbouring blocks, which nobody uses meanwhile; `false`: they have their memory
    /// still. Called without the lock.
    uncommit: Uncommit,
    state: Mutex<State>,
    /// Notified when a waiter has got blocks, or has reached the head of the queue, and by
    /// `wake_all`.
    returned: Condvar,
    /// Written under the lock: a holder of the lock reads consistent figures; a single figure can
    /// be read without it.
    free: AtomicUsize,
    /// Blocks that are being uncommitted: they may not be allocated meanwhile.
    uncommitting: AtomicUsize,
    committed: AtomicUsize,
    committed_peak: AtomicUsize,
    /// Chunks that are huge pages.
    huge: AtomicUsize,
    /// Blocks ever uncommitted.
    given_back: AtomicUsize,
    live_bytes: AtomicU64,
    /// Blocks ever taken: the measure of allocation.
    taken: AtomicUsize,
    /// Of these, for new objects, and by mutators for copies.
    allocated: AtomicUsize,
    copied: AtomicUsize,
    /// Blocks between these two (the first in the low half) have never been taken.
    never_taken: AtomicU64,
    born: Instant,
    /// Told of blocks that are taken, when the lock is free again.
    dumps: Option<Arc<Dumps>>,
}

impl FreeSpace {
    /// All blocks may have memory at once.
    #[cfg(test)]
    pub(crate) fn new(blocks: usize, reserve: usize) -> Result<FreeSpace, NoMemory> {
        FreeSpace::limited(blocks, blocks, reserve, |_| unreachable!("each block has memory of its own"))
    }

    /// At most `limit` of the blocks may have memory at once; where that is fewer, `uncommit` takes
    /// it from some: neighbours, which nobody uses meanwhile. `false`: they have it still.
    pub(crate) fn limited(
        blocks: usize,
        limit: usize,
        reserve: usize,
        uncommit: impl Fn(&[Block]) -> bool + Send + Sync + 'static,
    ) -> Result<FreeSpace, NoMemory> {
        let state = State {
            free: Runs::new(blocks)?,
            order: Order::new(blocks, limit < blocks)?,
            chunks: Chunks::default(),
            waiting: VecDeque::new(),
            next: 0,
            blocks_wanted: 0,
            reserve,
            destinations: 0,
            lent: 0,
            giving: 0,
        };
        Ok(FreeSpace {
            blocks,
            limit,
            uncommit: Box::new(uncommit),
            state: Mutex::new(state),
            returned: Condvar::new(),
            free: AtomicUsize::new(limit),
            uncommitting: AtomicUsize::new(0),
            committed: AtomicUsize::new(0),
            committed_peak: AtomicUsize::new(0),
            live_bytes: AtomicU64::new(0),
            huge: AtomicUsize::new(0),
            given_back: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            allocated: AtomicUsize::new(0),
            copied: AtomicUsize::new(0),
            never_taken: AtomicU64::new((blocks as u64) << 32),
            born: Instant::now(),
            dumps: None,
        })
    }

    /// Has the blocks that are taken dumped.
    pub(crate) fn dumped(self, dumps: Option<Arc<Dumps>>) -> FreeSpace {
        FreeSpace { dumps, ..self }
    }

    /// Blocks that were just taken are dumped. Called for all that were taken without their memory,
    /// also if they are given back at once: as long as they have it, they are not noted again.
    fn note(&self, block: Block, count: usize) {
        if let Some(dumps) = &self.dumps {
            dumps.note(block.start().bytes(), count * BLOCK_BYTES);
        }
    }

    fn note_all(&self, blocks: &[Block]) {
        blocks.iter().for_each(|&block| self.note(block, 1));
    }

    /// Holds the lock.
    #[cfg(test)]
    pub(crate) fn locked(&self) -> impl Sized {
        self.state.lock()
    }

    pub(crate) fn reserve(&self) -> usize {
        self.state.lock().reserve
    }

    /// All memory is there from the start (pretouched heaps), that of the lowest blocks. Nothing
    /// has been taken yet.
    pub(crate) fn all_committed(&self) {
        let mut state = self.state.lock();
        let blocks = self.limit;
        state.order.push_first(Block::new(0).run(blocks).rev(), 0).for_each(drop);
        self.committed.store(blocks, Ordering::Relaxed);
        self.committed_peak.store(blocks, Ordering::Relaxed);
        drop(state);
        self.note(Block::new(0), blocks);
    }

    /// Takes one block, the lowest.
    pub(crate) fn take(&self, taker: AllocClass) -> Option<Block> {
        let mut state = self.state.lock();
        if self.has_bare_blocks() && taker == AllocClass::Mutator {
            state = self.bring_memory_down(state);
        }
        if !self.may_allocate(&state, taker, 1) {
            return None;
        }
        self.is_for(taker, 1);
        let (block, commits) = self.pop(&mut state);
        drop(state);
        if commits {
            self.note(block, 1);
        }
        Some(block)
    }

    /// Takes one block for a collector thread that packs objects from block `end`: the lowest if it
    /// is below, otherwise the highest, which is next to large objects or at the end of the heap.
    pub(crate) fn take_below(&self, end: Block) -> Option<Block> {
        let mut state = self.state.lock();
        if self.has_bare_blocks() {
            state = self.bring_memory_below(state, end);
            self.next(&mut state)?;
        }
        let block = match state.free.lowest()? {
            lowest if lowest < end => self.pop(&mut state).0,
            _ => self.pop_run(&mut state, 1)?,
        };
        drop(state);
        self.note(block, 1);
        Some(block)
    }

    /// Takes these blocks, for objects that move there, or none.
    pub(crate) fn take_these(&self, blocks: &[Block]) -> bool {
        let mut state = self.state.lock();
        if !blocks.iter().all(|&block| state.free.is_free(block)) {
            return false;
        }
        for &block in blocks {
            let never = self.never_taken();
            if never.contains(&block) {
                self.set_never_taken(never.start..block);
            }
        }
        let is_bare = |&&block: &&Block| !state.order.contains(block);
        if self.has_bare_blocks() && blocks.iter().filter(is_bare).count() > self.unassigned(&state) {
            let lacking = self.lend(&mut state, blocks.to_vec(), None);
            drop(state);
            return lacking.is_some_and(|lacking| self.complete(lacking));
        }
        for &block in blocks {
            state.free.take(block);
            self.mark_taken(&mut state, block);
        }
        drop(state);
        self.note_all(blocks);
        true
    }

    /// The free blocks: 64 to a word, the lowest in the lowest bit.
    pub(crate) fn map(&self) -> Result<Vec<u64>, NoMemory> {
        let len = self.state.lock().free.words().len();
        let mut map = with_room(len)?;
        while map.len() < len {
            let state = self.state.lock();
            let words = state.free.words();
            map.extend_from_slice(&words[map.len()..len.min(map.len() + SLICE)]);
        }
        Ok(map)
    }

    /// Takes so many blocks, or none.
    pub(crate) fn take_many(&self, taker: AllocClass, count: usize) -> Option<Vec<Block>> {
        let mut blocks = Vec::new();
        while blocks.len() < count {
            let mut state = self.state.lock();
            let left = count - blocks.len();
            if !self.may_allocate(&state, taker, left) {
                drop(state);
                self.note_all(&blocks);
                self.free_blocks(blocks);
                return None;
            }
            blocks.extend((0..left.min(SLICE)).map(|_| self.pop(&mut state).0));
            if blocks.len() == count {
                self.is_for(taker, count);
            }
        }
        self.note_all(&blocks);
        Some(blocks)
    }

    /// Counts blocks that are taken for new objects, and by mutators for copies. Under the lock.
    fn is_for(&self, taker: AllocClass, count: usize) {
        match taker {
            AllocClass::Mutator => add(&self.allocated, count as isize),
            AllocClass::MutatorCopy => add(&self.copied, count as isize),
            AllocClass::Collector => {}
        }
    }

    /// Takes `count` blocks in a row, the highest; the first of them is returned. Only where all of
    /// them have memory, or there is memory for them.
    pub(crate) fn take_run(&self, taker: AllocClass, count: usize) -> Option<Block> {
        let mut state = self.state.lock();
        if !self.may_allocate(&state, taker, count) {
            return None;
        }
        let first = self.pop_run(&mut state, count)?;
        self.is_for(taker, count);
        drop(state);
        self.note(first, count);
        Some(first)
    }

    fn pop_run(&self, state: &mut State, count: usize) -> Option<Block> {
        let first = self.find_run(state, count)?;
        for block in first.run(count) {
            debug_assert!(state.free.is_free(block));
            state.free.take(block);
            self.mark_taken(state, block);
        }
        self.check(state);
        self.run_was_taken(first, count);
        Some(first)
    }

    /// A run is taken: of what was never taken on both sides of it the longer part remains so.
    fn run_was_taken(&self, first: Block, count: usize) {
        let (never, end) = (self.never_taken(), first + count);
        if first < never.end && end > never.start {
            let (below, above) = (never.start..first.max(never.start), end.min(never.end)..never.end);
            let len = |part: &Range<Block>| part.end - part.start;
            self.set_never_taken(if len(&above) > len(&below) { above } else { below });
        }
    }

    fn may_allocate(&self, state: &State, taker: AllocClass, count: usize) -> bool {
        let free = self.free.load(Ordering::Relaxed);
        let kept = match taker {
            AllocClass::Mutator if state.blocks_wanted > 0 && state.is_compacted_for_a_run() => return false,
            AllocClass::Mutator => state.kept() + state.blocks_wanted,
            AllocClass::MutatorCopy => state.reserve / 2,
            AllocClass::Collector => 0,
        };
        free >= kept + count
    }

    /// Takes the lowest block, or where no memory is left for it the lowest that has some. `true`:
    /// its memory is not there yet.
    #[inline]
    fn pop(&self, state: &mut State) -> (Block, bool) {
        let taken = if self.has_bare_blocks() { self.take_next(state) } else { state.free.take_lowest() };
        let block = taken.expect("as many blocks are free as were counted");
        let commits = self.mark_taken(state, block);
        self.check(state);
        let never = self.never_taken();
        if never.contains(&block) {
            self.set_never_taken(block + 1..never.end);
        }
        (block, commits)
    }

    /// Frees blocks, serving stalled threads first.
    pub(crate) fn free_blocks(&self, blocks: impl IntoIterator<Item = Block>) {
        let mut blocks = blocks.into_iter();
        loop {
            let mut state = self.state.lock();
            let freed = self.put_back(&mut state, blocks.by_ref().take(SLICE));
            if freed > 0 {
                self.serve(state);
            }
            if freed < SLICE {
                return;
            }
        }
    }

    /// Frees blocks whose memory is there. Returns how many.
    fn put_back(&self, state: &mut State, blocks: impl IntoIterator<Item = Block>) -> usize {
        let now = self.born.elapsed().as_millis() as u32;
        let State { free, order, chunks, .. } = state;
        let blocks = blocks.into_iter().inspect(|&block| chunks.note_freed(block, now));
        let freed = free.give(order.push_first(blocks, now));
        add(&self.free, freed as isize);
        self.check(state);
        freed
    }

    /// Wakes all waiters, so that they check whether to continue waiting.
    pub(crate) fn wake_all(&self) {
        self.serve(self.state.lock());
        self.returned.notify_all();
    }
}

#[cfg(test)]
mod tests;
