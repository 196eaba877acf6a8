//! Safepoints: where a mutator takes part in pauses and handshakes.

use super::Mutator;
use crate::events::LossKind;
use crate::inner::generation::GoodWords;
use gc_core::pause::{self, Safepoints};
use gc_core::stop::{Held, MutatorState, StopGate};
use gc_core::sys::futex_wake;
use std::sync::atomic::{AtomicU64, Ordering};

impl<'s> Mutator<'s> {
    /// The mutator's number, as the heap's events have it
    /// ([`Stall::mutator`](crate::Stall::mutator)): unique in the process and never reused.
    ///
    /// ```
    /// let heap = gc_heap::Heap::builder().max_bytes(16 << 20).build()?;
    /// let first = heap.enter(|m| m.number())?;
    /// let other = std::thread::scope(|scope| scope.spawn(|| heap.enter(|m| m.number())).join().unwrap())?;
    /// assert_ne!(first, other);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn number(&self) -> u64 {
        self.record().number
    }

    /// A safepoint: objects may move here. Costs four instructions while no safepoint is requested.
    #[inline(always)]
    pub fn safepoint(&mut self) {
        if self.record().end.load(Ordering::Relaxed) == 0 {
            self.safepoint_slow();
        }
    }

    /// Whether the collector waits for this thread, or has failed: loops that cannot call
    /// [`safepoint`](Self::safepoint) can leave. Costs a few loads more than
    /// [`safepoint_due`](Self::safepoint_due), which is also true when only a block is full.
    ///
    /// ```
    /// use gc_heap::{Array, Gc, Heap, Mutator, AllocSize};
    ///
    /// /// Adds up from an index on, on raw references; gives the sum and where it stopped, because the collector waits for this thread.
    /// fn sum(m: &Mutator<'_>, numbers: Gc<'_, Array<u64>>, from: usize) -> (u64, usize) {
    ///     let mut sum = 0;
    ///     for (index, number) in numbers.tail().iter().enumerate().skip(from) {
    ///         if index % 1024 == 0 && index > from && m.collector_is_waiting() {
    ///             return (sum, index);
    ///         }
    ///         sum += number;
    ///     }
    ///     (sum, numbers.tail_len())
    /// }
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let room = AllocSize::tail::<Array<u64>>(100_000);
    ///     let numbers = m.build::<Array<u64>>(room, |m| m.place_array((), 100_000, 2))?;
    ///     let (mut all, mut index) = (0, 0);
    ///     while index < 100_000 {
    ///         let (part, next) = sum(m, numbers.get(m), index);
    ///         (all, index) = (all + part, next);
    ///         m.safepoint();
    ///     }
    ///     assert_eq!(all, 200_000);
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn collector_is_waiting(&self) -> bool {
        pause::is_waited_for(self)
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn safepoint_slow(&mut self) {
        self.run_safepoint();
        self.arm_allocation_limit();
    }

    /// Answers requests of the collector until there are none.
    pub(crate) fn run_safepoint(&mut self) {
        self.expect_active("comes to a safepoint");
        pause::run_safepoint(self);
        self.wake_up_ends();
        self.inner.check_collector();
    }

    /// Makes the allocation check pass again, unless the collector has requested a safepoint
    /// meanwhile.
    pub(crate) fn arm_allocation_limit(&self) {
        // No TLAB (retired at mark start): 1 sends every allocation to the slow path without
        // requesting a safepoint.
        let end = if self.inner.config.stress.is_on() { 0 } else { self.tlabs.active.end().max(1) };
        pause::arm_poll_word(self, end);
    }

    /// Publishes this thread's caches, which the collector may need while the thread is stopped.
    pub(crate) fn publish(&self) {
        self.record().scan.publish_top(self.local_top.get());
        self.inner.relocation.publish(self);
        self.flush_log();
        self.publish_losses();
        let counters = &self.inner.report.counters;
        for (cell, counter) in [
            (&self.counts.healed, &counters.healed),
            (&self.counts.copied, &counters.mutator_copies),
            (&self.counts.kept, &counters.kept_in_place),
            (&self.counts.logged, &counters.logged),
            (&self.counts.loads.count, &counters.slow_paths),
            (&self.counts.stores.count, &counters.stores),
        ] {
            if cell.get() != 0 {
                counter.add(cell.replace(0));
            }
        }
    }

    /// Copies the phase into the mutator's cells (invariant 3), before it accesses a slot.
    pub(crate) fn reload_phase(&self) {
        let phase = &self.inner.world.phase;
        let good = self.inner.good_words();
        if good.colors != self.good.get() {
            self.change_color(good);
        }
        self.logging.set(phase.is_logging());
        self.young_bit.set(if phase.is_remembering() { good.young_bit } else { 0 });
        self.watching.set(phase.is_logging() || self.young_bit.get() != 0);
        self.watched_bits.set(if phase.is_logging() {
            u64::MAX
        } else {
            good.old_view & self.inner.memory.space.old_bits()
        });
        self.resolving.set(phase.is_resolving());
        if self.inner.relocation.retires_tlabs(self) {
            self.retire();
        }
        let epoch = phase.epoch();
        if epoch != self.epoch.get() {
            // Mark start: the objects in the TLAB were allocated before it and need marks; later
            // objects do not.
            self.retire();
            self.epoch.set(epoch);
            self.watermark.begin(&self.record().scan, epoch, self.local_top.get());
        }
        if !self.logging.get() {
            self.watermark.clear();
        }
    }

    fn change_color(&self, good: GoodWords) {
        self.tlabs.change_view(&self.inner.memory, good.view, good.old_view);
        self.good.set(good.colors);
        self.good_view.set(good.view);
        self.old_view.set(good.old_view);
        self.bad_mask.set(good.bad_mask);
    }

    /// Parks: the thread counts as stopped, and the collector needs nothing from it.
    pub(crate) fn park(&mut self) {
        pause::park(self);
    }

    /// The thread goes on after a pause that has ended before.
    fn wake_up_ends(&self) {
        let begin_ns = self.counts.step_ns.replace(0);
        if self.counts.woken.replace(false) {
            let heap = self.inner();
            let ns = heap.report.events.now().saturating_sub(begin_ns);
            self.record().account.note(heap, LossKind::WakeUps, begin_ns, ns);
        }
    }

    /// Leaves the parked state; waits while a pause holds the thread.
    pub(crate) fn unpark(&mut self) {
        pause::unpark(self, |m| m.tlabs.on_unpark(m.record()));
        self.wake_up_ends();
        self.arm_allocation_limit();
    }

    /// Stress mode: sleeps or yields now and then.
    pub(crate) fn stress_delay(&self) {
        self.inner.config.stress.delay(&self.random);
    }

    /// Stress mode: whether this reservation requests a cycle.
    pub(crate) fn stress_cycle_due(&self) -> bool {
        let every = self.inner.config.stress.cycle_every;
        if every == 0 {
            return false;
        }
        let left = self.until_cycle.get().saturating_sub(1);
        self.until_cycle.set(if left == 0 { every } else { left });
        left == 0
    }
}

impl Safepoints for Mutator<'_> {
    #[inline]
    fn state(&self) -> &MutatorState {
        &self.record().state
    }

    #[inline]
    fn gate(&self) -> &StopGate {
        &self.inner.world.gate
    }

    fn poll_word(&self) -> &AtomicU64 {
        &self.record().end
    }

    fn publish(&mut self, parks: bool) {
        self.wake_up_ends();
        if !parks {
            // First, so that what it records lies before.
            self.publish_losses();
            self.counts.step_ns.set(self.inner.report.events.now());
        }
        Mutator::publish(self);
        if parks {
            // A thread that uses a parked mutator (lent to a coroutine that was leaked in
            // `blocking`) reaches a slow path, which detects it.
            self.record().end.store(0, Ordering::Relaxed);
            self.tlabs.on_park(&self.inner.memory, self.record());
        }
    }

    fn reload_phase(&mut self) {
        Mutator::reload_phase(self);
    }

    fn arrives(&self, held: Held) {
        self.record().arrives(held);
    }

    fn execute_pause(&self) {
        self.inner.execute_pause(Some(self.record()));
    }

    fn wait_for_stop(&self, held: Held) {
        let heap = self.inner();
        let begun_ns = match self.counts.step_ns.get() {
            // The thread comes from outside, or has looked before it parked.
            0 => heap.report.events.now(),
            since => {
                // It has arrived, so the question delays no pause. What it waited for a processor
                // until it came is no part of the stop.
                self.record().account.look(heap, since);
                since
            }
        };
        heap.wait_for_stop(held);
        // The next pause that this thread arrives at, or waits for, is not prepared yet; one that
        // held it while it was parked may be over too, and then this is its end.
        let end_ns = heap.world.pause.end_ns.load(Ordering::Relaxed).max(begun_ns);
        self.record().account.exclude(end_ns - begun_ns);
        self.counts.step_ns.set(end_ns);
        self.counts.woken.set(true);
    }

    fn answer_handshake(&self) {
        let heap = self.inner();
        heap.world.handshake.answer(|word| _ = futex_wake(word, u32::MAX));
        // 0 where the thread parks.
        let begin_ns = self.counts.step_ns.replace(0);
        if begin_ns != 0 {
            let ns = heap.report.events.now() - begin_ns;
            // As before a stop: the handshake is answered, and does not wait for the question.
            self.record().account.note_with_look(heap, LossKind::Handshakes, begin_ns, ns);
        }
    }

    #[inline]
    fn is_wanted(&self) -> bool {
        self.inner.schedule.requests.is_shut()
    }

    fn delay(&self) {
        self.stress_delay();
    }
}

#[cfg(test)]
mod tests {
    use crate::inner::generation::GoodWords;
    use crate::space::BLOCK_BYTES;
    use crate::{AllocSize, Bytes, Heap, MIN_HEAP_BYTES, Stress};

    /// A reservation without an object, then an empty one: the limit is then at the start of the
    /// heap's first block.
    #[test]
    fn a_soft_limit_where_its_block_begins_changes_the_view_with_it() {
        let stress = Stress { cycle_every: u32::MAX, ..Stress::default() };
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).stress(stress).build().unwrap();
        heap.enter(|m| {
            m.reserve(AllocSize::tail::<Bytes>(8)).unwrap();
            m.reserve(AllocSize::NONE).unwrap();
            let even = m.inner.good_words();
            let odd = GoodWords::new(&m.inner, m.inner.next_good());
            let start = m.good_view.get();
            let end = start + BLOCK_BYTES as u64;
            assert_eq!(m.tlabs.active.limits(), [start, start, end], "the first block, and nothing in it");
            m.change_color(odd);
            let start = m.good_view.get();
            let end = start + BLOCK_BYTES as u64;
            assert_eq!(m.tlabs.active.limits(), [start, start, end]);
            m.change_color(even);
        })
        .unwrap();
    }
}
