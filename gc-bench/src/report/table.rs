//! The table on the terminal: a column a workload, a row a figure, medians where there were
//! repeats.

use comfy_table::{Cell, CellAlignment, Table};

use super::{Group, by_barrier, groups};
use crate::lost::{Kind, Times};
use crate::record::{Document, Record};
use crate::size::{bytes, duration, grouped, three};
use crate::stats::Summary;

/// A row: its heading (none where the figure above has it), its name, and the cell of a group.
pub(crate) type Row = (&'static str, &'static str, fn(&Group<'_>) -> String);

fn seconds(s: f64) -> String {
    if s < 0.1 { duration((s * 1e9) as u64) } else { format!("{} s", three(s)) }
}

/// The fastest and the slowest repeat.
fn range(g: &Group<'_>) -> String {
    let all = g.runs.iter().map(|r| r.wall_s);
    let (low, high) = all.fold((f64::MAX, 0f64), |(l, h), v| (l.min(v), h.max(v)));
    format!("{}..{} s", three(low), three(high))
}

fn time(g: &Group<'_>, of: fn(&Record) -> u64) -> String {
    duration(g.median_u64(of))
}

fn rate(per_second: f64) -> String {
    match per_second {
        r if r >= 1e6 => format!("{} M", three(r / 1e6)),
        r if r >= 1e3 => format!("{} k", three(r / 1e3)),
        r => three(r),
    }
}

/// Only where there are repeats.
const RANGE: &str = "range";
/// A figure that the heap does not record for this barrier, or the run was too short for.
const NOT_RECORDED: &str = "-";

/// Every figure that one of these groups has, in its order.
pub(crate) fn rows(groups: &[Group<'_>]) -> impl Iterator<Item = &'static Row> {
    let repeated = groups.iter().any(|g| g.runs.len() > 1);
    let some = |row: &Row| groups.iter().any(|g| row.2(g) != NOT_RECORDED);
    ROWS.iter().filter(move |row| (repeated || row.1 != RANGE) && some(row))
}

fn percent(share: f64) -> String {
    format!("{} %", three(share * 100.0))
}

fn utilisation(g: &Group<'_>, window_ms: u64) -> String {
    g.median_some(|r| r.mmu_at(window_ms)).map_or(NOT_RECORDED.into(), percent)
}

fn measured(g: &Group<'_>, window_ms: u64) -> String {
    g.median_some(|r| r.measured_mmu_at(window_ms)).map_or(NOT_RECORDED.into(), percent)
}

/// A figure of the faults, in words.
fn faults(g: &Group<'_>, of: fn(&Times) -> f64, words: fn(f64) -> String) -> String {
    g.median_some(|r| r.lost.faults?.times.as_ref().map(of)).map_or(NOT_RECORDED.into(), words)
}

/// A figure of the slow paths, in words.
fn slow(g: &Group<'_>, of: fn(&Times) -> f64, words: fn(f64) -> String) -> String {
    g.median_some(|r| r.lost.slow_paths?.times.as_ref().map(of)).map_or(NOT_RECORDED.into(), words)
}

fn count(g: &Group<'_>, of: fn(&Record) -> Option<Kind>) -> String {
    g.median_some(|r| of(r).map(|kind| kind.count as f64)).map_or(NOT_RECORDED.into(), |n| grouped(n.round() as u64))
}

fn nanoseconds(ns: f64) -> String {
    duration(ns as u64)
}

const ROWS: &[Row] = &[
    ("heap", "", |g| bytes(g.runs[0].heap_bytes)),
    ("wall time", "", |g| seconds(g.median(|r| r.wall_s))),
    ("", RANGE, range),
    ("CPU time", "", |g| seconds(g.median(|r| r.cpu_s))),
    ("operations a second", "", |g| rate(g.median(|r| r.ops_per_s))),
    ("peak memory", "committed", |g| bytes(g.median_u64(|r| r.committed_peak_bytes))),
    ("", "PSS", |g| bytes(g.median_u64(|r| r.pss_peak_bytes))),
    ("cycles", "", |g| grouped(g.median_u64(|r| r.cycles))),
    ("pauses", "count", |g| grouped(g.median_u64(|r| r.pauses.count))),
    ("", "p50", |g| time(g, |r| r.pauses.p50_ns)),
    ("", "p99", |g| time(g, |r| r.pauses.p99_ns)),
    ("", "p99.9", |g| time(g, |r| r.pauses.p999_ns)),
    ("", "max", |g| time(g, |r| r.pauses.max_ns)),
    ("", "total", |g| time(g, |r| r.pauses.total_ns)),
    ("to the safepoint", "p99", |g| time(g, |r| r.safepoint.p99_ns)),
    ("", "max", |g| time(g, |r| r.safepoint.max_ns)),
    ("", "total", |g| time(g, |r| r.safepoint.total_ns)),
    ("stalls", "count", |g| grouped(g.median_u64(|r| r.stalls.count))),
    ("", "max", |g| time(g, |r| r.stalls.max_ns)),
    ("", "total", |g| time(g, |r| r.stalls.total_ns)),
    ("faults", "count", |g| count(g, |r| r.lost.faults)),
    ("", "p50", |g| faults(g, |t| t.p50_ns as f64, nanoseconds)),
    ("", "p99", |g| faults(g, |t| t.p99_ns as f64, nanoseconds)),
    ("", "max", |g| faults(g, |t| t.max_ns as f64, nanoseconds)),
    ("", "total", |g| faults(g, |t| t.total_ns as f64, nanoseconds)),
    ("", "share of wall", |g| faults(g, |t| t.share_of_wall, percent)),
    ("slow paths", "count", |g| count(g, |r| r.lost.slow_paths)),
    ("", "p50", |g| slow(g, |t| t.p50_ns as f64, nanoseconds)),
    ("", "p99", |g| slow(g, |t| t.p99_ns as f64, nanoseconds)),
    ("", "max", |g| slow(g, |t| t.max_ns as f64, nanoseconds)),
    ("", "total", |g| slow(g, |t| t.total_ns as f64, nanoseconds)),
    ("", "share of wall", |g| slow(g, |t| t.share_of_wall, percent)),
    ("MMU", "1 ms", |g| utilisation(g, 1)),
    ("", "2 ms", |g| utilisation(g, 2)),
    ("", "5 ms", |g| utilisation(g, 5)),
    ("", "10 ms", |g| utilisation(g, 10)),
    ("", "20 ms", |g| utilisation(g, 20)),
    ("", "50 ms", |g| utilisation(g, 50)),
    ("", "100 ms", |g| utilisation(g, 100)),
    ("measured MMU", "1 ms", |g| measured(g, 1)),
    ("", "2 ms", |g| measured(g, 2)),
    ("", "5 ms", |g| measured(g, 5)),
    ("", "10 ms", |g| measured(g, 10)),
    ("", "20 ms", |g| measured(g, 20)),
    ("", "50 ms", |g| measured(g, 50)),
    ("", "100 ms", |g| measured(g, 100)),
    ("gaps of 1 ms+", "count", |g| grouped(g.median_u64(|r| r.gaps.count))),
    ("", "max", |g| time(g, |r| r.gaps.max_ns)),
    ("", "total", |g| time(g, |r| r.gaps.total_ns)),
    ("", "share of time", |g| percent(g.median(|r| r.gaps.share))),
    ("not accounted", "total", |g| time(g, |r| r.not_accounted.ns)),
    ("", "share of gaps", |g| percent(g.median(|r| r.not_accounted.share))),
    ("latency", "p50", |g| time(g, |r| r.latency.p50_ns)),
    ("", "p99", |g| time(g, |r| r.latency.p99_ns)),
    ("", "p99.9", |g| time(g, |r| r.latency.p999_ns)),
    ("", "p99.99", |g| time(g, |r| r.latency.p9999_ns)),
    ("", "max", |g| time(g, |r| r.latency.max_ns)),
    ("metered, 1 ms", "p50", |g| time(g, |r| r.metered.ms_1.p50_ns)),
    ("", "p99", |g| time(g, |r| r.metered.ms_1.p99_ns)),
    ("", "p99.9", |g| time(g, |r| r.metered.ms_1.p999_ns)),
    ("", "p99.99", |g| time(g, |r| r.metered.ms_1.p9999_ns)),
    ("", "max", |g| time(g, |r| r.metered.ms_1.max_ns)),
    ("metered, 10 ms", "p50", |g| time(g, |r| r.metered.ms_10.p50_ns)),
    ("", "p99", |g| time(g, |r| r.metered.ms_10.p99_ns)),
    ("", "p99.9", |g| time(g, |r| r.metered.ms_10.p999_ns)),
    ("", "p99.99", |g| time(g, |r| r.metered.ms_10.p9999_ns)),
    ("", "max", |g| time(g, |r| r.metered.ms_10.max_ns)),
    ("metered, 100 ms", "p50", |g| time(g, |r| r.metered.ms_100.p50_ns)),
    ("", "p99", |g| time(g, |r| r.metered.ms_100.p99_ns)),
    ("", "p99.9", |g| time(g, |r| r.metered.ms_100.p999_ns)),
    ("", "p99.99", |g| time(g, |r| r.metered.ms_100.p9999_ns)),
    ("", "max", |g| time(g, |r| r.metered.ms_100.max_ns)),
    ("metered, all", "p50", |g| time(g, |r| r.metered.full.p50_ns)),
    ("", "p99", |g| time(g, |r| r.metered.full.p99_ns)),
    ("", "p99.9", |g| time(g, |r| r.metered.full.p999_ns)),
    ("", "p99.99", |g| time(g, |r| r.metered.full.p9999_ns)),
    ("", "max", |g| time(g, |r| r.metered.full.max_ns)),
    ("checksum", "", |g| g.runs[0].checksum.to_string()),
];

fn table() -> Table {
    let mut table = Table::new();
    // One rule below the head: rules between the rows would drown the figures.
    table.load_preset("     ──            ");
    table
}

/// A table with a column a group, under these names.
fn columns(groups: &[Group<'_>], name: impl Fn(&Group<'_>) -> String) -> String {
    let mut table = table();
    let names = groups.iter().map(|g| {
        let repeats = if g.runs.len() > 1 { format!(", median of {}", g.runs.len()) } else { String::new() };
        Cell::new((name(g) + &repeats).replace(", ", "\n")).set_alignment(CellAlignment::Right)
    });
    table.set_header([Cell::new(""), Cell::new("")].into_iter().chain(names));
    for (heading, name, cell) in rows(groups) {
        let cells = groups.iter().map(|g| Cell::new(cell(g)).set_alignment(CellAlignment::Right));
        table.add_row([Cell::new(heading), Cell::new(name)].into_iter().chain(cells));
    }
    table.trim_fmt()
}

/// The report as a table, ready to print; where barriers are compared, one a workload with a column
/// a barrier.
pub(crate) fn text(document: &Document) -> String {
    let groups = groups(document);
    let works = by_barrier(document);
    let mut out = if groups.iter().all(|g| g.runs[0].settings.scaling().is_some()) {
        let mut table = table();
        scaling(&mut table, &groups);
        table.trim_fmt()
    } else if works.is_empty() {
        columns(&groups, |g| g.label.clone())
    } else {
        let tables = works
            .iter()
            .map(|work| format!("{}\n{}", work.name.to_uppercase(), columns(&work.groups, |g| g.barrier().to_owned())));
        tables.collect::<Vec<_>>().join("\n\n")
    };
    out.push('\n');
    for run in document.runs.iter().filter(|r| r.noisy()) {
        let (label, repeat, share) = (run.settings.label(), run.repeat, three(run.other_cpu_percent));
        out += &format!(
            "note: other processes used {share} % of a processor during {label} (repeat {repeat}): read it with care\n"
        );
    }
    out
}

fn scaling(table: &mut Table, groups: &[Group<'_>]) {
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let heads = [
        "live",
        "roots",
        "cycles",
        "pauses",
        "p50",
        "p99",
        "max",
        "safepoint max",
        "stalls",
        "one cycle",
        "metered max",
        "in gaps",
    ];
    table.set_header(heads.map(|h| right(h.into())));
    for g in groups {
        let Some(s) = g.runs[0].settings.scaling() else { continue };
        let pauses = |of: fn(&Summary) -> u64| right(duration(g.median_u64(|r| of(&r.pauses))));
        table.add_row([
            right(bytes(s.live_bytes)),
            right(grouped(s.roots)),
            right(grouped(g.median_u64(|r| r.cycles))),
            right(grouped(g.median_u64(|r| r.pauses.count))),
            pauses(|p| p.p50_ns),
            pauses(|p| p.p99_ns),
            pauses(|p| p.max_ns),
            right(duration(g.median_u64(|r| r.safepoint.max_ns))),
            right(grouped(g.median_u64(|r| r.stalls.count))),
            right(duration((g.median(|r| r.wall_s * 1e9 / (r.cycles.max(1) as f64))) as u64)),
            right(duration(g.median_u64(|r| r.metered.ms_100.max_ns))),
            right(duration(g.median_u64(|r| r.gaps.total_ns))),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{barriers, document};

    #[test]
    fn every_figure_is_in_the_table_and_no_line_is_too_long() {
        let text = text(&document());
        for part in
            ["gcbench", "message-ring", "median of 3", "4.00 s", "3.00..5.00 s", "2.50 M", "148 µs", "-15", "p99.99"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    }

    #[test]
    fn barriers_are_columns_of_one_table_and_what_is_not_recorded_is_a_dash() {
        let text = text(&barriers());
        assert!(text.starts_with("GCBENCH\n"), "{text}");
        let line = |name: &str| {
            text.lines().find(|l| l.trim_start().starts_with(name)).unwrap_or_else(|| panic!("{name} in\n{text}"))
        };
        let cells = |name: &str| line(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(cells("load"), ["load", "page", "stw"]);
        assert_eq!(cells("faults"), ["faults", "count", "-", "4,000", "-"]);
        assert_eq!(cells("slow paths"), ["slow", "paths", "count", "1,234", "-", "-"]);
        let shares: Vec<_> = text.lines().filter(|line| line.contains("share of wall")).collect();
        let shares: Vec<Vec<&str>> = shares.iter().map(|line| line.split_whitespace().skip(3).collect()).collect();
        assert_eq!(shares, [["-", "3.00", "%", "-"], ["0.02", "%", "-", "-"]], "of faults, and of slow paths");
        assert!(text.contains("130 ns") && text.contains("41.0 µs"), "{text}");
        // 0.6 ms of one window, 0.9 of another, 1.5 of one that has both.
        assert_eq!(cells("MMU")[..3], ["MMU", "1", "ms"]);
        assert!(line("MMU").contains("10.0 %") && line("5 ms").contains("70.0 %"), "{text}");
        assert!(!text.lines().any(|line| line.trim_start().starts_with("100 ms")), "no run was that long");
        // By the samples: 2 ms of any 1 or 2 ms, and 2.4 of one that has both.
        assert_eq!(cells("measured MMU"), ["measured", "MMU", "1", "ms", "0.00", "%", "0.00", "%", "0.00", "%"]);
        assert_eq!(cells("gaps of 1 ms+"), ["gaps", "of", "1", "ms+", "count", "1", "1", "1"]);
        assert_eq!(cells("not accounted")[2..5], ["total", "1.10", "ms"]);
    }

    #[test]
    fn a_disturbed_run_is_called_that() {
        let mut document = document();
        assert!(!text(&document).contains("note:"));
        document.runs[1].other_cpu_percent = 31.0;
        assert!(text(&document).contains("31.0 % of a processor during gcbench (repeat 2)"));
    }
}
