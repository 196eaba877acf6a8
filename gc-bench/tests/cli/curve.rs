//! Costs in heaps of several sizes, and going on behind what was run.

use std::fs;

use serde_json::Value;

use crate::common::{Scratch, assert_refused, text};

const ARGS: [&str; 13] = [
    "curve",
    "message-ring",
    "--quick",
    "--size",
    "50000",
    "--barrier",
    "load,stw",
    "--within",
    "20%",
    "--tries",
    "1",
    "--factors",
    "1.5,3",
];

/// Interrupted at any place, the same command makes the same curve.
#[test]
fn costs_are_held_against_the_least_and_runs_are_not_made_twice() {
    let scratch = Scratch::new("curve");
    let args = [&ARGS[..], &["--repeats", "3", "--order-seed", "1", "--workers", "1", "--force"]].concat();
    let out = scratch.bench(&args);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let said = text(&out.stdout).to_owned();
    assert!(said.contains("MESSAGE-RING") && said.contains("wall time of a run, over the least"), "{said}");
    let report = fs::read_to_string(scratch.0.join("gc-bench-report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let points = report["works"][0]["points"].as_array().unwrap().clone();
    assert_eq!(points.len(), 4);
    for point in &points {
        assert_eq!(point["costs"].as_array().unwrap().len(), 3, "{point}");
        // The bound is at most every cost.
        assert!(
            point["wall"]["overhead"].as_f64().unwrap() >= 1.0 && point["cpu"]["overhead"].as_f64().unwrap() >= 1.0
        );
        let interval = &point["wall"]["interval"];
        let (low, high) = (interval["low"].as_f64().unwrap(), interval["high"].as_f64().unwrap());
        let mean = point["wall"]["seconds"].as_f64().unwrap();
        assert!(low <= mean && mean <= high, "{point}");
    }
    let page = fs::read_to_string(scratch.0.join("gc-bench-report.html")).unwrap();
    assert_eq!(page.matches("<figure").count(), 2);
    // Cut where a run ended, and in the middle of a line: behind the last try of the least heap
    // there are 10 runs at least.
    let path = scratch.0.join("gc-bench-minheap.tries");
    let kept = fs::read_to_string(&path).unwrap();
    let runs = |text: &str| {
        let line = |line: &str| {
            let of: Value = serde_json::from_str(line).unwrap();
            format!("{} {} {}", of["settings"], of["heap_bytes"], of["number"])
        };
        text.lines().map(line).collect::<std::collections::BTreeSet<_>>()
    };
    let lines: Vec<&str> = kept.split_inclusive('\n').collect();
    for (gone, part) in [(0, 0), (1, 0), (8, 40)] {
        let last = &lines[lines.len() - gone..].concat();
        fs::write(&path, &kept[..kept.len() - last.len() + part]).unwrap();
        let again = scratch.bench(&args);
        assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
        let now = fs::read_to_string(&path).unwrap();
        assert_eq!(runs(&now), runs(&kept), "{gone} and {part}");
        if gone == 0 {
            assert_eq!((text(&again.stdout), now), (&*said, kept.clone()), "nothing was run again");
        }
    }
}

#[test]
fn a_curve_that_cannot_be_is_refused() {
    assert_refused(&["curve", "gcbench", "--factors", "0.5"], 2, &["--factors"]);
    assert_refused(&["curve", "gcbench", "--until-ci", "2%"], 2, &["--until-ci"]);
    assert_refused(&["curve", "gcbench", "--rate", "sweep"], 2, &["sweep"]);
    assert_refused(&["minheap", "gcbench", "--json", "-"], 2, &["--json"]);
    assert_refused(&["minheap", "gcbench", "--force"], 2, &["--force"]);
    assert_refused(&["curve", "gcbench", "--keep", "/nowhere/at/all"], 2, &["/nowhere/at/all"]);
}
