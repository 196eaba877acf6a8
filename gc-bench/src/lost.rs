//! Time that mutators lose besides pauses and stalls: faults that they serve themselves, and slow
//! paths of the barrier.

use gc_heap::{Durations, Heap, HeapStats, SlowPaths};
use serde::{Deserialize, Serialize};

use crate::collector::Collector;

/// Each kind, where the heap records it for this barrier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lost {
    /// Accesses to absent pages that the mutators served themselves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) faults: Option<Kind>,
    /// Loads of stale references that the mutators resolved.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) slow_paths: Option<Kind>,
}

/// One kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kind {
    pub(crate) count: u64,
    /// How long they took, where that is recorded and not only how many there were.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) times: Option<Times>,
}

/// How long they took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Times {
    /// How many the figures come from.
    pub(crate) timed: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
    /// Of all of them; where one in some was timed, that many times what those took.
    pub(crate) total_ns: u64,
    /// Of the wall time of all mutators: `total_ns` over wall time and threads.
    pub(crate) share_of_wall: f64,
}

/// What the heap had counted at a moment.
pub(crate) struct Snapshot {
    stats: HeapStats,
    faults: Durations,
    slow_paths: SlowPaths,
}

impl Snapshot {
    pub(crate) fn of(heap: &Heap) -> Self {
        Self { stats: heap.stats(), faults: heap.faults(), slow_paths: heap.slow_paths() }
    }

    pub(crate) fn stats(&self) -> &HeapStats {
        &self.stats
    }

    /// What has come since `before`, of mutators that had `mutators_ns` together.
    pub(crate) fn since(&self, before: &Self, barrier: Collector, mutators_ns: f64) -> Lost {
        let faults = || {
            let since = difference(&self.faults, &before.faults);
            Kind { count: since.count, times: Some(Times::of(since.count, &since, mutators_ns)) }
        };
        let slow_paths = || {
            let count = self.slow_paths.count - before.slow_paths.count;
            let timed = difference(&self.slow_paths.timed, &before.slow_paths.timed);
            Kind { count, times: (timed.count > 0 || count == 0).then(|| Times::of(count, &timed, mutators_ns)) }
        };
        // Each barrier has one of the two.
        Lost { faults: barrier.is_page().then(faults), slow_paths: (!barrier.is_page()).then(slow_paths) }
    }
}

impl Times {
    /// Of `count`, those that were timed standing for the others too.
    fn of(count: u64, timed: &Durations, mutators_ns: f64) -> Self {
        let total = match timed.count {
            0 => 0.0,
            of => timed.sum_ns as f64 * (count as f64 / of as f64),
        };
        Self {
            timed: timed.count,
            p50_ns: timed.quantile(0.5),
            p99_ns: timed.quantile(0.99),
            max_ns: timed.max_ns,
            total_ns: total as u64,
            share_of_wall: if mutators_ns > 0.0 { total / mutators_ns } else { 0.0 },
        }
    }
}

/// What was added to a histogram. Its longest is exact where it is the longest of all, else the end
/// of its bucket.
fn difference(after: &Durations, before: &Durations) -> Durations {
    let earlier = |ns: u64| before.buckets.iter().find(|bucket| bucket.0 == ns).map_or(0, |bucket| bucket.1);
    let mut since = after.clone();
    since.buckets.iter_mut().for_each(|bucket| bucket.1 -= earlier(bucket.0).min(bucket.1));
    since.buckets.retain(|bucket| bucket.1 > 0);
    since.count = since.buckets.iter().map(|bucket| bucket.1).sum();
    since.sum_ns = after.sum_ns.saturating_sub(before.sum_ns);
    since.max_ns = match since.buckets.last() {
        Some(_) if after.max_ns > before.max_ns => after.max_ns,
        Some(&(ns, _)) => ns.min(after.max_ns),
        None => 0,
    };
    since
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(buckets: &[(u64, u64)], sum_ns: u64, max_ns: u64) -> Durations {
        let mut d = Durations::default();
        (d.count, d.sum_ns, d.max_ns) = (buckets.iter().map(|b| b.1).sum(), sum_ns, max_ns);
        d.buckets = buckets.to_vec();
        d
    }

    #[test]
    fn only_what_came_since_counts() {
        let before = durations(&[(100, 5), (900, 1)], 1_300, 880);
        let after = durations(&[(100, 7), (200, 1), (900, 1)], 1_650, 880);
        let since = difference(&after, &before);
        assert_eq!(since, durations(&[(100, 2), (200, 1)], 350, 200));
        assert_eq!(since.quantile(0.5), 100);
        assert_eq!(difference(&durations(&[(900, 2)], 1_700, 890), &durations(&[(900, 1)], 880, 880)).max_ns, 890);
        assert_eq!(difference(&before, &before), Durations::default());
    }

    #[test]
    fn what_is_not_recorded_has_no_key() {
        let json = |lost: Lost| serde_json::to_string(&lost).unwrap();
        assert_eq!(json(Lost::default()), "{}");
        let slow = Lost { slow_paths: Some(Kind { count: 3, times: None }), faults: None };
        assert_eq!(json(slow), r#"{"slow_paths":{"count":3}}"#);
        assert_eq!(serde_json::from_str::<Lost>(&json(slow)).unwrap(), slow);
    }

    fn snapshot(count: u64, timed: Durations) -> Snapshot {
        let mut slow_paths = SlowPaths::default();
        (slow_paths.count, slow_paths.timed) = (count, timed);
        Snapshot { stats: HeapStats::default(), faults: durations(&[(500, count)], 500 * count, 500), slow_paths }
    }

    #[test]
    fn those_that_were_timed_stand_for_all() {
        let before = snapshot(160, durations(&[(100, 10)], 900, 100));
        let after = snapshot(480, durations(&[(100, 25), (4000, 5)], 15_300, 3900));
        let lost = after.since(&before, Collector::LOAD, 1e6);
        let kind = lost.slow_paths.unwrap();
        let times = kind.times.unwrap();
        assert_eq!((kind.count, times.timed, lost.faults), (320, 20, None));
        assert_eq!((times.p50_ns, times.p99_ns, times.max_ns), (100, 3900, 3900));
        assert_eq!((times.total_ns, times.share_of_wall), (14_400 * 16, 0.2304));
        assert_eq!(after.since(&before, Collector::STW, 1e6).slow_paths, lost.slow_paths);
        let page = after.since(&before, Collector::PAGE, 1e6);
        let faults = page.faults.unwrap().times.unwrap();
        assert_eq!((faults.timed, faults.total_ns, page.slow_paths), (320, 160_000, None));
        // None was timed: how long they took is not known, and not 0.
        let untimed = snapshot(3, Durations::default()).since(&snapshot(0, Durations::default()), Collector::LOAD, 1e6);
        assert_eq!(untimed.slow_paths, Some(Kind { count: 3, times: None }));
        let none = after.since(&after, Collector::LOAD, 1e6).slow_paths.unwrap();
        assert_eq!((none.count, none.times.map(|t| t.total_ns)), (0, Some(0)));
    }
}
