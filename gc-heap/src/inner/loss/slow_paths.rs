//! The cost of slow paths of loads and stores, most of which are not timed.

use super::account::{Account, Begun, delay, get};
use crate::events::LossKind;
use crate::inner::HeapInner;
use gc_core::loss::Loss as Entry;
use std::cell::Cell;
use std::sync::atomic::Ordering;

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
    pub(crate) fn timed(&self, heap: &HeapInner, account: &Account, at: (LossKind, u64), ns: u64, untimed: u32) {
        self.learn(ns);
        self.write(heap, account, at, ns, untimed, 1);
    }

    fn learn(&self, ns: u64) {
        let usual = self.usual.get();
        // At most eight times the mean: otherwise one slow path during which the thread was
        // preempted would determine the estimate of all that follow. Never 0, which the mean could
        // not leave again.
        self.usual.set(usual - usual / 16 + ns.min(usual / 2).max(1));
    }

    /// Begins a timed one that may enclose other delays, and records the `untimed` ones before it.
    pub(crate) fn begin(&self, heap: &HeapInner, account: &Account, kind: LossKind, untimed: u32) -> Begun {
        if untimed != 0 {
            // It may ask, and lose its processor meanwhile: so this one begins after it.
            self.untimed(heap, account, (kind, heap.report.events.now()), untimed);
        }
        account.begin(heap)
    }

    /// Ends it. `is_usual`: the untimed ones take as long.
    pub(crate) fn end(&self, heap: &HeapInner, account: &Account, kind: LossKind, begun: Begun, is_usual: bool) {
        let ns = account.end(heap, kind, begun);
        heap.report.losses.sampled(kind).fetch_add(ns, Ordering::Relaxed);
        if is_usual {
            self.learn(ns);
        }
    }

    /// Records untimed ones, up to now.
    pub(crate) fn untimed(&self, heap: &HeapInner, account: &Account, at: (LossKind, u64), untimed: u32) {
        self.write(heap, account, at, 0, untimed, 0);
    }

    fn write(
        &self,
        heap: &HeapInner,
        account: &Account,
        (kind, begin_ns): (LossKind, u64),
        ns: u64,
        untimed: u32,
        timed: u64,
    ) {
        // Where it enclosed another delay, what lay before that is left out: entries lie apart.
        let enclosed_ns = get(&account.looked_ns).saturating_sub(begin_ns).min(ns);
        let (begin_ns, ns) = (begin_ns + enclosed_ns, ns - enclosed_ns);
        let room_ns = begin_ns.saturating_sub(self.until_ns.get().max(get(&account.looked_ns)));
        let before_ns = (self.usual.get() / 16 * u64::from(untimed)).min(room_ns);
        let lost_ns = before_ns + ns;
        let count = u64::from(untimed) + timed;
        heap.report.losses.sampled(kind).fetch_add(lost_ns, Ordering::Relaxed);
        account.add_with_look(heap, Entry { count, ..delay(kind, begin_ns - before_ns, lost_ns) });
        self.until_ns.set(begin_ns + ns);
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::tests::{shared, spin};
    use super::super::tests::{account, entries, recording};
    use super::*;

    const LOADS: LossKind = LossKind::SlowPaths;

    #[test]
    fn untimed_slow_paths_take_the_usual_time_but_no_more_than_there_was() {
        let heap = recording();
        let (losses, account, inner) = (SlowPathLosses::default(), account(&heap), heap.inner());
        let timed = |begin_ns, ns, untimed| losses.timed(inner, &account, (LOADS, begin_ns), ns, untimed);
        timed(1_000_000, 100, 0);
        assert_eq!(entries(&account), [(1_000_000, 100, 100, 1)]);
        timed(2_000_000, 100, 15);
        assert_eq!(entries(&account), [(1_998_500, 1_600, 1_600, 16)]);
        // 700 ns after the last one.
        timed(2_000_800, 100, 15);
        assert_eq!(entries(&account), [(2_000_100, 800, 800, 16)]);
        // One that was interrupted counts whole, and hardly raises what others are taken for: by 8
        // times the mean at most.
        timed(3_000_000, 5_000_000, 0);
        timed(9_000_000, 100, 10);
        let found = entries(&account);
        assert_eq!(found[0], (3_000_000, 5_000_000, 5_000_000, 1));
        assert!((1_100..=1_600).contains(&found[1].2) && found[1].3 == 11, "{found:?}");
        losses.untimed(inner, &account, (LOADS, 10_000_000), 3);
        let found = entries(&account);
        assert!(found[0].0 + found[0].1 == 10_000_000 && found[0].3 == 3 && found[0].2 < 500, "{found:?}");
    }

    /// The thread loses its processor where it asks on behalf of the untimed ones: that time is not
    /// also the timed one's that begins next.
    #[test]
    fn what_a_thread_waits_before_a_timed_one_is_not_part_of_it() {
        let losses = SlowPathLosses::default();
        let losses = std::sync::Mutex::new(losses);
        let found = shared(|account, heap| {
            spin(heap, 250_000);
            let losses = losses.lock().unwrap();
            let begun = losses.begin(heap, account, LossKind::Locks, 1);
            losses.end(heap, account, LossKind::Locks, begun, false);
        });
        let Some([passed_ns, accounted_ns, waited_ns]) = found else { return };
        assert!(accounted_ns <= passed_ns && accounted_ns < waited_ns + waited_ns / 2, "{accounted_ns}, {waited_ns}");
    }

    #[test]
    fn the_usual_time_follows_what_is_measured() {
        let heap = recording();
        let (losses, account, inner) = (SlowPathLosses::default(), account(&heap), heap.inner());
        let timed = |n: u64, ns| losses.timed(inner, &account, (LOADS, 1_000_000 * (n + 1)), ns, 15);
        (0..200).for_each(|n| timed(n, 100));
        (200..400).for_each(|n| timed(n, 900));
        let last = *entries(&account).last().unwrap();
        assert!((15 * 850..=16 * 900).contains(&last.2), "{last:?}");
    }
}
