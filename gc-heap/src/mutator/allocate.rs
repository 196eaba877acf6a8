//! Reserving memory: the allocation safepoint.

use super::Mutator;
use super::alloc_size::AllocSize;
use crate::error::{OutOfMemory, Tried};
use crate::events::LossKind;
use crate::inner::HeapInner;
use crate::inner::effort::Futile;
use crate::inner::tlab::Run;
use crate::space::free::AllocClass;
use crate::space::{BLOCK_BYTES, Block, LARGE_BYTES};

/// One in this many of a thread's refills is timed, of those that take no longer than usual. It
/// takes as long as the account of it.
const REFILLS_TIMED_ONE_IN: u32 = 8;

impl<'s> Mutator<'s> {
    /// Reserves memory: the allocation safepoint. Objects may move, a cycle may begin, and if
    /// memory is short the thread waits. Placing objects within the reserved size through the
    /// returned `&Mutator` never fails and is never a safepoint.
    ///
    /// Raw references end here. So code that allocates reserves first, and reads objects
    /// afterwards:
    ///
    /// ```
    /// use gc_heap::{Gc, Heap, Mutator, OutOfMemory, AllocSize, Root, Slot, Trace};
    ///
    /// #[derive(Trace)]
    /// struct Entry { key: u64, next: Slot<Option<Entry>> }
    ///
    /// /// The entry of a key, made where there is none. AllocSize that is not used costs nothing.
    /// fn entry<'g>(m: &'g mut Mutator<'_>, list: &Root<Option<Entry>>, key: u64) -> Result<Gc<'g, Entry>, OutOfMemory> {
    ///     let m = m.reserve(AllocSize::of::<Entry>())?;
    ///     let mut found = list.get(m);
    ///     while let Some(entry) = found {
    ///         if entry.key == key {
    ///             return Ok(entry);
    ///         }
    ///         found = entry.next.get(m);
    ///     }
    ///     let new = m.place(EntryInit { key, next: list.get(m) });
    ///     list.set(m, Some(new));
    ///     Ok(new)
    /// }
    ///
    /// let heap = Heap::builder().max_bytes(8 << 20).build()?;
    /// heap.enter(|m| -> Result<(), OutOfMemory> {
    ///     let list = Root::<Option<Entry>>::new(m, None);
    ///     let one = entry(m, &list, 1)?;
    ///     assert_eq!(one.key, 1); // good until the next call of `entry`
    ///     entry(m, &list, 2)?;
    ///     entry(m, &list, 1)?;
    ///     assert_eq!(m.census().of::<Entry>().objects, 2);
    ///     // Too much is an error, after everything was tried, and the heap goes on.
    ///     let error = m.reserve(AllocSize::of::<Entry>().times(1_000_000)).unwrap_err();
    ///     assert_eq!(error.requested_bytes(), 24_000_000);
    ///     entry(m, &list, 3).map(drop)
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`OutOfMemory`] if a cycle and a compaction did not free enough, or if collecting takes too
    /// long ([`HeapBuilder::collecting_limit`](crate::HeapBuilder::collecting_limit)). The heap
    /// stays usable.
    #[inline(always)]
    pub fn reserve(&mut self, room: AllocSize) -> Result<&Mutator<'s>, OutOfMemory> {
        use std::sync::atomic::Ordering;
        // `end` is 0 when a safepoint is requested, so the test is written without a subtraction.
        if self.tlabs.active.top() + room.fast as u64 > self.record().end.load(Ordering::Relaxed) {
            self.reserve_slow(room)?;
        }
        Ok(self)
    }

    /// Whether [`reserve`](Self::reserve) would return at once: the TLAB has room, and no safepoint
    /// is due. Placing objects within the size then never fails. So an interpreter can keep its raw
    /// references.
    ///
    /// ```
    /// use gc_heap::{Heap, OutOfMemory, AllocSize, Slot, Trace};
    ///
    /// #[derive(Trace)]
    /// struct Node { value: u64, next: Slot<Option<Node>> }
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), OutOfMemory> {
    ///     let mut list = None;
    ///     while m.has_room(AllocSize::of::<Node>()) {
    ///         list = Some(m.place(NodeInit { value: 1, next: list })); // `list` is a raw reference all the time
    ///     }
    ///     assert!(list.is_none_or(|node| node.value == 1));
    ///     m.reserve(AllocSize::of::<Node>())?; // a safepoint: `list` is gone
    ///     assert!(m.has_room(AllocSize::of::<Node>()));
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    #[must_use]
    pub fn has_room(&self, room: AllocSize) -> bool {
        self.tlabs.active.top() + room.fast as u64 <= self.record().end.load(std::sync::atomic::Ordering::Relaxed)
    }

    #[cold]
    #[inline(never)]
    fn reserve_slow(&mut self, room: AllocSize) -> Result<(), OutOfMemory> {
        self.run_safepoint();
        self.clear_stress_limit();
        self.release_reserved();
        if self.stress_cycle_due() {
            self.inner.schedule.requests.request_next();
        }
        let result = self.acquire(room);
        if result.is_err() {
            self.release_reserved();
            self.inner.check_collector(); // a failed collector, not a lack of memory
        }
        if self.inner.config.stress.is_on() {
            // Placing past the reserved size must fail each time, not only when memory is short.
            self.tlabs.active.limit_to(room.small);
        }
        self.arm_allocation_limit();
        result
    }

    /// Takes what the reservation needs beyond the current block, as a delay of its own: counted,
    /// and timed where it may take long, else one in [`REFILLS_TIMED_ONE_IN`].
    fn acquire(&mut self, room: AllocSize) -> Result<(), OutOfMemory> {
        if room.runs == 0 && room.small <= self.tlabs.active.rest() {
            return Ok(());
        }
        let (inner, counts) = (&self.inner, &self.counts.refills);
        inner.report.counters.refills.add(1);
        // Large objects are prepared; where memory is short the thread may wait, and the pages of
        // what it gets then may have to be repaired.
        let is_usual = room.runs == 0 && !inner.may_wait() && !inner.relocation.is_admitting();
        let left = counts.until_timed.get();
        if is_usual && left != 0 {
            counts.until_timed.set(left - 1);
            return self.acquire_untimed(room);
        }
        let untimed = counts.take_untimed(REFILLS_TIMED_ONE_IN - 1);
        let begun = counts.losses.begin(inner, &self.record().account, LossKind::Refills, untimed);
        let result = self.acquire_untimed(room);
        let (inner, account) = (&self.inner, &self.record().account);
        self.counts.refills.losses.end(inner, account, LossKind::Refills, begun, is_usual);
        result
    }

    fn acquire_untimed(&mut self, room: AllocSize) -> Result<(), OutOfMemory> {
        if room.runs > 0 {
            for _ in 0..room.runs {
                let run = self.take_run(room.run_blocks, room)?;
                let run = Run { first: run, count: room.run_blocks, zero: room.slots };
                self.tlabs.reserved.borrow_mut().runs.push(run);
                self.prepare(run);
            }
        }
        if room.small <= self.tlabs.active.rest() {
            return Ok(());
        }
        if room.small <= self.tlabs.spare.rest() {
            self.tlabs.swap_spare();
            return Ok(());
        }
        if room.small <= BLOCK_BYTES {
            let block = self.take_block(room)?;
            // The wait may have reloaded the phase and retired the TLABs, so the block is opened
            // after it.
            self.renew_tlab(block);
            return Ok(());
        }
        // Each block may waste up to the size of the object that did not fit it.
        let blocks = room.small.div_ceil(BLOCK_BYTES - room.largest.min(LARGE_BYTES)) + 1;
        let taken = self.take_blocks(blocks, room)?;
        self.tlabs.reserved.borrow_mut().blocks = taken;
        Ok(())
    }

    /// Takes a block, the request of nearly every slow allocation: without a list of blocks.
    fn take_block(&mut self, room: AllocSize) -> Result<Block, OutOfMemory> {
        self.before_taking(1, room)?;
        match self.inner.take_block() {
            Some(block) => Ok(block),
            None => self.stall(1, false, room).map(|blocks| blocks[0]),
        }
    }

    fn take_blocks(&mut self, count: usize, room: AllocSize) -> Result<Vec<Block>, OutOfMemory> {
        self.before_taking(count, room)?;
        match self.inner.take_blocks(count) {
            Some(blocks) => Ok(blocks),
            None => self.stall(count, false, room),
        }
    }

    /// What a thread does before it takes `count` blocks: where memory may not last until the cycle
    /// has freed some, it waits for a moment.
    pub(super) fn before_taking(&mut self, count: usize, room: AllocSize) -> Result<(), OutOfMemory> {
        self.inner.check_effort(room)?;
        if !self.throttle(count, room) && self.inner.is_short() {
            self.let_collector_in(room);
        }
        self.relieve_losses();
        Ok(())
    }

    /// Runs a whole cycle, begun after the call, and waits for it. A safepoint.
    ///
    /// For tests, and for programs that know a good moment: cycles begin automatically.
    ///
    /// # Panics
    /// If the collector has failed, by then or in this cycle.
    ///
    /// ```
    /// use gc_heap::{Heap, Trace, Weak};
    ///
    /// #[derive(Trace)]
    /// struct Node { id: u64 }
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let weak = {
    ///         let m = &mut *m.frame(); // a local of the outer scope would keep the node
    ///         let node = m.alloc::<Node>(|_| NodeInit { id: 1 })?;
    ///         Weak::new(m, node.get(m))
    ///     };
    ///     m.collect();
    ///     assert!(weak.get(m).is_none());
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn collect(&mut self) {
        let inner = std::sync::Arc::clone(&self.inner);
        self.parked(|| inner.collect());
        inner.check_collector();
    }
}

impl HeapInner {
    pub(super) fn out_of_memory(&self, room: AllocSize, tried: Tried) -> OutOfMemory {
        OutOfMemory::in_heap(room.total_bytes(), self.memory.free.free() * BLOCK_BYTES, self.config.max_bytes, tried)
    }

    /// Fails if collecting no longer frees enough memory.
    pub(super) fn check_effort(&self, room: AllocSize) -> Result<(), OutOfMemory> {
        match self.schedule.effort.is_futile() {
            None => Ok(()),
            Some(Futile { collections, percent }) => {
                Err(self.out_of_memory(room, Tried::CollectingLimit { collections, percent }))
            }
        }
    }

    /// Allocates a block for a mutator's new objects, if one is available without waiting.
    pub(crate) fn take_block(&self) -> Option<Block> {
        let block = self.memory.free.take(AllocClass::Mutator)?;
        self.after_taking();
        Some(block)
    }

    /// Allocates several blocks, as [`take_block`](Self::take_block).
    fn take_blocks(&self, count: usize) -> Option<Vec<Block>> {
        let blocks = self.memory.free.take_many(AllocClass::Mutator, count)?;
        self.after_taking();
        Some(blocks)
    }
}
