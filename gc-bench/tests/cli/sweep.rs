//! `sweep` and `merge`: what a file names is run whatever becomes of a run, and neither a kill nor
//! shards change which runs there are.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::common::{Scratch, assert_refused, text};

/// Ten configurations, of which two need more memory than they get.
const SWEEP: &str = r#"
repeats = 2
quick = true
workers = 1
timeout = 120
barrier = ["load", "stw"]

[[workload]]
name = "message-ring"
size = 20000
heap = ["48m", "64m"]

[[workload]]
name = "binary-trees"
threads = 1
size = [8, 10]
heap = "8m"

[[workload]]
name = "binary-trees"
label = "too tight"
threads = 1
size = 16
heap = "6200k"
"#;
const RUNS: usize = 20;

fn sweep(scratch: &Scratch, args: &[&str]) -> Output {
    scratch.bench(&[&["sweep", "sweep.toml"], args].concat())
}

fn with_file(name: &str, file: &str) -> Scratch {
    let scratch = Scratch::new(name);
    fs::write(scratch.0.join("sweep.toml"), file).unwrap();
    scratch
}

fn read(path: &Path) -> Value {
    let text = fs::read(path).unwrap();
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{} is no JSON: {e}", path.display()))
}

#[track_caller]
fn assert_done(out: &Output) {
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
}

/// What a report has, but for times: which runs, in which order, what became of each, and what it
/// computed.
fn facts(report: &Value) -> Value {
    let pick = |of: &Value, keys: &[&str]| keys.iter().map(|&key| of[key].clone()).collect::<Vec<_>>();
    let each =
        |list: &Value, keys: &[&str]| list.as_array().unwrap().iter().map(|of| pick(of, keys)).collect::<Vec<_>>();
    let sweep = &report["sweep"];
    json!({
        "keys": report.as_object().unwrap().keys().collect::<Vec<_>>(),
        "format": report["format"],
        "build": report["build"],
        "left_out": report["left_out"],
        "order": report["order"],
        "configurations": each(&report["configurations"], &["label", "runs"]),
        "runs": each(&report["runs"], &["workload", "repeat", "settings", "checksum", "ops"]),
        "sweep": pick(sweep, &["build", "repeats", "timeout_s", "settings"]),
        "became": each(&sweep["runs"], &["place", "configuration", "repeat", "status"]),
    })
}

/// The report of the whole sweep, which nothing disturbed.
fn undisturbed() -> &'static Value {
    static REPORT: OnceLock<Value> = OnceLock::new();
    REPORT.get_or_init(|| {
        let scratch = with_file("sweep-undisturbed", SWEEP);
        let out = sweep(&scratch, &[]);
        assert_done(&out);
        assert_eq!(scratch.entries(), ["gc-bench-report.html", "gc-bench-report.json", "sweep.toml"]);
        let (table, said) = (text(&out.stdout), text(&out.stderr));
        assert!(table.contains("message-ring, heap 48 MiB") && table.contains("2 of 2"), "{table}");
        let tight = "note: binary-trees, 1 thread, too tight: 2 of 2 runs out of memory: ";
        assert!(table.contains(tight) && table.contains("0 of 2"), "{table}");
        assert_eq!(said.lines().filter(|line| line.starts_with('[')).count(), RUNS, "{said}");
        let page = fs::read_to_string(scratch.0.join("gc-bench-report.html")).unwrap();
        assert!(page.contains("too tight: 2 of 2 runs out of memory"));
        read(&scratch.0.join("gc-bench-report.json"))
    })
}

#[test]
fn a_sweep_is_every_point_once_a_repeat_in_a_random_order_that_is_kept() {
    let report = undisturbed();
    let runs = report["sweep"]["runs"].as_array().unwrap();
    assert_eq!(runs.len(), RUNS);
    for (at, made) in runs.iter().enumerate() {
        assert_eq!((made["place"].as_u64(), made["repeat"].as_u64()), (Some(at as u64), Some(at as u64 / 10 + 1)));
        assert!(made["took_s"].as_f64() > Some(0.0));
        let label =
            report["order"]["configurations"][made["configuration"].as_u64().unwrap() as usize].as_str().unwrap();
        let (status, why) = (made["status"].as_str().unwrap(), made.get("why").and_then(Value::as_str));
        let tight = label.contains("too tight");
        assert_eq!(status, if tight { "out_of_memory" } else { "done" }, "{label}: {why:?}");
        assert_eq!(why.is_some_and(|why| why.contains("out of memory")), tight, "{label}: {why:?}");
    }
    let blocks: Vec<Vec<u64>> = runs
        .chunks(10)
        .map(|block| block.iter().map(|made| made["configuration"].as_u64().unwrap()).collect())
        .collect();
    for block in &blocks {
        assert_eq!(block.iter().copied().collect::<BTreeSet<_>>(), (0..10).collect());
    }
    assert_ne!(blocks[0], blocks[1]);
    assert!(report["order"]["seed"].is_u64());
    assert_eq!(report["runs"].as_array().unwrap().len(), RUNS - 4);
    assert_eq!(report["runs"][0]["settings"]["point"].as_str().map(str::is_empty), Some(false));
}

/// Lines of the journal that are whole.
fn kept(journal: &Path) -> Vec<Value> {
    let text = fs::read_to_string(journal).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).expect("a whole line is JSON")).collect()
}

/// The kills are real ones, at places that the printed seed makes again.
#[test]
fn a_sweep_that_is_killed_at_random_places_has_the_same_records() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("GC_BENCH_KILL_SEED").map_or(now, |seed| seed.parse().expect("a number"));
    println!("GC_BENCH_KILL_SEED={seed}");
    let mut state = seed | 1;
    let mut random = |below: u64| {
        // Xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let scratch = with_file("sweep-killed", SWEEP);
    let (journal, report) = (scratch.0.join("gc-bench-sweep.runs"), scratch.0.join("gc-bench-report.json"));
    let (mut kills, mut behind_some, mut before) = (0, 0, 0);
    // The page comes after the report: when it is there the sweep may end.
    while !report.exists() || journal.exists() {
        let mut bench = Command::new(env!("CARGO_BIN_EXE_gc-bench"));
        let bench = bench.args(["sweep", "sweep.toml", "--resume"]).current_dir(&scratch.0);
        let mut bench = bench.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // Later and later, so that a slow machine comes to an end, too.
        sleep(Duration::from_millis(random(200 + 40 * kills)));
        bench.kill().unwrap();
        let out = bench.wait_with_output().unwrap();
        assert!(out.status.code().is_none_or(|code| code == 0), "{}", text(&out.stderr));
        kills += 1;
        let lines = kept(&journal);
        let places: BTreeSet<u64> = lines.iter().skip(1).map(|line| line["made"]["place"].as_u64().unwrap()).collect();
        assert_eq!(places.len(), lines.len().saturating_sub(1), "no run is made twice");
        if report.exists() {
            read(&report);
        } else {
            assert!(places.len() >= before, "no run is lost: {} after {before}", places.len());
        }
        behind_some += u64::from(places.len() > before);
        before = places.len();
    }
    println!("{kills} kills, {behind_some} behind runs that were new");
    assert!(kills >= 3 && behind_some >= 2, "{kills} kills, {behind_some} behind runs that were new");
    assert_eq!(facts(&read(&report)), facts(undisturbed()));
    let again = sweep(&scratch, &["--resume"]);
    assert_done(&again);
    assert!(text(&again.stderr).contains("all runs were made before"), "{}", text(&again.stderr));
    assert!(scratch.0.join("gc-bench-report.html").exists());
}

/// Every place at which a write may be cut: the journal is cut there by hand.
#[test]
fn a_journal_that_is_cut_anywhere_loses_what_is_cut_alone() {
    let file = "quick = true\nrepeats = 2\n[[workload]]\nname = 'message-ring'\nsize = 3000";
    let scratch = with_file("sweep-cut", file);
    let journal = scratch.0.join("gc-bench-sweep.runs");
    // The report cannot be written: the journal stays.
    std::os::unix::fs::symlink("/dev/full", scratch.0.join("full")).unwrap();
    let out = sweep(&scratch, &["--json", "full"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("2 of 2"), "the table is not lost: {}", text(&out.stdout));
    let whole = fs::read(&journal).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|&byte| byte == b'\n').collect();
    assert_eq!(lines.len(), 3);
    let last = whole.len() - lines[2].len();
    for (cut, made) in
        [(whole.len(), 2), (whole.len() - 1, 1), (last + 1, 1), (last, 1), (lines[0].len() + 7, 0), (5, 0)]
    {
        fs::write(&journal, &whole[..cut]).unwrap();
        let out = sweep(&scratch, &["--resume", "--json", "-"]);
        assert_done(&out);
        let (said, report) = (text(&out.stderr), serde_json::from_slice::<Value>(&out.stdout).unwrap());
        assert_eq!(said.contains(&format!("{made} of 2 runs were made before")), made > 0, "{cut}: {said}");
        assert_eq!(report["runs"].as_array().unwrap().len(), 2, "{cut}");
        assert!(!journal.exists());
    }
}

#[test]
fn shards_are_merged_to_what_one_session_has() {
    let scratch = with_file("sweep-shards", SWEEP);
    let shard = |number: u32| format!("gc-bench-report-{number}-of-3.json");
    let mut places = Vec::new();
    for number in [2, 1, 3] {
        assert_done(&sweep(&scratch, &["--shard", &format!("{number}/3")]));
        let report = read(&scratch.0.join(shard(number)));
        let runs = report["sweep"]["runs"].as_array().unwrap();
        assert!((6..=7).contains(&runs.len()));
        places.extend(runs.iter().map(|made| made["place"].as_u64().unwrap()));
    }
    places.sort_unstable();
    assert_eq!(places, (0..RUNS as u64).collect::<Vec<_>>(), "no run twice, and none forgotten");
    let before = scratch.entries();
    let [one, two, three] = [1, 2, 3].map(shard);
    let refused = |args: &[&str], part: &str| {
        let out = scratch.bench(&[&["merge"], args].concat());
        let said = text(&out.stderr);
        assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{args:?}: {said}");
        assert!(said.contains(part) && out.stdout.is_empty(), "{args:?}: {said} does not say {part}");
        assert_eq!(scratch.entries(), before, "{args:?} leaves nothing behind");
    };
    refused(&[&one], "shards 2 and 3 of 3 are missing");
    refused(&[&three, &one], "shard 2 of 3 is missing");
    refused(&[&one, &two, &two, &three], &format!("{two} and {two} both have shard 2/3"));
    refused(&["no-such.json"], "cannot read no-such.json");
    refused(&["sweep.toml"], "sweep.toml is no report");
    refused(&[&one, &two, &three, "--json", &one], "there already");
    let out = scratch.bench(&["merge", &three, &one, &two]);
    assert_done(&out);
    let merged = read(&scratch.0.join("gc-bench-report.json"));
    assert_eq!(facts(&merged), facts(undisturbed()));
    assert_eq!(merged["sweep"]["shards"].as_array().unwrap().len(), 3);
    assert!(text(&out.stdout).contains("too tight: 2 of 2 runs out of memory"), "{}", text(&out.stdout));
    assert!(scratch.0.join("gc-bench-report.html").exists());

    let out = scratch.bench(&["merge", &three, &one, "--partial", "--json", "-"]);
    assert_done(&out);
    let partial: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(partial["left_out"], json!(["shard 2 of 3 is missing of the sweep"]));
    fs::write(scratch.0.join("partial.json"), &out.stdout).unwrap();
    let out = scratch.bench(&["merge", "partial.json", &two, "--json", "-"]);
    assert_done(&out);
    assert_eq!(facts(&serde_json::from_slice(&out.stdout).unwrap()), facts(undisturbed()));
}

/// One thing is changed in the report of the second of two shards.
#[test]
fn reports_that_are_not_of_one_sweep_are_not_merged() {
    let file = "quick = true\nrepeats = 2\n[[workload]]\nname = 'message-ring'\nsize = [3000, 4000]";
    let scratch = with_file("sweep-others", file);
    for shard in ["1/2", "2/2"] {
        assert_done(&sweep(&scratch, &["--shard", shard]));
    }
    let second = read(&scratch.0.join("gc-bench-report-2-of-2.json"));
    let refused = |change: &dyn Fn(&mut Value), part: &str| {
        let mut other = second.clone();
        change(&mut other);
        fs::write(scratch.0.join("b.json"), other.to_string()).unwrap();
        let out = scratch.bench(&["merge", "gc-bench-report-1-of-2.json", "b.json", "--json", "-"]);
        let said = text(&out.stderr);
        assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(part) && said.contains("b.json"), "{said} does not say {part}");
        assert!(out.stdout.is_empty());
    };
    refused(&|b| b["sweep"]["build"] = "0".into(), "different builds");
    refused(&|b| b["sweep"]["settings"][0]["size"] = 3001.into(), "their configurations differ");
    refused(&|b| b["sweep"]["repeats"] = 3.into(), "their repeats differ");
    refused(&|b| b["sweep"]["timeout_s"] = 3.5.into(), "their timeouts differ");
    refused(&|b| b["order"]["seed"] = 3.into(), "their orders differ");
    refused(&|b| b["sweep"]["shards"][0]["shard"] = "2/3".into(), "different numbers of shards");
    refused(&|b| b["sweep"]["shards"][0]["shard"] = "3/2".into(), "no report of runs");
    refused(&|b| b["runs"].as_array_mut().unwrap().truncate(1), "damaged");
    refused(&|b| b["runs"][0]["repeat"] = 9.into(), "damaged");
    refused(&|b| drop(b.as_object_mut().unwrap().remove("sweep")), "no report of a sweep");
    refused(&|b| b["format"] = 9.into(), "format 9");
    let mut short = second.clone();
    for list in ["/runs", "/sweep/runs"] {
        short.pointer_mut(list).unwrap().as_array_mut().unwrap().truncate(1);
    }
    fs::write(scratch.0.join("b.json"), short.to_string()).unwrap();
    let out = scratch.bench(&["merge", "gc-bench-report-1-of-2.json", "b.json", "--json", "-"]);
    assert!(out.status.code() == Some(2) && text(&out.stderr).contains("damaged"), "{}", text(&out.stderr));
}

#[test]
fn whatever_becomes_of_a_run_is_a_result() {
    let scratch = with_file("sweep-results", "");
    for (program, signal) in [("crash", "SEGV"), ("stop", "STOP")] {
        let program = scratch.0.join(program);
        let text = format!("#!/bin/sh\n[ \"$1\" = --version ] && echo 'gc-bench 0' && exit\nkill -{signal} $$\n");
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let file = r#"
        repeats = 1
        quick = true
        timeout = 2
        workload = [
            { name = "table-churn", seconds = 600, size = 1000 },
            { name = "message-ring", size = 3000, against = "./crash" },
            { name = "message-ring", label = "stops", size = 3000, against = "./stop" },
            { name = "binary-trees", threads = 1, size = 16, heap = ["6200k", "5m"] },
        ]
    "#;
    fs::write(scratch.0.join("sweep.toml"), file).unwrap();
    let out = sweep(&scratch, &[]);
    assert_done(&out);
    let report = read(&scratch.0.join("gc-bench-report.json"));
    let labels = report["order"]["configurations"].as_array().unwrap();
    let status = |label: &str| {
        let at =
            labels.iter().position(|of| of.as_str().unwrap() == label).unwrap_or_else(|| panic!("{label}: {labels:?}"));
        let runs = report["sweep"]["runs"].as_array().unwrap();
        let made = runs.iter().find(|made| made["configuration"] == at).unwrap();
        (made["status"].as_str().unwrap(), made.get("why").map_or("", |why| why.as_str().unwrap()))
    };
    let (late, why) = status("table-churn, 2 threads");
    assert!(late == "timed_out" && why.contains("took longer than 2 s"), "{late}: {why}");
    let (crashed, why) = status("message-ring, load, other build");
    assert!(crashed == "crashed" && why.contains("signal: 11"), "{crashed}: {why}");
    // A process that is stopped cannot end itself.
    let (stopped, why) = status("message-ring, stops, load, other build");
    assert!(stopped == "timed_out" && why.contains("took longer than 2 s, and was killed"), "{stopped}: {why}");
    let (short, why) = status("binary-trees, 1 thread, heap 6.05 MiB");
    assert!(short == "out_of_memory" && why.contains("out of memory"), "{short}: {why}");
    let (impossible, why) = status("binary-trees, 1 thread, heap 5 MiB");
    assert!(impossible == "impossible" && why.contains("alive at once"), "{impossible}: {why}");
    assert_eq!(status("message-ring"), ("done", ""));
    // None of a sweep is done: a report all the same.
    fs::write(scratch.0.join("sweep.toml"), "quick = true\ntimeout = 0.2\nrepeats = 1\nworkload = 'table-churn'")
        .unwrap();
    let out = sweep(&scratch, &["--out", "none"]);
    assert_done(&out);
    assert!(text(&out.stdout).contains("0 of 1"), "{}", text(&out.stdout));
    let report = read(&scratch.0.join("none/gc-bench-report.json"));
    assert_eq!((&report["runs"], &report["sweep"]["runs"][0]["status"]), (&json!([]), &json!("timed_out")));
}

#[test]
fn what_was_made_is_neither_made_again_nor_dropped_unasked() {
    let file = "quick = true\nrepeats = 2\n[[workload]]\nname = 'message-ring'\nsize = 3000";
    let scratch = with_file("sweep-resume", file);
    let journal = scratch.0.join("gc-bench-sweep.runs");
    assert_done(&sweep(&scratch, &[]));
    let report = fs::read(scratch.0.join("gc-bench-report.json")).unwrap();
    let refused = |args: &[&str], part: &str| {
        let before = fs::read(&journal).ok();
        let out = sweep(&scratch, args);
        let said = text(&out.stderr);
        assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said} does not say {part}");
        assert_eq!(fs::read(&journal).ok(), before, "{args:?} leaves the journal as it is");
        assert_eq!(fs::read(scratch.0.join("gc-bench-report.json")).unwrap(), report);
    };
    refused(&[], "there already");
    let out = sweep(&scratch, &["--resume"]);
    assert_done(&out);
    assert!(text(&out.stderr).contains("all runs were made before: ./gc-bench-report.json has them"));
    assert_eq!(fs::read(scratch.0.join("gc-bench-report.json")).unwrap(), report, "it is as it was");
    // A session that made one run and was killed.
    let of = |report: &Value, at: usize| json!({ "made": report["sweep"]["runs"][at], "record": report["runs"][at] });
    let value: Value = serde_json::from_slice(&report).unwrap();
    std::os::unix::fs::symlink("/dev/full", scratch.0.join("full")).unwrap();
    assert_eq!(sweep(&scratch, &["--json", "full"]).status.code(), Some(1));
    let first = fs::read_to_string(&journal).unwrap().lines().next().unwrap().to_owned();
    fs::write(&journal, format!("{first}\n{}\n", of(&value, 0))).unwrap();
    refused(
        &["--json", "other.json"],
        "has 1 of 2 runs of this sweep: --resume goes on behind them, --force drops them",
    );
    fs::write(scratch.0.join("sweep.toml"), file.replace("3000", "4000")).unwrap();
    refused(&["--json", "other.json"], "has runs of another request");
    refused(&["--json", "other.json", "--resume"], "has runs of another request");
    refused(&["--resume"], "there already");
    fs::write(scratch.0.join("sweep.toml"), file).unwrap();
    let out = sweep(&scratch, &["--resume", "--json", "other.json"]);
    assert_done(&out);
    let said = text(&out.stderr);
    assert!(said.contains("1 of 2 runs were made before"), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with('[')).count(), 1, "one run is made: {said}");
    let other = read(&scratch.0.join("other.json"));
    assert_eq!((facts(&other), &other["runs"][0]["tracks"]), (facts(&value), &value["runs"][0]["tracks"]));
    fs::write(&journal, format!("{first}\n{}\n", of(&value, 0))).unwrap();
    let out = sweep(&scratch, &["--force"]);
    assert_done(&out);
    assert!(!text(&out.stderr).contains("made before") && !journal.exists(), "{}", text(&out.stderr));
}

/// The script is run as the scheduler would, a job after the other.
#[test]
fn a_job_array_for_slurm_makes_every_shard() {
    let file = "quick = true\nrepeats = 2\n[[workload]]\nname = 'message-ring'\nsize = [3000, 4000]";
    let scratch = with_file("sweep slurm's", file);
    let out = sweep(&scratch, &["--job-array", "slurm", "--shards", "3", "--out", "found here"]);
    assert_done(&out);
    assert_eq!(scratch.entries(), ["sweep.toml"], "nothing is run");
    let script = text(&out.stdout);
    for part in
        ["#!/bin/bash\n", "\n#SBATCH --array=1-3\n", "\n#SBATCH --exclusive\n", " --resume --out 'found here'\n"]
    {
        assert!(script.contains(part), "{script} does not have {part}");
    }
    for job in ["3", "1", "2"] {
        let mut bash = Command::new("bash");
        let bash = bash.args(["-c", script]).current_dir("/").env("SLURM_ARRAY_TASK_ID", job);
        assert_done(&bash.output().unwrap());
    }
    let merge = script.lines().find_map(|line| line.strip_prefix("#   gc-bench ")).expect("it says how to merge");
    let mut bash = Command::new("bash");
    let line = format!("{} {merge}", env!("CARGO_BIN_EXE_gc-bench"));
    assert_done(&bash.args(["-c", &line]).current_dir(&scratch.0).output().unwrap());
    let report = read(&scratch.0.join("found here/gc-bench-report.json"));
    assert_eq!((report["runs"].as_array().unwrap().len(), &report["left_out"]), (4, &json!([])));
}

#[test]
fn an_indexed_job_for_kubernetes_has_the_sweep_in_it() {
    let scratch = with_file("sweep-kubernetes", SWEEP);
    let args = ["--job-array", "kubernetes", "--shards", "4", "--image", "registry.example/gc-bench:1"];
    let out = sweep(&scratch, &args);
    assert_done(&out);
    let manifest = text(&out.stdout);
    for part in [
        "completionMode: Indexed",
        "completions: 4",
        "image: \"registry.example/gc-bench:1\"",
        "--shard $((JOB_COMPLETION_INDEX + 1))/4 --resume --out /results",
        "memory: 2Gi",
    ] {
        assert!(manifest.contains(part), "{manifest} does not have {part}");
    }
    let line = manifest.lines().find_map(|line| line.strip_prefix("  sweep.toml: ")).unwrap();
    assert_eq!(serde_json::from_str::<String>(line).unwrap(), SWEEP);
    assert!(!manifest.contains("seccompProfile"));
    fs::write(scratch.0.join("sweep.toml"), SWEEP.replace("stw", "page")).unwrap();
    assert!(text(&sweep(&scratch, &args).stdout).contains("\n          securityContext:\n"));
}

#[test]
fn what_a_sweep_cannot_have_is_refused() {
    assert_refused(&["sweep"], 2, &["FILE"]);
    assert_refused(&["sweep", "no-such.toml"], 2, &["cannot read no-such.toml"]);
    assert_refused(&["sweep", "/"], 2, &["cannot read /"]);
    assert_refused(&["merge"], 2, &["REPORT"]);
    let scratch = Scratch::new("sweep-refused");
    let refused = |file: &str, args: &[&str], parts: &[&str]| {
        fs::write(scratch.0.join("sweep.toml"), file).unwrap();
        let out = sweep(&scratch, args);
        let said = text(&out.stderr);
        assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{file} {args:?}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{file} {args:?}: {said} does not say {parts:?}");
        assert_eq!((scratch.entries(), out.stdout.is_empty()), (vec!["sweep.toml".to_owned()], true), "{args:?}");
    };
    refused("workload = ['gcbench']\nrepeats = 0", &[], &["sweep.toml: ", "`repeats`"]);
    refused("workload = [\n[[", &[], &["sweep.toml: line 2"]);
    refused("workload = ['gcbench']\nthreads = 2", &[], &["sweep.toml: gcbench: ", "no use for --threads"]);
    // Of one of two heaps it is a result.
    refused("workload = ['gcbench']\nheap = ['1m', '2m']", &[], &["4 MiB"]);
    let good = "workload = ['gcbench']\nrepeats = 2";
    refused(good, &["--shard", "0/2"], &["--shard", "no shard 0 of 2"]);
    refused(good, &["--shard", "3/2"], &["--shard", "no shard 3 of 2"]);
    refused(good, &["--shard", "two"], &["--shard", "`two` is no shard such as 2/8"]);
    refused(good, &["--shard", "1/3"], &["3 shards are too many: the sweep has 2 runs"]);
    refused(good, &["--json", "no/such/folder.json"], &["no folder no/such"]);
    refused(good, &["--job-array", "slurm"], &["--shards"]);
    refused(good, &["--shards", "2"], &["--job-array"]);
    refused(good, &["--job-array", "pbs", "--shards", "2"], &["pbs", "slurm", "kubernetes"]);
    refused(good, &["--job-array", "slurm", "--shards", "0"], &["--shards"]);
    refused(good, &["--job-array", "slurm", "--shards", "3"], &["3 shards are too many"]);
    refused(good, &["--job-array", "slurm", "--shards", "2", "--shard", "1/2"], &["--shard"]);
    refused(good, &["--job-array", "slurm", "--shards", "2", "--resume"], &["--resume"]);
    refused(good, &["--job-array", "slurm", "--shards", "2", "--json", "x"], &["leave out --json"]);
    refused(good, &["--job-array", "slurm", "--shards", "2", "--image", "x"], &["--image"]);
    refused(good, &["--job-array", "kubernetes", "--shards", "2"], &["--image"]);
    refused(good, &["--job-array", "kubernetes", "--shards", "2", "--image", "x", "--out", "y"], &["--out"]);
    refused(good, &["--image", "x"], &["--job-array"]);
}
