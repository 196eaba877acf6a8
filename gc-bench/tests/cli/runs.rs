//! Small runs of everything, as a user starts them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Scratch, bench_in, json, text};
use crate::report::{assert_run, only_run};

#[test]
fn gcbench_sums_up_as_its_peers_do() {
    for barrier in ["load", "stw"] {
        let document =
            json(&["run", "gcbench", "--barrier", barrier, "--heap", "64m", "--size", "1", "--repeats", "1"]);
        let run = only_run(&document);
        assert_eq!((run["checksum"].as_i64(), run["ops"].as_u64()), (Some(15), Some(1)));
        assert_eq!(run["barrier"], barrier);
        assert!(run["cycles"].as_u64() > Some(0) && run["pauses"]["count"].as_u64() > Some(0));
        // A round has as many subtrees of depth 4 as this.
        let (size, stretch) = (|d: u64| (2u64 << d) - 1, (2u64 << 18) - 1);
        let subtrees: u64 = (4..=16).step_by(2).map(|d| 2 * (2 * stretch / size(d)) * (1 << (d - 4))).sum();
        assert_eq!(run["latency"]["count"], subtrees);
        // Its one thread has nothing to wait for, save that it began and ended.
        let idle_ns = run["tracks"][0]["idle_ns"].as_u64().unwrap();
        assert!(idle_ns < run["measured_ns"].as_u64().unwrap() / 2, "{idle_ns} ns idle");
    }
}

#[test]
fn binary_trees_counts_every_node_in_any_number_of_threads() {
    let depth = 12u32;
    let tree = |d: u32| (2i64 << d) - 1;
    let expected = tree(depth + 1)
        + tree(depth)
        + (4..=depth).step_by(2).map(|d| (1i64 << (depth - d + 4)) * tree(d)).sum::<i64>();
    for threads in ["1", "2", "4"] {
        let args = ["binary-trees", "--threads", threads, "--size", "12", "--heap", "16m", "--repeats", "1"];
        let document = json(&args);
        let run = only_run(&document);
        assert_eq!(run["checksum"], expected, "{threads} threads");
        assert_eq!(run["threads"]["mutators"]["count"].to_string(), threads);
        assert_eq!(run["ops"], run["latency"]["count"]);
    }
}

#[test]
fn message_ring_holds_the_last_messages() {
    let document = json(&["message-ring", "--quick", "--size", "100001"]);
    let run = only_run(&document);
    // The middle bytes of the last messages, the low byte of each one's number, signed.
    let held = run["settings"]["held"].as_i64().unwrap();
    let expected: i64 = (100_001 - held..100_001).map(|i| i64::from(i as i8)).sum();
    assert_eq!((run["checksum"].as_i64(), run["ops"].as_u64()), (Some(expected), Some(100_001)));
    assert_eq!(run["latency"]["count"], 100_001);
}

/// Without it the heap uses nearly all of its 128 MiB before a cycle begins. As fast as it goes the
/// warm-up may allocate as much while a cycle runs; what lies beyond is given back then.
#[test]
fn a_soft_maximum_holds_a_workload() {
    let base = ["message-ring", "--quick", "--no-pretouch", "--size", "300000", "--rate", "100000"];
    let at_the_end = |document: &Value| {
        let last = only_run(document)["occupancy"].as_array().unwrap().last().unwrap();
        last["committed_bytes"].as_u64().unwrap() >> 20
    };
    let without = json(&base);
    assert!(at_the_end(&without) > 100, "{} MiB", at_the_end(&without));
    assert!(without["runs"][0]["settings"].get("soft_max_bytes").is_none());
    let with = json(&[&base[..], &["--soft-max", "48m", "--uncommit-delay", "30"]].concat());
    assert!(at_the_end(&with) < 80, "{} MiB", at_the_end(&with));
    let of = |key: &str| with["runs"][0]["settings"][key].as_f64();
    assert_eq!((of("soft_max_bytes"), of("uncommit_delay_s")), (Some(f64::from(48 << 20)), Some(30.0)));
    assert!(with["runs"][0]["uncommitted_bytes"].is_u64());
}

/// The views of a heap with four times the addresses are larger, and the work is the same.
#[test]
fn a_heap_with_more_addresses_than_memory_does_the_same_work() {
    let base = ["gcbench", "--quick", "--repeats", "1"];
    let (without, with) = (json(&base), json(&[&base[..], &["--address-factor=4"]].concat()));
    let run = only_run(&with);
    assert_eq!((&run["checksum"], &run["ops"]), (&only_run(&without)["checksum"], &only_run(&without)["ops"]));
    assert_eq!(run["settings"]["address_factor"], 4);
    assert!(only_run(&without)["settings"].get("address_factor").is_none());
    assert_eq!(run["heap_bytes"], only_run(&without)["heap_bytes"], "its maximum is of memory");
}

#[test]
fn table_churn_runs_for_as_long_and_as_fast_as_it_is_told() {
    let base = ["table-churn", "--quick", "--size", "20000", "--heap", "96m", "--seconds", "0.5"];
    let document = json(&base);
    let run = only_run(&document);
    assert_eq!(run["ops"], run["latency"]["count"]);
    assert!((0.5..2.0).contains(&run["wall_s"].as_f64().unwrap()));
    let document = json(&[&base[..], &["--rate", "20500", "--threads", "1"]].concat());
    let run = only_run(&document);
    assert_eq!(run["latency"]["count"], 500, "a sample a tick");
    assert_eq!(run["ops"], 20_500 / 2);
}

/// Whatever the barrier, and with more addresses than memory: the bench checks the checksum, and
/// the heap is smaller than what a heap that moves nothing would need.
#[test]
fn holes_that_are_too_small_are_no_obstacle() {
    for barrier in ["load", "load-generations", "stw"] {
        let base = ["robson", "--quick", "--rounds", "2", "--barrier", barrier];
        for more in [&[][..], &["--address-factor", "2"]] {
            let document = json(&[&base[..], more].concat());
            let run = only_run(&document);
            // 8 MiB, and 13 sizes.
            let made = (8 << 20) / 64 + (1..13).map(|stage| (4 << 20) / (64 << stage)).sum::<u64>();
            assert_eq!((run["ops"].as_u64(), run["latency"]["count"].as_u64()), (Some(2 * made), Some(2 * made)));
            assert_eq!(run["heap_bytes"], 16 << 20);
            assert!(run["cycles"].as_u64() > Some(2), "{barrier}: {}", run["cycles"]);
        }
    }
}

/// Ten looks a second, and a collector that is asleep nearly all the time.
#[test]
fn a_program_that_does_nothing_costs_next_to_nothing() {
    for barrier in ["load", "load-generations", "stw"] {
        let document = json(&["idle", "--quick", "--seconds", "2", "--barrier", barrier]);
        let run = only_run(&document);
        assert_eq!((run["ops"].as_u64(), run["latency"]["count"].as_u64()), (Some(20), Some(20)));
        assert_eq!(run["cycles"], 0, "{barrier}");
        let of = |key: &str| run["threads"]["collector"][key].as_u64().unwrap();
        assert!(of("cpu_ns") < 100_000_000 && of("voluntary_switches") < 200, "{}", run["threads"]);
    }
}

/// Of a run: its looks at the heap, each with its time in seconds and MiB used, committed and
/// resident.
fn looks(run: &Value) -> Vec<(f64, [f64; 3])> {
    let mib = |look: &Value, key: &str| look[key].as_f64().unwrap() / f64::from(1 << 20);
    let keys = ["used_bytes", "committed_bytes", "resident_bytes"];
    let looks = run["occupancy"].as_array().unwrap().iter();
    looks.map(|look| (look["at_ns"].as_f64().unwrap() / 1e9, keys.map(|key| mib(look, key)))).collect()
}

/// What the checksum of `tides` is at low water.
fn sum_at_low_water(size_mib: u64, threads: u64) -> u64 {
    let low = size_mib * (1 << 20) / threads / 1024 / 8;
    threads * (0..low).map(|slot| slot.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).sum::<u64>()
}

/// Half a second stands for five minutes, so low water lasts for twenty.
#[test]
fn memory_follows_a_slow_tide() {
    let args = ["tides", "--quick", "--rate", "1000", "--period", "8", "--seconds", "8", "--uncommit-delay", "0.5"];
    let document = json(&args);
    let run = only_run(&document);
    assert_eq!(run["checksum"].as_u64(), Some(sum_at_low_water(32, 2)));
    let looks = looks(run);
    let between = |from: f64, to: f64| looks.iter().filter(move |(at, _)| (from..to).contains(at)).map(|&(_, of)| of);
    for [used, committed, resident] in between(0.0, 8.0) {
        assert!(used <= committed + 4.0 && resident <= committed + 4.0, "{used}, {committed}, {resident}");
    }
    // At high water 32 MiB live.
    assert!(between(2.5, 4.0).all(|[used, _, resident]| used > 30.0 && resident > 30.0), "{looks:?}");
    // At low water 4, and what has been allocated since the last cycle.
    let least = between(6.0, 8.0).map(|[_, committed, _]| committed).fold(f64::MAX, f64::min);
    assert!(least < 8.0, "{least} MiB are committed at low water: {looks:?}");
}

/// Memory that a period of less than the delay needs again stays: the heap does not give it back
/// and take it again.
#[test]
fn memory_does_not_follow_a_fast_tide() {
    let args = ["tides", "--quick", "--rate", "1000", "--period", "1", "--seconds", "10", "--uncommit-delay", "2"];
    let document = json(&args);
    let run = only_run(&document);
    assert_eq!(run["checksum"].as_u64(), Some(sum_at_low_water(32, 2)));
    // The tides take 280 MiB in and out. Of the 64 MiB that the warm-up has used, whose operations
    // are as fast as they can be, some are given back once.
    let given_back = run["uncommitted_bytes"].as_u64().unwrap() >> 20;
    assert!(given_back < 70, "{given_back} MiB given back: {:?}", looks(run));
}

#[test]
fn a_document_is_parsed_over_and_over() {
    let scratch = Scratch::new("json-input");
    let file = scratch.0.join("doc.json");
    let items: Vec<Value> =
        (0..500).map(|i| serde_json::json!({ "id": i, "name": format!("é{i}"), "tags": [true, null] })).collect();
    fs::write(&file, serde_json::to_string(&items).unwrap()).unwrap();
    let document = json(&["json", file.to_str().unwrap(), "--seconds", "0.4", "--heap", "32m", "--threads", "3"]);
    let run = only_run(&document);
    assert_eq!(run["checksum"], 1 + 500 * 6, "values in the document");
    assert!(run["documents"].as_u64() > Some(0) && run["ops"].as_u64() > Some(0));
}

#[test]
fn a_session_goes_on_until_its_intervals_are_narrow_or_its_bound() {
    let scratch = Scratch::new("until");
    let base = ["message-ring", "--quick", "--size", "3000"];
    // So wide that five runs do, and so narrow that the bound ends it.
    for (percent, repeats, reached) in [("50%", 5, None), ("0.000001%", 6, Some(false))] {
        let until = ["--until-ci", percent, "--max-repeats", "6", "--json", "found.json", "--force"];
        let out = scratch.bench(&[&base[..], &until].concat());
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        let document: Value = serde_json::from_str(&fs::read_to_string(scratch.0.join("found.json")).unwrap()).unwrap();
        let (runs, outcome) = (document["runs"].as_array().unwrap(), &document["order"]["until"]);
        let (widest, wanted) = (outcome["widest"].as_f64().unwrap(), outcome["half_width"].as_f64().unwrap());
        if let Some(reached) = reached {
            assert_eq!((runs.len(), outcome["reached"].as_bool()), (repeats, Some(reached)));
            assert!(widest > wanted && text(&out.stdout).contains("the session ended before all intervals were"));
            assert!(text(&out.stderr).contains("more runs"), "{}", text(&out.stderr));
        } else {
            assert_eq!(outcome["reached"], widest <= wanted, "{outcome}");
            assert!(runs.len() >= repeats && (outcome["reached"] == true || runs.len() == 6));
        }
        let rate = &document["configurations"][0]["ops_per_s"];
        let of = |key: &str| rate[key].as_f64().unwrap();
        assert!(of("low") < of("estimate") && of("estimate") < of("high"));
        assert!(widest >= (of("high") - of("low")) / 2.0 / of("estimate") - 1e-9, "{rate}");
    }
}

#[test]
fn pause_scaling_reports_every_point() {
    let document = json(&["pause-scaling", "--quick", "--cycles", "3"]);
    let runs = document["runs"].as_array().unwrap();
    assert_eq!(runs.len() + document["left_out"].as_array().unwrap().len(), 5);
    for run in runs {
        assert_run(run);
        assert!(run["cycles"].as_u64() >= Some(3));
        assert_eq!(run["checksum"].as_i64(), run["settings"]["live_bytes"].as_i64().map(|n| n / 2048));
    }
}

#[test]
fn a_run_ends_with_the_bench_that_started_it() {
    let scratch = Scratch::new("killed");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_gc-bench"))
        .args(["table-churn", "--quick", "--seconds", "600"])
        .current_dir(&scratch.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let children = |pid: u32| fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        let since = Instant::now();
        while !done() {
            assert!(since.elapsed() < Duration::from_secs(30), "{what} takes too long");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait("starting the run's process", &|| !children(bench.id()).trim().is_empty());
    let child = children(bench.id()).split_whitespace().next().unwrap().to_owned();
    // Not a signal that could be handled.
    bench.kill().unwrap();
    let mut out = String::new();
    bench.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    bench.wait().unwrap();
    wait("the end of the run's process", &|| !fs::exists(format!("/proc/{child}/exe")).unwrap_or(false));
    assert!(out.is_empty());
    assert_eq!(scratch.entries(), Vec::<String>::new());
}

/// Every thread of it: mutators, collector, and what the bench has beside them.
#[test]
fn a_run_stays_on_the_processors_that_it_was_given() {
    let scratch = Scratch::new("cpus");
    let allowed = |task: &Path| {
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        status.lines().find_map(|line| Some(line.strip_prefix("Cpus_allowed_list:")?.trim().to_owned()))
    };
    let own = allowed("/proc/thread-self".as_ref()).unwrap();
    let first = own.split([',', '-']).next().unwrap().to_owned();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_gc-bench"))
        .args(["table-churn", "--quick", "--seconds", "600", "--cpus", "1"])
        .current_dir(&scratch.0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let tasks = |pid: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    let since = Instant::now();
    let found = loop {
        assert!(since.elapsed() < Duration::from_secs(30), "the run does not start");
        std::thread::sleep(Duration::from_millis(20));
        let children = format!("/proc/{0}/task/{0}/children", bench.id());
        let Ok(children) = fs::read_to_string(children) else { continue };
        let tasks = children.split_whitespace().next().map(tasks).unwrap_or_default();
        // The collector and two mutators beside the main thread.
        if tasks.len() >= 4 {
            break tasks.iter().filter_map(|task| allowed(task)).collect::<Vec<_>>();
        }
    };
    let of_the_bench = allowed(format!("/proc/{}", bench.id()).as_ref());
    bench.kill().unwrap();
    bench.wait().unwrap();
    assert!(found.len() >= 4 && found.iter().all(|list| *list == first), "{found:?}, not {first}");
    assert_eq!(of_the_bench, Some(own), "the bench itself has all");

    let document =
        json(&["gcbench", "--quick", "--size", "1", "--barrier", "stw", "--cpus", &format!("{first}-{first}")]);
    let run = only_run(&document);
    assert_eq!(run["settings"]["cpus"], serde_json::json!([first.parse::<u64>().unwrap()]));
    assert_eq!(run["settings"]["workers"], 1, "as many as processors");
    let label = document["configurations"][0]["label"].as_str().unwrap();
    assert!(label.contains(&format!("on processor {first}")), "{label}");
}

#[test]
fn the_bench_works_from_any_folder() {
    let out = bench_in("/".as_ref(), &["gcbench", "--quick", "--size", "1", "--json", "-"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    only_run(&serde_json::from_slice(&out.stdout).unwrap());
}

/// A build replaces the program's file between two runs.
#[test]
fn a_session_goes_on_with_the_program_that_began_it() {
    let scratch = Scratch::new("replaced");
    let program = scratch.0.join("gc-bench");
    fs::copy(env!("CARGO_BIN_EXE_gc-bench"), &program).unwrap();
    let args = ["message-ring", "--quick", "--size", "20000", "--repeats", "20", "--json", "-"];
    let bench = Command::new(&program).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    fs::remove_file(&program).unwrap();
    fs::copy("/bin/true", &program).unwrap();
    let out = bench.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(document["runs"].as_array().unwrap().len(), 20);
}
