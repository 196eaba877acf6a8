//! What a reader gets: one table, one JSON document, one page.

pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod plot;
pub(crate) mod primitives;
pub(crate) mod svg;
pub(crate) mod table;

use crate::record::{Document, Record};
use crate::stats::median;

/// The repeats of one workload with the same settings, in the order of the runs.
pub(crate) struct Group<'a> {
    pub(crate) label: String,
    pub(crate) runs: Vec<&'a Record>,
}

/// Puts repeats together.
pub(crate) fn groups(document: &Document) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for run in &document.runs {
        let label = run.settings.label();
        match groups.iter_mut().find(|g| g.label == label) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { label, runs: vec![run] }),
        }
    }
    groups
}

/// Groups that did the same work, each with a barrier of its own, in the order of the runs.
pub(crate) struct Work<'a> {
    pub(crate) name: String,
    pub(crate) groups: Vec<Group<'a>>,
}

/// The works of a session that compares barriers; none where each work was done with one.
pub(crate) fn by_barrier(document: &Document) -> Vec<Work<'_>> {
    let mut works: Vec<Work<'_>> = Vec::new();
    for group in groups(document) {
        let name = group.runs[0].settings.work_label();
        match works.iter_mut().find(|work| work.name == name) {
            Some(work) => work.groups.push(group),
            None => works.push(Work { name, groups: vec![group] }),
        }
    }
    if works.iter().any(|work| work.groups.len() > 1) { works } else { Vec::new() }
}

impl Group<'_> {
    /// The median of a figure over those repeats that have it; `None` where none has.
    pub(crate) fn median_some(&self, figure: impl Fn(&Record) -> Option<f64>) -> Option<f64> {
        let some: Vec<f64> = self.runs.iter().filter_map(|run| figure(run)).collect();
        (!some.is_empty()).then(|| median(some))
    }

    /// The barrier's name.
    pub(crate) fn barrier(&self) -> &'static str {
        self.runs[0].barrier.name()
    }

    /// The median of a figure over the repeats.
    pub(crate) fn median(&self, figure: impl Fn(&Record) -> f64) -> f64 {
        median(self.runs.iter().map(|r| figure(r)))
    }

    /// The median of a whole figure, as one.
    pub(crate) fn median_u64(&self, figure: impl Fn(&Record) -> u64) -> u64 {
        self.median(|r| figure(r) as f64).round() as u64
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
    use crate::collector::Collector;
    use crate::lost::{Kind, Lost, Times};
    use crate::record::{Document, Head, samples::record};

    pub(crate) fn head() -> Head {
        Head {
            profile: "release".into(),
            command: vec!["gc-bench".into(), "run".into()],
            ..Head::now(crate::record::RUNS)
        }
    }

    /// A made-up report.
    pub(crate) fn document() -> Document {
        Document {
            head: head(),
            left_out: vec![],
            runs: ["gcbench", "message-ring"].iter().flat_map(|w| (1..=3).map(|i| record(w, i))).collect(),
        }
    }

    /// The same work with three barriers, three times each.
    pub(crate) fn barriers() -> Document {
        let mut document = document();
        document.runs.truncate(3);
        let load = document.runs.clone();
        for (barrier, share) in [(Collector::PAGE, 0.03), (Collector::STW, 0.0)] {
            for mut run in load.clone() {
                run.barrier = barrier;
                run.settings.heap.barrier = barrier;
                let times = Times {
                    timed: 4_000,
                    p50_ns: 2_100,
                    p99_ns: 6_000,
                    max_ns: 70_000,
                    total_ns: 9_000_000,
                    share_of_wall: share,
                };
                let faults = (barrier == Collector::PAGE).then_some(Kind { count: 4_000, times: Some(times) });
                run.lost = Lost { faults, slow_paths: None };
                document.runs.push(run);
            }
        }
        document
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
        assert_eq!(groups[0].median(|r| r.wall_s), 4.0);
        assert_eq!(groups[0].median_u64(|r| r.pauses.count), 59);
    }
}
