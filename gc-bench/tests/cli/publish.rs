//! `publish` and `tables`: a session that is killed goes on, and its figures reach a document.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Scratch, assert_refused, text};

const ARGS: [&str; 6] = ["publish", "--quick", "--barrier", "load", "--budget", "10"];

#[test]
fn a_session_that_is_killed_goes_on_and_its_tables_are_written() {
    let scratch = Scratch::new("publish");
    let journal = scratch.0.join("gc-bench-publish.runs");
    let mut first = Command::new(env!("CARGO_BIN_EXE_gc-bench"));
    let mut first = first.args(ARGS).current_dir(&scratch.0).stderr(Stdio::null()).spawn().expect("the bench starts");
    // The request and two runs.
    let began = Instant::now();
    let lines = || fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
    while lines() < 3 {
        assert!(began.elapsed() < Duration::from_secs(300), "no run is kept");
        sleep(Duration::from_millis(20));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(!scratch.0.join("gc-bench-report.json").exists());
    let refused = scratch.bench(&["publish", "--quick", "--barrier", "stw"]);
    assert_eq!(refused.status.code(), Some(2), "the runs of another request are not mixed in");
    let kept = fs::read_to_string(&journal).unwrap();
    let out = scratch.bench(&ARGS);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.contains("of 10 runs were made before"), "{said}");
    assert!(!journal.exists());
    let report = fs::read_to_string(scratch.0.join("gc-bench-report.json")).unwrap();
    let document: Value = serde_json::from_str(&report).unwrap();
    let runs = document["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 10);
    for line in kept.lines().skip(1).filter(|line| line.ends_with('}')) {
        let Ok(kept) = serde_json::from_str::<Value>(line) else { continue };
        let is_it = |run: &&Value| ["settings", "measured_ns", "tracks"].iter().all(|&key| run[key] == kept[key]);
        assert_eq!(runs.iter().filter(is_it).count(), 1, "a run that was kept is in the report as it was");
    }
    let again = scratch.bench(&ARGS);
    let said = text(&again.stderr);
    assert_eq!((again.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("there already") && !journal.exists(), "{said}");
    fs::write(scratch.0.join("other.json"), report.replacen("\"format\": 2", "\"format\": 3", 1)).unwrap();
    fs::write(scratch.0.join("page.md"), "# Here\n\n<!-- figures: full -->\n<!-- end of figures -->\n").unwrap();
    let out = scratch.bench(&["tables", "gc-bench-report.json", "page.md"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let page = fs::read_to_string(scratch.0.join("page.md")).unwrap();
    for part in ["| gcbench, ", "| table-churn, 2 threads, 300,000 op/s each, ", "| metered over 100 ms", "| in gaps"] {
        assert!(page.contains(part), "no {part} in\n{page}");
    }
    for request in [["tables", "other.json", "page.md"], ["compare", "gc-bench-report.json", "other.json"]] {
        let out = scratch.bench(&request);
        assert_eq!((out.status.code(), text(&out.stderr).contains("format 3")), (Some(2), true), "{request:?}");
    }
    let out = scratch.bench(&["tables", "gc-bench-report.json", "page.md", "/dev/null"]);
    assert_eq!((out.status.code(), text(&out.stderr)), (Some(2), "gc-bench: /dev/null is no file\n"));
    assert_eq!(fs::read_to_string(scratch.0.join("page.md")).unwrap(), page, "what was refused changed nothing");
}

#[test]
fn tables_need_a_report_and_a_place() {
    assert_refused(&["tables", "no-such.json", "page.md"], 2, &["cannot read no-such.json"]);
    assert_refused(&["publish", "--barrier", "nothing"], 2, &["--barrier"]);
    assert_refused(&["publish", "--budget", "0"], 2, &["--budget"]);
}
