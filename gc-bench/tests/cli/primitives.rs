//! `gc-bench primitives`: its JSON, its files, and what it says where the kernel or a sandbox
//! refuses something.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Scratch, assert_refused, json, text};
use crate::sandbox::{WITHOUT_USERFAULTFD, bench_with};

const GROUPS: [&str; 7] = ["take-away", "fault", "batch", "chunk", "view", "touch", "barrier"];

/// Asserts the documented shape of a row, and gives its status.
#[track_caller]
fn assert_row(row: &Value) -> &str {
    assert!(GROUPS.contains(&row["group"].as_str().unwrap()), "{row}");
    assert!(!row["what"].as_str().unwrap().is_empty() && row["bytes"].is_u64(), "{row}");
    assert!(["call", "page"].contains(&row["per"].as_str().unwrap()), "{row}");
    let status = row["status"].as_str().unwrap();
    match status {
        "measured" => {
            let figure = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} of {row}"));
            let order = ["min_ns", "p25_ns", "median_ns", "p75_ns", "p99_ns", "max_ns"].map(figure);
            assert!(order.is_sorted() && order[0] >= 0.0, "{row}");
            assert!(row["count"].as_u64() > Some(0) && figure("spread_percent") >= 0.0, "{row}");
            if let Some(ratio) = row.get("ratio") {
                assert!(ratio["times"].as_f64() > Some(0.0) && ratio["to"].is_string(), "{row}");
            }
        }
        "refused" => assert!(row["why"].is_string() && row["since"].is_string(), "{row}"),
        "left_out" | "failed" => assert!(row["why"].is_string(), "{row}"),
        other => panic!("{other} is no status"),
    }
    status
}

#[track_caller]
fn rows(document: &Value) -> &Vec<Value> {
    assert_eq!((document["tool"].as_str(), document["format"].as_u64()), (Some("gc-bench"), Some(1)));
    assert!(document["machine"]["cpus"].as_u64() > Some(0) && document["kernel"]["release"].is_string());
    for key in ["clock_ns", "wall_s", "other_cpu_percent", "stolen_percent"] {
        assert!(document[key].is_number(), "{key}");
    }
    assert!(!document.to_string().contains("null"));
    let rows = document["rows"].as_array().unwrap();
    rows.iter().for_each(|row| {
        assert_row(row);
    });
    rows
}

fn of<'a>(rows: &'a [Value], group: &str) -> Vec<&'a Value> {
    rows.iter().filter(|row| row["group"] == group).collect()
}

#[test]
fn a_quick_run_measures_every_group() {
    let document = json(&["primitives", "--quick", "--sizes", "8m,64m"]);
    let rows = rows(&document);
    assert_eq!(document["sizes"], serde_json::json!([8 << 20, 64 << 20]));
    assert_eq!(document["quick"], true);
    for group in GROUPS {
        assert!(!of(rows, group).is_empty(), "{group}");
    }
    assert!(rows.iter().all(|row| row["status"] != "failed"), "{rows:?}");
    // What every kernel has and no sandbox refuses to its own memory.
    let figure = |what: &str, bytes: u64, key: &str| {
        let row = rows.iter().find(|row| row["what"] == what && row["bytes"] == bytes);
        row.and_then(|row| row[key].as_f64()).unwrap_or_else(|| panic!("{key} of {what} at {bytes} in {rows:?}"))
    };
    let median = |what: &str, bytes: u64| figure(what, bytes, "median_ns");
    // Eight times the work; the least of several, because others may have the processors.
    let least = |bytes: u64| figure("mprotect(PROT_NONE)", bytes, "min_ns");
    assert!(least(64 << 20) > least(8 << 20));
    assert!(median("first touch: page of a new file", 4096) > 50.0);
    assert!(median("mirror: mmap", 64 << 20) > 50.0);
    let compared = rows.iter().find(|row| row["what"] == "munmap" && row["bytes"] == 64 << 20).unwrap();
    assert_eq!(compared["ratio"]["to"], "mprotect(PROT_NONE)");
    let times = median("munmap", 64 << 20) / median("mprotect(PROT_NONE)", 64 << 20);
    assert!((compared["ratio"]["times"].as_f64().unwrap() - times).abs() < 1e-6);
}

#[test]
fn groups_that_are_named_are_measured_and_files_appear() {
    let scratch = Scratch::new("primitives-files");
    let out = scratch.bench(&["primitives", "view", "barrier", "--quick", "--sizes", "64m"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let table = text(&out.stdout);
    assert!(table.contains("MAKING VIEWS") && table.contains("mirror: mmap") && !table.contains("TAKING"), "{table}");
    assert_eq!(text(&out.stderr).lines().filter(|line| line.starts_with('[')).count(), 2, "a line a group");
    assert_eq!(scratch.entries(), ["gc-bench-report.html", "gc-bench-report.json"]);
    let read = |name: &str| fs::read_to_string(scratch.0.join(name)).unwrap();
    let page = read("gc-bench-report.html");
    assert!(page.contains("<svg") && !page.contains("http") && !page.contains("<script"));
    let document: Value = serde_json::from_str(&read("gc-bench-report.json")).unwrap();
    assert!(rows(&document).iter().all(|row| row["group"] == "view" || row["group"] == "barrier"));
}

#[test]
fn a_size_that_does_not_fit_is_a_row() {
    let document = json(&["primitives", "take-away", "--quick", "--sizes", "8m,1t"]);
    let rows = rows(&document);
    let large = rows.iter().filter(|row| row["bytes"] == 1u64 << 40).collect::<Vec<_>>();
    assert!(large.len() == 1 && large[0]["status"] == "left_out", "{large:?}");
    assert!(large[0]["why"].as_str().unwrap().contains("available"), "{large:?}");
    assert!(rows.iter().any(|row| row["bytes"] == 8 << 20 && row["status"] == "measured"));
}

#[test]
fn what_cannot_be_asked_for() {
    assert_refused(&["primitives", "--sizes", "3m"], 2, &["3 MiB", "multiple of 2 MiB"]);
    assert_refused(&["primitives", "--sizes", "0"], 2, &["0 B"]);
    assert_refused(&["primitives", "--sizes", "lots"], 2, &["lots", "256m"]);
    assert_refused(&["primitives", "flips"], 2, &["flips", "take-away"]);
    assert_refused(&["primitives", "--heap", "1g"], 2, &["--heap"]);
    assert_refused(&["measure-primitives"], 2, &["gc-bench primitives"]);
}

#[test]
fn a_sandbox_without_userfaultfd_gets_rows_that_say_so_and_all_the_others() {
    let scratch = Scratch::new("primitives-refused");
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let args = ["primitives", "--quick", "--sizes", "8m", "--json", "all.json"];
    let out = bench_with(&scratch, &args, &WITHOUT_USERFAULTFD, refuse);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("refused: userfaultfd"), "{}", text(&out.stdout));
    let document: Value = serde_json::from_str(&fs::read_to_string(scratch.0.join("all.json")).unwrap()).unwrap();
    let rows = rows(&document);
    for group in ["fault", "batch", "chunk"] {
        for row in of(rows, group) {
            assert_eq!(row["status"], "refused", "{row}");
            assert!(row["why"].as_str().unwrap().contains("Operation not permitted"), "{row}");
            assert!(row["since"].as_str().unwrap().starts_with("Linux "), "{row}");
        }
    }
    for (group, what, status) in [
        ("take-away", "UFFDIO_REGISTER", "refused"),
        ("take-away", "MREMAP_DONTUNMAP, range registered", "refused"),
        ("take-away", "mprotect(PROT_NONE)", "measured"),
        ("view", "mirror: mmap", "measured"),
        ("touch", "second view: write fault", "measured"),
    ] {
        let found = of(rows, group).into_iter().find(|row| row["what"] == what).unwrap();
        assert_eq!(found["status"], status, "{found}");
    }
}

#[test]
fn a_call_that_kills_its_group_leaves_the_other_groups() {
    let scratch = Scratch::new("primitives-killed");
    let args = ["primitives", "view", "barrier", "--quick", "--sizes", "8m", "--json", "all.json"];
    let out = bench_with(&scratch, &args, &[(libc::SYS_membarrier, None)], libc::SECCOMP_RET_KILL_PROCESS);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let document: Value = serde_json::from_str(&fs::read_to_string(scratch.0.join("all.json")).unwrap()).unwrap();
    let rows = rows(&document);
    assert!(of(rows, "view").iter().all(|row| row["status"] == "measured"), "{rows:?}");
    let barrier = of(rows, "barrier");
    let last = barrier.last().unwrap();
    assert_eq!(last["status"], "failed", "{barrier:?}");
    assert!(last["why"].as_str().unwrap().contains("SIGSYS"), "{last}");
}

#[test]
fn whoever_breaks_it_off_leaves_nothing_behind() {
    let scratch = Scratch::new("primitives-broken-off");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_gc-bench"));
    bench.args(["primitives", "touch"]).current_dir(&scratch.0).stdout(Stdio::null()).stderr(Stdio::null());
    // A shell starts what runs in the background with SIGINT ignored, and the bench would inherit
    // that.
    // SAFETY: between fork and exec nothing but a call that is safe there.
    unsafe {
        bench.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        })
    };
    let mut bench = bench.spawn().unwrap();
    let own = format!("/proc/{0}/task/{0}/children", bench.id());
    let group = loop {
        let children = fs::read_to_string(&own).unwrap_or_default();
        match children.split_whitespace().next() {
            Some(child) => break child.to_owned(),
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    // SAFETY: a signal to a process that this test started and has not waited for.
    unsafe { libc::kill(bench.id() as i32, libc::SIGINT) };
    assert!(!bench.wait().unwrap().success());
    let began = Instant::now();
    // A zombie of another parent's has no maps either.
    while fs::read_to_string(format!("/proc/{group}/maps")).is_ok_and(|maps| !maps.is_empty()) {
        assert!(began.elapsed() < Duration::from_secs(20), "the group's process goes with the bench");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(scratch.entries(), Vec::<String>::new());
}
