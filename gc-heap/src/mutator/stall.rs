//! Stalls: how a thread waits when memory is short, and what it reports of that.

use super::Mutator;
use super::alloc_size::AllocSize;
use crate::error::{OutOfMemory, Tried};
use crate::events::probes::probe;
use crate::events::{Event, LossKind, Stall, StallCause};
use crate::inner::HeapInner;
use crate::inner::control::Ticket;
use crate::space::Block;
use crate::space::free::StallTicket;
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

impl Mutator<'_> {
    /// When memory is short, yields to the collector before each block: many short waits instead of
    /// one long stall. The collector's time slices are a tenth of a millisecond, and if it runs on
    /// another processor, the yield returns at once. Counted as a stall if it took longer than
    /// `STALL_NS`.
    pub(super) fn let_collector_in(&mut self, room: AllocSize) {
        let begun = self.record().account.begin(&self.inner);
        let start_ns = self.inner.report.events.now();
        self.parked(std::thread::yield_now);
        let total_ns = self.inner.report.events.now() - start_ns;
        if total_ns >= STALL_NS {
            self.record().account.end_elsewhere(&self.inner, begun);
            self.stalled(StallCause::Yielded, start_ns, total_ns, room.total_bytes());
        } else {
            self.record().account.end(&self.inner, LossKind::Yields, begun);
        }
    }

    /// Waits for a moment, if what is free may not last until the marking ends: see [`Throttle`].
    /// Returns whether it did.
    ///
    /// [`Throttle`]: crate::inner::pacing::Throttle
    pub(super) fn throttle(&mut self, count: usize, room: AllocSize) -> bool {
        let (throttle, events) = (&self.inner.schedule.throttle, &self.inner.report.events);
        if !throttle.runs() {
            return false;
        }
        let start_ns = events.now();
        let Some(wait) = throttle.take(start_ns, count, self.inner.memory.free.free()) else { return false };
        let inner = std::sync::Arc::clone(&self.inner);
        let begun = self.record().account.begin(&inner);
        self.parked(|| inner.schedule.throttle.wait(wait));
        let total_ns = inner.report.events.now() - start_ns;
        self.record().account.end_elsewhere(&inner, begun);
        self.stalled(StallCause::Throttled, start_ns, total_ns, room.total_bytes());
        true
    }

    /// Waits for blocks. Parked, because the cycle that frees them needs pauses.
    pub(super) fn stall(&mut self, count: usize, run: bool, room: AllocSize) -> Result<Vec<Block>, OutOfMemory> {
        let inner = std::sync::Arc::clone(&self.inner);
        let bytes = room.total_bytes();
        let out_of_memory = |tried| Err(inner.out_of_memory(room, tried));
        if count > inner.memory.max_blocks().saturating_sub(inner.memory.free.reserve()) {
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
        self.stalled(StallCause::NoBlock, start_ns, total_ns, bytes);
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
        self.stalled(StallCause::FullTable, start_ns, inner.report.events.now() - start_ns, bytes);
        inner.check_collector();
    }

    /// Reports a stall that has ended. Listeners run while the thread is parked, so that no pause
    /// waits for them.
    fn stalled(&mut self, cause: StallCause, start_ns: u64, total_ns: u64, bytes: usize) {
        let inner = std::sync::Arc::clone(&self.inner);
        let mutator = self.record().number;
        probe!(stall, mutator, bytes, total_ns);
        // The whole is counted before its part.
        inner.report.counters.stalls.add(1);
        inner.report.counters.throttled.add(u64::from(cause == StallCause::Throttled));
        let stall = Event::Stall(Stall { cause, start_ns, total_ns, bytes, mutator });
        if inner.report.events.has_listeners() {
            self.parked(|| inner.report.events.tell(stall));
        } else {
            inner.report.events.push(stall);
        }
    }
}

impl HeapInner {
    /// Accounts the processor time that this thread has used since its last wait or the last
    /// accounting. `waits`: it waits for the next collection.
    pub(crate) fn has_worked(&self, waits: bool) {
        let now = thread_cpu_time();
        self.schedule.effort.worked(now.saturating_sub(WAITED_UNTIL.replace(now)), waits);
    }

    /// Waits for blocks. The cycle that runs may free enough: another one is requested only if it
    /// has not, so that none follows that nobody needs. Gives up only after a collection and then a
    /// stop-the-world compaction, both started while this thread was at the head of the queue, did
    /// not free enough. Where cycles free a few blocks each time and a compaction could free more,
    /// it requests the compaction at once, which is a collection as well.
    fn wait_for_blocks(&self, count: usize, run: bool) -> Option<Vec<Block>> {
        let waiting = self.memory.free.await_blocks(count, run);
        let compacts = waiting.is_first() && self.schedule.effort.wants_compaction();
        if !compacts
            && let Some(ticket) = self.schedule.requests.running_whole()
            && let ControlFlow::Break(taken) = self.wait_for_end(ticket, &waiting)
        {
            return taken;
        }
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

    /// Waits until the caller has blocks, or until the cycle has ended. `Break`: as of `wait_for`.
    fn wait_for_end(&self, ticket: Ticket, waiting: &StallTicket<'_>) -> ControlFlow<Option<Vec<Block>>> {
        while !self.schedule.requests.is_done(ticket) {
            if let Some(taken) = waiting.take(STALL_TICK) {
                return ControlFlow::Break(Some(taken));
            }
            if self.schedule.requests.is_shut() {
                return ControlFlow::Break(None);
            }
        }
        ControlFlow::Continue(())
    }

    /// Waits until the caller has blocks, or until the request is done and the caller is at the
    /// head of the queue. `Break`: blocks, or none because the heap is shut down.
    fn wait_for(&self, ticket: Ticket, waiting: &StallTicket<'_>) -> ControlFlow<Option<Vec<Block>>> {
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

    /// Little is left of what a cycle began with, and it will last.
    #[test]
    fn nobody_yields_while_the_throttle_decides() {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        let (inner, schedule) = (heap.inner(), &heap.inner().schedule);
        // The collector's thread sets the trigger when it begins, and when a cycle ends.
        heap.collect();
        schedule.requests.set_trigger(usize::MAX, 0, usize::MAX);
        schedule.requests.running.store(true, std::sync::atomic::Ordering::Relaxed);
        // Nothing is in use to be marked, and no young cycle has taken any time: no wait.
        schedule.throttle.begin(inner.report.events.now(), &schedule.pacing.lock().young, 0, 0);
        heap.enter(|m| (0..100).for_each(|_| m.before_taking(1, AllocSize::NONE).unwrap())).unwrap();
        assert_eq!(heap.stats().stalls + heap.loss_durations(LossKind::Yields).count, 0);
        schedule.throttle.end();
        assert!(inner.is_short(), "as where objects are relocated");
    }

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
