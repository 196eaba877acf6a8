//! What a reader gets: one table, one JSON document, one page.

pub(crate) mod causes;
pub(crate) mod curve;
pub(crate) mod data;
pub(crate) mod environment;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod kinds;
pub(crate) mod markdown;
pub(crate) mod plot;
pub(crate) mod primitives;
pub(crate) mod svg;
pub(crate) mod table;

use crate::configuration::Configuration;
use crate::interval::{Interval, bootstrap, mean};
use crate::record::Record;
use crate::results::Document;
use crate::size::{short, three};
use crate::trend::Trend;

/// The repeats of one workload with the same settings, in the order of the runs.
pub(crate) struct Group<'a> {
    pub(crate) label: String,
    /// The collector's name.
    collector: String,
    pub(crate) runs: Vec<&'a Record>,
    /// What the runs give together.
    pub(crate) figures: &'a Configuration,
}

/// Puts repeats together, in the order in which the configurations were asked for.
pub(crate) fn groups(document: &Document) -> Vec<Group<'_>> {
    let of = |label: &str| document.runs.iter().filter(|run| run.settings.label() == label).collect::<Vec<_>>();
    let groups = document.configurations.iter().map(|figures| {
        let runs = of(&figures.label);
        let collector = runs[0].settings.heap.collector();
        Group { label: figures.label.clone(), collector, runs, figures }
    });
    groups.collect()
}

/// What a reader must know beside the table, a sentence each.
pub(crate) fn notes(document: &Document) -> Vec<String> {
    let mut notes = Vec::new();
    for run in document.runs.iter().filter(|r| r.noisy()) {
        let (label, repeat, share) = (run.settings.label(), run.repeat, three(run.other_cpu_percent));
        notes.push(format!(
            "other processes used {share} % of a processor during {label} (repeat {repeat}): read it with care"
        ));
    }
    let trend = |of: &Configuration, trend: Option<Trend>, over: &str| {
        trend.map(|Trend { change, p }| {
            let (way, change) = (if change < 0.0 { "fall" } else { "rise" }, three(change.abs() * 100.0));
            format!("{}: {over} {way} by {change} % (chance explains it with p = {p:.2e})", of.label)
        })
    };
    for of in &document.configurations {
        notes.extend(trend(of, of.trends.repeats, "operations a second, from the first repeat to the last,"));
        notes.extend(trend(of, of.trends.quarters, "allocations, from the first quarter of a run to the last,"));
    }
    notes.extend(document.sweep.iter().flat_map(|swept| swept.notes(&document.order.configurations)));
    if let Some(until) = document.order.until.as_ref().filter(|until| !until.reached) {
        let (wanted, widest) = (short(until.half_width * 100.0), three(until.widest * 100.0));
        notes.push(format!("the session ended before all intervals were {wanted} % to either side: one is {widest} %"));
    }
    notes
}

/// Groups that did the same work, each with a barrier of its own, in the order of the runs.
pub(crate) struct Work<'a> {
    pub(crate) name: String,
    pub(crate) groups: Vec<Group<'a>>,
}

/// The works of a session that compares barriers; none where each work was done with one.
pub(crate) fn by_barrier(document: &Document) -> Vec<Work<'_>> {
    let works = works(document);
    if works.iter().any(|work| work.groups.len() > 1) { works } else { Vec::new() }
}

/// Every work of a session.
pub(crate) fn works(document: &Document) -> Vec<Work<'_>> {
    let mut works: Vec<Work<'_>> = Vec::new();
    for group in groups(document) {
        let name = group.runs[0].settings.work_label();
        match works.iter_mut().find(|work| work.name == name) {
            Some(work) => work.groups.push(group),
            None => works.push(Work { name, groups: vec![group] }),
        }
    }
    works
}

impl Group<'_> {
    /// The mean of a figure over those repeats that have it; `None` where none has.
    pub(crate) fn mean_some(&self, figure: impl Fn(&Record) -> Option<f64>) -> Option<f64> {
        let some: Vec<f64> = self.runs.iter().filter_map(|run| figure(run)).collect();
        (!some.is_empty()).then(|| mean(&some))
    }

    /// The least of a figure over those repeats that have it.
    pub(crate) fn least_some(&self, figure: impl Fn(&Record) -> Option<f64>) -> Option<f64> {
        self.runs.iter().filter_map(|run| figure(run)).min_by(f64::total_cmp)
    }

    /// The barrier's name, and of the baseline how many threads collect.
    pub(crate) fn barrier(&self) -> &str {
        &self.collector
    }

    /// The mean of a figure over the repeats.
    pub(crate) fn mean(&self, figure: impl Fn(&Record) -> f64) -> f64 {
        mean(&self.runs.iter().map(|r| figure(r)).collect::<Vec<_>>())
    }

    /// The mean of a whole figure, as one.
    pub(crate) fn mean_u64(&self, figure: impl Fn(&Record) -> u64) -> u64 {
        self.mean(|r| figure(r) as f64).round() as u64
    }

    /// The largest of a figure.
    pub(crate) fn most(&self, figure: impl Fn(&Record) -> u64) -> u64 {
        self.runs.iter().map(|r| figure(r)).max().unwrap_or(0)
    }

    /// Whether its runs are of another build of this program.
    pub(crate) fn is_other_build(&self) -> bool {
        self.runs.iter().any(|run| run.settings.heap.against.is_some())
    }

    /// Whether the other did the same with another build.
    pub(crate) fn is_the_other_build_of(&self, other: &Self) -> bool {
        let same = |of: &Self| {
            let mut plan = of.runs[0].settings.clone();
            (plan.heap.against, plan.repeat) = (None, 1);
            plan
        };
        self.is_other_build() != other.is_other_build() && same(self) == same(other)
    }

    /// Whether it is of another runtime: then nothing is known of what this project's heap says.
    pub(crate) fn is_peer(&self) -> bool {
        self.runs.iter().any(|run| run.barrier.peer().is_some())
    }

    /// The share of all runs' gaps together that is not accounted for; `None` where there is no
    /// gap, or no account.
    pub(crate) fn not_accounted(&self) -> Option<f64> {
        let all: Vec<usize> = (0..self.runs.len()).collect();
        self.not_accounted_of(&all)
    }

    /// The interval of [`not_accounted`](Self::not_accounted): a few runs may have most of it.
    pub(crate) fn not_accounted_interval(&self) -> Option<Interval> {
        bootstrap(&[self.runs.len()], |drawn| self.not_accounted_of(&drawn[0]))
    }

    fn not_accounted_of(&self, runs: &[usize]) -> Option<f64> {
        if self.is_peer() {
            return None;
        }
        let sum = |of: fn(&Record) -> u64| runs.iter().map(|&run| of(self.runs[run])).sum::<u64>();
        let (ns, gaps_ns) = (sum(|r| r.not_accounted.ns), sum(|r| r.gaps.total_ns));
        (gaps_ns > 0).then(|| ns as f64 / gaps_ns as f64)
    }

    /// The run in the middle by wall time: where one run must stand for all, as in a plot over
    /// time.
    pub(crate) fn middle(&self) -> &Record {
        let mut by_time = self.runs.clone();
        by_time.sort_by(|a, b| a.wall_s.total_cmp(&b.wall_s));
        by_time[(by_time.len() - 1) / 2]
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use crate::built::Build;
    use crate::collector::Collector;
    use crate::environment::Environment;
    use crate::lost::{Kind, Lost, Times};
    use crate::machine::{Kernel, Machine};
    use crate::record::{Head, Record, samples::record};
    use crate::results::{Document, Order};

    /// Of a quiet machine, and of a build that is known.
    pub(crate) fn head() -> Head {
        let now = Head::now(crate::record::RUNS);
        let build = Build { revision: "0123456789abcdef".into(), dirty: Some(false), ..Build::default() };
        let processors = || "0-1".to_owned();
        let environment = Environment { online: processors(), affinity: processors(), ..Environment::default() };
        Head {
            profile: "release".into(),
            command: vec!["gc-bench".into(), "run".into()],
            machine: Machine { virtual_machine: false, ..now.machine },
            kernel: Kernel { clocksource: "tsc".into(), ..now.kernel },
            build,
            environment,
            ..now
        }
    }

    /// A report of some runs.
    pub(crate) fn of_runs(runs: Vec<Record>) -> Document {
        let mut configurations: Vec<String> = Vec::new();
        for run in &runs {
            let label = run.settings.label();
            if !configurations.contains(&label) {
                configurations.push(label);
            }
        }
        let number = |run: &Record| configurations.iter().position(|label| *label == run.settings.label()).unwrap();
        let order = Order { seed: 7, runs: runs.iter().map(number).collect(), configurations, until: None };
        Document::new(head(), vec![], order, runs)
    }

    /// A made-up report.
    pub(crate) fn document() -> Document {
        of_runs(["gcbench", "message-ring"].iter().flat_map(|w| (1..=3).map(|i| record(w, i))).collect())
    }

    /// The same work with three barriers, three times each.
    pub(crate) fn barriers() -> Document {
        let mut runs = document().runs;
        runs.truncate(3);
        let load = runs.clone();
        for (barrier, share) in [(Collector::PAGE, 0.03), (Collector::STW, 0.0)] {
            for mut run in load.clone() {
                run.barrier = barrier;
                run.settings.heap.barrier = barrier;
                let times = Times {
                    timed: 4_000,
                    clock_ns: 0.0,
                    p50_ns: 2_100,
                    p99_ns: 6_000,
                    max_ns: 70_000,
                    total_ns: 9_000_000,
                    total_low_ns: 9_000_000,
                    total_high_ns: 9_000_000,
                    share_of_wall: share,
                };
                let faults = (barrier == Collector::PAGE).then_some(Kind { count: 4_000, times: Some(times) });
                run.lost = Lost { faults, slow_paths: None };
                run.histograms.slow_paths.clear();
                if faults.is_some() {
                    run.histograms.faults = vec![(2_100, 3_900), (6_000, 99), (70_000, 1)];
                }
                runs.push(run);
            }
        }
        of_runs(runs)
    }

    #[test]
    fn the_same_work_is_told_from_other_work() {
        assert!(super::by_barrier(&document()).is_empty(), "nothing to compare");
        let document = barriers();
        let works = super::by_barrier(&document);
        assert_eq!((works.len(), works[0].name.as_str()), (1, "gcbench"));
        let names: Vec<_> = works[0].groups.iter().map(|g| (g.barrier(), g.runs.len())).collect();
        assert_eq!(names, [("load", 3), ("page", 3), ("stw", 3)]);
    }

    #[test]
    fn repeats_are_one_group_and_its_middle_one_is_found() {
        let document = document();
        let groups = super::groups(&document);
        assert_eq!(
            groups.iter().map(|g| (g.label.as_str(), g.runs.len())).collect::<Vec<_>>(),
            [("gcbench", 3), ("message-ring", 3)]
        );
        assert_eq!(groups[0].middle().repeat, 2);
        assert_eq!(groups[0].mean(|r| r.wall_s), 4.0);
        assert_eq!(groups[0].mean_u64(|r| r.pauses.count), 59);
        assert_eq!(groups[0].most(|r| r.repeat), 3);
    }

    /// A run with 1 ms of gaps, all of it unknown, and one with 99 ms that are all known: 1 % of
    /// 100 ms, and not half.
    #[test]
    fn what_is_not_accounted_for_is_of_all_gaps_together() {
        let mut runs = document().runs;
        runs.truncate(2);
        for (run, gaps_ns, ns) in [(0, 1_000_000, 1_000_000), (1, 99_000_000, 0)] {
            runs[run].gaps.total_ns = gaps_ns;
            (runs[run].not_accounted.ns, runs[run].not_accounted.share) = (ns, ns as f64 / gaps_ns as f64);
        }
        let of = |runs: &[crate::record::Record]| super::groups(&of_runs(runs.to_vec()))[0].not_accounted();
        assert_eq!(of(&runs), Some(0.01));
        runs.iter_mut().for_each(|run| run.gaps.total_ns = 0);
        assert_eq!(of(&runs), None);
    }

    /// Of ten runs one has all that is not accounted for: without it there is none.
    #[test]
    fn what_is_not_accounted_for_in_one_run_may_be_none() {
        let runs = (1..=10).map(|repeat| {
            let mut run = crate::record::samples::record("gcbench", repeat);
            run.gaps.total_ns = 100;
            run.not_accounted.ns = if repeat == 4 { 90 } else { 0 };
            run
        });
        let document = of_runs(runs.collect());
        let found = super::groups(&document)[0].not_accounted_interval().unwrap();
        assert_eq!((found.estimate, found.low), (0.09, 0.0));
        assert!(found.high >= 0.18 && found.high < 0.5, "{found:?}");
    }

    #[test]
    fn groups_stand_as_they_were_asked_for_and_not_as_they_were_run() {
        let mut runs = document().runs;
        runs.reverse();
        let mut document = of_runs(runs.clone());
        document.order.configurations.reverse();
        let document = crate::results::Document::new(head(), vec![], document.order, runs);
        let labels: Vec<_> = super::groups(&document).into_iter().map(|g| g.label).collect();
        assert_eq!(labels, ["gcbench", "message-ring"]);
    }

    #[test]
    fn what_a_reader_must_know_is_said() {
        let mut document = document();
        assert_eq!(super::notes(&document), [""; 0]);
        let trend = crate::trend::Trend { change: -0.034, p: 0.0028 };
        document.configurations[1].trends.repeats = Some(trend);
        document.order.until = Some(crate::results::Outcome { half_width: 0.02, widest: 0.0312, reached: false });
        let notes = super::notes(&document);
        assert!(notes[0].starts_with("message-ring: operations") && notes[0].contains("fall by 3.40 %"), "{notes:?}");
        assert!(notes[1].contains("2 % to either side: one is 3.12 %"), "{notes:?}");
    }
}
