//! Intervals of 95 % for figures of repeated runs.
//!
//! The run (an invocation, a process of its own) is what repeats: samples of one run share its
//! memory layout and its neighbours, so only the runs are independent ([Georges et al.], OOPSLA
//! 2007; [Kalibera and Jones], ISMM 2013).
//!
//! [Georges et al.]: https://doi.org/10.1145/1297027.1297033
//! [Kalibera and Jones]: https://doi.org/10.1145/2464157.2464160

use serde::{Deserialize, Serialize};

use crate::rng::SplitMix;

/// An estimate and the interval that covers the true value in 95 of 100 sessions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) estimate: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Interval {
    /// Half the interval's width over the estimate; infinite where the estimate is 0.
    pub(crate) fn half_width(&self) -> f64 {
        if self.high == self.low {
            return 0.0;
        }
        (self.high - self.low) / 2.0 / self.estimate.abs()
    }
}

/// The fewest runs that an interval is given for. Student's t for two is so large that the interval
/// says nothing.
pub(crate) const MIN_RUNS: usize = 3;
/// The fewest runs that are resampled: of fewer there are too few different samples.
pub(crate) const MIN_RESAMPLED: usize = 5;

/// The two-sided quantile of Student's t at 95 %, by degrees of freedom from 1 on.
const T95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The same quantile of the normal distribution.
pub(crate) const Z95: f64 = 1.959_964;

/// Student's t at 95 %, two-sided; 0 degrees of freedom count as 1. Beyond the table by the
/// expansion of Abramowitz and Stegun, 26.7.5.
pub(crate) fn t95(freedom: usize) -> f64 {
    if let Some(&t) = T95.get(freedom.max(1) - 1) {
        return t;
    }
    let (z, v) = (Z95, freedom as f64);
    z + (z.powi(3) + z) / (4.0 * v) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v)
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Half the interval of the mean: t times the standard error.
fn mean_half_width(values: &[f64]) -> f64 {
    let (n, mean) = (values.len(), mean(values));
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    t95(n - 1) * (variance / n as f64).sqrt()
}

/// The mean, and Student's interval around it. `None` of fewer than [`MIN_RUNS`].
pub(crate) fn of_mean(values: &[f64]) -> Option<Interval> {
    if values.len() < MIN_RUNS {
        return None;
    }
    let (estimate, half) = (mean(values), mean_half_width(values));
    Some(Interval { estimate, low: estimate - half, high: estimate + half })
}

/// The ratio of two means, `new` over `old`, and Fieller's interval as Kalibera and Jones give it:
/// all ratios at which the difference of the means could be chance. `None` of fewer than
/// [`MIN_RUNS`], and where the old mean could be 0.
pub(crate) fn of_ratio(new: &[f64], old: &[f64]) -> Option<Interval> {
    if new.len() < MIN_RUNS || old.len() < MIN_RUNS {
        return None;
    }
    let (y, x) = (mean(new), mean(old));
    let (h_y, h_x) = (mean_half_width(new), mean_half_width(old));
    let (a, b, c) = (x * x - h_x * h_x, x * y, y * y - h_y * h_y);
    if a <= 0.0 {
        return None;
    }
    let root = (b * b - a * c).max(0.0).sqrt();
    Some(Interval { estimate: y / x, low: (b - root) / a, high: (b + root) / a })
}

/// Resamples of a bootstrap.
const RESAMPLES: usize = 1000;

/// An interval of any figure of runs by the bootstrap: runs are drawn with replacement, from each
/// of the sets apart, `figure` is worked out of what was drawn, and the interval lies between two
/// quantiles of what it gave.
///
/// The plain quantiles of 2.5 and 97.5 % make it too narrow where runs are few, by the factor that
/// the t distribution is wider than the normal one and n larger than n - 1; so they are moved out
/// by it ([Hesterberg 2015], "expanded percentile interval").
///
/// `figure` gets the numbers of the runs that were drawn, a list for each of `sizes`. `None` of
/// fewer than [`MIN_RESAMPLED`] runs, and where the figure does not exist. The same runs give the
/// same interval: the random numbers are fixed.
///
/// [Hesterberg 2015]: https://doi.org/10.1080/00031305.2015.1089789
pub(crate) fn bootstrap(sizes: &[usize], mut figure: impl FnMut(&[Vec<usize>]) -> Option<f64>) -> Option<Interval> {
    let fewest = sizes.iter().copied().min()?;
    if fewest < MIN_RESAMPLED {
        return None;
    }
    let mut drawn: Vec<Vec<usize>> = sizes.iter().map(|&n| (0..n).collect()).collect();
    let estimate = figure(&drawn)?;
    let mut random = SplitMix::new(2013);
    let mut found = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        for (drawn, &n) in drawn.iter_mut().zip(sizes) {
            drawn.iter_mut().for_each(|run| *run = random.below(n as u64) as usize);
        }
        found.push(figure(&drawn)?);
    }
    found.sort_by(f64::total_cmp);
    let n = fewest as f64;
    let tail = normal_below(-t95(fewest - 1) * (n / (n - 1.0)).sqrt());
    let at = |share: f64| found[((share * RESAMPLES as f64) as usize).min(RESAMPLES - 1)];
    Some(Interval { estimate, low: at(tail), high: at(1.0 - tail) })
}

/// The share of the normal distribution that lies below `x`: Abramowitz and Stegun, 26.2.17, exact
/// to 7.5e-8.
fn normal_below(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let poly =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let beyond = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * poly;
    if x > 0.0 { 1.0 - beyond } else { beyond }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::median;

    #[track_caller]
    fn near(found: f64, expected: f64, within: f64) {
        assert!((found - expected).abs() <= within, "{found}, expected {expected}");
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        near(t95(1), 12.706, 0.0);
        near(t95(9), 2.262, 0.0);
        near(t95(40), 2.0211, 0.0005);
        near(t95(120), 1.9799, 0.0005);
        near(normal_below(-1.96), 0.025, 1e-5);
        near(normal_below(1.0), 0.841_345, 1e-6);
        near(normal_below(0.0), 0.5, 1e-7);
    }

    /// Worked out by hand: 10, 12, 11, 13, 14 have the mean 12 and the variance 2.5; the standard
    /// error is sqrt(0.5), and t of 4 degrees of freedom is 2.776.
    #[test]
    fn an_interval_of_a_mean_by_hand() {
        let found = of_mean(&[10.0, 12.0, 11.0, 13.0, 14.0]).unwrap();
        assert_eq!(found.estimate, 12.0);
        near(found.low, 12.0 - 1.962_93, 1e-4);
        near(found.high, 12.0 + 1.962_93, 1e-4);
        near(found.half_width(), 1.962_93 / 12.0, 1e-5);
        assert_eq!(of_mean(&[1.0, 2.0]), None);
        assert_eq!(of_mean(&[5.0; 4]).unwrap().half_width(), 0.0);
    }

    /// By hand: the old runs have mean 10 and variance 1, the new ones mean 20 and variance 4, five
    /// each. The squares of the half widths are 2.776^2 / 5 = 1.541 24 and 6.164 94, so the
    /// interval is (200 -+ sqrt(200^2 - 98.458 76 x 393.835 06)) / 98.458 76.
    #[test]
    fn an_interval_of_a_ratio_by_hand() {
        let old = [9.0, 9.0, 10.0, 11.0, 11.0];
        let new = old.map(|v| v * 2.0);
        let found = of_ratio(&new, &old).unwrap();
        assert_eq!(found.estimate, 2.0);
        near(found.low, 1.675_66, 1e-3);
        near(found.high, 2.386_97, 1e-3);
        // Ratios of what varies wildly are not known at all.
        assert_eq!(of_ratio(&new, &[0.1, 30.0, -20.0]), None);
        assert_eq!(of_ratio(&new, &old[..2]), None);
    }

    /// Runs that are all alike have an interval without width; of two values the ends are values.
    #[test]
    fn a_bootstrap_draws_what_is_there() {
        let runs = [3.0, 3.0, 3.0, 3.0, 3.0];
        let of =
            |runs: &[f64], drawn: &[Vec<usize>]| Some(mean(&drawn[0].iter().map(|&i| runs[i]).collect::<Vec<_>>()));
        let found = bootstrap(&[5], |drawn| of(&runs, drawn)).unwrap();
        assert_eq!((found.low, found.estimate, found.high), (3.0, 3.0, 3.0));
        let runs = [1.0, 1.0, 1.0, 9.0, 9.0, 9.0];
        let found = bootstrap(&[6], |drawn| of(&runs, drawn)).unwrap();
        assert!(found.low >= 1.0 && found.low < 4.0 && found.estimate == 5.0, "{found:?}");
        assert!(found.high <= 9.0 && found.high > 6.0, "{found:?}");
        assert_eq!(bootstrap(&[6], |drawn| of(&runs, drawn)), Some(found), "the same runs, the same interval");
        assert_eq!(bootstrap(&[4], |drawn| of(&runs, drawn)), None);
        assert_eq!(bootstrap(&[6], |_| None), None);
    }

    /// Normal ones with that mean and standard deviation (Box and Muller).
    fn normal(random: &mut SplitMix, mean: f64, deviation: f64) -> f64 {
        let mut uniform = || (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let (u, v) = (1.0 - uniform(), uniform());
        mean + deviation * (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
    }

    /// How many of 100 sessions of ten runs have an interval with the true value in it.
    fn coverage(sessions: usize, truth: f64, mut session: impl FnMut(&mut SplitMix) -> Interval) -> f64 {
        let mut random = SplitMix::new(7);
        let covered = (0..sessions).filter(|_| {
            let found = session(&mut random);
            (found.low..=found.high).contains(&truth)
        });
        covered.count() as f64 * 100.0 / sessions as f64
    }

    #[test]
    fn a_mean_s_interval_covers_the_truth_in_95_of_100_sessions() {
        let runs = |random: &mut SplitMix| (0..10).map(|_| normal(random, 100.0, 5.0)).collect::<Vec<_>>();
        let found = coverage(4000, 100.0, |random| of_mean(&runs(random)).unwrap());
        // The standard error of 4000 sessions is 0.34.
        near(found, 95.0, 1.1);
        // Skewed runs: log-normal with a deviation of 0.3, whose mean is e^0.045.
        let skewed = |random: &mut SplitMix| (0..10).map(|_| normal(random, 0.0, 0.3).exp()).collect::<Vec<_>>();
        let found = coverage(4000, 0.045f64.exp(), |random| of_mean(&skewed(random)).unwrap());
        near(found, 94.5, 2.0);
    }

    #[test]
    fn a_ratio_s_interval_covers_the_truth_in_95_of_100_sessions() {
        let found = coverage(4000, 1.25, |random| {
            let old: Vec<f64> = (0..10).map(|_| normal(random, 4.0, 0.4)).collect();
            let new: Vec<f64> = (0..10).map(|_| normal(random, 5.0, 0.1)).collect();
            of_ratio(&new, &old).unwrap()
        });
        near(found, 95.3, 1.3);
    }

    /// Of ten runs; the plain percentile interval covers 90.
    #[test]
    fn a_bootstrap_s_interval_covers_the_truth_in_95_of_100_sessions() {
        let found = coverage(600, 1.0, |random| {
            let old: Vec<f64> = (0..10).map(|_| normal(random, 8.0, 0.8)).collect();
            let new: Vec<f64> = (0..10).map(|_| normal(random, 8.0, 0.8)).collect();
            let of = |runs: &[f64], drawn: &[usize]| mean(&drawn.iter().map(|&i| runs[i]).collect::<Vec<_>>());
            bootstrap(&[10, 10], |drawn| Some(of(&new, &drawn[0]) / of(&old, &drawn[1]))).unwrap()
        });
        near(found, 95.5, 2.5);
        let medians = coverage(600, 0.0f64.exp(), |random| {
            let runs: Vec<f64> = (0..10).map(|_| normal(random, 0.0, 0.3).exp()).collect();
            bootstrap(&[10], |drawn| Some(median(drawn[0].iter().map(|&i| runs[i])))).unwrap()
        });
        near(medians, 96.0, 3.0);
    }
}
