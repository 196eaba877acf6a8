//! Time that mutators lose in faults and slow paths: each thread records it in its own ring, and
//! readers move the records to the events.
//!
//! A thread's ring is in its `MutatorRecord`, if the heap records losses. The thread is its writer:
//! in the fault handler, which finds the ring by a thread-local word, and in the slow paths. It
//! flushes the ring before it stops, parks or answers a handshake. The collector drains the rings
//! at the end of each phase, a thread that takes events before it does so, and a thread drains its
//! own when it fills up and when it detaches; one reader at a time holds a lock, and the writer
//! takes no lock.

use crate::config::Config;
use crate::events::{Event, Loss, LossKind};
use crate::inner::HeapInner;
use crate::inner::record::MutatorRecord;
use gc_core::loss::Loss as Entry;
pub(crate) use gc_core::loss::LossRing;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};

/// Entries of a thread's ring: 0.4 s of uninterrupted losses, 128 KiB when all are used.
const RING_ENTRIES: usize = 4096;

const FAULTS: u8 = 0;
const SLOW_PATHS: u8 = 1;

/// The ring of a mutator, if its heap records losses.
pub(crate) fn ring(config: &Config) -> Option<LossRing> {
    config.records_losses().then(|| LossRing::new(RING_ENTRIES))
}

#[derive(Clone, Copy)]
struct Own {
    ring: *const LossRing,
    heap: *const HeapInner,
}

const NOBODY: Own = Own { ring: std::ptr::null(), heap: std::ptr::null() };

thread_local! {
    /// The ring of the mutator that was active last on this thread, until it leaves its heap.
    /// Const-initialized and without a destructor, so that a signal handler may use it.
    static OWN: Cell<Own> = const { Cell::new(NOBODY) };
}

/// Changes the thread's ring; no access that may fault is reordered across the change.
fn set_own(own: Own) {
    compiler_fence(Ordering::SeqCst);
    OWN.set(own);
    compiler_fence(Ordering::SeqCst);
}

/// Directs this thread's faults to the ring of a mutator that becomes active on it: when it enters,
/// and when it returns from `blocking`. A later mutator does not restore the ring of an earlier
/// one: the earlier one sets it again itself. So this relies on no order in which mutators leave.
pub(crate) fn record_to(ring: &LossRing, heap: &HeapInner) {
    set_own(Own { ring, heap });
}

/// The mutator that is active leaves its heap, or one becomes active whose heap records nothing.
pub(crate) fn record_to_nobody() {
    set_own(NOBODY);
}

/// Records a fault that this thread has served, in its signal handler.
pub(crate) fn faulted(heap: &HeapInner, begin_ns: u64, ns: u64) {
    if !heap.config.records_losses() {
        return;
    }
    let own = OWN.get();
    if !std::ptr::eq(own.heap, heap) {
        return heap.report.events.losses.miss(1); // a thread that is inside another heap, or in none
    }
    // SAFETY: `record_to` set it for a mutator that has entered on this thread, and has not left
    // since: leaving is on the same thread (leaving on another ends the process) and clears it. Its
    // record, where the ring is, ends with its `HeapThread`, which is borrowed until it has left;
    // one that lost the stack that was inside keeps its record for ever.
    let ring = unsafe { &*own.ring };
    ring.record(Entry { kind: FAULTS, count: 1, begin_ns, length_ns: ns, lost_ns: ns });
}

/// A thread's estimate of the cost of its slow paths, most of which are not timed.
pub(crate) struct SlowPathLosses {
    /// Sixteen times the running mean of those that were timed.
    usual: Cell<u64>,
    /// When the last recorded one ended.
    until_ns: Cell<u64>,
}

/// The estimate before any slow path was timed.
const USUAL_NS: u64 = 100;

impl Default for SlowPathLosses {
    fn default() -> Self {
        SlowPathLosses { usual: Cell::new(USUAL_NS * 16), until_ns: Cell::new(0) }
    }
}

impl SlowPathLosses {
    /// Records one timed slow path, and before it the `untimed` ones since the last call: each with
    /// the estimated length, but together no longer than the time since.
    #[cold]
    #[inline(never)]
    pub(crate) fn timed(&self, ring: &LossRing, begin_ns: u64, ns: u64, untimed: u32) {
        let usual = self.usual.get();
        // At most eight times the mean: otherwise one slow path during which the thread was
        // preempted would determine the estimate of all that follow. Never 0, which the mean could
        // not leave again.
        self.usual.set(usual - usual / 16 + ns.min(usual / 2).max(1));
        self.write(ring, begin_ns, ns, untimed, 1);
    }

    /// Records untimed ones, up to now.
    pub(crate) fn untimed(&self, ring: &LossRing, now_ns: u64, untimed: u32) {
        self.write(ring, now_ns, 0, untimed, 0);
    }

    fn write(&self, ring: &LossRing, begin_ns: u64, ns: u64, untimed: u32, timed: u64) {
        let room_ns = begin_ns.saturating_sub(self.until_ns.get());
        let before_ns = (self.usual.get() / 16 * u64::from(untimed)).min(room_ns);
        let lost_ns = before_ns + ns;
        let count = u64::from(untimed) + timed;
        ring.record(Entry { kind: SLOW_PATHS, count, begin_ns: begin_ns - before_ns, length_ns: lost_ns, lost_ns });
        self.until_ns.set(begin_ns + ns);
    }
}

fn event(entry: Entry, mutator: u64) -> Event {
    let kind = if entry.kind == FAULTS { LossKind::Faults } else { LossKind::SlowPaths };
    let Entry { count, begin_ns, length_ns, lost_ns, .. } = entry;
    Event::Loss(Loss { kind, start_ns: begin_ns, total_ns: length_ns, lost_ns, count, mutator })
}

/// Drains a mutator's ring. `events` is the guard of the reader lock.
fn take(events: &mut Vec<Event>, record: &MutatorRecord) -> u64 {
    record.losses.as_ref().map_or(0, |ring| ring.take(|entry| events.push(event(entry, record.number))))
}

impl HeapInner {
    /// Drains the rings of all mutators into the events. Any thread may call it; it may wait for
    /// another reader, which itself never waits.
    pub(crate) fn gather_losses(&self) {
        if self.config.records_losses() {
            let mutators = self.world.mutators.lock().clone();
            self.take_losses(&mutators);
        }
    }

    /// Drains the rings of the given mutators.
    pub(crate) fn take_losses(&self, mutators: &[Arc<MutatorRecord>]) {
        let mut events = self.report.events.losses.taken.lock();
        let missed = mutators.iter().map(|record| take(&mut events, record)).sum();
        self.report.events.push_losses(&mut events, missed);
    }

    /// Drains one ring, unless another reader holds the lock.
    pub(crate) fn try_take_losses(&self, record: &MutatorRecord) {
        if let Some(mut events) = self.report.events.losses.taken.try_lock() {
            let missed = take(&mut events, record);
            self.report.events.push_losses(&mut events, missed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(ring: &LossRing) -> Vec<(u64, u64, u64, u64)> {
        let mut entries = Vec::new();
        ring.flush();
        ring.take(|e| entries.push((e.begin_ns, e.length_ns, e.lost_ns, e.count)));
        entries
    }

    #[test]
    fn untimed_slow_paths_take_the_usual_time_but_no_more_than_there_was() {
        let (losses, ring) = (SlowPathLosses::default(), LossRing::new(RING_ENTRIES));
        losses.timed(&ring, 1_000_000, 100, 0);
        assert_eq!(entries(&ring), [(1_000_000, 100, 100, 1)]);
        losses.timed(&ring, 2_000_000, 100, 15);
        assert_eq!(entries(&ring), [(1_998_500, 1_600, 1_600, 16)]);
        // 700 ns after the last one.
        losses.timed(&ring, 2_000_800, 100, 15);
        assert_eq!(entries(&ring), [(2_000_100, 800, 800, 16)]);
        // One that was interrupted counts whole, and hardly raises what others are taken for: by 8 times the mean at most.
        losses.timed(&ring, 3_000_000, 5_000_000, 0);
        losses.timed(&ring, 9_000_000, 100, 10);
        let found = entries(&ring);
        assert_eq!(found[0], (3_000_000, 5_000_000, 5_000_000, 1));
        assert!((1_100..=1_600).contains(&found[1].2) && found[1].3 == 11, "{found:?}");
        losses.untimed(&ring, 10_000_000, 3);
        let found = entries(&ring);
        assert!(found[0].0 + found[0].1 == 10_000_000 && found[0].3 == 3 && found[0].2 < 500, "{found:?}");
    }

    /// A ring that nobody reads in time drops what comes last, and says so where events are taken.
    #[test]
    fn what_does_not_fit_a_ring_is_counted() {
        let heap = crate::Heap::builder().max_bytes(4 << 20).record_losses(true).build().unwrap();
        let entry = |n: u64| Entry { kind: FAULTS, count: 2, begin_ns: n * 1_000_000, length_ns: 10, lost_ns: 10 };
        heap.enter(|m| {
            let ring = m.record().losses.as_ref().unwrap();
            (0..3 * RING_ENTRIES as u64).for_each(|n| ring.record(entry(n)));
        })
        .unwrap();
        let (events, missed) = heap.take_events();
        let kept: Vec<u64> = events
            .iter()
            .filter_map(|event| match event {
                Event::Loss(loss) => Some(loss.count),
                _ => None,
            })
            .collect();
        assert!(kept.len() >= RING_ENTRIES && missed >= 2, "{} kept, {missed} missed", kept.len());
        assert_eq!(kept.iter().sum::<u64>() + missed, 6 * RING_ENTRIES as u64);
        assert_eq!(heap.take_events().1, 0, "told once");
    }

    #[test]
    fn the_usual_time_follows_what_is_measured() {
        let (losses, ring) = (SlowPathLosses::default(), LossRing::new(RING_ENTRIES));
        (0..200).for_each(|n| losses.timed(&ring, 1_000_000 * (n + 1), 100, 15));
        (200..400).for_each(|n| losses.timed(&ring, 1_000_000 * (n + 1), 900, 15));
        let last = *entries(&ring).last().unwrap();
        assert!((15 * 850..=16 * 900).contains(&last.2), "{last:?}");
    }
}
