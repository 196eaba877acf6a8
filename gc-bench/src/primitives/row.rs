//! A row of the table: a mechanism, and what it cost or why it could not be measured.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Rows that are measured on the same memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Group {
    /// Taking a populated view away from the program
    TakeAway,
    /// One touch of an absent page, served
    Fault,
    /// Pages let in ahead of the touch, some at a time
    Batch,
    /// Whole chunks of page tables given back
    Chunk,
    /// Second views and views in pieces
    View,
    /// First touches, touches of a second view, huge pages, holes
    Touch,
    /// Memory barriers in other threads
    Barrier,
}

impl Group {
    pub(crate) const ALL: [Self; 7] =
        [Self::TakeAway, Self::Fault, Self::Batch, Self::Chunk, Self::View, Self::Touch, Self::Barrier];

    /// As a reader sees it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::TakeAway => "taking a view away",
            Self::Fault => "serving a touch",
            Self::Batch => "installing pages",
            Self::Chunk => "giving chunks back",
            Self::View => "making views",
            Self::Touch => "touching memory",
            Self::Barrier => "barriers elsewhere",
        }
    }
}

impl Group {
    /// What its rows are compared with, in words.
    pub(crate) fn compared_with(self) -> &'static str {
        match self {
            Self::TakeAway => "mprotect(PROT_NONE) of the same size",
            Self::Fault => "the SIGBUS handler with UFFDIO_CONTINUE",
            Self::Batch => "the same a page at a time",
            Self::Chunk => "MADV_DONTNEED and UFFDIO_CONTINUE of the same size",
            Self::View => "mmap",
            Self::Touch => "the write fault of a second view",
            Self::Barrier => "",
        }
    }
}

/// What a figure is the time of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Per {
    /// The whole call, or the whole touch.
    Call,
    /// A page of 4 KiB: the time of the call over its pages.
    Page,
}

impl Per {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Page => "page",
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) group: Group,
    /// The mechanism.
    pub(crate) what: String,
    /// Bytes that one call was made over; 0 where no range plays a part.
    pub(crate) bytes: u64,
    pub(crate) per: Per,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) ratio: Option<Ratio>,
}

/// The outcome of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum Outcome {
    Measured(Figures),
    /// The kernel or a sandbox refused it.
    Refused {
        why: String,
        since: String,
    },
    /// This machine lacks a resource for it.
    LeftOut {
        why: String,
    },
    /// The process that measured it ended.
    Failed {
        why: String,
    },
}

impl Row {
    /// The figures, if it has any.
    pub(crate) fn figures(&self) -> Option<&Figures> {
        match &self.outcome {
            Outcome::Measured(figures) => Some(figures),
            _ => None,
        }
    }

    /// What became of it, in a word or two; nothing where it was measured.
    pub(crate) fn status(&self) -> &'static str {
        match &self.outcome {
            Outcome::Measured(_) => "",
            Outcome::Refused { .. } => "refused",
            Outcome::LeftOut { .. } => "left out",
            Outcome::Failed { .. } => "failed",
        }
    }

    /// Why there are none.
    pub(crate) fn reason(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Measured(_) => None,
            Outcome::Refused { why, since } if since.is_empty() => Some(format!("refused: {why}")),
            Outcome::Refused { why, since } => Some(format!("refused: {why} (since {since})")),
            Outcome::LeftOut { why } => Some(format!("left out: {why}")),
            Outcome::Failed { why } => Some(format!("failed: {why}")),
        }
    }
}

/// What repeats of one thing took, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) count: u64,
    pub(crate) min_ns: f64,
    pub(crate) p25_ns: f64,
    pub(crate) median_ns: f64,
    pub(crate) p75_ns: f64,
    pub(crate) p99_ns: f64,
    pub(crate) max_ns: f64,
    /// Half of what lies between the quartiles, in percent of the median: how far a repeat is
    /// usually off.
    pub(crate) spread_percent: f64,
}

impl Figures {
    /// Sums samples up; `None` without any. A percentile is the smallest sample that so many do not
    /// exceed.
    pub(crate) fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let n = samples.len();
        let at = |q: f64| samples[((q * n as f64).ceil() as usize).clamp(1, n) - 1];
        let (min, max) = (*samples.first()?, *samples.last()?);
        let (p25, median, p75) = (at(0.25), at(0.5), at(0.75));
        let tenth = |x: f64| (x * 10.0).round() / 10.0;
        Some(Self {
            count: n as u64,
            min_ns: tenth(min),
            p25_ns: tenth(p25),
            median_ns: tenth(median),
            p75_ns: tenth(p75),
            p99_ns: tenth(at(0.99)),
            max_ns: tenth(max),
            spread_percent: if median > 0.0 { tenth((p75 - p25) / 2.0 / median * 100.0) } else { 0.0 },
        })
    }
}

/// A row's median against another's of the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ratio {
    /// The other row's `what`.
    pub(crate) to: String,
    /// This median over that one.
    pub(crate) times: f64,
}

impl Ratio {
    /// `1/220`, `2.1 ×`.
    pub(crate) fn text(&self) -> String {
        if self.times < 0.95 {
            format!("1/{}", crate::size::short(1.0 / self.times))
        } else {
            format!("{} ×", crate::size::short(self.times))
        }
    }
}

/// The rows that others are measured by.
pub(crate) const MPROTECT: &str = "mprotect(PROT_NONE)";
pub(crate) const SIGBUS_CONTINUE: &str = "SIGBUS, UFFDIO_CONTINUE";
pub(crate) const ZAP_AND_CONTINUE: &str = "MADV_DONTNEED, UFFDIO_CONTINUE";
pub(crate) const MMAP_MIRROR: &str = "mirror: mmap";
pub(crate) const MMAP_PIECE: &str = "piece: mmap";
pub(crate) const WRITE_FAULT: &str = "second view: write fault";

/// What a row is compared with: a row of its group, and the bytes of that one's range.
fn reference(row: &Row) -> Option<(String, u64)> {
    let of = |what: &str, bytes: u64| Some((what.to_owned(), bytes));
    match row.group {
        Group::TakeAway => of(MPROTECT, row.bytes),
        Group::Fault => of(SIGBUS_CONTINUE, 4096),
        // With itself, a page at a time.
        Group::Batch => of(&row.what, 4096),
        Group::Chunk => of(ZAP_AND_CONTINUE, row.bytes),
        Group::View if row.what.starts_with("piece") => of(MMAP_PIECE, row.bytes),
        Group::View => of(MMAP_MIRROR, row.bytes),
        Group::Touch if row.per == Per::Page => of(WRITE_FAULT, 4096),
        Group::Touch | Group::Barrier => None,
    }
}

/// Sets each row beside the one it is compared with, where both were measured.
pub(crate) fn compare(rows: &mut [Row]) {
    let ratios: Vec<_> = rows
        .iter()
        .map(|row| {
            let own = row.figures()?;
            let (what, bytes) = reference(row)?;
            let other = rows.iter().find(|r| r.group == row.group && r.what == what && r.bytes == bytes)?;
            if std::ptr::eq(other, row) {
                return None;
            }
            let median = other.figures()?.median_ns;
            let to = if other.what == row.what { "a page at a time".to_owned() } else { what };
            (median > 0.0 && own.median_ns > 0.0).then(|| Ratio { to, times: own.median_ns / median })
        })
        .collect();
    for (row, ratio) in rows.iter_mut().zip(ratios) {
        row.ratio = ratio;
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    fn row(group: Group, what: &str, bytes: u64, per: Per, outcome: Outcome) -> Row {
        Row { group, what: what.into(), bytes, per, outcome, ratio: None }
    }

    fn measured(median: f64) -> Outcome {
        Outcome::Measured(Figures::of((1..=100).map(|i| median * (0.5 + f64::from(i) / 100.0)).collect()).unwrap())
    }

    /// Rows of every kind, compared.
    pub(crate) fn rows() -> Vec<Row> {
        let (call, page) = (Per::Call, Per::Page);
        let refused = || Outcome::Refused { why: "userfaultfd(): not permitted".into(), since: "Linux 4.3".into() };
        let mut rows = vec![
            row(Group::TakeAway, "MREMAP_DONTUNMAP", 64 << 20, call, measured(4_000.0)),
            row(Group::TakeAway, MPROTECT, 64 << 20, call, measured(400_000.0)),
            row(Group::TakeAway, "MREMAP_DONTUNMAP", 1 << 30, call, measured(20_000.0)),
            row(Group::TakeAway, MPROTECT, 1 << 30, call, measured(7_000_000.0)),
            row(Group::TakeAway, "every row", 8 << 30, call, Outcome::LeftOut { why: "no memory".into() }),
            row(Group::Fault, SIGBUS_CONTINUE, 4096, page, refused()),
            row(Group::Batch, "UFFDIO_COPY", 4096, page, measured(900.0)),
            row(Group::Batch, "UFFDIO_COPY", 2 << 20, page, measured(450.0)),
            row(Group::Barrier, "the rest of the group", 0, call, Outcome::Failed { why: "<killed>".into() }),
        ];
        compare(&mut rows);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn figures_are_those_of_the_sorted_samples() {
        let f = Figures::of((1..=1000).rev().map(f64::from).collect()).unwrap();
        assert_eq!((f.count, f.min_ns, f.p25_ns, f.median_ns), (1000, 1.0, 250.0, 500.0));
        assert_eq!((f.p75_ns, f.p99_ns, f.max_ns, f.spread_percent), (750.0, 990.0, 1000.0, 50.0));
        let one = Figures::of(vec![7.0]).unwrap();
        assert_eq!((one.min_ns, one.median_ns, one.p99_ns, one.max_ns, one.spread_percent), (7.0, 7.0, 7.0, 7.0, 0.0));
        assert!(Figures::of(vec![]).is_none());
    }

    #[test]
    fn rows_are_compared_at_the_same_size_and_only_where_both_were_measured() {
        let rows = samples::rows();
        let text = |i: usize| rows[i].ratio.as_ref().map(Ratio::text);
        assert_eq!(text(0).as_deref(), Some("1/100"));
        assert_eq!(text(2).as_deref(), Some("1/350"));
        assert_eq!(text(7).as_deref(), Some("1/2"));
        for i in [1, 3, 4, 5, 6, 8] {
            assert_eq!(text(i), None, "{:?}", rows[i]);
        }
        assert_eq!(Ratio { to: "x".into(), times: 2.5 }.text(), "2.5 ×");
    }

    #[test]
    fn a_row_is_flat_and_says_what_became_of_it() {
        let rows = samples::rows();
        let value = serde_json::to_value(&rows).unwrap();
        assert_eq!(value[0]["status"], "measured");
        assert!(value[0]["median_ns"].is_number() && value[0]["why"] == Value::Null);
        assert_eq!((&value[5]["status"], &value[5]["since"]), (&"refused".into(), &"Linux 4.3".into()));
        assert_eq!((&value[4]["status"], &value[8]["status"]), (&"left_out".into(), &"failed".into()));
        assert_eq!(serde_json::from_value::<Vec<Row>>(value).unwrap(), rows);
        assert_eq!(rows[5].reason().unwrap(), "refused: userfaultfd(): not permitted (since Linux 4.3)");
    }
}
