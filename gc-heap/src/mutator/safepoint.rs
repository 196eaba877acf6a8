//! Safepoints: where a mutator meets stops and handshakes.

use super::Mutator;
use crate::inner::HeapInner;
use crate::slot::is_reference;
use gc_core::stop::Held;
use gc_core::sys::futex_wait;
use std::sync::atomic::Ordering;

/// Words of overwritten slots kept before they are handed to the marker.
const LOG_WORDS: usize = 1024;

/// How long a held mutator looks before it sleeps: waking a sleeper costs some 70 µs, more than most stops.
const SPINS: u32 = 2000;

impl<'s> Mutator<'s> {
    /// A safepoint: objects may move here. Costs four instructions while nothing is asked for.
    #[inline(always)]
    pub fn safepoint(&mut self) {
        if self.record().end.load(Ordering::Relaxed) == 0 {
            self.safepoint_slow();
        }
    }

    /// Whether the collector waits for this thread, or has failed: loops that cannot call [`safepoint`](Self::safepoint) can
    /// leave. Some loads more than [`safepoint_due`](Self::safepoint_due), which is also true where only a block has ended.
    ///
    /// ```
    /// use gc_heap::{Array, Gc, Heap, Mutator, AllocSize};
    ///
    /// /// Adds up from an index on, on raw references; gives the sum and where it stopped, because somebody waits for this thread.
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
        self.record().state.held(&self.inner.gate).is_some()
            || self.record().state.handshake_waits()
            || self.inner.control.is_shut()
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn safepoint_slow(&mut self) {
        self.poll();
        self.arm();
    }

    /// Answers what the collector wants, until it wants nothing.
    pub(crate) fn poll(&mut self) {
        self.expect_active("comes to a safepoint");
        let inner = std::sync::Arc::clone(&self.inner);
        loop {
            self.stress_delay(); // between two looks, also where the phase was just renewed
            if self.record().state.take_handshake() {
                self.publish();
                self.refresh();
                inner.handshake_done();
            } else if let Some(held) = self.record().state.held(&inner.gate) {
                self.publish();
                self.record().arrives(held);
                if inner.gate.arrive() {
                    inner.execute_pause(Some(self.record()));
                }
                // The last to arrive, too: in a hold the collector is only now at work.
                inner.wait_for_stop(held);
                self.stress_delay(); // released, but with the phase of before
                self.refresh();
            } else {
                break;
            }
        }
        inner.check_collector();
    }

    /// Makes the allocation check pass again, unless the collector has asked meanwhile.
    pub(crate) fn arm(&self) {
        // Without a TLAB (a marking has begun) 1: no object fits, and nothing is asked for.
        let end = if self.inner.config.stress.is_on() { 0 } else { self.limit.get().max(1) };
        // SeqCst store, then SeqCst loads; the collector holds (or fails) first and zeroes `end` after: one of the two sees.
        self.record().end.store(end, Ordering::SeqCst);
        if self.collector_is_waiting() {
            self.record().end.store(0, Ordering::SeqCst);
        }
    }

    /// Hands over what the collector may need while this thread is stopped.
    pub(crate) fn publish(&self) {
        self.record().publish_top(self.local_top.get());
        self.publish_fill();
        self.flush_log();
        self.publish_losses();
        let counters = &self.inner.counters;
        for (cell, counter) in [
            (&self.counts.healed, &counters.healed),
            (&self.counts.copied, &counters.mutator_copies),
            (&self.counts.kept, &counters.kept_in_place),
            (&self.counts.logged, &counters.logged),
            (&self.counts.slow_paths, &counters.slow_paths),
        ] {
            if cell.get() != 0 {
                counter.add(cell.replace(0));
            }
        }
    }

    /// Copies the phase into the mutator's cells (invariant 3), before it touches a slot.
    pub(crate) fn refresh(&self) {
        let phase = &self.inner.phase;
        let good = phase.good();
        if good != self.good.get() {
            self.change_color(good);
        }
        self.logging.set(phase.is_logging());
        self.resolving.set(phase.is_resolving());
        if let Some(pages) = &self.inner.pages {
            let flip = pages.flip.get().number();
            if self.flip.replace(flip) != flip {
                // What is in the TLABs is repaired as it was at the flip. Past that their pages may come back unclaimed, so
                // nothing newer may lie there: whoever claimed it would repair it. The next ones are admitted.
                self.retire();
            }
        }
        let epoch = phase.epoch();
        if epoch != self.epoch.get() {
            // Mark start: what is in the TLAB was allocated before it and needs marks; the next objects do not.
            self.retire();
            self.epoch.set(epoch);
            let top = self.local_top.get();
            self.record().begin_marking(epoch, top);
            self.watermark.set(top);
        }
        if !self.logging.get() {
            self.watermark.set(0);
        }
    }

    fn change_color(&self, good: gc_core::color::Color) {
        let view = self.inner.space.view(good);
        // By its hard limit, which ends its block: a soft one may be where the block begins, and the word before that is in
        // another block, or in none.
        let current = super::Bump::default();
        current.set(self.top.get(), self.hard_limit.get());
        let soft = self.hard_limit.get() - self.limit.get();
        current.change_view(&self.inner, view);
        self.top.set(current.top.get());
        self.limit.set(current.limit.get() - soft);
        self.hard_limit.set(current.limit.get());
        self.spare.change_view(&self.inner, view);
        self.copies.change_view(&self.inner, view);
        self.good.set(good);
        self.good_view.set(view);
        self.bad_mask.set(self.inner.space.bad_mask(good));
    }

    /// Parks: the thread counts as stopped, and nothing of it needs to be asked for.
    pub(crate) fn park(&mut self) {
        self.publish();
        // Whoever goes on with a parked mutator (it was lent to a coroutine, which was leaked in `blocking`) comes to a slow path,
        // and is found out there.
        self.record().end.store(0, Ordering::Relaxed);
        self.publish_tlabs();
        let inner = &self.inner;
        if self.record().state.park(&inner.gate).is_some() && inner.gate.arrive() {
            inner.execute_pause(Some(self.record()));
        }
        if self.record().state.take_handshake_parked() {
            inner.handshake_done();
        }
    }

    /// Leaves the parked state; waits while a stop holds the thread.
    pub(crate) fn unpark(&mut self) {
        while let Err(held) = self.record().state.leave(&self.inner.gate) {
            self.inner.wait_for_stop(held);
        }
        self.reclaim_tlabs();
        self.stress_delay(); // running, but with the phase of before
        self.refresh();
        self.arm();
    }

    /// Logs a word that is about to be overwritten, unless its object is marked already: then the marker has it, or has
    /// been at it. Without this test a busy mutator would never let marking end. (A stale word is logged untested.)
    pub(crate) fn log_slow(&self, word: u64) {
        if !is_reference(word) {
            return;
        }
        let good = word & self.bad_mask.get() == 0;
        if good && self.inner.marks.get(self.inner.space.offset(word) as usize / 8) {
            return;
        }
        let mut log = self.log.borrow_mut();
        log.push(word);
        if log.len() >= LOG_WORDS {
            drop(log);
            self.flush_log();
        }
    }

    pub(crate) fn flush_log(&self) {
        let mut log = self.log.borrow_mut();
        if !log.is_empty() {
            self.counts.logged.set(self.counts.logged.get() + log.len() as u64);
            self.inner.log.push(std::mem::replace(&mut log, Vec::with_capacity(LOG_WORDS)));
        }
    }

    /// Stress mode: sleeps or yields now and then.
    pub(crate) fn stress_delay(&self) {
        self.inner.config.stress.delay(&self.random);
    }

    /// Stress mode: whether this reservation asks for a cycle.
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

impl HeapInner {
    pub(crate) fn handshake_done(&self) {
        if self.handshake.done() {
            gc_core::sys::futex_wake(self.handshake.pending(), u32::MAX);
        }
    }

    /// Waits until the stop that holds the caller is over: looks for a while, then sleeps.
    pub(crate) fn wait_for_stop(&self, held: Held) {
        for spin in 0..SPINS {
            if self.gate.is_over(held) {
                return;
            }
            if spin % 64 == 63 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        // Again and again: a signal wakes too, and so does who ended the stop before, if it comes late.
        while !self.gate.is_over(held) {
            let (word, unfinished) = self.gate.word(held);
            self.pause.sleep(|| {
                if !self.gate.is_over(held) {
                    futex_wait(word, unfinished, None);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::space::BLOCK_BYTES;
    use crate::{AllocSize, Bytes, Heap, MIN_HEAP_BYTES, Stress};

    /// Room was asked for and nothing placed, and then no room: of the first block of the heap nothing is left before that.
    #[test]
    fn a_soft_limit_where_its_block_begins_changes_the_view_with_it() {
        let stress = Stress { cycle_every: u32::MAX, ..Stress::default() };
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).stress(stress).build().unwrap();
        heap.enter(|m| {
            m.reserve(AllocSize::tail::<Bytes>(8)).unwrap();
            m.reserve(AllocSize::NONE).unwrap();
            let even = m.good.get();
            let start = m.good_view.get();
            assert_eq!((m.top.get(), m.limit.get()), (start, start), "the first block, and nothing in it");
            m.change_color(even.other());
            let start = m.good_view.get();
            let end = start + BLOCK_BYTES as u64;
            assert_eq!((m.top.get(), m.limit.get(), m.hard_limit.get()), (start, start, end));
            m.change_color(even);
        })
        .unwrap();
    }
}
