//! The table on the terminal: a column a workload, a row a figure. Where there were repeats,
//! percentiles are of all their samples together, a maximum is the worst of all, and what is left
//! are means.

use comfy_table::{Cell, CellAlignment, Table};

use super::environment::{doubts, doubts_of_runs};
use super::{Group, by_barrier, groups, notes};
use crate::collector::Collector;
use crate::configuration::Against;
use crate::lost::{Kind, Times};
use crate::pooled::{Figure, Pooled};
use crate::record::Record;
use crate::results::Document;
use crate::size::{bytes, duration, grouped, three};
use crate::threads::Usage;

/// A row: its heading (none where the figure above has it), its name, and the cell of a group.
pub(crate) type Row = (&'static str, &'static str, fn(&Group<'_>) -> String);

/// Of the stalls, if there are any.
fn throttled(g: &Group<'_>) -> String {
    if g.figures.stalls.max_ns.is_some() { grouped(g.mean_u64(|r| r.throttled)) } else { NONE.to_owned() }
}

fn seconds(s: f64) -> String {
    if s < 0.1 { duration((s * 1e9) as u64) } else { format!("{} s", three(s)) }
}

/// The fastest and the slowest repeat.
fn range(g: &Group<'_>) -> String {
    let all = g.runs.iter().map(|r| r.wall_s);
    let (low, high) = all.fold((f64::MAX, 0f64), |(l, h), v| (l.min(v), h.max(v)));
    format!("{}..{} s", three(low), three(high))
}

/// A percentile of the pooled samples, or their maximum; a dash where there are too few.
fn percentile(figure: Option<Figure>) -> String {
    figure.map_or(NONE.into(), |figure| nanoseconds(figure.estimate))
}

fn longest(pooled: &Pooled) -> String {
    pooled.max_ns.map_or(NONE.into(), duration)
}

/// A sum of samples, as the mean of the runs; a dash where there is no sample.
fn total(g: &Group<'_>, pooled: &Pooled, of: fn(&Record) -> u64) -> String {
    if pooled.count == 0 { NONE.into() } else { duration(g.mean_u64(of)) }
}

/// The ends of an interval, in words.
fn between(figure: Option<Figure>, words: fn(f64) -> String) -> String {
    let interval = figure.and_then(|figure| figure.interval());
    interval.map_or(NONE.into(), |i| format!("{}..{}", words(i.low), words(i.high)))
}

/// A ratio to the first column's figure, with its interval.
fn ratio(g: &Group<'_>, of: fn(&Against) -> Option<Figure>) -> String {
    let Some(figure) = g.figures.against.as_ref().and_then(of) else { return NONE.into() };
    let interval = figure.interval().map(|i| format!(" ({}..{})", three(i.low), three(i.high)));
    three(figure.estimate) + &interval.unwrap_or_default()
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
/// A figure that the heap does not record for this barrier, of which there is no sample or too few,
/// or for which the run was too short.
const NONE: &str = "-";
const INTERVAL: &str = "95 % interval";
const RATIO: &str = "to the first's";

/// Every figure that one of these groups has, in its order. A heading whose first figure none has
/// goes to the next.
pub(crate) fn rows(groups: &[Group<'_>]) -> Vec<Row> {
    let repeated = groups.iter().any(|g| g.runs.len() > 1);
    let (mut rows, mut heading) = (Vec::new(), "");
    for &(own, name, cell) in ROWS {
        if !own.is_empty() {
            heading = own;
        }
        if (repeated || name != RANGE) && groups.iter().any(|g| cell(g) != NONE) {
            rows.push((std::mem::take(&mut heading), name, cell));
        }
    }
    rows
}

fn percent(share: f64) -> String {
    format!("{} %", three(share * 100.0))
}

fn utilisation(g: &Group<'_>, window_ms: u64) -> String {
    g.least_some(|r| r.mmu_at(window_ms)).map_or(NONE.into(), percent)
}

fn measured(g: &Group<'_>, window_ms: u64) -> String {
    g.least_some(|r| r.measured_mmu_at(window_ms)).map_or(NONE.into(), percent)
}

/// A figure of the faults or of the slow paths, the mean of the runs, in words.
fn lost(g: &Group<'_>, kind: fn(&Record) -> Option<Kind>, of: fn(&Times) -> f64, words: fn(f64) -> String) -> String {
    g.mean_some(|r| kind(r)?.times.as_ref().map(of)).map_or(NONE.into(), words)
}

/// The sum of faults or slow paths; a dash where there is none.
fn lost_in_all(g: &Group<'_>, pooled: &Pooled, kind: fn(&Record) -> Option<Kind>) -> String {
    if pooled.count == 0 { NONE.into() } else { lost(g, kind, |t| t.total_ns as f64, nanoseconds) }
}

fn faults(r: &Record) -> Option<Kind> {
    r.lost.faults
}

fn slow_paths(r: &Record) -> Option<Kind> {
    r.lost.slow_paths
}

/// The interval of the mean total: each run's comes from which of its slow paths were timed.
fn sampled(g: &Group<'_>) -> String {
    let times: Vec<Times> = g.runs.iter().filter_map(|r| r.lost.slow_paths?.times).collect();
    if times.iter().all(|t| t.timed == 0) {
        return NONE.into();
    }
    let n = times.len() as f64;
    let side = |of: fn(&Times) -> u64| {
        times.iter().map(|t| (of(t) as f64 - t.total_ns as f64).powi(2)).sum::<f64>().sqrt() / n
    };
    let mean = times.iter().map(|t| t.total_ns as f64).sum::<f64>() / n;
    let (low, high) = (mean - side(|t| t.total_low_ns), mean + side(|t| t.total_high_ns));
    format!("{}..{}", nanoseconds(low), nanoseconds(high))
}

fn count(g: &Group<'_>, kind: fn(&Record) -> Option<Kind>) -> String {
    g.mean_some(|r| kind(r).map(|kind| kind.count as f64)).map_or(NONE.into(), |n| grouped(n.round() as u64))
}

fn nanoseconds(ns: f64) -> String {
    crate::size::nanoseconds(ns.max(0.0))
}

/// Time that threads waited for a processor, where the kernel records it.
fn waited(g: &Group<'_>, role: fn(&Record) -> Usage) -> String {
    g.mean_some(|r| role(r).run_queue_wait_ns.map(|ns| ns as f64)).map_or(NONE.into(), nanoseconds)
}

/// What only a heap of this project says.
fn ours(g: &Group<'_>, cell: impl FnOnce() -> String) -> String {
    if g.is_peer() { NONE.into() } else { cell() }
}

fn switches(g: &Group<'_>, role: fn(&Record) -> Usage) -> String {
    let of = |figure: fn(Usage) -> u64| grouped(g.mean_u64(|r| figure(role(r))));
    ours(g, || format!("{} + {}", of(|u| u.voluntary_switches), of(|u| u.involuntary_switches)))
}

fn page_faults(g: &Group<'_>, role: fn(&Record) -> Usage) -> String {
    ours(g, || grouped(g.mean_u64(|r| role(r).minor_faults + role(r).major_faults)))
}

const ROWS: &[Row] = &[
    ("heap", "", |g| if g.runs[0].settings.heap.has_size() { bytes(g.runs[0].heap_bytes) } else { NONE.into() }),
    ("", "soft maximum", |g| g.runs[0].settings.heap.own.soft_max_bytes.map_or(NONE.into(), bytes)),
    ("wall time", "", |g| seconds(g.figures.wall_s.estimate)),
    ("", RANGE, range),
    ("CPU time", "", |g| seconds(g.figures.cpu_s.estimate)),
    ("", "an operation", |g| nanoseconds(g.figures.cpu_ns_per_op.estimate)),
    ("", INTERVAL, |g| between(Some(g.figures.cpu_ns_per_op), nanoseconds)),
    ("", RATIO, |g| ratio(g, |a| Some(a.cpu_ns_per_op))),
    ("operations a second", "", |g| rate(g.figures.ops_per_s.estimate)),
    ("", INTERVAL, |g| between(Some(g.figures.ops_per_s), rate)),
    ("", RATIO, |g| ratio(g, |a| Some(a.ops_per_s))),
    ("peak memory", "committed", |g| ours(g, || bytes(g.most(|r| r.committed_peak_bytes)))),
    ("", "PSS", |g| bytes(g.most(|r| r.pss_peak_bytes))),
    ("given back", "", |g| some_bytes(g.mean_u64(|r| r.uncommitted_bytes))),
    ("cycles", "", |g| grouped(g.mean_u64(|r| r.cycles))),
    ("pauses", "count", |g| grouped(g.mean_u64(|r| r.pauses.count))),
    ("", "p50", |g| percentile(g.figures.pauses.p50_ns)),
    ("", "p99", |g| percentile(g.figures.pauses.p99_ns)),
    ("", "p99.9", |g| percentile(g.figures.pauses.p999_ns)),
    ("", "max", |g| longest(&g.figures.pauses)),
    ("", "total", |g| total(g, &g.figures.pauses, |r| r.pauses.total_ns)),
    ("to the safepoint", "p99", |g| percentile(g.figures.safepoint.p99_ns)),
    ("", "max", |g| longest(&g.figures.safepoint)),
    ("", "total", |g| total(g, &g.figures.safepoint, |r| r.safepoint.total_ns)),
    ("stalls", "count", |g| ours(g, || grouped(g.mean_u64(|r| r.stalls.count)))),
    ("", "max", |g| longest(&g.figures.stalls)),
    ("", "total", |g| total(g, &g.figures.stalls, |r| r.stalls.total_ns)),
    ("", "throttled", throttled),
    ("faults", "count", |g| count(g, faults)),
    ("", "p50", |g| percentile(g.figures.faults.p50_ns)),
    ("", "p99", |g| percentile(g.figures.faults.p99_ns)),
    ("", "max", |g| longest(&g.figures.faults)),
    ("", "total", |g| lost_in_all(g, &g.figures.faults, faults)),
    ("", "share of wall", |g| lost(g, faults, |t| t.share_of_wall, percent)),
    ("slow paths", "count", |g| count(g, slow_paths)),
    ("", "p50", |g| percentile(g.figures.slow_paths.p50_ns)),
    ("", "p99", |g| percentile(g.figures.slow_paths.p99_ns)),
    ("", "max", |g| longest(&g.figures.slow_paths)),
    ("", "total", |g| lost_in_all(g, &g.figures.slow_paths, slow_paths)),
    ("", INTERVAL, sampled),
    ("", "share of wall", |g| lost(g, slow_paths, |t| t.share_of_wall, percent)),
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
    ("gaps of 1 ms+", "count", |g| grouped(g.mean_u64(|r| r.gaps.count))),
    ("", "max", |g| none_or(g.most(|r| r.gaps.max_ns))),
    ("", "total", |g| duration(g.mean_u64(|r| r.gaps.total_ns))),
    ("", "share of time", |g| percent(g.mean(|r| r.gaps.share))),
    ("not accounted", "total", |g| ours(g, || duration(g.mean_u64(|r| r.not_accounted.ns)))),
    ("", "share of gaps", |g| g.not_accounted().map_or(NONE.into(), percent)),
    ("latency", "p50", |g| percentile(g.figures.latency.p50_ns)),
    ("", INTERVAL, |g| between(g.figures.latency.p50_ns, nanoseconds)),
    ("", RATIO, |g| ratio(g, |a| a.latency_p50)),
    ("", "p99", |g| percentile(g.figures.latency.p99_ns)),
    ("", INTERVAL, |g| between(g.figures.latency.p99_ns, nanoseconds)),
    ("", RATIO, |g| ratio(g, |a| a.latency_p99)),
    ("", "p99.9", |g| percentile(g.figures.latency.p999_ns)),
    ("", INTERVAL, |g| between(g.figures.latency.p999_ns, nanoseconds)),
    ("", RATIO, |g| ratio(g, |a| a.latency_p999)),
    ("", "p99.99", |g| percentile(g.figures.latency.p9999_ns)),
    ("", "max", |g| longest(&g.figures.latency)),
    ("metered, 1 ms", "p50", |g| percentile(g.figures.metered.ms_1.p50_ns)),
    ("", "p99", |g| percentile(g.figures.metered.ms_1.p99_ns)),
    ("", "p99.9", |g| percentile(g.figures.metered.ms_1.p999_ns)),
    ("", "p99.99", |g| percentile(g.figures.metered.ms_1.p9999_ns)),
    ("", "max", |g| longest(&g.figures.metered.ms_1)),
    ("metered, 10 ms", "p50", |g| percentile(g.figures.metered.ms_10.p50_ns)),
    ("", "p99", |g| percentile(g.figures.metered.ms_10.p99_ns)),
    ("", "p99.9", |g| percentile(g.figures.metered.ms_10.p999_ns)),
    ("", "p99.99", |g| percentile(g.figures.metered.ms_10.p9999_ns)),
    ("", "max", |g| longest(&g.figures.metered.ms_10)),
    ("metered, 100 ms", "p50", |g| percentile(g.figures.metered.ms_100.p50_ns)),
    ("", "p99", |g| percentile(g.figures.metered.ms_100.p99_ns)),
    ("", "p99.9", |g| percentile(g.figures.metered.ms_100.p999_ns)),
    ("", "p99.99", |g| percentile(g.figures.metered.ms_100.p9999_ns)),
    ("", "max", |g| longest(&g.figures.metered.ms_100)),
    ("metered, all", "p50", |g| percentile(g.figures.metered.full.p50_ns)),
    ("", "p99", |g| percentile(g.figures.metered.full.p99_ns)),
    ("", "p99.9", |g| percentile(g.figures.metered.full.p999_ns)),
    ("", "p99.99", |g| percentile(g.figures.metered.full.p9999_ns)),
    ("", "max", |g| longest(&g.figures.metered.full)),
    ("mutators", "CPU time", |g| nanoseconds(g.mean(|r| r.threads.mutators.cpu_ns as f64))),
    ("", "waited for CPU", |g| waited(g, |r| r.threads.mutators)),
    ("", "switches", |g| switches(g, |r| r.threads.mutators)),
    ("", "page faults", |g| page_faults(g, |r| r.threads.mutators)),
    ("collector", "CPU time", |g| nanoseconds(g.mean(|r| r.threads.collector.cpu_ns as f64))),
    ("", "waited for CPU", |g| waited(g, |r| r.threads.collector)),
    ("", "switches", |g| switches(g, |r| r.threads.collector)),
    ("", "page faults", |g| page_faults(g, |r| r.threads.collector)),
    ("without a heap", "hiccups", |g| grouped(g.mean_u64(|r| r.hiccups.count))),
    ("", "share", |g| percent(g.mean(|r| r.hiccups.share))),
    ("", "max", |g| none_or(g.most(|r| r.hiccups.max_ns))),
    ("standstills", "count", |g| g.mean_some(|r| Some(r.standstills?.count as f64)).map_or(NONE.into(), three)),
    ("", "total", |g| g.mean_some(|r| Some(r.standstills?.total_ns as f64)).map_or(NONE.into(), nanoseconds)),
    ("", "max", |g| none_or(g.most(|r| r.standstills.map_or(0, |found| found.max_ns)))),
    ("checksum", "", |g| g.runs[0].checksum.to_string()),
];

/// Bytes, and a dash where there are none.
fn some_bytes(n: u64) -> String {
    if n == 0 { NONE.into() } else { bytes(n) }
}

/// Of something that was not there, a dash.
fn none_or(ns: u64) -> String {
    if ns == 0 { NONE.into() } else { duration(ns) }
}

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
        let repeats = if g.runs.len() > 1 { format!(", {} runs", g.runs.len()) } else { String::new() };
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
    for line in legend(document) {
        out += &format!("{line}\n");
    }
    for note in notes(document) {
        out += &format!("note: {note}\n");
    }
    for doubt in doubts(&document.head).into_iter().chain(doubts_of_runs(document)) {
        out += &format!("doubt: {doubt}\n");
    }
    out
}

/// How to read the figures, a sentence a line.
pub(crate) fn legend(document: &Document) -> Vec<String> {
    let mut legend = Vec::new();
    if document.runs.len() > document.configurations.len() {
        legend.push("percentiles: all runs' samples together; max: worst of all runs; others: means".into());
    }
    legend.push("-: not recorded, no sample, or fewer than ten samples beyond the percentile".into());
    if document.runs.iter().any(|run| run.barrier == Collector::STW) {
        let name = "stw: the same collector, the program stopped; the barrier's test compiled in";
        legend.push(name.into());
    }
    let (kernel, order) = (&document.head.kernel, &document.order);
    if let Some(tick_ns) = 1_000_000_000_u64.checked_div(kernel.hz) {
        let (tick, hz, model) = (duration(tick_ns), kernel.hz, &kernel.preemption);
        legend.push(format!("timer tick: {tick} ({hz} Hz), preemption: {model}"));
    }
    legend.push(format!("{} runs in random order, seed {} (--order-seed)", document.runs.len(), order.seed));
    legend
}

/// The mean time of a cycle's phases: without the waits between two cycles, and with the pauses.
fn one_cycle(g: &Group<'_>) -> String {
    let cycles: u64 = g.runs.iter().map(|r| r.cycles).sum();
    let phases_ns: u64 = g.runs.iter().flat_map(|r| &r.phases).map(|phase| phase.duration_ns).sum();
    phases_ns.checked_div(cycles).map_or(NONE.into(), duration)
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
        let pauses = &g.figures.pauses;
        table.add_row([
            right(bytes(s.live_bytes)),
            right(grouped(s.roots)),
            right(grouped(g.mean_u64(|r| r.cycles))),
            right(grouped(g.mean_u64(|r| r.pauses.count))),
            right(percentile(pauses.p50_ns)),
            right(percentile(pauses.p99_ns)),
            right(longest(pauses)),
            right(longest(&g.figures.safepoint)),
            right(grouped(g.mean_u64(|r| r.stalls.count))),
            right(one_cycle(g)),
            right(longest(&g.figures.metered.ms_100)),
            right(duration(g.mean_u64(|r| r.gaps.total_ns))),
        ]);
    }
}

#[cfg(test)]
mod tests;
