//! Minimum mutator utilisation: of every window of some length, the least share of it that a mutator had for itself.
//!
//! Cheng and Blelloch, [A parallel, real-time garbage collector](https://doi.org/10.1145/378795.378823) (PLDI 2001), whose
//! point it is that short pauses close together are as bad as a long one. `docs/bench.md` says what counts as lost.

use serde::{Deserialize, Serialize};

/// From a time to a later one, in nanoseconds; the end does not belong to it.
pub(crate) type Interval = (u64, u64);

/// The windows of a report.
pub(crate) const WINDOWS_MS: [u64; 7] = [1, 2, 5, 10, 20, 50, 100];

/// The utilisation at one window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mmu {
    pub(crate) window_ms: u64,
    /// From 0 to 1.
    pub(crate) share: f64,
}

/// The least over all mutators, at each of [`WINDOWS_MS`] that is no longer than the measured part. `stopped` is lost to
/// every mutator, each of `waited` to one.
pub(crate) fn of_run<'a>(
    stopped: &[Interval],
    waited: impl Iterator<Item = &'a [Interval]>,
    length_ns: u64,
) -> Vec<Mmu> {
    // A mutator that never waited lost what all lost; where one waited, that one lost no less.
    let mut mutators: Vec<Lost> = waited.map(|own| Lost::new(stopped.iter().chain(own).copied(), length_ns)).collect();
    if mutators.is_empty() {
        mutators.push(Lost::new(stopped.iter().copied(), length_ns));
    }
    let at = |window_ms: u64| {
        let least = mutators.iter().map(|lost| lost.utilisation(window_ms * 1_000_000));
        let share = least.collect::<Option<Vec<f64>>>()?.into_iter().fold(1.0, f64::min);
        Some(Mmu { window_ms, share })
    };
    WINDOWS_MS.into_iter().filter_map(at).collect()
}

/// When a mutator was not running for itself: apart from one another, ascending, none empty.
struct Lost {
    intervals: Vec<Interval>,
    /// What was lost before each.
    before: Vec<u64>,
    length: u64,
}

impl Lost {
    /// The union of the intervals, as far as it lies in `0..length`.
    fn new(intervals: impl Iterator<Item = Interval>, length: u64) -> Self {
        let mut sorted: Vec<Interval> =
            intervals.map(|(from, to)| (from, to.min(length))).filter(|(from, to)| from < to).collect();
        sorted.sort_unstable();
        let mut lost = Self { intervals: Vec::with_capacity(sorted.len()), before: Vec::new(), length };
        for (from, to) in sorted {
            match lost.intervals.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => lost.intervals.push((from, to)),
            }
        }
        let mut sum = 0;
        for (from, to) in &lost.intervals {
            lost.before.push(sum);
            sum += to - from;
        }
        lost
    }

    /// What was lost before `time`.
    fn until(&self, time: u64) -> u64 {
        match self.intervals.partition_point(|&(from, _)| from < time) {
            0 => 0,
            n => {
                let (from, to) = self.intervals[n - 1];
                self.before[n - 1] + (time.min(to) - from)
            }
        }
    }

    /// The least utilisation of a window of this length, exactly; `None` where none of that length fits.
    ///
    /// What a window loses grows and shrinks by at most its way as it slides. It stops growing only where the window's end
    /// leaves an interval or its start enters one, so the worst window begins with an interval or ends with one, or lies at
    /// an end of the whole.
    fn utilisation(&self, window: u64) -> Option<f64> {
        let last = self.length.checked_sub(window).filter(|_| window > 0)?;
        let starts =
            self.intervals.iter().flat_map(|&(from, to)| [from.min(last), to.saturating_sub(window).min(last)]);
        let lost = starts.chain([0, last]).map(|start| self.until(start + window) - self.until(start)).max();
        Some((window - lost.unwrap_or(0)) as f64 / window as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Rng;

    fn utilisation(intervals: &[Interval], length: u64, window: u64) -> Option<f64> {
        Lost::new(intervals.iter().copied(), length).utilisation(window)
    }

    #[test]
    fn one_pause_costs_its_length_of_any_window_that_holds_it() {
        let pause = [(50, 60)];
        assert_eq!(utilisation(&pause, 100, 10), Some(0.0));
        assert_eq!(utilisation(&pause, 100, 5), Some(0.0));
        assert_eq!(utilisation(&pause, 100, 20), Some(0.5));
        assert_eq!(utilisation(&pause, 100, 100), Some(0.9));
        assert_eq!(utilisation(&pause, 100, 101), None);
        assert_eq!(utilisation(&pause, 100, 0), None);
        assert_eq!(utilisation(&[], 100, 10), Some(1.0));
    }

    #[test]
    fn pauses_close_together_count_as_one_window_sees_them() {
        // Three of 2, each 1 apart: a window of 8 holds them all.
        let close = [(10, 12), (13, 15), (16, 18)];
        assert_eq!(utilisation(&close, 1000, 8), Some(0.25));
        assert_eq!(utilisation(&close, 1000, 2), Some(0.0));
        assert_eq!(utilisation(&close, 1000, 3), Some(1.0 / 3.0));
        let far = [(10, 12), (113, 115), (216, 218)];
        assert_eq!(utilisation(&far, 1000, 8), Some(0.75));
    }

    #[test]
    fn what_overlaps_is_lost_once_and_what_lies_outside_not_at_all() {
        assert_eq!(utilisation(&[(10, 20), (15, 25), (12, 13)], 100, 20), Some(0.25));
        assert_eq!(utilisation(&[(90, 150)], 100, 20), Some(0.5));
        assert_eq!(utilisation(&[(0, 5), (200, 300), (7, 7)], 100, 10), Some(0.5));
    }

    #[test]
    fn the_exact_minimum_is_that_of_trying_every_window() {
        let mut rng = Rng::new(7, 0);
        let mut below = |n: u64| rng.next() % n;
        for round in 0..2000 {
            let length = 1 + below(80);
            let intervals: Vec<Interval> = (0..below(12))
                .map(|_| {
                    let from = below(length + 10);
                    (from, from + below(9))
                })
                .collect();
            let lost_at = |t: u64| u64::from(intervals.iter().any(|&(from, to)| (from..to).contains(&t)));
            for window in 1..=length {
                let tried = (0..=length - window).map(|start| (start..start + window).map(lost_at).sum::<u64>());
                let expected = (window - tried.max().unwrap()) as f64 / window as f64;
                assert_eq!(
                    utilisation(&intervals, length, window),
                    Some(expected),
                    "{round}: {window} in {intervals:?}"
                );
            }
        }
    }

    #[test]
    fn the_mutator_that_lost_most_counts_and_windows_longer_than_the_run_do_not() {
        const MS: u64 = 1_000_000;
        let stopped = [(4 * MS, 5 * MS)];
        let (first, second) = ([(5 * MS, 6 * MS)], [(20 * MS, 28 * MS)]);
        let found = of_run(&stopped, [&first[..], &second[..]].into_iter(), 30 * MS);
        let shares: Vec<_> = found.iter().map(|m| (m.window_ms, m.share)).collect();
        assert_eq!(shares, [(1, 0.0), (2, 0.0), (5, 0.0), (10, 0.2), (20, 0.6)], "{shares:?}");
        let alone = of_run(&stopped, std::iter::empty(), 5 * MS);
        assert_eq!(alone.last().map(|m| (m.window_ms, m.share)), Some((5, 0.8)));
    }
}
