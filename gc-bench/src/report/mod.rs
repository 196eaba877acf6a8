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

impl Group<'_> {
    /// The median of a figure over the repeats.
    pub(crate) fn median(&self, figure: impl Fn(&Record) -> f64) -> f64 {
        median(self.runs.iter().map(|r| figure(r)))
    }

    /// The median of a whole figure, as one.
    pub(crate) fn median_u64(&self, figure: impl Fn(&Record) -> u64) -> u64 {
        self.median(|r| figure(r) as f64).round() as u64
    }

    /// The run in the middle by wall time: where one run must stand for all, as in a plot over time.
    pub(crate) fn middle(&self) -> &Record {
        let mut by_time = self.runs.clone();
        by_time.sort_by(|a, b| a.wall_s.total_cmp(&b.wall_s));
        by_time[(by_time.len() - 1) / 2]
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use crate::record::{Document, Head, samples::record};

    pub(crate) fn head() -> Head {
        Head { profile: "release".into(), command: vec!["gc-bench".into(), "run".into()], ..Head::now() }
    }

    /// A made-up report.
    pub(crate) fn document() -> Document {
        Document {
            head: head(),
            left_out: vec![],
            runs: ["gcbench", "message-ring"].iter().flat_map(|w| (1..=3).map(|i| record(w, i))).collect(),
        }
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
