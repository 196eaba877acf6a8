//! The table of process-wide roots: slots that any thread may hold an entry of.
//!
//! Entries are allocated under a lock and released without one: dropping a root pushes its index on
//! a lock-free list, so it works anywhere, also after the heap has ended. A released entry keeps
//! its word until no marking runs, which has the same effect as logging the overwritten word.

use crate::lock::Mutex;
use crate::roots::region::{Region, RegionWord, RootMemory};
use crate::space::Page;
use crossbeam_queue::SegQueue;
use gc_core::root_table::{self, Dropped, Entries};
use gc_core::sys::Process;
use gc_core::word::Word;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const CHUNK: usize = 1024;

/// [`CHUNK`] slots, all 0.
fn new_chunk(memory: &RootMemory) -> Arc<Region> {
    let region = Region::table(memory, CHUNK * 8)
        .expect("address space for another 1024 roots (the heap's address space for roots is used up)");
    // The region may have been used before.
    region.words()[..CHUNK].iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
    Arc::new(region)
}

#[derive(Default)]
struct State {
    chunks: Vec<Arc<Region>>,
    free: Vec<usize>,
}

/// Slots of process-wide roots, strong or weak.
pub(crate) struct RootTable {
    memory: RootMemory,
    process: Process,
    state: Mutex<State>,
    dropped: DroppedEntries,
}

/// Dropping a root never takes a lock.
struct DroppedEntries(SegQueue<usize>);

impl Dropped for DroppedEntries {
    fn push(&self, entry: usize) {
        self.0.push(entry);
    }

    fn pop(&self) -> Option<usize> {
        self.0.pop()
    }
}

/// The entries of a locked table, with their slots as `slots` shows them.
struct Locked<'a> {
    memory: &'a RootMemory,
    state: &'a mut State,
    slots: fn(&Region) -> &[AtomicU64],
}

impl Entries for Locked<'_> {
    fn free(&mut self) -> &mut Vec<usize> {
        &mut self.state.free
    }

    fn slot(&self, entry: usize) -> &AtomicU64 {
        &(self.slots)(&self.state.chunks[entry / CHUNK])[entry % CHUNK]
    }

    fn grow(&mut self) {
        let first = self.state.chunks.len() * CHUNK;
        self.state.chunks.push(new_chunk(self.memory));
        self.state.free.extend((first..first + CHUNK).rev());
    }
}

impl RootTable {
    pub(crate) fn new(memory: &RootMemory) -> RootTable {
        RootTable {
            memory: memory.clone(),
            process: Process::current(),
            state: Mutex::default(),
            dropped: DroppedEntries(SegQueue::new()),
        }
    }

    /// Pages of the heap's file that hold the slots.
    pub(crate) fn pages(&self) -> Vec<std::ops::Range<Page>> {
        self.state.lock().chunks.iter().map(|chunk| chunk.pages(CHUNK * 8)).collect()
    }

    /// Visits all slots that may be in use, without holding the lock during the visits.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&AtomicU64)) {
        let mut index = 0;
        while let Some(chunk) = self.chunk(index) {
            chunk.collector_words()[..CHUNK].iter().for_each(&mut visit);
            index += 1;
        }
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> usize {
        self.state.lock().chunks.len() * CHUNK
    }

    /// Visits a range of slots of one chunk, without holding the lock during the visits.
    pub(crate) fn scan(&self, slots: std::ops::Range<usize>, visit: impl FnMut(&AtomicU64)) {
        let chunk = self.chunk(slots.start / CHUNK).expect("a chunk that there was");
        let first = slots.start % CHUNK;
        chunk.collector_words()[first..first + slots.len()].iter().for_each(visit);
    }

    fn chunk(&self, index: usize) -> Option<Arc<Region>> {
        self.state.lock().chunks.get(index).cloned()
    }

    /// Reclaims the entries of dropped roots. Called by the collector, while no marking runs and no
    /// page is gated.
    pub(crate) fn reclaim(&self) {
        let some = |state: &mut State| {
            let mut entries = Locked { memory: &self.memory, state, slots: Region::collector_words };
            root_table::reclaim_some(&self.dropped, &mut entries)
        };
        while some(&mut self.state.lock()) {}
    }
}

/// One entry of a table.
pub(crate) struct RootCell {
    table: Arc<RootTable>,
    slot: RegionWord,
    index: usize,
}

impl RootCell {
    /// `idle`: no marking runs (and none can begin, since the caller borrows a mutator).
    pub(crate) fn new(table: &Arc<RootTable>, word: Word, idle: bool) -> RootCell {
        let mut state = table.state.lock();
        // Through the mutators' view: a store through the canonical view could be overwritten by a
        // concurrent repair. It may fault while the table is locked; that cannot deadlock, because
        // neither repair nor the end of a flip takes this lock.
        let mut entries = Locked { memory: &table.memory, state: &mut state, slots: Region::words };
        let index = root_table::take(&table.dropped, &mut entries, word, idle).expect("a table that grows");
        let slot = RegionWord::new(&entries.state.chunks[index / CHUNK], index % CHUNK);
        drop(state);
        RootCell { table: Arc::clone(table), slot, index }
    }

    /// The slot through the collector's view.
    pub(crate) fn collector_slot(&self) -> &AtomicU64 {
        &self.slot.region().collector_words()[self.index % CHUNK]
    }

    /// The slot, whatever the heap: for the end of the entry.
    #[inline(always)]
    pub(crate) fn last_slot(&self) -> &AtomicU64 {
        self.slot.get()
    }

    /// # Panics
    /// If the entry belongs to another heap's table.
    #[inline]
    pub(crate) fn slot(&self, table: &Arc<RootTable>) -> &AtomicU64 {
        assert!(Arc::ptr_eq(&self.table, table), "a root of one heap was used with a mutator of another");
        self.slot.get()
    }
}

impl Drop for RootCell {
    fn drop(&mut self) {
        // A child made by `fork` has no collector that would reclaim the entry, and it could wait
        // for ever for a thread of its parent that was pushing during the fork.
        if self.table.process.is_current() {
            root_table::give_up(&self.table.dropped, self.index, self.slot.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{AllocSize, Barrier, Bytes, Heap, MIN_HEAP_BYTES, Root, Tagged, Value, Weak};
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    /// Touches and drops nothing that a thread of the parent may have been changing.
    #[test]
    fn what_is_dropped_in_a_child_made_by_fork_does_nothing() {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        let handles = heap.enter(|m| {
            let m = m.reserve(AllocSize::tail::<Bytes>(8)).unwrap();
            let bytes = m.place_bytes::<Bytes>((), b"anything");
            (Root::<Bytes>::new(m, bytes), Weak::<Bytes>::new(m, bytes), m.pin(bytes))
        });
        let (handles, inner) = (handles.unwrap(), Arc::downgrade(heap.inner()));
        let lists = || {
            let inner = inner.upgrade().expect("the heap's memory");
            (
                inner.roots.strong.dropped.0.len(),
                inner.roots.weak.dropped.0.len(),
                inner.world.pins.load(Ordering::SeqCst),
            )
        };
        // SAFETY: the child allocates nothing, takes no lock, and leaves without running anything
        // of the parent's.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let before = lists();
            drop((handles, heap));
            // SAFETY: as above.
            unsafe { libc::_exit(i32::from(lists() != before)) };
        }
        let mut status = 0;
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
    }

    #[test]
    fn places_of_dropped_roots_are_used_again() {
        const ROOTS: usize = 2000;
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).barrier(Barrier::Load).build().unwrap();
        for round in 0..50 {
            let roots = heap.enter(|m| (0..ROOTS).map(|_| Root::<Tagged>::new(m, Value::TRUE)).collect::<Vec<_>>());
            drop(roots.unwrap());
            if round % 2 == 0 {
                // The collector reclaims; in the other rounds the thread that needs a root does.
                heap.collect();
            }
        }
        assert_eq!(heap.inner().roots.strong.state.lock().chunks.len(), ROOTS.div_ceil(super::CHUNK));
    }
}
