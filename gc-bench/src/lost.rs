//! Time that mutators lose besides pauses and stalls: faults that they serve themselves, and slow
//! paths of the barrier.

use gc_heap::{Durations, Heap, HeapStats, SlowPaths};
use serde::{Deserialize, Serialize};

use crate::collector::Collector;
use crate::interval::Z95;

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
    /// What the clock costs a sample. Of slow paths it is taken off every figure: they are short,
    /// and those that are not timed do not pay it.
    pub(crate) clock_ns: f64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
    /// Of all of them; where one in some was timed, that many times what those took.
    pub(crate) total_ns: u64,
    /// The 95 % interval of `total_ns`: others than the timed ones may have been longer or shorter.
    pub(crate) total_low_ns: u64,
    pub(crate) total_high_ns: u64,
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

    /// What has come since `before`, of mutators that had `mutators_ns` together; a pair of clock
    /// reads takes `clock_ns`.
    pub(crate) fn since(&self, before: &Self, barrier: Collector, mutators_ns: f64, clock_ns: f64) -> Since {
        let mut since = Since::default();
        // Each barrier has one of the two.
        if barrier.is_page() {
            let faults = difference(&self.faults, &before.faults);
            let times = Some(Times::of(faults.count, &faults, mutators_ns, 0.0));
            since.lost.faults = Some(Kind { count: faults.count, times });
            since.faults = faults.buckets;
        } else {
            let count = self.slow_paths.count - before.slow_paths.count;
            let timed = difference(&self.slow_paths.timed, &before.slow_paths.timed);
            let times = || Times::of(count, &timed, mutators_ns, clock_ns);
            since.lost.slow_paths = Some(Kind { count, times: (timed.count > 0 || count == 0).then(times) });
            let without_clock = timed.buckets.iter().map(|&(ns, n)| (without(ns.min(timed.max_ns), clock_ns), n));
            since.slow_paths = without_clock.collect();
        }
        since
    }
}

/// What [`Snapshot::since`] found, with the histograms behind the figures.
#[derive(Debug, Default)]
pub(crate) struct Since {
    pub(crate) lost: Lost,
    pub(crate) faults: Vec<(u64, u64)>,
    pub(crate) slow_paths: Vec<(u64, u64)>,
}

/// A sample without what the clock cost.
fn without(ns: u64, clock_ns: f64) -> u64 {
    (ns as f64 - clock_ns).max(0.0).round() as u64
}

impl Times {
    /// Of `count`, those that were timed standing for the others too, without what the clock cost
    /// each of those.
    fn of(count: u64, timed: &Durations, mutators_ns: f64, clock_ns: f64) -> Self {
        let (all, n) = (count as f64, timed.count as f64);
        let mean = if timed.count == 0 { 0.0 } else { (timed.sum_ns as f64 / n - clock_ns).max(0.0) };
        let total = mean * all;
        let half = total_half_width(count, timed);
        // They took at least what the timed ones took.
        let least = mean * n;
        Self {
            timed: timed.count,
            clock_ns,
            p50_ns: without(timed.quantile(0.5), clock_ns),
            p99_ns: without(timed.quantile(0.99), clock_ns),
            max_ns: without(timed.max_ns, clock_ns),
            total_ns: total as u64,
            total_low_ns: (total - half).max(least).min(total) as u64,
            total_high_ns: (total + half) as u64,
            share_of_wall: if mutators_ns > 0.0 { total / mutators_ns } else { 0.0 },
        }
    }
}

/// Half the 95 % interval of a total of `count` durations of which a sample was timed: the normal
/// one, with the correction for a sample of a finite number ([Cochran], Sampling Techniques, 2.3 to
/// 2.8). 0 where all were timed.
///
/// [Cochran]: https://archive.org/details/samplingtechniqu0000coch
fn total_half_width(count: u64, timed: &Durations) -> f64 {
    if timed.count < 2 || timed.count >= count {
        return 0.0;
    }
    let (all, n) = (count as f64, timed.count as f64);
    let values = || timed.buckets.iter().map(|&(ns, of)| (ns.min(timed.max_ns) as f64, of as f64));
    let mean = values().map(|(ns, of)| ns * of).sum::<f64>() / n;
    let variance = values().map(|(ns, of)| (ns - mean).powi(2) * of).sum::<f64>() / (n - 1.0);
    Z95 * all * (variance / n * (1.0 - n / all)).sqrt()
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
        let found = after.since(&before, Collector::LOAD, 1e6, 0.0);
        assert_eq!(found.slow_paths, [(100, 15), (3900, 5)]);
        let lost = found.lost;
        let kind = lost.slow_paths.unwrap();
        let times = kind.times.unwrap();
        assert_eq!((kind.count, times.timed, lost.faults), (320, 20, None));
        assert_eq!((times.p50_ns, times.p99_ns, times.max_ns), (100, 3900, 3900));
        assert_eq!((times.total_ns, times.share_of_wall), (14_400 * 16, 0.2304));
        assert_eq!(after.since(&before, Collector::STW, 1e6, 0.0).lost.slow_paths, lost.slow_paths);
        let found = after.since(&before, Collector::PAGE, 1e6, 25.0);
        let (page, faults) = (found.lost, found.lost.faults.unwrap().times.unwrap());
        assert_eq!((faults.timed, faults.total_ns, page.slow_paths), (320, 160_000, None));
        assert_eq!((faults.total_low_ns, faults.total_high_ns), (160_000, 160_000), "all were timed");
        assert_eq!((found.faults, found.slow_paths), (vec![(500, 320)], vec![]));
        // None was timed: how long they took is not known, and not 0.
        let nothing = snapshot(0, Durations::default());
        let untimed = snapshot(3, Durations::default()).since(&nothing, Collector::LOAD, 1e6, 0.0).lost;
        assert_eq!(untimed.slow_paths, Some(Kind { count: 3, times: None }));
        let none = after.since(&after, Collector::LOAD, 1e6, 0.0).lost.slow_paths.unwrap();
        assert_eq!((none.count, none.times.map(|t| t.total_ns)), (0, Some(0)));
    }

    /// By hand: 16 of 256 were timed, 12 of 130 ns and 4 of 530, with 30 ns of the clock in each.
    /// The mean without it is 200, the total 51,200. The variance is 12 x 100^2 + 4 x 300^2 over
    /// 15, 32,000; the standard error 256 x sqrt(2000 x (1 - 1/16)) = 11,085.
    #[test]
    fn the_clock_s_cost_is_taken_off_and_sampling_has_an_interval() {
        let timed = durations(&[(130, 12), (530, 4)], 12 * 130 + 4 * 530, 530);
        let found = snapshot(256, timed).since(&snapshot(0, Durations::default()), Collector::LOAD, 1e6, 30.0);
        let times = found.lost.slow_paths.unwrap().times.unwrap();
        assert_eq!((times.p50_ns, times.max_ns, times.total_ns, times.clock_ns), (100, 500, 51_200, 30.0));
        let half = 1.959_964 * 11_085.125;
        assert!((times.total_low_ns as f64 - (51_200.0 - half)).abs() < 3.0, "{times:?}");
        assert!((times.total_high_ns as f64 - (51_200.0 + half)).abs() < 3.0, "{times:?}");
        assert_eq!(found.slow_paths, [(100, 12), (500, 4)]);
        assert!((times.share_of_wall - 0.0512).abs() < 1e-12);
    }

    /// One in 16 of a known population, many times over.
    #[test]
    fn the_interval_of_a_sampled_total_covers_it_in_95_of_100() {
        let mut random = crate::rng::SplitMix::new(3);
        // From 60 to 2,100 ns, most of them short.
        let all: Vec<u64> = (0..16_000).map(|_| 60 + (random.below(12).pow(3)) + random.below(700)).collect();
        let truth: u64 = all.iter().sum();
        let covered = (0..500).filter(|_| {
            let mut counts = std::collections::BTreeMap::new();
            (0..1000).for_each(|_| *counts.entry(all[random.below(16_000) as usize]).or_insert(0) += 1);
            let buckets: Vec<(u64, u64)> = counts.into_iter().collect();
            let sum = buckets.iter().map(|(ns, n)| ns * n).sum();
            let times = Times::of(16_000, &durations(&buckets, sum, buckets.last().unwrap().0), 1e9, 0.0);
            (times.total_low_ns..=times.total_high_ns).contains(&truth)
        });
        let share = covered.count() as f64 / 5.0;
        // The sample is drawn with replacement here, so the correction for a finite number makes
        // the interval a little narrow. The standard error of 500 is 1.
        assert!((91.5..98.0).contains(&share), "{share}");
    }
}
