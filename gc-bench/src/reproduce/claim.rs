//! What a table of the book shows: a ratio, and the band in which it must come out again.

use crate::configuration::{self, cpu_ns_per_op};
use crate::interval::Interval;
use crate::pooled::P50;
use crate::report::Group;
use crate::size::three;

/// What a ratio is of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Measure {
    /// An operation's.
    Time,
    /// An operation's, of all threads.
    Cpu,
    LongestPause,
    /// Of all runs' pauses together.
    MedianPause,
}

/// The runs of a collector at a work.
pub(super) struct Side {
    pub(super) work: &'static str,
    pub(super) collector: &'static str,
}

/// A ratio of two, and between what it lies.
pub(super) struct Claim {
    pub(super) own: Side,
    pub(super) over: Side,
    pub(super) of: Measure,
    pub(super) band: (f64, f64),
}

/// What came of a ratio.
pub(super) struct Verdict {
    pub(super) told: String,
    pub(super) is_left: bool,
    /// Why it says nothing here, although it lies outside of its band or was not found.
    pub(super) open: Option<String>,
}

impl Verdict {
    /// Of one that was not found.
    pub(super) fn missing() -> Self {
        Self { told: "no figure".into(), is_left: true, open: None }
    }

    /// Of one that could not be made here.
    pub(super) fn not_here(why: &str) -> Self {
        Self { told: format!("no figure, {why}"), is_left: false, open: Some(why.to_owned()) }
    }

    /// Of a ratio that lies outside, or does not; outside it may say nothing.
    pub(super) fn of(told: String, is_outside: bool, undecided: Option<&str>) -> Self {
        match undecided.filter(|_| is_outside) {
            Some(why) => Self { told: format!("{told}, {why}"), is_left: false, open: Some(why.to_owned()) },
            None => Self { told, is_left: is_outside, open: None },
        }
    }
}

/// Beside which the longest pauses and the costs of single calls say nothing.
pub(super) const DISTURBED: &str = "other processes used the machine";

impl Measure {
    fn words(self) -> &'static str {
        match self {
            Self::Time => "time an operation",
            Self::Cpu => "CPU an operation",
            Self::LongestPause => "longest pause",
            Self::MedianPause => "median pause",
        }
    }
}

impl Side {
    /// Its runs, wherever they were made.
    pub(super) fn group<'a>(&self, groups: &'a [Group<'a>]) -> Option<&'a Group<'a>> {
        groups.iter().find(|group| {
            let mut plan = group.runs[0].settings.clone();
            plan.heap.cpus.clear();
            plan.heap.barrier.name() == self.collector && plan.work_label() == self.work
        })
    }
}

impl Claim {
    pub(super) fn words(&self) -> String {
        let Self { own, over, of, .. } = self;
        if own.work == over.work {
            return format!("{}: {}, {} over {}", own.work, of.words(), own.collector, over.collector);
        }
        format!("{} with {}: {} over {}", of.words(), own.collector, own.work, over.work)
    }

    /// The ratio in a report, and its interval.
    fn found(&self, own: &Group<'_>, over: &Group<'_>) -> Option<(f64, Option<Interval>)> {
        let turned = |i: Interval| Interval { estimate: 1.0 / i.estimate, low: 1.0 / i.high, high: 1.0 / i.low };
        match self.of {
            Measure::Cpu => {
                let ratio = configuration::ratio_of(&own.runs, &over.runs, cpu_ns_per_op);
                Some((ratio.estimate, ratio.interval()))
            }
            Measure::Time => {
                let ratio = configuration::ratio_of(&own.runs, &over.runs, |run| run.ops_per_s);
                Some((1.0 / ratio.estimate, ratio.interval().map(turned)))
            }
            Measure::LongestPause => {
                let longest = |group: &Group<'_>| group.figures.pauses.max_ns.map(|ns| ns as f64);
                Some((longest(own)? / longest(over)?, None))
            }
            Measure::MedianPause => {
                let pauses = |group: &Group<'_>| configuration::merged(&group.runs, |run| &run.histograms.pauses);
                let ratio = pauses(own).ratio(&pauses(over), P50)?;
                Some((ratio.estimate, ratio.interval()))
            }
        }
    }

    /// Why the ratio says nothing here: it has no interval, or it is of single pauses, the longest,
    /// and other processes used the machine.
    fn undecided(&self, sides: [&Group<'_>; 2], interval: Option<Interval>) -> Option<&'static str> {
        if self.of != Measure::LongestPause {
            return interval.is_none().then_some("too few runs, or too different ones, for an interval");
        }
        let disturbed = sides.iter().any(|group| group.runs.iter().any(|run| run.noisy()));
        disturbed.then_some(DISTURBED)
    }

    /// Whether the ratio, or all of its interval, lies outside.
    pub(super) fn is_left_by(&self, (ratio, interval): (f64, Option<Interval>)) -> bool {
        let (low, high) = interval.map_or((ratio, ratio), |interval| (interval.low, interval.high));
        high < self.band.0 || low > self.band.1
    }

    /// What came of it in a report, which says whether something was left out.
    pub(super) fn judge(&self, groups: &[Group<'_>], left_out: &[String]) -> Verdict {
        let (Some(own), Some(over)) = (self.own.group(groups), self.over.group(groups)) else {
            let why = "its runs were left out here";
            return if left_out.is_empty() { Verdict::missing() } else { Verdict::not_here(why) };
        };
        let Some((ratio, interval)) = self.found(own, over) else { return Verdict::missing() };
        let ends = interval.map_or(String::new(), |i| format!(" ({} to {})", three(i.low), three(i.high)));
        let undecided = self.undecided([own, over], interval);
        Verdict::of(three(ratio) + &ends, self.is_left_by((ratio, interval)), undecided)
    }
}
