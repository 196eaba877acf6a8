//! The book's tables, small.

use std::fs;

use serde_json::Value;

use crate::common::{Scratch, assert_refused, text};

#[test]
fn a_figure_is_made_again_and_small_ones_are_not_judged() {
    let scratch = Scratch::new("reproduce");
    let out = scratch.bench(&["reproduce", "gcbench", "message-ring", "--quick"]);
    if text(&out.stderr).contains("the page barrier is unavailable") {
        return;
    }
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("6 runs were made; small runs say nothing"), "{}", text(&out.stdout));
    assert_eq!(scratch.entries(), ["gc-bench-report.html", "gc-bench-report.json"]);
    let report: Value =
        serde_json::from_str(&fs::read_to_string(scratch.0.join("gc-bench-report.json")).unwrap()).unwrap();
    assert_eq!(report["runs"].as_array().unwrap().len(), 6);
}

#[test]
fn the_list_names_every_figure_with_its_command_and_bands() {
    let scratch = Scratch::new("reproduce-list");
    let out = scratch.bench(&["reproduce", "list"]);
    assert_eq!((out.status.code(), scratch.entries().len()), (Some(0), 0));
    let list = text(&out.stdout);
    for part in [
        "binary-trees: two threads",
        "\n  gc-bench table-churn --seconds 10 --rate 300000 --heap 1g --barrier load,page,stw\n",
        "generations: ",
        "1.15 to 2.2   table-churn, 2 threads: time an operation, page over load\n",
    ] {
        assert!(list.contains(part), "{list} does not have {part}");
    }
}

#[test]
fn what_is_no_figure_is_refused() {
    assert_refused(&["reproduce"], 2, &["FIGURE"]);
    assert_refused(&["reproduce", "everything"], 2, &["everything", "binary-trees", "table-churn-rate"]);
    assert_refused(&["reproduce", "list", "gcbench"], 2, &["`list` runs nothing"]);
    assert_refused(&["reproduce", "gcbench", "--repeats", "0"], 2, &["--repeats"]);
    assert_refused(&["reproduce", "gcbench", "--quick", "--repeats", "2"], 2, &["--quick", "--repeats"]);
}
