//! All runs of one configuration (a workload, its settings, a collector) summed up, and compared
//! with the same work's first collector.

use serde::{Deserialize, Serialize};

use crate::interval::{self, mean};
use crate::metered::Metered;
use crate::pooled::{Figure, Merged, P50, P99, P999, Pooled};
use crate::record::{Bucket, Record};
use crate::trend::{self, Trend};

/// What the runs of a configuration gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Configuration {
    /// As in the table, such as `gcbench, page`.
    pub(crate) label: String,
    pub(crate) runs: u64,
    /// Means over the runs.
    pub(crate) wall_s: Figure,
    pub(crate) cpu_s: Figure,
    pub(crate) ops_per_s: Figure,
    pub(crate) cpu_ns_per_op: Figure,
    /// The samples of all runs together.
    pub(crate) pauses: Pooled,
    pub(crate) safepoint: Pooled,
    pub(crate) stalls: Pooled,
    pub(crate) latency: Pooled,
    /// Latency from due arrivals, by window.
    pub(crate) metered: Metered<Pooled>,
    pub(crate) faults: Pooled,
    pub(crate) slow_paths: Pooled,
    /// How much more or less than the first collector that did the same work.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) against: Option<Against>,
    /// Trends that chance hardly explains.
    pub(crate) trends: Trends,
}

/// Ratios of this configuration's figures to another's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Against {
    /// The other one's label.
    pub(crate) label: String,
    pub(crate) ops_per_s: Figure,
    pub(crate) cpu_ns_per_op: Figure,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) latency_p50: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) latency_p99: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) latency_p999: Option<Figure>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trends {
    /// Of operations a second, from the first repeat to the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) repeats: Option<Trend>,
    /// Of what is allocated in each quarter of a run, from the first quarter to the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) quarters: Option<Trend>,
}

fn figures(runs: &[&Record], figure: impl Fn(&Record) -> f64) -> Vec<f64> {
    runs.iter().map(|run| figure(run)).collect()
}

pub(crate) fn cpu_ns_per_op(run: &Record) -> f64 {
    run.cpu_s * 1e9 / run.ops.max(1) as f64
}

/// The mean over some runs, with its interval.
fn mean_of(runs: &[&Record], figure: impl Fn(&Record) -> f64) -> Figure {
    let values = figures(runs, figure);
    Figure::new(mean(&values), interval::of_mean(&values))
}

/// The ratio of two means, with its interval.
pub(crate) fn ratio_of(new: &[&Record], old: &[&Record], figure: impl Fn(&Record) -> f64) -> Figure {
    let (new, old) = (figures(new, &figure), figures(old, &figure));
    let below = mean(&old);
    let estimate = if below == 0.0 { 0.0 } else { mean(&new) / below };
    Figure::new(estimate, interval::of_ratio(&new, &old))
}

pub(crate) fn merged(runs: &[&Record], buckets: fn(&Record) -> &[Bucket]) -> Merged {
    Merged::new(runs.iter().map(|run| buckets(run)))
}

fn pooled(runs: &[&Record], buckets: fn(&Record) -> &[Bucket], longest: fn(&Record) -> u64) -> Pooled {
    Pooled::of(&merged(runs, buckets), runs.iter().map(|run| longest(run)))
}

impl Configuration {
    /// Of its runs, in the order in which they were made. `first` is what it is compared with: a
    /// label and runs.
    pub(crate) fn of(label: &str, runs: &[&Record], first: Option<(&str, &[&Record])>) -> Self {
        let longest_lost = |kind: Option<crate::lost::Kind>| kind.and_then(|kind| kind.times).map_or(0, |t| t.max_ns);
        let quarters: Vec<Vec<f64>> = runs.iter().map(|run| run.quarters.clone()).collect();
        Self {
            label: label.to_owned(),
            runs: runs.len() as u64,
            wall_s: mean_of(runs, |r| r.wall_s),
            cpu_s: mean_of(runs, |r| r.cpu_s),
            ops_per_s: mean_of(runs, |r| r.ops_per_s),
            cpu_ns_per_op: mean_of(runs, cpu_ns_per_op),
            pauses: pooled(runs, |r| &r.histograms.pauses, |r| r.pauses.max_ns),
            safepoint: pooled(runs, |r| &r.histograms.safepoint, |r| r.safepoint.max_ns),
            stalls: pooled(runs, |r| &r.histograms.stalls, |r| r.stalls.max_ns),
            latency: pooled(runs, |r| &r.histograms.latency, |r| r.latency.max_ns),
            metered: Metered {
                ms_1: pooled(runs, |r| &r.histograms.metered.ms_1, |r| r.metered.ms_1.max_ns),
                ms_10: pooled(runs, |r| &r.histograms.metered.ms_10, |r| r.metered.ms_10.max_ns),
                ms_100: pooled(runs, |r| &r.histograms.metered.ms_100, |r| r.metered.ms_100.max_ns),
                full: pooled(runs, |r| &r.histograms.metered.full, |r| r.metered.full.max_ns),
            },
            faults: Pooled::of(
                &merged(runs, |r| &r.histograms.faults),
                runs.iter().map(|r| longest_lost(r.lost.faults)),
            ),
            slow_paths: Pooled::of(
                &merged(runs, |r| &r.histograms.slow_paths),
                runs.iter().map(|r| longest_lost(r.lost.slow_paths)),
            ),
            against: first.map(|(label, first)| Against::of(runs, label, first)),
            trends: Trends { repeats: trend::of(&[figures(runs, |r| r.ops_per_s)]), quarters: trend::of(&quarters) },
        }
    }
}

impl Against {
    fn of(runs: &[&Record], label: &str, first: &[&Record]) -> Self {
        let (new, old) = (merged(runs, |r| &r.histograms.latency), merged(first, |r| &r.histograms.latency));
        Self {
            label: label.to_owned(),
            ops_per_s: ratio_of(runs, first, |r| r.ops_per_s),
            cpu_ns_per_op: ratio_of(runs, first, cpu_ns_per_op),
            latency_p50: new.ratio(&old, P50),
            latency_p99: new.ratio(&old, P99),
            latency_p999: new.ratio(&old, P999),
        }
    }
}

/// Every configuration, in the order of `labels`. One is compared with the first that did the same
/// work.
pub(crate) fn all(labels: &[String], records: &[Record]) -> Vec<Configuration> {
    let of = |label: &str| -> Vec<&Record> { records.iter().filter(|r| r.settings.label() == label).collect() };
    let sets: Vec<(&str, Vec<&Record>)> =
        labels.iter().map(|label| (label.as_str(), of(label))).filter(|(_, runs)| !runs.is_empty()).collect();
    let configuration = |(at, (label, runs)): (usize, &(&str, Vec<&Record>))| {
        let work = |runs: &[&Record]| runs[0].settings.work_label();
        let first = sets[..at].iter().find(|(_, others)| work(others) == work(runs));
        Configuration::of(label, runs, first.map(|(label, runs)| (*label, runs.as_slice())))
    };
    sets.iter().enumerate().map(configuration).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::Collector;
    use crate::record::samples::record;

    fn page(repeat: u64) -> Record {
        let mut run = record("gcbench", repeat);
        run.barrier = Collector::PAGE;
        run.settings.heap.barrier = Collector::PAGE;
        run.ops_per_s /= 2.0;
        run
    }

    #[test]
    fn runs_are_summed_up_and_compared_with_the_first_of_their_work() {
        let labels = ["gcbench", "gcbench, page", "message-ring", "table-churn"].map(str::to_owned);
        let mut records: Vec<Record> = (1..=5).flat_map(|i| [page(i), record("gcbench", i)]).collect();
        records.push(record("message-ring", 1));
        records[3].latency.max_ns = 77_000_000;
        let found = all(&labels, &records);
        let shape: Vec<_> = found.iter().map(|c| (c.label.as_str(), c.runs, c.against.is_some())).collect();
        assert_eq!(shape, [("gcbench", 5, false), ("gcbench, page", 5, true), ("message-ring", 1, false)]);
        let against = found[1].against.as_ref().unwrap();
        assert_eq!((against.label.as_str(), against.ops_per_s.estimate), ("gcbench", 0.5));
        assert!(against.ops_per_s.low.is_some() && against.latency_p99.unwrap().low.is_some(), "five runs");
        assert_eq!(against.latency_p99.unwrap().estimate, 1.0);
        assert_eq!(found[0].latency.max_ns, Some(77_000_000), "the worst of all, not a median");
        assert_eq!(found[0].latency.count, 5 * record("gcbench", 1).latency.count);
        assert_eq!((found[2].ops_per_s.estimate, found[2].ops_per_s.low), (2.5e6, None), "one run has no interval");
        assert_eq!(found[0].pauses.p50_ns.map(|p| p.estimate > 0.0), Some(true), "295 pauses");
        assert_eq!((found[0].pauses.p99_ns, found[2].stalls.max_ns), (None, None));
    }

    #[test]
    fn trends_are_flagged() {
        let mut records: Vec<Record> = (1..=6).map(|i| record("gcbench", i)).collect();
        assert_eq!(all(&["gcbench".into()], &records)[0].trends, Trends::default());
        for (i, run) in records.iter_mut().enumerate() {
            run.ops_per_s -= 50_000.0 * i as f64;
            run.quarters = vec![1.00, 1.03, 1.05, 1.09];
        }
        let trends = all(&["gcbench".into()], &records)[0].trends;
        assert!(trends.repeats.is_some_and(|t| t.change < -0.09) && trends.quarters.is_some_and(|t| t.change > 0.08));
    }
}
