//! Minimum mutator utilisation: the minimum, over all windows of a length, of the share that a
//! mutator ran.
//!
//! Cheng and Blelloch, [A parallel, real-time garbage
//! collector](https://doi.org/10.1145/378795.378823) (PLDI 2001), whose point it is that short
//! pauses close together are as bad as a long one. `docs/bench.md` says what counts as lost.

use serde::{Deserialize, Serialize};

/// From a time to a later one, in nanoseconds; the end does not belong to it.
pub(crate) type Interval = (u64, u64);

/// An interval of which an unknown part was lost, so each moment of it counts alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stretch {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The part, from 0 to 1.
    pub(crate) share: f64,
}

impl From<Interval> for Stretch {
    fn from((from, to): Interval) -> Self {
        Self { from, to, share: 1.0 }
    }
}

/// The windows of a report.
pub(crate) const WINDOWS_MS: [u64; 7] = [1, 2, 5, 10, 20, 50, 100];

/// The utilisation at one window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mmu {
    pub(crate) window_ms: u64,
    /// From 0 to 1.
    pub(crate) share: f64,
}

/// The minimum over all mutators, at each of [`WINDOWS_MS`] that is no longer than the measured
/// part. `stopped` is lost to every mutator, each of `own` to one.
pub(crate) fn of_run<'a>(stopped: &[Interval], own: impl Iterator<Item = &'a [Stretch]>, length_ns: u64) -> Vec<Mmu> {
    let stopped = || stopped.iter().map(|&interval| Stretch::from(interval));
    // A mutator with nothing of its own lost what all lost; one that has lost no less.
    let mut mutators: Vec<LostTime> =
        own.map(|own| LostTime::new(stopped().chain(own.iter().copied()), length_ns)).collect();
    if mutators.is_empty() {
        mutators.push(LostTime::new(stopped(), length_ns));
    }
    let at = |window_ms: u64| {
        let least = mutators.iter().map(|lost| lost.utilisation(window_ms * 1_000_000));
        let share = least.collect::<Option<Vec<f64>>>()?.into_iter().fold(1.0, f64::min);
        Some(Mmu { window_ms, share })
    };
    WINDOWS_MS.into_iter().filter_map(at).collect()
}

/// When a mutator was not running for itself: apart from one another, ascending, none empty.
pub(crate) struct LostTime {
    stretches: Vec<Stretch>,
    /// What was lost before each.
    before: Vec<f64>,
    length: u64,
}

impl LostTime {
    /// All stretches together, as far as they lie in `0..length`. Where some overlap their parts
    /// add up, to the whole at most.
    pub(crate) fn new(stretches: impl Iterator<Item = Stretch>, length: u64) -> Self {
        // Each adds its share at its begin and takes it away at its end. Whole ones are counted, so
        // that nothing is rounded.
        let mut turns: Vec<(u64, bool, f64)> = stretches
            .map(|s| Stretch { to: s.to.min(length), ..s })
            .filter(|s| s.from < s.to && s.share > 0.0)
            .flat_map(|s| [(s.from, true, s.share), (s.to, false, s.share)])
            .collect();
        turns.sort_unstable_by_key(|turn| turn.0);
        let mut lost = Self { stretches: Vec::with_capacity(turns.len()), before: Vec::new(), length };
        let (mut whole, mut parts, mut sum, mut since) = (0u64, 0u64, 0.0, 0);
        for (at, begins, share) in turns {
            let together = if whole > 0 { 1.0 } else { f64::min(sum, 1.0) };
            if at > since && together > 0.0 {
                lost.add(Stretch { from: since, to: at, share: together });
            }
            since = at;
            let count = if share >= 1.0 { &mut whole } else { &mut parts };
            *count = if begins { *count + 1 } else { *count - 1 };
            if share < 1.0 {
                sum += if begins { share } else { -share };
                // What rounding left.
                sum = if parts == 0 { 0.0 } else { sum.max(0.0) };
            }
        }
        let mut sum = 0.0;
        for s in &lost.stretches {
            lost.before.push(sum);
            sum += (s.to - s.from) as f64 * s.share;
        }
        lost
    }

    fn add(&mut self, next: Stretch) {
        match self.stretches.last_mut() {
            Some(last) if last.to == next.from && last.share == next.share => last.to = next.to,
            _ => self.stretches.push(next),
        }
    }

    /// What was lost from a time to a later one.
    pub(crate) fn between(&self, from: u64, to: u64) -> f64 {
        self.until(to) - self.until(from)
    }

    /// What was lost before `time`.
    fn until(&self, time: u64) -> f64 {
        match self.stretches.partition_point(|s| s.from < time) {
            0 => 0.0,
            n => {
                let s = &self.stretches[n - 1];
                self.before[n - 1] + (time.min(s.to) - s.from) as f64 * s.share
            }
        }
    }

    /// The exact minimum utilisation of windows of this length; `None` if none of that length fits.
    ///
    /// What a window loses changes evenly as it slides, save where one of its ends meets an end of
    /// a stretch. So the worst window has such an end, or lies at an end of the whole.
    fn utilisation(&self, window: u64) -> Option<f64> {
        let last = self.length.checked_sub(window).filter(|_| window > 0)?;
        let ends = self.stretches.iter().flat_map(|s| [s.from, s.to]);
        let starts = ends.flat_map(|end| [end.min(last), end.saturating_sub(window).min(last)]);
        let lost = starts.chain([0, last]).map(|start| self.until(start + window) - self.until(start));
        let lost = lost.fold(0.0, f64::max).min(window as f64);
        Some((window as f64 - lost) / window as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn utilisation(intervals: &[Interval], length: u64, window: u64) -> Option<f64> {
        LostTime::new(intervals.iter().map(|&interval| interval.into()), length).utilisation(window)
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

    fn stretch(from: u64, to: u64, share: f64) -> Stretch {
        Stretch { from, to, share }
    }

    #[test]
    fn what_is_lost_in_part_counts_in_part() {
        let at = |stretches: &[Stretch], window| {
            let found = LostTime::new(stretches.iter().copied(), 1000).utilisation(window).unwrap();
            (found * 1e9).round() / 1e9
        };
        // A quarter of 40.
        let faults = [stretch(100, 140, 0.25)];
        assert_eq!([at(&faults, 10), at(&faults, 40), at(&faults, 100)], [0.75, 0.75, 0.9]);
        // A pause in the middle of them: whole there, and a quarter beside it.
        let pause = [faults[0], stretch(110, 120, 1.0)];
        assert_eq!([at(&pause, 10), at(&pause, 20), at(&pause, 40)], [0.0, 0.375, 0.5625]);
        // Parts that overlap add up, to the whole at most; and nothing is left of them behind.
        let parts = [stretch(10, 30, 0.1), stretch(20, 40, 0.7), stretch(20, 30, 0.4), stretch(500, 510, 0.3)];
        assert_eq!([at(&parts, 10), at(&parts, 20), at(&parts, 30)], [0.0, 0.15, 0.4]);
        let lost = LostTime::new(parts.into_iter(), 1000);
        assert_eq!(lost.stretches[..2], [stretch(10, 20, 0.1), stretch(20, 30, 1.0)]);
        assert_eq!((lost.until(500) - lost.until(40), lost.stretches.len()), (0.0, 4));
        // The worst part and the worse of its neighbours.
        let rising = [stretch(100, 110, 0.5), stretch(110, 130, 0.9), stretch(130, 140, 0.6)];
        assert_eq!(at(&rising, 30), 0.2);
    }

    #[test]
    fn the_exact_minimum_in_parts_is_that_of_trying_every_window() {
        let mut rng = Rng::new(8, 0);
        let mut below = |n: u64| rng.next() % n;
        for round in 0..1000 {
            let length = 1 + below(60);
            let stretches: Vec<Stretch> = (0..below(10))
                .map(|_| {
                    let from = below(length + 5);
                    stretch(from, from + below(12), (1 + below(4)) as f64 / 4.0)
                })
                .collect();
            let lost_at = |t: u64| {
                let shares = stretches.iter().filter(|s| (s.from..s.to).contains(&t)).map(|s| s.share);
                shares.sum::<f64>().min(1.0)
            };
            for window in 1..=length {
                let tried = (0..=length - window).map(|start| (start..start + window).map(lost_at).sum::<f64>());
                let expected = (window as f64 - tried.fold(0.0, f64::max)) / window as f64;
                let found = LostTime::new(stretches.iter().copied(), length).utilisation(window);
                assert_eq!(found, Some(expected), "{round}: {window} in {stretches:?}");
            }
        }
    }

    #[test]
    fn the_mutator_that_lost_most_counts_and_windows_longer_than_the_run_do_not() {
        const MS: u64 = 1_000_000;
        let stopped = [(4 * MS, 5 * MS)];
        let (first, second) = ([(5 * MS, 6 * MS).into()], [(20 * MS, 28 * MS).into()]);
        let found = of_run(&stopped, [&first[..], &second[..]].into_iter(), 30 * MS);
        let shares: Vec<_> = found.iter().map(|m| (m.window_ms, m.share)).collect();
        assert_eq!(shares, [(1, 0.0), (2, 0.0), (5, 0.0), (10, 0.2), (20, 0.6)], "{shares:?}");
        let alone = of_run(&stopped, std::iter::empty(), 5 * MS);
        assert_eq!(alone.last().map(|m| (m.window_ms, m.share)), Some((5, 0.8)));
    }
}
