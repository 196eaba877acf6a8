//! Two builds in turn, two reports, and what `gc-bench compare` says of them.

use std::fs;

use crate::common::{Scratch, assert_refused, text};
use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_gc-bench");

/// A session with this build as the other one too.
fn session(scratch: &Scratch, repeats: &str) -> Value {
    let args = ["message-ring", "--quick", "--size", "200000", "--against", BENCH, "--repeats", repeats];
    let out = scratch.bench(&args);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    serde_json::from_slice(&fs::read(scratch.0.join("gc-bench-report.json")).unwrap()).unwrap()
}

/// Writes the report anew, with the other build so many times as fast.
fn with_other_build(scratch: &Scratch, document: &Value, name: &str, faster: f64) {
    let mut document = document.clone();
    for run in document["runs"].as_array_mut().unwrap() {
        let own = run["settings"]["against"].is_null();
        // What the two took is set: only the reading is tested here.
        let factor = if own { 1.0 } else { faster };
        let repeat = run["repeat"].as_f64().unwrap();
        run["ops_per_s"] = (1e6 * factor * (1.0 + 0.001 * repeat)).into();
        run["cpu_s"] = (run["ops"].as_f64().unwrap() / 1e6 / factor).into();
    }
    fs::write(scratch.0.join(name), document.to_string()).unwrap();
}

#[test]
fn two_builds_are_run_in_turn_and_compared() {
    let scratch = Scratch::new("compare");
    let document = session(&scratch, "3");
    let runs = document["runs"].as_array().unwrap();
    let others = runs.iter().filter(|run| run["settings"]["against"] == BENCH).count();
    assert_eq!((runs.len(), others), (6, 3));
    let labels: Vec<&str> =
        document["configurations"].as_array().unwrap().iter().map(|of| of["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["message-ring", "message-ring, load, other build"]);
    let out = scratch.bench(&["compare", "gc-bench-report.json"]);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{said}");
    for part in ["message-ring (3 runs each)", "time an operation", "share of time in gaps", "->"] {
        assert!(said.contains(part), "{said} does not say {part}");
    }

    with_other_build(&scratch, &document, "slower.json", 1.05);
    with_other_build(&scratch, &document, "same.json", 1.0);
    let out = scratch.bench(&["compare", "slower.json", "--threshold", "3%"]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stdout));
    assert!(text(&out.stdout).contains("1.05"), "{}", text(&out.stdout));
    let line = text(&out.stderr);
    assert!(line.contains("message-ring: time an operation is 5.00 % more") && line.lines().count() == 1, "{line}");
    for args in [&["slower.json", "--threshold", "6%"][..], &["slower.json"], &["same.json", "--threshold", "0.1%"]] {
        let out = scratch.bench(&[&["compare"], args].concat());
        assert_eq!(out.status.code(), Some(0), "{args:?}: {}", text(&out.stdout));
    }

    let out = scratch.bench(&["compare", "same.json", "slower.json", "--threshold", "3%"]);
    let said = text(&out.stdout);
    // The other build's rows are the faster ones of the second report: less, and no alarm.
    assert!(out.status.code() == Some(0) && said.contains("two sessions") && said.contains("less"), "{said}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let scratch = Scratch::new("compare-refused");
    fs::write(scratch.0.join("no.json"), "{}").unwrap();
    assert_refused(&["gcbench", "--against", "/nowhere/gc-bench"], 2, &["/nowhere/gc-bench", "built gc-bench"]);
    assert_refused(&["gcbench", "--against", "/bin/true"], 2, &["/bin/true", "--version"]);
    assert_refused(&["compare"], 2, &["REPORT"]);
    assert_refused(&["compare", "/nowhere.json"], 2, &["/nowhere.json"]);
    let said = |args: &[&str]| {
        let out = scratch.bench(&[&["compare"], args].concat());
        assert_eq!(out.status.code(), Some(2));
        text(&out.stderr).to_owned()
    };
    assert!(said(&["no.json"]).contains("no report of runs"));
    let document = session(&scratch, "2");
    assert!(said(&["gc-bench-report.json"]).contains("--repeats"));
    let mut own = document;
    own["runs"].as_array_mut().unwrap().retain(|run| run["settings"]["against"].is_null());
    own["configurations"].as_array_mut().unwrap().truncate(1);
    fs::write(scratch.0.join("own.json"), own.to_string()).unwrap();
    assert!(said(&["own.json"]).contains("--against"));
}
