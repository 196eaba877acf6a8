//! Reserving memory: the allocation safepoint, and stalls when memory is short.

use super::Mutator;
use super::alloc_size::AllocSize;
use crate::error::{OutOfMemory, Tried};
use crate::events::probes::probe;
use crate::events::{Event, LossKind, Stall};
use crate::inner::HeapInner;
use crate::inner::control::Ticket;
use crate::inner::effort::Futile;
use crate::inner::tlab::Run;
use crate::space::free::{AllocClass, StallTicket};
use crate::space::{BLOCK_BYTES, LARGE_BYTES};
use gc_core::sys::thread_cpu_time;
use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Duration;

thread_local! {
    /// This thread's processor time at the end of its last stall, or when it was accounted last, in
    /// any heap.
    static WAITED_UNTIL: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// How often a stalled thread checks again without a notification.
const STALL_TICK: Duration = Duration::from_millis(5);

/// A yield shorter than this is system-call overhead and not reported as a stall.
const STALL_NS: u64 = 20_000;

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
            self.inner.request_cycle();
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
        let is_usual = room.runs == 0 && !inner.is_short() && !inner.relocation.is_admitting();
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
    fn take_block(&mut self, room: AllocSize) -> Result<usize, OutOfMemory> {
        self.before_taking(room)?;
        match self.inner.take_block() {
            Some(block) => Ok(block),
            None => self.stall(1, false, room).map(|blocks| blocks[0]),
        }
    }

    fn take_blocks(&mut self, count: usize, room: AllocSize) -> Result<Vec<usize>, OutOfMemory> {
        self.before_taking(room)?;
        match self.inner.take_blocks(count) {
            Some(blocks) => Ok(blocks),
            None => self.stall(count, false, room),
        }
    }

    fn before_taking(&mut self, room: AllocSize) -> Result<(), OutOfMemory> {
        self.inner.check_effort(room)?;
        if self.inner.is_short() {
            self.let_collector_in(room);
        }
        self.relieve_losses();
        Ok(())
    }

    /// When memory is short, yields to the collector before each block: many short waits instead of
    /// one long stall. The collector's time slices are a tenth of a millisecond, and if it runs on
    /// another processor, the yield returns at once. Counted as a stall if it took longer than
    /// `STALL_NS`.
    fn let_collector_in(&mut self, room: AllocSize) {
        let begun = self.record().account.begin(&self.inner);
        let start_ns = self.inner.report.events.now();
        self.parked(std::thread::yield_now);
        let total_ns = self.inner.report.events.now() - start_ns;
        if total_ns >= STALL_NS {
            self.record().account.end_elsewhere(&self.inner, begun);
            self.stalled(start_ns, total_ns, room.total_bytes());
        } else {
            self.record().account.end(&self.inner, LossKind::Yields, begun);
        }
    }

    /// Waits for blocks. Parked, because the cycle that frees them needs pauses.
    pub(super) fn stall(&mut self, count: usize, run: bool, room: AllocSize) -> Result<Vec<usize>, OutOfMemory> {
        let inner = std::sync::Arc::clone(&self.inner);
        let bytes = room.total_bytes();
        let out_of_memory = |tried| Err(inner.out_of_memory(room, tried));
        if count > inner.memory.blocks.len().saturating_sub(inner.memory.free.reserve()) {
            return out_of_memory(Tried::TooMuch);
        }
        inner.has_worked(true);
        let begun = self.record().account.begin(&inner);
        let start_ns = inner.report.events.now();
        // Retire the half-used blocks of this thread: they could be neither freed nor evacuated
        // while it waits.
        self.retire();
        let taken = self.parked(|| inner.wait_for_blocks(count, run));
        let total_ns = inner.report.events.now() - start_ns;
        self.record().account.end_elsewhere(&inner, begun);
        WAITED_UNTIL.set(thread_cpu_time());
        self.stalled(start_ns, total_ns, bytes);
        match taken {
            Some(blocks) => Ok(blocks),
            None if inner.schedule.requests.is_shut() => out_of_memory(Tried::NoCollector),
            None => out_of_memory(Tried::CycleAndCompaction),
        }
    }

    /// Waits, parked, for the end of the cycle with this number, because a table of `bytes` is
    /// full: reported as a stall.
    ///
    /// # Panics
    /// If the collector has failed.
    pub(crate) fn stall_for_cycle(&mut self, number: u64, bytes: usize) {
        let inner = std::sync::Arc::clone(&self.inner);
        let start_ns = inner.report.events.now();
        self.parked(|| inner.wait_for_cycle(number));
        self.stalled(start_ns, inner.report.events.now() - start_ns, bytes);
        inner.check_collector();
    }

    /// Reports a stall that has ended. Listeners run while the thread is parked, so that no pause
    /// waits for them.
    fn stalled(&mut self, start_ns: u64, total_ns: u64, bytes: usize) {
        let inner = std::sync::Arc::clone(&self.inner);
        let mutator = self.record().number;
        probe!(stall, mutator, bytes, total_ns);
        inner.report.counters.stalls.add(1);
        let stall = Event::Stall(Stall { start_ns, total_ns, bytes, mutator });
        if inner.report.events.has_listeners() {
            self.parked(|| inner.report.events.tell(stall));
        } else {
            inner.report.events.push(stall);
        }
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
    fn out_of_memory(&self, room: AllocSize, tried: Tried) -> OutOfMemory {
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

    /// Accounts the processor time that this thread has used since its last wait or the last
    /// accounting. `waits`: it waits for the next collection.
    pub(crate) fn has_worked(&self, waits: bool) {
        let now = thread_cpu_time();
        self.schedule.effort.worked(now.saturating_sub(WAITED_UNTIL.replace(now)), waits);
    }

    /// Allocates a block for a mutator's new objects, if one is available without waiting.
    pub(crate) fn take_block(&self) -> Option<usize> {
        let block = self.memory.free.take(AllocClass::Mutator)?;
        self.after_taking();
        Some(block)
    }

    /// Allocates several blocks, as [`take_block`](Self::take_block).
    fn take_blocks(&self, count: usize) -> Option<Vec<usize>> {
        let blocks = self.memory.free.take_many(AllocClass::Mutator, count)?;
        self.after_taking();
        Some(blocks)
    }

    /// Waits for blocks. Gives up only after a collection and then a stop-the-world compaction,
    /// both started while this thread was at the head of the queue, did not free enough. Where
    /// cycles free a few blocks each time and a compaction could free more, it requests the
    /// compaction at once, which is a collection as well.
    fn wait_for_blocks(&self, count: usize, run: bool) -> Option<Vec<usize>> {
        let waiting = self.memory.free.await_blocks(count, run);
        loop {
            let first = waiting.is_first();
            if first && self.schedule.effort.wants_compaction() {
                break;
            }
            if let ControlFlow::Break(taken) = self.wait_for(self.request_cycle(), &waiting) {
                return taken;
            }
            if first {
                break;
            }
        }
        waiting.protect_runs();
        if let Some(taken) = waiting.take(Duration::ZERO) {
            return Some(taken);
        }
        let compaction = self.request_compaction(if run { count } else { 1 });
        self.wait_for(compaction, &waiting).break_value().flatten()
    }

    /// Waits until the caller has blocks, or until the request is done and the caller is at the
    /// head of the queue. `Break`: blocks, or none because the heap is shut down.
    fn wait_for(&self, ticket: Ticket, waiting: &StallTicket<'_>) -> ControlFlow<Option<Vec<usize>>> {
        // Waiters ahead are served or give up after their own collection; uncommitted blocks return
        // even sooner.
        while !self.schedule.requests.is_done(ticket) || !waiting.only_gc_can_help() {
            if let Some(taken) = waiting.take(STALL_TICK) {
                return ControlFlow::Break(Some(taken));
            }
            if self.schedule.requests.is_shut() {
                return ControlFlow::Break(None);
            }
        }
        match waiting.take(Duration::ZERO) {
            Some(taken) => ControlFlow::Break(Some(taken)),
            None => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AllocSize, Heap, MIN_HEAP_BYTES};

    /// Each yield to the collector is a stall or, where it was short, a loss.
    #[test]
    fn every_yield_is_told_of() {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        heap.enter(|m| (0..500).for_each(|_| m.let_collector_in(AllocSize::NONE))).unwrap();
        let (stats, yields) = (heap.stats(), heap.loss_durations(LossKind::Yields));
        assert_eq!(stats.stalls + yields.count, 500);
        assert!(yields.count > 0 && yields.max_ns < STALL_NS + 1_000, "{yields:?}");
    }
}
