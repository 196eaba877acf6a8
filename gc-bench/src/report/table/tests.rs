use super::*;
use crate::report::samples::{barriers, document, of_runs};

#[test]
fn every_figure_is_in_the_table_and_no_line_is_too_long() {
    let text = text(&document());
    for part in ["gcbench", "message-ring", "3 runs", "4.00 s", "3.00..5.00 s", "2.50 M", "148 µs", "-15", "seed 7"] {
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
    assert!(text.contains("stw: the same collector, the program stopped"), "{text}");
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
    assert!(!text(&document).contains("doubt:"));
    document.head.build.dirty = Some(true);
    assert!(text(&document).contains("\ndoubt: the program was built of files that differ from revision 0123"));
}

#[test]
fn what_too_few_samples_support_is_a_dash_and_the_worst_of_all_runs_is_the_maximum() {
    let mut runs = document().runs;
    runs.truncate(3);
    // 3 x 59 pauses: enough for p50, not for p99. No stall at all.
    runs[1].pauses.max_ns = 1_500_000;
    let text = text(&of_runs(runs));
    let line = |at: usize| text.lines().nth(at).unwrap().split_whitespace().collect::<Vec<_>>();
    let at = text.lines().position(|l| l.trim_start().starts_with("pauses")).unwrap();
    assert_eq!(line(at), ["pauses", "count", "59"]);
    assert_eq!(line(at + 1)[0], "p50");
    assert_eq!(line(at + 2), ["max", "1.50", "ms"], "rows without a figure are not there:\n{text}");
    let safepoint = text.lines().position(|l| l.trim_start().starts_with("to the safepoint")).unwrap();
    assert_eq!(line(safepoint)[3..], ["max", "6.90", "µs"], "the heading goes to the first figure:\n{text}");
    let stalls = text.lines().position(|l| l.trim_start().starts_with("stalls")).unwrap();
    assert_eq!((line(stalls), line(stalls + 1)[0]), (vec!["stalls", "count", "0"], "slow"));
    assert!(text.contains("fewer than ten samples beyond"), "{text}");
}

#[test]
fn figures_of_enough_runs_have_intervals_and_ratios() {
    let mut runs = Vec::new();
    for repeat in 1..=5 {
        for (barrier, factor) in [(Collector::LOAD, 1.0), (Collector::PAGE, 0.5)] {
            let mut run = crate::record::samples::record("gcbench", repeat);
            run.barrier = barrier;
            run.settings.heap.barrier = barrier;
            run.ops_per_s = factor * (2.5e6 + 1e4 * repeat as f64);
            runs.push(run);
        }
    }
    let text = text(&of_runs(runs));
    let at = text.lines().position(|l| l.trim_start().starts_with("operations a second")).unwrap();
    let line = |at: usize| text.lines().nth(at).unwrap().trim().to_owned();
    assert!(line(at + 1).starts_with("95 % interval") && line(at + 1).contains("2.51 M..2.55 M"), "{text}");
    // The means are 2.53 M and half of it; the ratio's interval by Fieller.
    assert!(line(at + 2).starts_with("to the first's") && line(at + 2).ends_with("0.50 (0.49..0.51)"), "{text}");
}
