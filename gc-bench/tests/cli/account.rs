//! The figures of a run, computed once more from what its JSON keeps, and compared with those that
//! it states and those that the table shows. Nothing here is the bench's own code.

use std::collections::BTreeMap;
use std::fs;

use crate::common::{Scratch, text};
use serde_json::Value;

const GAP_NS: u64 = 1_000_000;
const QUANTILES: [(&str, f64); 4] = [("p50_ns", 0.5), ("p99_ns", 0.99), ("p999_ns", 0.999), ("p9999_ns", 0.9999)];

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} in {value}"))
}

/// Lists of whole numbers.
fn rows(list: &Value) -> Vec<Vec<u64>> {
    let row = |row: &Value| row.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    list.as_array().unwrap().iter().map(row).collect()
}

/// A summary, from its histogram.
#[track_caller]
fn assert_summary(name: &str, stated: &Value, histogram: &Value) {
    let buckets = rows(histogram);
    let count: u64 = buckets.iter().map(|b| b[1]).sum();
    assert_eq!(number(stated, "count"), count, "{name}");
    let at_rank = |rank: u64| {
        let mut seen = 0;
        let found = buckets.iter().find(|b| {
            seen += b[1];
            seen >= rank
        });
        found.map_or(0, |b| b[0])
    };
    for (key, q) in QUANTILES {
        let rank = ((q * count as f64).ceil() as u64).clamp(count.min(1), count);
        // Where the product is whole but for its rounding, either rank is it.
        let either = [rank.saturating_sub(1).max(count.min(1)), rank, (rank + 1).min(count)].map(at_rank);
        assert!(either.contains(&number(stated, key)), "{name}: {key} of {stated} is none of {either:?}");
    }
    assert_eq!(number(stated, "max_ns"), buckets.last().map_or(0, |b| b[0]), "{name}");
    // A bucket is at most 3.2 % wide and named by its upper end.
    let upper: f64 = buckets.iter().map(|b| b[0] as f64 * b[1] as f64).sum();
    let total = number(stated, "total_ns") as f64;
    assert!(total <= upper + 1.0 && upper <= total * 1.033 + count as f64, "{name}: {total} and {upper}");
    let long: f64 = buckets.iter().filter(|b| b[0] >= GAP_NS).map(|b| b[0] as f64 * b[1] as f64).sum();
    let over = number(stated, "over_1ms_ns") as f64;
    assert!(over <= long + 1.0 && over >= (long - 1.05 * GAP_NS as f64 * at_edge(&buckets)) / 1.033 - 1.0, "{name}");
}

/// Samples of the bucket that has the length of a gap in it.
fn at_edge(buckets: &[Vec<u64>]) -> f64 {
    buckets.iter().filter(|b| (GAP_NS..GAP_NS * 104 / 100).contains(&b[0])).map(|b| b[1] as f64).sum()
}

/// Parts of a time, each lost to a part: the time so far that was lost, at any moment.
struct Loss {
    /// From when on, what was lost before, and how much of each moment is lost.
    steps: Vec<(f64, f64, f64)>,
}

impl Loss {
    fn new(parts: &[(f64, f64, f64)]) -> Self {
        let mut edges: Vec<f64> = parts.iter().flat_map(|p| [p.0, p.1]).collect();
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        let mut sorted = parts.to_vec();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut next, mut open, mut lost) = (0, Vec::<(f64, f64)>::new(), 0.0);
        let mut steps: Vec<(f64, f64, f64)> = vec![(0.0, 0.0, 0.0)];
        for edge in edges {
            let &(from, _, share) = steps.last().unwrap();
            lost += (edge - from) * share;
            while next < sorted.len() && sorted[next].0 <= edge {
                open.push((sorted[next].1, sorted[next].2));
                next += 1;
            }
            open.retain(|part| part.0 > edge);
            steps.push((edge, lost, open.iter().map(|part| part.1).sum::<f64>().min(1.0)));
        }
        Self { steps }
    }

    fn until(&self, time: f64) -> f64 {
        let (from, before, share) = self.steps[self.steps.partition_point(|step| step.0 <= time).max(1) - 1];
        before + (time - from).max(0.0) * share
    }

    fn utilisation(&self, window: f64, length: f64) -> f64 {
        let ends = self.steps.iter().flat_map(|step| [step.0, step.0 - window]).chain([0.0, length - window]);
        let starts = ends.map(|start| start.clamp(0.0, length - window));
        1.0 - starts.map(|start| self.until(start + window) - self.until(start)).fold(0.0, f64::max) / window
    }
}

type Parts = Vec<(f64, f64, f64)>;

/// What the heap says that each mutator lost: the stops, and what was its own.
fn lost_by_mutator(run: &Value) -> (Parts, BTreeMap<u64, Parts>) {
    let length = number(run, "measured_ns") as f64;
    let clip = |from: u64, ns: u64| (from as f64, ((from + ns) as f64).min(length));
    let stops = run["stops"].as_array().unwrap().iter().map(|stop| {
        let inside = number(stop, "duration_ns").saturating_sub(number(stop, "before_ns"));
        let (from, to) = clip(number(stop, "start_ns"), inside);
        (from, to, 1.0)
    });
    let mut own: BTreeMap<u64, Parts> = BTreeMap::new();
    for delays in run["delays"].as_object().unwrap().values() {
        for delay in rows(delays).iter().filter(|delay| delay[2] > 0) {
            let (from, to) = clip(delay[1], delay[2]);
            own.entry(delay[0]).or_default().push((from, to, delay[3] as f64 / delay[2] as f64));
        }
    }
    (stops.collect(), own)
}

#[track_caller]
fn assert_mmu(name: &str, stated: &Value, mutators: &[Loss], length: f64) {
    for mmu in stated.as_array().unwrap() {
        let window = number(mmu, "window_ms") as f64 * 1e6;
        let found = mutators.iter().map(|loss| loss.utilisation(window, length)).fold(1.0, f64::min);
        let share = mmu["share"].as_f64().unwrap();
        assert!((found - share).abs() < 1e-4, "{name}: {mmu}, and {found} from its parts");
    }
}

/// A duration as the table shows it.
fn duration(ns: u64) -> String {
    let ns = ns as f64;
    let (unit, x) = match ns {
        ns if ns >= 999_500_000.0 => ("s", ns / 1e9),
        ns if ns >= 999_500.0 => ("ms", ns / 1e6),
        ns if ns >= 999.5 => ("µs", ns / 1e3),
        ns => return format!("{ns} ns"),
    };
    format!("{} {unit}", three(x))
}

fn three(x: f64) -> String {
    let digits = if x >= 99.95 { 0 } else { usize::from(x < 9.995) + 1 };
    format!("{x:.digits$}")
}

/// The figure of a row of the table: under its heading, by its name. A row that has no figure in
/// any column is not printed: then a dash.
fn shown(table: &str, heading: &str, name: &str) -> String {
    let lines = table.lines().skip_while(|line| !line.trim_start().starts_with(heading));
    for (i, line) in lines.enumerate() {
        // The next heading: only names are indented further.
        if i > 0 && !line.starts_with("  ") {
            break;
        }
        let rest = line.trim_start();
        let rest = if i == 0 { rest[heading.len()..].trim_start() } else { rest };
        if let Some(figure) = rest.strip_prefix(name)
            && (name.is_empty() || figure.starts_with("  "))
        {
            return figure.trim().to_owned();
        }
    }
    "-".to_owned()
}

/// What the table is to show of a percentile: a dash where fewer than ten samples lie beyond it.
fn supported(set: &Value, key: &str) -> String {
    let count = number(set, "count");
    let beyond = match key {
        "p50_ns" => count / 2,
        "p999_ns" => count / 1000,
        "max_ns" if count > 0 => 10,
        _ => 0,
    };
    if beyond >= 10 { duration(number(set, key)) } else { "-".to_owned() }
}

/// Checks a run, and what the table shows of it.
fn assert_account(run: &Value, table: &str) {
    let measured_ns = number(run, "measured_ns");
    let length = measured_ns as f64;
    for set in ["pauses", "safepoint", "stalls", "latency", "operations", "other"] {
        assert_summary(set, &run[set], &run["histograms"][set]);
    }
    for (key, heading) in
        [("1ms", "metered, 1 ms"), ("10ms", "metered, 10 ms"), ("100ms", "metered, 100 ms"), ("full", "metered, all")]
    {
        assert_summary(key, &run["metered"][key], &run["histograms"]["metered"][key]);
        for (name, figure) in [("p50", "p50_ns"), ("p99.9", "p999_ns"), ("max", "max_ns")] {
            assert_eq!(shown(table, heading, name), supported(&run["metered"][key], figure), "{heading} {name}");
        }
    }
    assert_metered(run);
    // A tick counts once, an operation each.
    let metered = number(&run["metered"]["full"], "count");
    let samples: u64 = run["tracks"].as_array().unwrap().iter().filter(|t| t["metered"] == true).map(samples).sum();
    assert_eq!(metered, samples);

    let durations: Vec<u64> = run["stops"].as_array().unwrap().iter().map(|stop| number(stop, "duration_ns")).collect();
    assert_eq!(number(&run["pauses"], "total_ns"), durations.iter().sum::<u64>());
    assert_eq!(number(&run["pauses"], "max_ns"), durations.iter().copied().max().unwrap_or(0));
    assert_eq!(shown(table, "pauses", "max"), supported(&run["pauses"], "max_ns"));
    let stalls = run["delays"].get("stall").map(rows).unwrap_or_default();
    assert_eq!(number(&run["stalls"], "count"), stalls.len() as u64, "each stall has its time");
    assert!(number(run, "throttled") <= stalls.len() as u64);

    let tracks = run["tracks"].as_array().unwrap();
    let (stops, own) = lost_by_mutator(run);
    let by_heap = |mutator: u64| {
        let own = own.get(&mutator).cloned().unwrap_or_default();
        Loss::new(&[stops.clone(), own].concat())
    };
    let mut heap: Vec<Loss> = own.keys().map(|&mutator| by_heap(mutator)).collect();
    heap.push(Loss::new(&stops));
    assert_mmu("mmu", &run["mmu"], &heap, length);

    let (mut gaps, mut total, mut longest, mut unknown) = (0, 0, 0, 0.0);
    let mut measured = Vec::new();
    for track in tracks {
        let long = rows(&track["long_samples"]);
        let loss = by_heap(number(track, "mutator"));
        for gap in long.iter().filter(|sample| sample[1] >= GAP_NS) {
            (gaps, total, longest) = (gaps + 1, total + gap[1], longest.max(gap[1]));
            let (from, to) = (gap[0] as f64, (gap[0] + gap[1]) as f64);
            unknown += (to - from - (loss.until(to) - loss.until(from))).max(0.0);
        }
        // Apart from one another, in order, and inside.
        assert!(long.windows(2).all(|pair| pair[0][0] + pair[0][1] <= pair[1][0]));
        assert!(long.last().is_none_or(|last| last[0] + last[1] <= measured_ns));
        measured.push(Loss::new(&long.iter().map(|s| (s[0] as f64, (s[0] + s[1]) as f64, 1.0)).collect::<Vec<_>>()));
    }
    assert_mmu("measured_mmu", &run["measured_mmu"], &measured, length);
    let of = &run["gaps"];
    assert_eq!((number(of, "count"), number(of, "total_ns"), number(of, "max_ns")), (gaps, total, longest));
    let share = total as f64 / (length * tracks.len() as f64);
    assert!((of["share"].as_f64().unwrap() - share).abs() < 1e-9);
    // With no rate a gap is a sample of a series; with one it may lie in a tick.
    let over: u64 = ["operations", "other"].iter().map(|set| number(&run[set], "over_1ms_ns")).sum();
    assert_eq!(over, total, "gaps are the samples of 1 ms and more");
    let not_accounted = &run["not_accounted"];
    assert!((number(not_accounted, "ns") as f64 - unknown).abs() <= 2.0 + 1e-4 * unknown, "{not_accounted}, {unknown}");
    let share = if total > 0 { unknown / total as f64 } else { 0.0 };
    assert!((not_accounted["share"].as_f64().unwrap() - share).abs() < 1e-3);

    assert_eq!(shown(table, "gaps of 1 ms+", "count"), gaps.to_string());
    let longest = if gaps > 0 { duration(longest) } else { "-".to_owned() };
    assert_eq!(shown(table, "gaps of 1 ms+", "max"), longest);
    assert_eq!(shown(table, "gaps of 1 ms+", "total"), duration(total));
    assert_eq!(shown(table, "not accounted", "total"), duration(number(not_accounted, "ns")));
    for (key, heading) in [("mmu", "MMU"), ("measured_mmu", "measured MMU")] {
        for mmu in run[key].as_array().unwrap() {
            let share = three(mmu["share"].as_f64().unwrap() * 100.0) + " %";
            assert_eq!(shown(table, heading, &format!("{} ms", mmu["window_ms"])), share);
        }
    }
}

/// Metered latency, operation by operation as DaCapo does it, from the order of all samples. The
/// bench takes some operations of a stretch for all of it, so it may be off by a part of a stretch.
#[track_caller]
fn assert_metered(run: &Value) {
    if run["settings"]["rate"] != 0 || run["settings"]["stretches"] == false {
        return;
    }
    for (key, window) in [("1ms", 1e6), ("10ms", 1e7), ("100ms", 1e8), ("full", f64::INFINITY)] {
        let mut all = Vec::new();
        for track in run["tracks"].as_array().unwrap().iter().filter(|track| track["metered"] == true) {
            // Begins without idle time, and when the last one was done.
            let (mut starts, mut end) = (Vec::new(), 0.0);
            for stretch in rows(&track["stretches"]).iter().filter(|stretch| stretch[1] > 0) {
                let step = stretch[0] as f64 / stretch[1] as f64;
                starts.extend((0..stretch[1]).map(|k| end + step * k as f64));
                end += stretch[0] as f64;
            }
            let last = starts.len() - 1;
            for (i, &start) in starts.iter().enumerate() {
                let from = starts.partition_point(|&s| s < start - window / 2.0);
                let to = starts.partition_point(|&s| s < start + window / 2.0).min(last);
                let mean = if to > from { (starts[to] - starts[from]) / (to - from) as f64 } else { 0.0 };
                let due = if to > from { starts[from] + mean * (i - from) as f64 } else { start };
                all.push(starts.get(i + 1).unwrap_or(&end) - due.min(start));
            }
        }
        all.sort_by(f64::total_cmp);
        let stated = &run["metered"][key];
        assert_eq!(number(stated, "count"), all.len() as u64);
        let near = |name: &str, found: f64| {
            let off = (number(stated, name) as f64 - found).abs();
            assert!(off <= 30_000.0 + found * 0.005, "metered {key}: {name} of {stated}, and {found} from its parts");
        };
        for (name, q) in [("p50_ns", 0.5), ("p99_ns", 0.99), ("p999_ns", 0.999)] {
            near(name, all[((q * all.len() as f64).ceil() as usize).clamp(1, all.len()) - 1]);
        }
        near("max_ns", *all.last().unwrap());
        let (sum, total) = (all.iter().sum::<f64>(), number(stated, "total_ns") as f64);
        assert!((sum - total).abs() <= sum * 0.01 + 1e6, "metered {key}: {total} in all, and {sum} from its parts");
    }
}

fn samples(track: &Value) -> u64 {
    number(track, "operations") + number(track, "other")
}

/// Runs with these options, one run after another, and checks each; the runs.
fn account_of(args: &[&str]) -> Vec<Value> {
    let scratch = Scratch::new(&format!("account-{}", args.join("-")));
    let out = scratch.bench(&[args, &["--quick", "--repeats", "1", "--stretches"]].concat());
    if text(&out.stderr).contains("the page barrier is unavailable") {
        return Vec::new();
    }
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let document: Value = serde_json::from_slice(&fs::read(scratch.0.join("gc-bench-report.json")).unwrap()).unwrap();
    let runs = document["runs"].as_array().unwrap().clone();
    if let [run] = &runs[..] {
        assert_account(run, text(&out.stdout));
    }
    runs
}

#[test]
fn the_account_of_a_stopped_collector_is_its_pauses() {
    // Pauses of some milliseconds, so there are gaps, and they are known.
    let runs = account_of(&["table-churn", "--barrier", "stw", "--size", "40000", "--heap", "80m", "--seconds", "1"]);
    let run = &runs[0];
    assert!(number(&run["pauses"], "max_ns") > GAP_NS, "{}", run["pauses"]);
    assert!(
        number(&run["gaps"], "count") > 0 && number(&run["gaps"], "max_ns") >= number(&run["pauses"], "max_ns") / 2
    );
    assert!(run["not_accounted"]["share"].as_f64().unwrap() < 1.0, "no gap overlaps a pause");
    // Behind a pause of several milliseconds operations queue, as those that were metered show.
    let total = |of: &Value| number(of, "total_ns");
    assert!(total(&run["metered"]["full"]) > total(&run["latency"]), "{} {}", run["metered"], run["latency"]);
}

#[test]
fn the_account_of_each_workload_adds_up() {
    account_of(&["table-churn", "--barrier", "page", "--size", "40000", "--heap", "64m", "--seconds", "1"]);
    account_of(&["message-ring", "--heap", "64m", "--size", "300000"]);
    account_of(&["gcbench", "--heap", "64m", "--size", "1", "--barrier", "stw"]);
    account_of(&["lru-cache", "--seconds", "1"]);
    let runs = account_of(&["binary-trees", "--heap", "32m", "--size", "13", "--threads", "2"]);
    assert!(number(&runs[0]["other"], "count") > 0, "counting is a series of its own");
}

#[test]
fn the_account_of_a_rate_adds_up() {
    for args in [
        &["table-churn", "--rate", "20000", "--size", "20000", "--heap", "48m", "--seconds", "1"][..],
        &["message-ring", "--rate", "200000", "--size", "100000", "--heap", "64m"],
    ] {
        let runs = account_of(args);
        let (metered, rate) = (&runs[0]["metered"], number(&runs[0]["settings"], "rate"));
        assert_eq!((&metered["1ms"], &metered["10ms"]), (&metered["full"], &metered["full"]), "arrivals are known");
        assert!(number(&runs[0]["operations"], "count") > number(&runs[0]["latency"], "count"), "{rate} a second");
    }
}

#[test]
fn a_sweep_has_parts_of_the_rate_that_was_measured() {
    let mut runs = account_of(&["binary-trees", "--size", "12", "--heap", "32m", "--threads", "1", "--rate", "sweep"]);
    // The saturated one comes first; the others follow in a random order.
    assert_eq!(number(&runs[0]["settings"], "rate_percent"), 0);
    runs.sort_by_key(|run| number(&run["settings"], "rate_percent"));
    let settings: Vec<(u64, u64)> =
        runs.iter().map(|run| (number(&run["settings"], "rate_percent"), number(&run["settings"], "rate"))).collect();
    let (percents, rates): (Vec<_>, Vec<_>) = settings.into_iter().unzip();
    assert_eq!(percents, [0, 50, 70, 90]);
    let track = &runs[0]["tracks"][0];
    let saturated = samples(track) as f64 * 1e9 / (number(track, "operations_ns") + number(track, "other_ns")) as f64;
    for (percent, rate) in [(50, rates[1]), (70, rates[2]), (90, rates[3])] {
        assert!(
            (rate as f64 - saturated * f64::from(percent) / 100.0).abs() <= 2.0,
            "{percent} % of {saturated}: {rate}"
        );
    }
    // The same work, more slowly.
    assert!(runs.iter().all(|run| run["checksum"] == runs[0]["checksum"]));
    let wall = |i: usize| runs[i]["wall_s"].as_f64().unwrap();
    assert!(wall(1) > wall(0));
}
