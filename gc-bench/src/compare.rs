//! `gc-bench compare`: two builds, or two reports, figure by figure.
//!
//! Runs of one session (`--against`) are compared by pairs: each repeat has both builds within
//! moments, so what a machine's speed does over a session is in both. The ratio is the geometric
//! mean of the pairs' ratios, its interval Student's of their logarithms. Runs of two sessions have
//! no pairs: the ratio is that of the means, the interval Fieller's.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use crate::configuration::cpu_ns_per_op;
use crate::failure::Failure;
use crate::interval::{Interval, MIN_RUNS, mean, of_mean, of_ratio};
use crate::record::Record;
use crate::report::{Group, groups};
use crate::results::Document;
use crate::size::{bytes, nanoseconds, parse_percent, three};

/// `gc-bench compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// One report of a session with --against: the other build is the old one. Or two reports, the
    /// old one first
    #[arg(value_name = "REPORT", num_args = 1..=2, required = true)]
    reports: Vec<PathBuf>,

    /// Exit with code 3 if time or processor time an operation is larger by more than that, such as
    /// 3%, and its interval does not contain 1
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    threshold: Option<f64>,
}

/// A figure of which more is worse.
struct Cost {
    name: &'static str,
    /// Whether `--threshold` looks at it.
    is_judged: bool,
    of: fn(&Record) -> f64,
    text: fn(f64) -> String,
}

const COSTS: [Cost; 6] = [
    Cost {
        name: "time an operation",
        is_judged: true,
        of: |run| if run.ops_per_s > 0.0 { 1e9 / run.ops_per_s } else { 0.0 },
        text: nanoseconds,
    },
    Cost { name: "processor time an operation", is_judged: true, of: cpu_ns_per_op, text: nanoseconds },
    Cost {
        name: "metered over 100 ms, p99.9",
        is_judged: false,
        of: |run| run.metered.ms_100.p999_ns as f64,
        text: nanoseconds,
    },
    Cost {
        name: "metered over 100 ms, worst",
        is_judged: false,
        of: |run| run.metered.ms_100.max_ns as f64,
        text: nanoseconds,
    },
    Cost {
        name: "share of time in gaps",
        is_judged: false,
        of: |run| run.gaps.share,
        text: |share| format!("{} %", three(share * 100.0)),
    },
    Cost {
        name: "peak memory (PSS)",
        is_judged: false,
        of: |run| run.pss_peak_bytes as f64,
        text: |size| bytes(size as u64),
    },
];

/// New over old of paired figures.
fn of_pairs(pairs: &[(f64, f64)]) -> Option<Interval> {
    let logarithms: Vec<f64> =
        pairs.iter().filter(|(old, new)| *old > 0.0 && *new > 0.0).map(|(old, new)| (new / old).ln()).collect();
    let Interval { estimate, low, high } = of_mean(&logarithms).filter(|_| logarithms.len() == pairs.len())?;
    Some(Interval { estimate: estimate.exp(), low: low.exp(), high: high.exp() })
}

/// What is compared: the same work on the same heap.
struct Pair<'a> {
    label: String,
    old: Vec<&'a Record>,
    new: Vec<&'a Record>,
    /// Whether both are of one session.
    is_paired: bool,
}

impl Pair<'_> {
    /// Of the two, so many of each as both have.
    fn ratio(&self, of: fn(&Record) -> f64) -> Option<Interval> {
        if self.is_paired {
            let old = |repeat: u64| self.old.iter().find(|run| run.repeat == repeat);
            let pairs: Vec<(f64, f64)> =
                self.new.iter().filter_map(|new| Some((of(old(new.repeat)?), of(new)))).collect();
            return of_pairs(&pairs);
        }
        let values = |runs: &[&Record]| runs.iter().map(|run| of(run)).collect::<Vec<_>>();
        of_ratio(&values(&self.new), &values(&self.old))
    }
}

/// The pairs of one session: each build beside the other.
fn within(document: &Document) -> Vec<Pair<'_>> {
    let (others, own): (Vec<Group<'_>>, Vec<Group<'_>>) = groups(document).into_iter().partition(Group::is_other_build);
    own.into_iter()
        .filter_map(|new| {
            let old = others.iter().find(|old| new.is_the_other_build_of(old))?;
            Some(Pair { label: new.label.clone(), old: old.runs.clone(), new: new.runs.clone(), is_paired: true })
        })
        .collect()
}

/// The pairs of two sessions, and what only one of them has.
fn between<'a>(old: &'a Document, new: &'a Document) -> (Vec<Pair<'a>>, Vec<String>) {
    let (old, new) = (groups(old), groups(new));
    let has = |groups: &[Group<'_>], label: &str| groups.iter().any(|group| group.label == label);
    let mut alone: Vec<String> = Vec::new();
    alone.extend(old.iter().filter(|group| !has(&new, &group.label)).map(|group| group.label.clone()));
    alone.extend(new.iter().filter(|group| !has(&old, &group.label)).map(|group| group.label.clone()));
    let pairs = new.iter().filter_map(|new| {
        let old = old.iter().find(|old| old.label == new.label)?;
        Some(Pair { label: new.label.clone(), old: old.runs.clone(), new: new.runs.clone(), is_paired: false })
    });
    (pairs.collect(), alone)
}

/// What was found: the text, and the figures that are worse than the threshold allows.
struct Verdict {
    text: String,
    worse: Vec<String>,
}

fn judge(pairs: &[Pair<'_>], threshold: Option<f64>) -> Verdict {
    let mut verdict = Verdict { text: String::new(), worse: Vec::new() };
    for pair in pairs {
        let counts = if pair.old.len() == pair.new.len() {
            format!("{} runs each", pair.new.len())
        } else {
            format!("{} old runs, {} new", pair.old.len(), pair.new.len())
        };
        let _ = writeln!(verdict.text, "{} ({counts})", pair.label);
        for cost in &COSTS {
            let of = |runs: &[&Record]| mean(&runs.iter().map(|run| (cost.of)(run)).collect::<Vec<_>>());
            let (old, new, ratio) = (of(&pair.old), of(&pair.new), pair.ratio(cost.of));
            let told = ratio.map_or("-".into(), |ratio| {
                let differs = ratio.low > 1.0 || ratio.high < 1.0;
                let which = match (differs, ratio.estimate > 1.0) {
                    (false, _) => "no difference is seen",
                    (true, true) => "more",
                    (true, false) => "less",
                };
                format!("{} ({} to {}): {which}", three(ratio.estimate), three(ratio.low), three(ratio.high))
            });
            let _ = writeln!(
                verdict.text,
                "  {:<28} {:>10} -> {:>10}   {told}",
                cost.name,
                (cost.text)(old),
                (cost.text)(new)
            );
            let is_worse = |ratio: &Interval| {
                threshold.is_some_and(|most| ratio.estimate > 1.0 + most && ratio.low > 1.0) && cost.is_judged
            };
            if let Some(ratio) = ratio.filter(is_worse) {
                let percent = three((ratio.estimate - 1.0) * 100.0);
                verdict.worse.push(format!("{}: {} is {percent} % more", pair.label, cost.name));
            }
        }
    }
    verdict
}

/// Compares, and says what it found.
pub(crate) fn compare(args: &CompareArgs) -> Result<String, (String, Failure)> {
    let refused = |failure: Failure| (String::new(), failure);
    let documents: Vec<Document> =
        args.reports.iter().map(|path| Document::read(path)).collect::<Result<_, _>>().map_err(refused)?;
    let mut text = String::new();
    let (pairs, alone) = match &documents[..] {
        [old, new] => {
            let machine = |of: &Document| (of.head.machine.clone(), of.head.kernel.release.clone());
            if machine(old) != machine(new) {
                text +=
                    "note: the two reports are of different machines or kernels: a ratio says nothing of the builds\n";
            } else {
                text +=
                    "note: two sessions: the machine may have been slower in one; --against runs both builds in turn\n";
            }
            between(old, new)
        }
        [one, ..] => (within(one), Vec::new()),
        [] => unreachable!("at least one is required"),
    };
    if pairs.is_empty() {
        return Err(refused(Failure::input(match documents.len() {
            1 => "the report has no runs of another build: give a second report, or run with --against PROGRAM",
            _ => "the two reports have no work in common",
        })));
    }
    if pairs.iter().all(|pair| pair.old.len().min(pair.new.len()) < MIN_RUNS) {
        return Err(refused(Failure::input(format!(
            "no work has {MIN_RUNS} runs of both, so there is no interval: use --repeats"
        ))));
    }
    let verdict = judge(&pairs, args.threshold);
    text += &verdict.text;
    for label in alone {
        let _ = writeln!(text, "note: {label} is in one report alone");
    }
    if verdict.worse.is_empty() { Ok(text) } else { Err((text, Failure::Worse(verdict.worse.join("; ")))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples::record;
    use crate::rng::SplitMix;

    /// Twenty pairs on a machine whose speed swings by half; each build adds its own small noise.
    fn swinging(slowdown: f64, seed: u64) -> (Vec<Record>, Vec<Record>) {
        let mut random = SplitMix::new(seed);
        let mut noise = |width: f64| 1.0 + width * (random.below(2001) as f64 / 1000.0 - 1.0);
        let mut runs = (Vec::new(), Vec::new());
        for repeat in 1..=20 {
            let speed = noise(0.5);
            for (to, factor) in [(&mut runs.0, 1.0), (&mut runs.1, slowdown)] {
                let mut run = record("gcbench", repeat);
                run.ops_per_s = 1e6 * speed / (factor * noise(0.02));
                run.cpu_s = run.ops as f64 / run.ops_per_s;
                to.push(run);
            }
        }
        runs
    }

    fn pair<'a>(runs: &'a (Vec<Record>, Vec<Record>), is_paired: bool) -> Pair<'a> {
        Pair { label: "gcbench".into(), old: runs.0.iter().collect(), new: runs.1.iter().collect(), is_paired }
    }

    #[test]
    fn a_slowdown_of_three_percent_is_found_by_pairs_and_none_where_there_is_none() {
        let (mut found, mut false_alarms, mut unpaired) = (0, 0, 0);
        for seed in 0..100 {
            let (slower, same) = (swinging(1.03, seed), swinging(1.0, seed + 1000));
            let worse = |runs: &(Vec<Record>, Vec<Record>), is_paired| {
                u32::from(!judge(&[pair(runs, is_paired)], Some(0.01)).worse.is_empty())
            };
            found += worse(&slower, true);
            false_alarms += worse(&same, true);
            unpaired += worse(&slower, false);
        }
        assert!(found >= 95 && false_alarms <= 3, "{found} of 100 found, {false_alarms} false alarms");
        assert!(unpaired < 50, "{unpaired}: the swings do not hide it, so pairs show nothing");
    }

    /// By hand: ratios 1.1, 1.2, 1.3 have the logarithms 0.09531, 0.18232, 0.26236; mean 0.18000,
    /// deviation 0.08355, t of 2 degrees of freedom 4.303: 0.18 +- 0.20757.
    #[test]
    fn the_interval_is_of_the_logarithms() {
        let ratio = of_pairs(&[(10.0, 11.0), (10.0, 12.0), (100.0, 130.0)]).unwrap();
        let found = [ratio.estimate, ratio.low, ratio.high].map(f64::ln);
        for (found, expected) in found.into_iter().zip([0.17999, -0.02758, 0.38756]) {
            assert!((found - expected).abs() < 1e-4, "{ratio:?}");
        }
        assert_eq!(of_pairs(&[(1.0, 1.0), (1.0, 1.0)]), None, "too few");
        assert_eq!(of_pairs(&[(0.0, 1.0), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0)]), None, "nothing over nothing");
    }
}
