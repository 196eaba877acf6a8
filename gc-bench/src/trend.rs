//! Whether figures rise or fall in time: over the repeats of a session, or over the quarters of a
//! run.
//!
//! Runs that get slower one after another are not repeats of one thing (a processor that heats up,
//! a neighbour that grows), and a run whose last quarter is slower than its first was not warmed
//! up, or its heap wears. The test is Mann and Kendall's: of all pairs of values, how many rise,
//! less how many fall. Its distribution where there is no trend is counted out, not approximated:
//! ten repeats are few. Several series (the quarters of each run) add up, as the seasons of Hirsch,
//! Slack and Smith do ([Water Resources Research 18, 1982]).
//!
//! [Water Resources Research 18, 1982]: https://doi.org/10.1029/WR018i001p00107

use serde::{Deserialize, Serialize};

/// A trend that chance hardly explains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trend {
    /// By how much the figures change from the first to the last, as a share of their mean.
    pub(crate) change: f64,
    /// How probable such an order, or a clearer one, is where there is no trend.
    pub(crate) p: f64,
}

/// A trend is flagged from here on.
pub(crate) const P: f64 = 0.02;
/// And if it changes the figure by at least this share.
pub(crate) const CHANGE: f64 = 0.01;

/// The pairs that rise less the pairs that fall.
fn score(series: &[f64]) -> i64 {
    let pairs = (0..series.len()).flat_map(|i| (i + 1..series.len()).map(move |j| (i, j)));
    pairs.map(|(i, j)| (series[j].total_cmp(&series[i])) as i64).sum()
}

/// How many of all orders of `n` values have how many falling pairs, as shares: entry `k` is of `k`
/// of them.
fn orders(n: usize) -> Vec<f64> {
    let mut shares = vec![1.0];
    for m in 2..=n {
        // The m-th value may stand at any of m places, and makes 0 to m - 1 pairs fall.
        let mut next = vec![0.0; shares.len() + m - 1];
        for (k, share) in shares.iter().enumerate() {
            next[k..k + m].iter_mut().for_each(|to| *to += share / m as f64);
        }
        shares = next;
    }
    shares
}

/// How often the scores of so many series differ from 0 at least as much as `score`, where there is
/// no trend.
fn probability(lengths: &[usize], score: i64) -> f64 {
    let (mut shares, mut pairs) = (vec![1.0], 0);
    for &n in lengths {
        let one = orders(n);
        let mut both = vec![0.0; shares.len() + one.len() - 1];
        for (i, a) in shares.iter().enumerate() {
            for (j, b) in one.iter().enumerate() {
                both[i + j] += a * b;
            }
        }
        shares = both;
        pairs += (n * n.saturating_sub(1) / 2) as i64;
    }
    let at_least = |k: &usize| (pairs - 2 * *k as i64).abs() >= score.abs();
    (0..shares.len()).filter(at_least).map(|k| shares[k]).sum::<f64>().min(1.0)
}

/// The change over a series by the slope of Theil and Sen: the median of the slopes of all pairs.
fn change(series: &[f64]) -> f64 {
    let mean = crate::interval::mean(series);
    if series.len() < 2 || mean == 0.0 {
        return 0.0;
    }
    let pairs = (0..series.len()).flat_map(|i| (i + 1..series.len()).map(move |j| (i, j)));
    let slope = crate::stats::median(pairs.map(|(i, j)| (series[j] - series[i]) / (j - i) as f64));
    slope * (series.len() - 1) as f64 / mean
}

/// The trend that all the series have, each in the order of time; `None` where there is none that
/// is clear ([`P`]) and large ([`CHANGE`]) enough to be flagged.
pub(crate) fn of(series: &[Vec<f64>]) -> Option<Trend> {
    let lengths: Vec<usize> = series.iter().map(Vec::len).collect();
    let p = probability(&lengths, series.iter().map(|one| score(one)).sum());
    let changes: Vec<f64> = series.iter().map(|one| change(one)).collect();
    let change = crate::interval::mean(&changes);
    (p < P && change.abs() >= CHANGE).then_some(Trend { change, p })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix;

    #[test]
    fn orders_are_counted() {
        // Of the 6 orders of three, 1, 2, 2 and 1 have 0, 1, 2 and 3 falling pairs.
        let three = orders(3);
        let expected = [1.0, 2.0, 2.0, 1.0].map(|n| n / 6.0);
        assert!(three.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{three:?}");
        assert_eq!((score(&[1.0, 2.0, 3.0]), score(&[3.0, 1.0, 2.0]), score(&[1.0, 1.0])), (3, -1, 0));
        // By hand: all ten of five rise or all fall in 2 of 120 orders; of two series of four, all
        // twelve in 2 of 576.
        assert!((probability(&[5], 10) - 2.0 / 120.0).abs() < 1e-12);
        assert!((probability(&[4, 4], -12) - 2.0 / 576.0).abs() < 1e-12);
        assert!((probability(&[5], 0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_trend_is_flagged_where_it_is_clear_and_large() {
        let rising: Vec<f64> = (0..6).map(|i| 100.0 + 2.0 * f64::from(i)).collect();
        let found = of(std::slice::from_ref(&rising)).unwrap();
        assert!((found.change - 10.0 / 105.0).abs() < 1e-12 && (found.p - 2.0 / 720.0).abs() < 1e-12, "{found:?}");
        assert_eq!(of(&[rising[..4].to_vec()]), None, "four in order are chance");
        assert_eq!(of(&[rising.iter().map(|v| v / 100.0 + 100.0).collect()]), None, "a change that nobody notices");
        // Quarters of five runs that each fall.
        let falling = vec![vec![4.0, 3.9, 3.8, 3.7]; 5];
        assert!(of(&falling).is_some_and(|trend| trend.change < -0.07));
        assert_eq!(of(&[vec![], vec![1.0]]), None);
    }

    #[test]
    fn no_trend_is_flagged_more_often_than_promised() {
        let mut random = SplitMix::new(5);
        let flagged = (0..2000).filter(|_| {
            let series: Vec<f64> = (0..10).map(|_| 100.0 + (random.next() % 1000) as f64).collect();
            of(&[series]).is_some()
        });
        let share = flagged.count() as f64 / 2000.0;
        assert!(share <= P + 0.01 && share > 0.0, "{share}");
    }
}
