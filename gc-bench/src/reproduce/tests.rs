use super::*;
use crate::report::samples::{barriers, of_runs};

const BOOK: &str = include_str!("../../../docs/performance.md");

/// The cells of the table that `gc-bench tables` has written for a work.
fn table(work: &str) -> Vec<Vec<&'static str>> {
    let name =
        |line: &&'static str| line.strip_prefix("| ")?.split(" |").next()?.rsplit_once(", ").map(|(name, _)| name);
    let rows = BOOK.lines().skip_while(|line| name(line) != Some(work)).take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The number that a text begins with; of a duration in nanoseconds.
fn number(text: &str) -> f64 {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = match text[end..].split_whitespace().next() {
        Some("µs") => 1e3,
        Some("ms") => 1e6,
        Some("s") => 1e9,
        _ => 1.0,
    };
    text[..end].parse::<f64>().unwrap_or_else(|_| panic!("{text} is no figure")) * unit
}

fn published(claim: &Claim) -> f64 {
    let rows = table(claim.work);
    assert!(!rows.is_empty(), "the book has no table of {}", claim.work);
    let column = |name: &str| rows[0].iter().position(|cell| cell.starts_with(&format!("`{name}"))).unwrap();
    let row = |name: &str| rows.iter().find(|row| row[0].starts_with(name));
    let ratio = |row: &Vec<&str>, of: fn(&str) -> f64| of(row[column(claim.collector)]) / of(row[column(claim.over)]);
    // An operation's: at work that lasts for a time, over operations a second.
    let of_an_operation = row("million op/s").map_or(1.0, |row| 1.0 / ratio(row, number));
    match claim.of {
        Measure::Time => row("wall, s").map_or(of_an_operation, |row| ratio(row, number)),
        Measure::Cpu => ratio(row("CPU, s").unwrap(), number) * of_an_operation,
        Measure::LongestPause => ratio(row("pauses").unwrap(), |cell| number(cell.rsplit(" / ").next().unwrap())),
    }
}

#[test]
fn the_book_s_own_tables_are_within_the_bands() {
    for figure in FIGURES.iter().filter(|figure| figure.name != "generations") {
        for claim in figure.claims {
            let ratio = published(claim);
            assert!(!claim.is_left_by((ratio, None)), "{}: the book has {ratio}", claim.words());
        }
    }
    // Rows of `wall / CPU, s`, with the collectors in this order.
    let collectors = ["load", "load-generations"];
    for claim in FIGURES.iter().find(|figure| figure.name == "generations").unwrap().claims {
        let line = BOOK.lines().find(|line| line.starts_with(&format!("| {} | wall / CPU, s |", claim.work)));
        let cells: Vec<&str> = line.unwrap_or_else(|| panic!("{}", claim.work)).split('|').map(str::trim).collect();
        let part = |cell: &str| {
            let (wall, cpu) = cell.split_once(" / ").unwrap();
            number(if claim.of == Measure::Time { wall } else { cpu })
        };
        let of = |name: &str| part(cells[3 + collectors.iter().position(|of| *of == name).unwrap()]);
        let ratio = of(claim.collector) / of(claim.over);
        assert!(!claim.is_left_by((ratio, None)), "{}: the book has {ratio}", claim.words());
    }
}

fn args(figures: &[&str]) -> ReproduceArgs {
    let output = OutputArgs { json: None, html: None, out: None, force: false };
    ReproduceArgs { figures: figures.iter().map(|&name| name.to_owned()).collect(), repeats: 5, quick: false, output }
}

#[test]
fn every_figure_can_be_run_and_has_what_its_claims_are_of() {
    for figure in &FIGURES {
        let runs = args(&[figure.name]).runs().unwrap();
        for claim in figure.claims {
            for collector in [claim.collector, claim.over] {
                let is_it = |plan: &Plan| {
                    let mut plan = plan.clone();
                    plan.heap.cpus.clear();
                    plan.work_label() == claim.work && plan.heap.barrier.name() == collector
                };
                assert_eq!(runs.plans.iter().filter(|plan| is_it(plan)).count(), 1, "{}", claim.words());
            }
            assert!(claim.band.0 < claim.band.1);
        }
    }
    let labels: Vec<String> = args(&["all"]).runs().unwrap().plans.iter().map(Plan::label).collect();
    assert!(labels.iter().enumerate().all(|(at, label)| !labels[..at].contains(label)), "{labels:?}");
    // Three barriers of five works, generations of four, and one thread of binary-trees beside.
    assert_eq!(labels.len(), 15 + 4 + 1);
}

/// In the sample all three have the same times and pauses.
#[test]
fn a_ratio_that_leaves_its_band_is_named() {
    let document = barriers();
    let (text, result) = args(&["gcbench"]).judge(&document);
    if processors() >= PROCESSORS {
        let line = result.unwrap_err();
        assert_eq!(line.code(), 3);
        assert!(line.line().starts_with("gcbench: longest pause, page over stw: 1.00, not 0 to 0.25"), "{line}");
        assert!(text.contains("within  0.75 to 1.35  gcbench: time an operation, page over load: 1.00"), "{text}");
    }
    let claim = time("gcbench", "page", (0.8, 1.2));
    let interval = |low, high| Some(Interval { estimate: (low + high) / 2.0, low, high });
    let left = [(1.3, None), (1.3, interval(1.1, 1.5)), (1.3, interval(1.25, 1.35)), (0.7, interval(0.6, 0.79))];
    assert_eq!(left.map(|found| claim.is_left_by(found)), [true, false, true, true]);
}

/// A time of one run each that is half as long, and the longest pause of runs beside which
/// other processes worked.
#[test]
fn what_says_nothing_has_left_no_band() {
    let mut runs = barriers().runs;
    runs.retain(|run| run.repeat == 1);
    for run in &mut runs {
        run.other_cpu_percent = 31.0;
        run.ops_per_s *= if run.barrier == Collector::PAGE { 2.0 } else { 1.0 };
    }
    let (text, result) = args(&["gcbench"]).judge(&of_runs(runs));
    assert!(result.is_ok());
    if processors() >= PROCESSORS {
        for (claim, why) in [
            ("time an operation, page over load: 0.50", "too few runs, or too different ones, for an interval"),
            ("longest pause, page over stw: 1.00", "other processes used the machine"),
        ] {
            let line = text.lines().find(|line| line.contains(claim)).unwrap_or_else(|| panic!("{text}"));
            assert!(line.trim_start().starts_with("open") && line.ends_with(why), "{line}");
        }
    }
}
