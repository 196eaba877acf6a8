//! Samples summed up: the figures of a report, and the histogram behind them.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::recorder::{LONG_NS, Recorder};

/// The figures of one set of samples. Every figure is a number; without samples every one is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    pub(crate) p9999_ns: u64,
    /// The largest sample, exactly.
    pub(crate) max_ns: u64,
    /// The sum of the samples, exactly.
    pub(crate) total_ns: u64,
    /// The sum of the samples of 1 ms and more, exactly.
    pub(crate) over_1ms_ns: u64,
}

/// One set of samples: a histogram of three significant digits, and what must be exact beside it.
pub(crate) struct Samples {
    histogram: Histogram<u64>,
    total_ns: u64,
    max_ns: u64,
    over_1ms_ns: u64,
}

impl Samples {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new(3).expect("three significant digits are allowed");
        Self { histogram, total_ns: 0, max_ns: 0, over_1ms_ns: 0 }
    }

    /// Adds one sample.
    pub(crate) fn record(&mut self, ns: u64) {
        self.record_n(ns, 1);
    }

    /// Adds `count` samples of that length.
    pub(crate) fn record_n(&mut self, ns: u64, count: u64) {
        self.add(ns, count);
        self.total_ns += ns * count;
        self.max_ns = self.max_ns.max(ns);
        self.over_1ms_ns += if ns >= LONG_NS { ns * count } else { 0 };
    }

    fn add(&mut self, ns: u64, count: u64) {
        self.histogram.record_n(ns, count).expect("the histogram grows with its values");
    }

    /// The figures. A percentile is the smallest value that so many samples do not exceed, rounded
    /// up to the histogram's precision, and never above the largest sample.
    pub(crate) fn summary(&self) -> Summary {
        let at =
            |q: f64| if self.histogram.is_empty() { 0 } else { self.histogram.value_at_quantile(q).min(self.max_ns) };
        Summary {
            count: self.histogram.len(),
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: self.max_ns,
            total_ns: self.total_ns,
            over_1ms_ns: self.over_1ms_ns,
        }
    }

    /// The histogram as pairs: a value in nanoseconds, and how many samples it stands for.
    /// Ascending.
    pub(crate) fn buckets(&self) -> Vec<(u64, u64)> {
        self.histogram.iter_recorded().map(|v| (v.value_iterated_to().min(self.max_ns), v.count_at_value())).collect()
    }
}

impl From<&Recorder> for Samples {
    fn from(recorder: &Recorder) -> Self {
        let mut samples = Self::new();
        for (ns, count) in recorder.buckets() {
            samples.add(ns, count);
        }
        samples.total_ns = recorder.total_ns();
        samples.max_ns = recorder.max_ns();
        samples.over_1ms_ns = recorder.over_1ms_ns();
        samples
    }
}

impl FromIterator<u64> for Samples {
    fn from_iter<I: IntoIterator<Item = u64>>(iter: I) -> Self {
        let mut samples = Self::new();
        iter.into_iter().for_each(|ns| samples.record(ns));
        samples
    }
}

/// The middle value; of two middle ones their mean. 0 for none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut v: Vec<f64> = values.into_iter().collect();
    v.sort_by(f64::total_cmp);
    match v.len() {
        0 => 0.0,
        n if n % 2 == 1 => v[n / 2],
        n => (v[n / 2 - 1] + v[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_samples_are_zeros() {
        assert_eq!(Samples::new().summary(), Summary::default());
        assert!(Samples::new().buckets().is_empty());
        assert_eq!(Samples::from(&Recorder::new()).summary(), Summary::default());
    }

    #[test]
    fn one_sample_is_every_figure() {
        let s: Samples = [123_457].into_iter().collect();
        let s = s.summary();
        assert_eq!((s.count, s.p50_ns, s.p9999_ns, s.max_ns, s.total_ns), (1, 123_457, 123_457, 123_457, 123_457));
        assert_eq!(s.over_1ms_ns, 0);
    }

    #[test]
    fn percentiles_are_the_sorted_samples_within_the_precision() {
        let mut rng = 88_172_645_463_325_252u64;
        let mut all: Vec<u64> = (0..100_000)
            .map(|_| {
                rng ^= rng << 13;
                rng ^= rng >> 7;
                rng ^= rng << 17;
                rng >> (24 + rng % 20)
            })
            .collect();
        let mut recorder = Recorder::new();
        all.iter().for_each(|&ns| recorder.record(ns));
        let exact: Samples = all.iter().copied().collect();
        let (coarse, fine) = (Samples::from(&recorder).summary(), exact.summary());
        all.sort_unstable();
        let at = |q: f64| all[(q * all.len() as f64).ceil() as usize - 1] as f64;
        for (q, c, f) in [
            (0.5, coarse.p50_ns, fine.p50_ns),
            (0.99, coarse.p99_ns, fine.p99_ns),
            (0.9999, coarse.p9999_ns, fine.p9999_ns),
        ] {
            assert!((0.0..=0.033).contains(&(c as f64 / at(q) - 1.0)), "p{q}: {c} for {}", at(q));
            assert!((0.0..=0.001).contains(&(f as f64 / at(q) - 1.0)), "p{q}: {f} for {}", at(q));
        }
        assert_eq!(
            (coarse.max_ns, coarse.total_ns, coarse.over_1ms_ns),
            (fine.max_ns, fine.total_ns, fine.over_1ms_ns)
        );
        assert_eq!(fine.max_ns, *all.last().unwrap());
        assert_eq!(exact.buckets().iter().map(|b| b.1).sum::<u64>(), 100_000);
    }

    #[test]
    fn the_median_of_two_is_their_mean() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([1.0, 2.0]), 1.5);
        assert_eq!(median([]), 0.0);
    }
}
