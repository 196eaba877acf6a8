//! Rows of other runtimes, and of memory that the program frees itself. Where no Java development
//! kit, no Node.js or no Go is on the path, what needs one is not tested, and says so.

use std::process::Command;

use crate::common::{Scratch, assert_refused, json, text};
use serde_json::Value;

/// Whether `java` and `javac` are on the path.
fn has_kit() -> bool {
    let has = starts("java", "-version") && starts("javac", "-version");
    if !has {
        println!("NOT TESTED: peers of the JVM, because no `java` and `javac` are on the path");
    }
    has
}

fn starts(name: &str, version: &str) -> bool {
    Command::new(name).arg(version).output().is_ok_and(|out| out.status.success())
}

/// Whether `node` is on the path.
fn has_node() -> bool {
    let has = starts("node", "--version");
    if !has {
        println!("NOT TESTED: V8, because no `node` is on the path");
    }
    has
}

fn of<'a>(document: &'a Value, barrier: &str) -> Vec<&'a Value> {
    document["runs"].as_array().unwrap().iter().filter(|run| run["barrier"] == barrier).collect()
}

/// The same work, by its checksum and by how many samples there are; samples tile the mutators'
/// time; and the process's time is told.
#[track_caller]
fn assert_same_work(ours: &Value, peer: &Value) {
    let work = ours["workload"].as_str().unwrap();
    assert_eq!(ours["workload"], peer["workload"]);
    if !["table-churn", "lru-cache"].contains(&work) {
        assert_eq!(ours["checksum"], peer["checksum"], "{work}");
        assert_eq!(ours["operations"]["count"], peer["operations"]["count"], "{work}");
        let others = [ours, peer].map(|run| run["other"]["count"].as_u64().unwrap());
        // To free trees is work of its own, which no collected heap has.
        let frees = peer["barrier"] == "manual" && ["gcbench", "binary-trees"].contains(&work);
        assert!(if frees { others[0] < others[1] } else { others[0] == others[1] }, "{work}: {others:?}");
        assert_eq!(ours["ops"], peer["ops"], "{work}");
    }
    assert_eq!(ours["settings"]["size"], peer["settings"]["size"]);
    let measured_ns = peer["measured_ns"].as_u64().unwrap();
    let tracks = peer["tracks"].as_array().unwrap();
    assert_eq!(tracks.len(), ours["tracks"].as_array().unwrap().len());
    for track in tracks {
        let of = |key: &str| track[key].as_u64().unwrap();
        assert_eq!(of("operations_ns") + of("other_ns") + of("idle_ns"), measured_ns, "{work}");
    }
    let number = |key: &str| peer[key].as_f64().unwrap();
    assert!(number("cpu_s") > 0.0 && number("pss_peak_bytes") > 1e6 && number("wall_s") > 0.0, "{work}");
    assert!(peer["metered"]["100ms"]["max_ns"].as_u64() >= peer["metered"]["1ms"]["p50_ns"].as_u64());
    assert_eq!(peer["pauses"]["count"], peer["stops"].as_array().unwrap().len());
    let kit = match peer["barrier"].as_str().unwrap() {
        "manual" => return,
        "v8" => &peer["settings"]["node"]["version"],
        "go" => &peer["settings"]["go"]["version"],
        _ => &peer["settings"]["java"]["jdk"],
    };
    assert!(kit.is_string(), "{kit}");
}

/// The standard workloads, each by this heap and by a peer, whose runs these are.
#[track_caller]
fn assert_all_the_same<'a>(document: &'a Value, peer: &str) -> Vec<&'a Value> {
    let (ours, peers) = (of(document, "load"), of(document, peer));
    assert_eq!((ours.len(), peers.len()), (5, 5));
    for ours in &ours {
        let same = |peer: &&&Value| {
            let threads = |run: &Value| run["settings"]["threads"].clone();
            peer["workload"] == ours["workload"] && threads(peer) == threads(ours)
        };
        assert_same_work(ours, peers.iter().find(same).unwrap());
    }
    peers
}

/// Needs nothing but this program, so it is tested everywhere.
#[test]
fn memory_freed_by_hand_does_the_same_work() {
    let document = json(&["--quick", "--barrier", "load", "--peer", "manual"]);
    for run in assert_all_the_same(&document, "manual") {
        let work = &run["workload"];
        assert_eq!((run["cycles"].as_u64(), run["pauses"]["count"].as_u64()), (Some(0), Some(0)), "{work}");
        assert_eq!(run["threads"]["collector"]["count"], 0, "{work}");
        assert_eq!(run["threads"]["mutators"]["count"].as_u64(), Some(run["tracks"].as_array().unwrap().len() as u64));
        assert_eq!(run["settings"]["pretouch"], false, "{work}");
        assert_eq!(run["settings"]["huge_pages"], "never", "{work}");
    }
    // Two tables of 8 MiB, and what 50,000 records take in each.
    let churn = of(&document, "manual").into_iter().find(|run| run["workload"] == "table-churn").unwrap();
    let peak = churn["pss_peak_bytes"].as_f64().unwrap();
    assert!((40e6..90e6).contains(&peak), "{peak}");

    let args = ["lru-cache", "--quick", "--seconds", "1", "--rate", "20000", "--barrier", "load", "--peer", "manual"];
    let document = json(&args);
    for barrier in ["load", "manual"] {
        let run = of(&document, barrier)[0];
        assert_eq!((run["ops"].as_u64(), run["latency"]["count"].as_u64()), (Some(40_000), Some(2_000)), "{barrier}");
    }
    assert_same_work(of(&document, "load")[0], of(&document, "manual")[0]);
}

/// It has no heap, and so no size of one.
#[test]
fn memory_freed_by_hand_has_no_heap() {
    assert_refused(&["minheap", "gcbench", "--peer", "manual"], 2, &["manual", "no heap", "leave out --peer"]);
    assert_refused(&["curve", "gcbench", "--peer", "manual"], 2, &["manual", "no heap", "leave out --peer"]);
    assert_refused(&["gcbench", "--peer", "manual", "--jdk", "/nowhere"], 2, &["--jdk", "JVM"]);
    assert_refused(&["tides", "--peer", "manual"], 2, &["tides", "leave out --peer"]);
    let scratch = Scratch::new("no-heap");
    let out = scratch.bench(&["message-ring", "--quick", "--size", "100000", "--peer", "manual", "--repeats", "1"]);
    let table = text(&out.stdout);
    let heap = table.lines().find(|line| line.trim_start().starts_with("heap ")).unwrap_or_default();
    assert_eq!(heap.split_whitespace().collect::<Vec<_>>(), ["heap", "128", "MiB", "-"], "{table}");
}

#[test]
fn a_peer_does_the_same_work() {
    if !has_kit() {
        return;
    }
    let document = json(&["--quick", "--barrier", "load", "--peer", "parallel"]);
    let peers = assert_all_the_same(&document, "parallel");
    // Some tens of MB a second go through heaps of 128 MiB.
    let stops: usize = peers.iter().map(|peer| peer["stops"].as_array().unwrap().len()).sum();
    assert!(stops > 0, "no collection was seen");

    let document = json(&["lru-cache", "--quick", "--seconds", "1", "--barrier", "load", "--peer", "parallel"]);
    let (ours, peers) = (of(&document, "load"), of(&document, "parallel"));
    assert_same_work(ours[0], peers[0]);
    assert!(peers[0]["ops"].as_u64().unwrap() > 10_000 && peers[0]["checksum"].as_i64().unwrap() != 0);
}

#[test]
fn a_peer_keeps_a_rate() {
    if !has_kit() {
        return;
    }
    let args = ["table-churn", "--quick", "--seconds", "1", "--rate", "20000", "--barrier", "load", "--peer", "g1"];
    let document = json(&args);
    let (ours, peer) = (of(&document, "load")[0], of(&document, "g1")[0]);
    assert_same_work(ours, peer);
    // Two threads, a second, 20 a tick. How many ticks are done in time is the machine's affair.
    for run in [ours, peer] {
        assert_eq!((run["ops"].as_u64(), run["latency"]["count"].as_u64()), (Some(40_000), Some(2_000)));
    }
}

#[test]
fn v8_does_the_same_work() {
    if !has_node() {
        return;
    }
    let document = json(&["--quick", "--barrier", "load", "--peer", "v8"]);
    let peers = assert_all_the_same(&document, "v8");
    for run in &peers {
        let (work, mutators) = (&run["workload"], run["tracks"].as_array().unwrap().len() as u64);
        assert_eq!(run["settings"]["node"]["isolates"], mutators, "{work}");
        assert_eq!(run["settings"]["pretouch"], false, "{work}");
        assert!(
            run["cycles"].as_u64() > Some(0) && run["pauses"]["max_ns"].as_u64() > Some(0),
            "{work}: no collection"
        );
        // A pause is of the one thread whose isolate collects.
        for stop in run["stops"].as_array().unwrap() {
            let stopped = stop["mutator"].as_u64();
            assert_eq!(stopped.is_some(), mutators > 1, "{work}: {stop}");
            assert!(stopped.is_none_or(|mutator| (1..=mutators).contains(&mutator)), "{work}: {stop}");
        }
    }
    let labels = document["order"]["configurations"].as_array().unwrap();
    let isolates = labels.iter().filter(|label| label.as_str().unwrap().ends_with(", 2 isolates")).count();
    assert_eq!(isolates, 2, "{labels:?}");

    // Its entries are larger, and do not fit into half of the usual heap each.
    let args = ["lru-cache", "--quick", "--seconds", "1", "--rate", "20000", "--heap", "192m", "--peer", "v8"];
    let document = json(&args);
    let run = of(&document, "v8")[0];
    assert_same_work(of(&document, "load")[0], run);
    assert_eq!((run["ops"].as_u64(), run["latency"]["count"].as_u64()), (Some(40_000), Some(2_000)));
}

/// A node takes nearly twice as much as here, so the largest tree does not fit. The line says why,
/// and nothing is left behind.
#[test]
fn v8_without_memory_is_one_line() {
    if !has_node() {
        return;
    }
    let said = fails_in_a_line(
        "v8-memory",
        &["gcbench", "--quick", "--size", "1", "--heap", "32m", "--barrier", "load", "--peer", "v8"],
        None,
    );
    assert!(said.contains("gcbench, v8, Node.js ") && said.contains("out of memory"), "{said}");
}

/// The last line on standard error of runs that fail, and leave nothing behind.
fn fails_in_a_line(name: &str, args: &[&str], variable: Option<(&str, &str)>) -> String {
    let scratch = Scratch::new(name);
    let out = Command::new(env!("CARGO_BIN_EXE_gc-bench"))
        .args(args)
        .envs(variable)
        .env("TMPDIR", &scratch.0)
        .current_dir(&scratch.0)
        .output()
        .expect("the bench starts");
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert_eq!(scratch.entries(), Vec::<String>::new());
    said.lines().last().unwrap_or_default().to_owned()
}

/// Whether `go` is on the path.
fn has_go() -> bool {
    let has = starts("go", "version");
    if !has {
        println!("NOT TESTED: Go, because no `go` is on the path");
    }
    has
}

#[test]
fn go_does_the_same_work() {
    if !has_go() {
        return;
    }
    let document = json(&["--quick", "--barrier", "load", "--peer", "go"]);
    let peers = assert_all_the_same(&document, "go");
    assert!(peers.iter().any(|run| run["cycles"].as_u64() > Some(0)), "no collection was seen");
    for run in peers {
        // One may have ended between the reading of the clock and that of the count.
        let [cycles, pauses] = [&run["cycles"], &run["pauses"]["count"]].map(|count| count.as_u64().unwrap());
        assert!(cycles.abs_diff(pauses) <= 1, "{}: {cycles} and {pauses}", run["workload"]);
    }
    let args = ["lru-cache", "--quick", "--seconds", "1", "--rate", "20000", "--barrier", "load", "--peer", "go"];
    let document = json(&args);
    let run = of(&document, "go")[0];
    assert_same_work(of(&document, "load")[0], run);
    assert_eq!((run["ops"].as_u64(), run["latency"]["count"].as_u64()), (Some(40_000), Some(2_000)));
}

/// It takes more memory where it needs more.
#[test]
fn the_least_heap_of_go_is_not_looked_for() {
    if has_go() {
        for command in ["minheap", "curve"] {
            let parts = ["go takes more than a heap that is too small", "leave out --peer go"];
            assert_refused(&[command, "gcbench", "--peer", "go"], 2, &parts);
        }
    }
}

/// What is not installed is left out, and a line says so; the rest is run.
#[test]
fn a_peer_that_is_not_installed_is_left_out() {
    let scratch = Scratch::new("not-installed");
    let bench = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_gc-bench"))
            .args(args)
            .env("PATH", &scratch.0)
            .env_remove("JAVA_HOME")
            .current_dir(&scratch.0)
            .output()
            .expect("the bench starts")
    };
    let args = ["message-ring", "--quick", "--size", "1000", "--repeats", "1", "--peer", "v8,manual,zgc,go"];
    let out = bench(&[&args[..], &["--json", "-"]].concat());
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}");
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    let labels = document["order"]["configurations"].as_array().unwrap();
    assert_eq!(
        labels.iter().map(|label| label.as_str().unwrap()).collect::<Vec<_>>(),
        ["message-ring", "message-ring, manual"]
    );
    let left_out = document["left_out"].as_array().unwrap();
    for (line, parts) in
        left_out.iter().zip([["v8 is left out", "--node"], ["zgc is left out", "--jdk"], ["go is left out", "--go"]])
    {
        let line = line.as_str().unwrap();
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        assert!(said.contains(&format!("gc-bench: {line}\n")), "{said}");
    }
    assert_eq!(left_out.len(), 3);
    // A sweep makes all that its file names.
    std::fs::write(scratch.0.join("a.toml"), "workload = [\"gcbench\"]\nquick = true\npeer = [\"v8\"]\n").unwrap();
    let out = bench(&["sweep", "a.toml"]);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("v8 is left out"), "{}", text(&out.stderr));
}

#[test]
fn what_a_peer_cannot_have_is_refused() {
    assert_refused(&["gcbench", "--peer", "g2"], 2, &["g2", "parallel"]);
    assert_refused(&["gcbench", "--jdk", "/nowhere"], 2, &["--peer"]);
    assert_refused(&["gcbench", "--peer", "g1", "--jdk", "/nowhere/jdk"], 2, &["/nowhere/jdk", "install", "--jdk"]);
    assert_refused(&["gcbench", "--peer", "v8", "--node", "/nowhere/node"], 2, &["/nowhere/node", "install", "--node"]);
    assert_refused(&["gcbench", "--peer", "go", "--go", "/nowhere/go"], 2, &["/nowhere/go", "install", "--go"]);
    assert_refused(&["gcbench", "--peer", "manual", "--node", "/nowhere"], 2, &["--node", "v8"]);
    assert_refused(&["gcbench", "--peer", "g1,g1"], 2, &["g1 is named twice"]);
    assert_refused(&["json", "--peer", "g1"], 2, &["leave out --peer"]);
    assert_refused(&["pause-scaling", "--peer", "g1"], 2, &["leave out --peer"]);
    assert_refused(&["publish", "--quick", "--peer", "zgc", "--jdk", "/nowhere/jdk"], 2, &["/nowhere/jdk"]);
}

/// A program that ends early says why in a line, and nothing is left behind.
#[test]
fn a_peer_that_fails_is_one_line() {
    if !has_kit() {
        return;
    }
    let said = fails_in_a_line(
        "peer-fails",
        &["message-ring", "--quick", "--barrier", "load", "--peer", "parallel"],
        Some(("JDK_JAVA_OPTIONS", "-XX:MaxDirectMemorySize=64k")),
    );
    assert!(said.contains("message-ring, parallel") && said.contains("OutOfMemoryError"), "{said}");
}

/// A bench that is killed takes the virtual machine with it.
#[test]
fn a_peer_ends_with_the_bench() {
    if !has_kit() {
        return;
    }
    let scratch = Scratch::new("peer-ends");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_gc-bench"))
        .args(["gcbench", "--size", "200", "--barrier", "load", "--peer", "parallel", "--repeats", "50"])
        .env("TMPDIR", &scratch.0)
        .current_dir(&scratch.0)
        .spawn()
        .expect("the bench starts");
    let machines = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        let mark = scratch.0.display().to_string();
        lines.filter(|line| String::from_utf8_lossy(line).contains(&format!("-Xlog:safepoint:file={mark}"))).count()
    };
    let until = |wanted: usize, seconds: u64| {
        let since = std::time::Instant::now();
        while machines() != wanted && since.elapsed().as_secs() < seconds {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        machines()
    };
    // Both are run in random order, and a run of this heap comes first in half of the repeats.
    assert_eq!(until(1, 120), 1, "no virtual machine was started");
    bench.kill().unwrap();
    bench.wait().unwrap();
    // Far less than the rest of its run takes.
    assert_eq!(until(0, 5), 0, "the virtual machine goes on");
}
