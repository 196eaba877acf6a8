//! The samples of several runs together: their histograms merged.
//!
//! A percentile of all samples is not the median of the runs' percentiles, and the worst of all
//! samples is not the median of the runs' maxima.

use serde::{Deserialize, Serialize};

use crate::interval::{Interval, bootstrap};
use crate::record::Bucket;

/// A figure of several runs; the ends of its interval where there are enough of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) estimate: f64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) high: Option<f64>,
}

impl Figure {
    pub(crate) fn new(estimate: f64, interval: Option<Interval>) -> Self {
        let (low, high) = (interval.map(|i| digits(i.low)), interval.map(|i| digits(i.high)));
        Self { estimate: digits(estimate), low, high }
    }

    pub(crate) fn interval(&self) -> Option<Interval> {
        Some(Interval { estimate: self.estimate, low: self.low?, high: self.high? })
    }
}

/// Twelve significant digits: more are noise, and as few are read back from JSON exactly.
fn digits(x: f64) -> f64 {
    format!("{x:.11e}").parse().unwrap_or(x)
}

/// Samples that must lie beyond a percentile for it to be given.
const BEYOND: u64 = 10;

/// The percentiles of a report, in millionths.
pub(crate) const P50: u64 = 500_000;
pub(crate) const P99: u64 = 990_000;
pub(crate) const P999: u64 = 999_000;
pub(crate) const P9999: u64 = 999_900;

/// How many of `count` samples a percentile does not exceed.
fn rank(count: u64, millionths: u64) -> u64 {
    (u128::from(count) * u128::from(millionths)).div_ceil(1_000_000) as u64
}

/// Whether enough samples lie beyond a percentile of so many.
pub(crate) fn is_supported(count: u64, millionths: u64) -> bool {
    count - rank(count, millionths) >= BEYOND
}

/// The histograms of some runs.
pub(crate) struct Merged {
    /// Each value that occurs, ascending.
    values: Vec<u64>,
    /// Of each run, how many samples do not exceed each of the values.
    upto: Vec<Vec<u64>>,
}

impl Merged {
    pub(crate) fn new<'a>(runs: impl Iterator<Item = &'a [Bucket]>) -> Self {
        let runs: Vec<&[Bucket]> = runs.collect();
        let mut values: Vec<u64> = runs.iter().flat_map(|run| run.iter().map(|bucket| bucket.0)).collect();
        values.sort_unstable();
        values.dedup();
        let upto = runs.iter().map(|run| {
            let mut counts = vec![0; values.len()];
            for &(ns, n) in *run {
                counts[values.binary_search(&ns).expect("it is one of them")] += n;
            }
            let mut sum = 0;
            counts
                .into_iter()
                .map(|n| {
                    sum += n;
                    sum
                })
                .collect()
        });
        let upto = upto.collect();
        Self { values, upto }
    }

    fn all(&self) -> Vec<usize> {
        (0..self.upto.len()).collect()
    }

    /// Samples of the runs with these numbers, a run as often as it is named.
    fn count(&self, runs: &[usize]) -> u64 {
        runs.iter().map(|&run| self.upto[run].last().copied().unwrap_or(0)).sum()
    }

    /// The smallest value that a percentile's share of the samples of these runs do not exceed.
    fn quantile(&self, runs: &[usize], millionths: u64) -> Option<u64> {
        let count = self.count(runs);
        if count == 0 {
            return None;
        }
        let rank = rank(count, millionths).max(1);
        let (mut low, mut high) = (0, self.values.len() - 1);
        while low < high {
            let middle = (low + high) / 2;
            if runs.iter().map(|&run| self.upto[run][middle]).sum::<u64>() >= rank {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(self.values[low])
    }

    /// A percentile of all samples with its interval; `None` where too few lie beyond it.
    pub(crate) fn percentile(&self, millionths: u64) -> Option<Figure> {
        let all = self.all();
        if !is_supported(self.count(&all), millionths) {
            return None;
        }
        let estimate = self.quantile(&all, millionths)? as f64;
        let of = |drawn: &[Vec<usize>]| self.quantile(&drawn[0], millionths).map(|ns| ns as f64);
        Some(Figure::new(estimate, bootstrap(&[all.len()], of)))
    }

    /// This percentile over that of `old`, with its interval; `None` where too few samples of
    /// either lie beyond it.
    pub(crate) fn ratio(&self, old: &Self, millionths: u64) -> Option<Figure> {
        let of = |drawn: &[Vec<usize>]| {
            let (new, old) = (self.quantile(&drawn[0], millionths)?, old.quantile(&drawn[1], millionths)?);
            (old > 0).then(|| new as f64 / old as f64)
        };
        let all = [self.all(), old.all()];
        let supported = |merged: &Self, runs: &[usize]| is_supported(merged.count(runs), millionths);
        if !supported(self, &all[0]) || !supported(old, &all[1]) {
            return None;
        }
        Some(Figure::new(of(&all)?, bootstrap(&[all[0].len(), all[1].len()], of)))
    }
}

/// One kind of samples of all runs. What is not supported by enough samples has no key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pooled {
    /// Samples of all runs.
    pub(crate) count: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) p50_ns: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) p99_ns: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) p999_ns: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) p9999_ns: Option<Figure>,
    /// The largest sample of all runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) max_ns: Option<u64>,
}

impl Pooled {
    /// Of merged histograms, and the largest sample of each run.
    pub(crate) fn of(merged: &Merged, longest: impl Iterator<Item = u64>) -> Self {
        let count = merged.count(&merged.all());
        Self {
            count,
            p50_ns: merged.percentile(P50),
            p99_ns: merged.percentile(P99),
            p999_ns: merged.percentile(P999),
            p9999_ns: merged.percentile(P9999),
            max_ns: longest.max().filter(|_| count > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(runs: &[&[Bucket]]) -> Merged {
        Merged::new(runs.iter().copied())
    }

    #[test]
    fn a_percentile_is_given_where_ten_samples_lie_beyond_it() {
        for (least, millionths) in [(20, P50), (1000, P99), (10_000, P999), (100_000, P9999)] {
            assert!(is_supported(least, millionths) && !is_supported(least - 1, millionths), "{least}");
        }
        assert!(!is_supported(0, P50));
        let few = merged(&[&[(5, 10)], &[(7, 9)]]);
        assert_eq!(few.percentile(P50), None);
        let enough = merged(&[&[(5, 10)], &[(7, 10)]]);
        assert_eq!(enough.percentile(P50), Some(Figure { estimate: 5.0, low: None, high: None }));
    }

    /// By hand: 3000 samples of 10, of which 30 lie beyond p99; they are 900 of the second run. A
    /// median of the runs' p99s (10, 900, 10) would be 10.
    #[test]
    fn samples_are_pooled_and_not_the_runs_figures() {
        let runs: [&[Bucket]; 3] = [&[(10, 1000)], &[(10, 960), (900, 40)], &[(10, 1000)]];
        let all = merged(&runs);
        assert_eq!(all.percentile(P99).unwrap().estimate, 900.0);
        assert_eq!(all.percentile(P50).unwrap().estimate, 10.0);
        assert_eq!(all.percentile(P999), None, "3 samples lie beyond it");
        let pooled = Pooled::of(&all, [10, 950, 10].into_iter());
        assert_eq!((pooled.count, pooled.max_ns), (3000, Some(950)));
        let none = Pooled::of(&merged(&[&[], &[]]), [0, 0].into_iter());
        assert_eq!(none, Pooled::default());
        assert_eq!(serde_json::to_string(&none).unwrap(), r#"{"count":0}"#, "and no key is null");
    }

    #[test]
    fn runs_that_differ_make_an_interval_and_ratios_have_one() {
        let slow: Vec<Vec<Bucket>> = (0..10).map(|i| vec![(200 + i, 500), (3000, 20)]).collect();
        let fast: Vec<Vec<Bucket>> = (0..10).map(|i| vec![(100 + i, 500), (1000, 20)]).collect();
        let of = |runs: &[Vec<Bucket>]| Merged::new(runs.iter().map(Vec::as_slice));
        let p50 = of(&slow).percentile(P50).unwrap().interval().unwrap();
        assert!(p50.low < p50.estimate && p50.estimate < p50.high && p50.low >= 200.0 && p50.high <= 209.0, "{p50:?}");
        let ratio = of(&slow).ratio(&of(&fast), P50).unwrap().interval().unwrap();
        assert!(ratio.low > 1.85 && ratio.high < 2.1 && (1.94..2.0).contains(&ratio.estimate), "{ratio:?}");
        assert_eq!(of(&slow).ratio(&of(&fast), P99).unwrap().estimate, 3.0);
        assert_eq!(of(&slow).ratio(&of(&fast[..1]), P99), None, "too few samples of the other");
    }
}
