//! What a report contains, and where it goes.

use std::fs;

use serde_json::Value;

use crate::common::{Scratch, json, text};

/// The keys that each run has, and nothing in them is null.
#[track_caller]
pub(crate) fn assert_run(run: &Value) {
    for key in ["workload", "barrier"] {
        assert!(run[key].is_string(), "{key}");
    }
    for key in [
        "heap_bytes",
        "wall_s",
        "measured_ns",
        "cpu_s",
        "ops",
        "ops_per_s",
        "committed_peak_bytes",
        "pss_peak_bytes",
        "cycles",
        "checksum",
    ] {
        assert!(run[key].is_number(), "{key}");
    }
    for set in ["pauses", "safepoint", "stalls", "latency", "operations", "other"] {
        for key in ["count", "p50_ns", "p99_ns", "p999_ns", "p9999_ns", "max_ns", "total_ns", "over_1ms_ns"] {
            assert!(run[set][key].is_u64(), "{set}.{key}");
        }
        let counted: u64 = run["histograms"][set].as_array().unwrap().iter().map(|b| b[1].as_u64().unwrap()).sum();
        assert_eq!(run[set]["count"], counted, "{set}: the histogram holds every sample");
        let s = |key: &str| run[set][key].as_u64().unwrap();
        assert!(
            s("p50_ns") <= s("p99_ns") && s("p9999_ns") <= s("max_ns") && s("over_1ms_ns") <= s("total_ns"),
            "{set}"
        );
    }
    for role in ["mutators", "collector", "bench"] {
        for key in ["count", "cpu_ns", "voluntary_switches", "involuntary_switches", "minor_faults", "major_faults"] {
            assert!(run["threads"][role][key].is_u64(), "threads.{role}.{key}");
        }
    }
    let role = |role: &str| run["threads"][role]["cpu_ns"].as_f64().unwrap() / 1e9;
    let (mutators, cpu) = (role("mutators"), run["cpu_s"].as_f64().unwrap());
    assert!(mutators > 0.0 && run["threads"]["mutators"]["count"].as_u64() > Some(0));
    // The threads are read shortly before and after the process is.
    let all = mutators + role("collector") + role("bench");
    assert!((all - cpu).abs() < 0.05 + cpu / 10.0, "{all} s by threads, {cpu} s of the process");
    for key in ["threads", "seconds", "threshold_ns", "count", "total_ns", "max_ns", "share"] {
        assert!(run["hiccups"][key].is_number(), "hiccups.{key}");
    }
    assert_tiles(run);
    assert_eq!(run["pauses"]["count"], run["stops"].as_array().unwrap().len());
    assert_eq!(run["lost_events"], 0);
    let bytes = |key: &str| run[key].as_u64().unwrap();
    assert!(bytes("committed_peak_bytes") <= bytes("heap_bytes"));
    assert!(bytes("pss_peak_bytes") > 0);
    let lengths: Vec<u64> = run["mmu"].as_array().unwrap().iter().map(|m| m["window_ms"].as_u64().unwrap()).collect();
    let wall_ms = run["wall_s"].as_f64().unwrap() * 1000.0;
    let expected: Vec<u64> = [1, 2, 5, 10, 20, 50, 100].into_iter().filter(|&ms| ms as f64 <= wall_ms).collect();
    assert_eq!(lengths, expected, "windows that fit into {wall_ms} ms");
    for mmu in run["mmu"].as_array().unwrap() {
        let (share, window) = (mmu["share"].as_f64().unwrap(), mmu["window_ms"].as_f64().unwrap() * 1e6);
        assert!((0.0..=1.0).contains(&share), "{mmu}");
        // The longest pause that lies whole in the measured part is whole in some window, or fills
        // one.
        let of = |stop: &Value, key: &str| stop[key].as_f64().unwrap();
        let inside = run["stops"].as_array().unwrap().iter().filter(|stop| {
            of(stop, "start_ns") > 0.0 && of(stop, "start_ns") + of(stop, "duration_ns") < wall_ms * 1e6
        });
        let longest = inside.map(|stop| of(stop, "duration_ns")).fold(0.0, f64::max);
        assert!(share <= (1.0 - longest / window).max(0.0) + 1e-3, "{mmu} beside a pause of {longest} ns");
    }
    let (faults, slow_paths) = (run["lost"].get("faults"), run["lost"].get("slow_paths"));
    assert_eq!((faults.is_some(), slow_paths.is_some()), (run["barrier"] == "page", run["barrier"] != "page"));
    for kind in [faults, slow_paths].into_iter().flatten() {
        let Some(times) = kind.get("times") else {
            assert!(slow_paths == Some(kind), "every fault is timed: {kind}");
            continue;
        };
        let time = |key: &str| times[key].as_f64().unwrap();
        assert!(time("p50_ns") <= time("p99_ns") && time("p99_ns") <= time("max_ns"), "{kind}");
        // Of slow paths one in 16 is timed: where that one lost its processor, the sum has it 16
        // times.
        let most = if slow_paths.is_some() { 16.0 } else { 1.0 };
        assert!(time("share_of_wall") >= 0.0 && time("share_of_wall") < most, "{kind}");
        let (count, timed) = (kind["count"].as_f64().unwrap(), time("timed"));
        // Slow paths are counted when their thread comes to a safepoint, and timed at once.
        assert!(slow_paths.is_some() || count == timed, "{kind}");
        assert!(timed == 0.0 || count == 0.0 || time("total_ns") > 0.0, "{kind}");
    }
    assert!(!run.to_string().contains("null"));
}

/// The samples of each mutator, and the time in which it was idle, are the measured part: nothing
/// that happened to its thread lies between two samples.
#[track_caller]
fn assert_tiles(run: &Value) {
    let tracks = run["tracks"].as_array().unwrap();
    assert_eq!(run["settings"]["threads"].as_u64().unwrap_or(1), tracks.len() as u64, "every mutator is sampled");
    let measured_ns = run["measured_ns"].as_u64().unwrap();
    assert!((run["wall_s"].as_f64().unwrap() * 1e9 - measured_ns as f64).abs() < 1000.0);
    let (mut counts, mut totals) = ([0; 2], [0; 2]);
    for track in tracks {
        let of = |key: &str| track[key].as_u64().unwrap();
        let sum = of("operations_ns") + of("other_ns") + of("idle_ns");
        assert_eq!(sum, measured_ns, "samples and idle time of a mutator, and the measured part: {track}");
        assert!(of("operations") + of("other") > 0, "{track}");
        for (i, series) in ["operations", "other"].iter().enumerate() {
            counts[i] += of(series);
            totals[i] += of(&format!("{series}_ns"));
        }
    }
    for (i, series) in ["operations", "other"].iter().enumerate() {
        assert_eq!((&run[series]["count"], &run[series]["total_ns"]), (&counts[i].into(), &totals[i].into()));
    }
}

/// The one run of a report.
#[track_caller]
pub(crate) fn only_run(document: &Value) -> &Value {
    let runs = document["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1);
    assert_run(&runs[0]);
    &runs[0]
}

#[test]
fn barriers_side_by_side_do_the_same_work_in_a_random_order_that_is_kept() {
    let scratch = Scratch::new("barriers");
    let base = ["gcbench", "--quick", "--size", "2", "--repeats", "2", "--order-seed", "11"];
    let args = [&base[..], &["--barrier", "load,page,stw"]].concat();
    let out = scratch.bench(&args);
    if text(&out.stderr).contains("the page barrier is unavailable") {
        return;
    }
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let table = text(&out.stdout);
    assert!(table.starts_with("GCBENCH") && table.contains("MMU") && table.contains("share of wall"), "{table}");
    let read = |name: &str| fs::read_to_string(scratch.0.join(name)).unwrap();
    assert!(read("gc-bench-report.html").contains("the barriers side by side"));
    let document: Value = serde_json::from_str(&read("gc-bench-report.json")).unwrap();
    let runs = document["runs"].as_array().unwrap();
    runs.iter().for_each(assert_run);
    assert!(runs.iter().all(|run| run["checksum"] == 15 && run["ops"] == 2));
    // The baseline is there with as many workers as processors, and with one.
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let baselines: &[u64] = if processors > 1 { &[processors, 1] } else { &[1] };
    let name = |workers: u64| format!("gcbench, stw, {workers} worker{}", if workers == 1 { "" } else { "s" });
    let mut labels = vec!["gcbench".to_owned(), "gcbench, page".to_owned()];
    labels.extend(baselines.iter().map(|&workers| name(workers)));
    let order = &document["order"];
    assert_eq!((order["seed"].as_u64(), &order["configurations"]), (Some(11), &Value::from(labels.clone())));
    let numbers: Vec<usize> = order["runs"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let label = |run: &Value| match (run["barrier"].as_str().unwrap(), run["settings"]["workers"].as_u64().unwrap()) {
        ("load", _) => "gcbench".to_owned(),
        ("stw", workers) => name(workers),
        (other, _) => format!("gcbench, {other}"),
    };
    let found: Vec<String> = runs.iter().map(label).collect();
    assert_eq!(found, numbers.iter().map(|&n| labels[n].clone()).collect::<Vec<_>>(), "runs stand as they were made");
    // Each repeat has every one once.
    for (repeat, block) in numbers.chunks(labels.len()).enumerate() {
        let mut sorted = block.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..labels.len()).collect::<Vec<_>>());
        assert!(runs[repeat * labels.len()..][..labels.len()].iter().all(|run| run["repeat"] == repeat + 1));
    }
    let configurations = document["configurations"].as_array().unwrap();
    assert_eq!(configurations.iter().map(|c| c["label"].as_str().unwrap()).collect::<Vec<_>>(), labels);
    for (configuration, label) in configurations.iter().zip(&labels) {
        let own: Vec<&Value> =
            found.iter().zip(runs).filter(|(found, _)| *found == label).map(|(_, run)| run).collect();
        let pauses = |key: &str| own.iter().map(|run| run["pauses"][key].as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!(configuration["pauses"]["count"].as_u64(), Some(pauses("count").iter().sum()));
        assert_eq!(configuration["pauses"]["max_ns"].as_u64(), pauses("max_ns").into_iter().max(), "the worst of all");
        let rates: Vec<f64> = own.iter().map(|run| run["ops_per_s"].as_f64().unwrap()).collect();
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        assert!((configuration["ops_per_s"]["estimate"].as_f64().unwrap() / mean - 1.0).abs() < 1e-9);
        assert!(configuration["ops_per_s"].get("low").is_none(), "two runs have no interval");
        let against = configuration.get("against").map(|against| against["label"].as_str().unwrap());
        assert_eq!(against, (label != "gcbench").then_some("gcbench"));
        let wanted = configuration["pauses"]["count"].as_u64().unwrap() >= 20;
        assert_eq!(configuration["pauses"].get("p50_ns").is_some(), wanted, "ten samples beyond p50");
    }
}

#[test]
fn both_files_appear_with_a_table() {
    let scratch = Scratch::new("files");
    let out = scratch.bench(&["gcbench", "message-ring", "--quick", "--repeats", "2", "--out", "new/folder"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let table = text(&out.stdout);
    assert!(table.contains("gcbench") && table.contains("2 runs") && table.contains("p99.99"), "{table}");
    assert_eq!(
        text(&out.stderr).lines().filter(|l| l.starts_with('[')).count(),
        4,
        "a line a run where nobody watches"
    );
    let read = |name: &str| fs::read_to_string(scratch.0.join("new/folder").join(name)).unwrap();
    let (page, report) = (read("gc-bench-report.html"), read("gc-bench-report.json"));
    // Letters of the data at its end may spell anything.
    let seen = page.split("<h2 id=\"data\">").next().unwrap();
    assert!(seen.contains("<svg") && !seen.contains("http") && !page.contains("<script"));
    assert!(page.contains("<a download=\"gc-bench-report.json\" href=\"data:application/json;base64,"));
    let document: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(document["runs"].as_array().unwrap().len(), 4);
    document["runs"].as_array().unwrap().iter().for_each(assert_run);
    assert!(document["machine"]["cpus"].as_u64() > Some(0) && document["kernel"]["release"].is_string());
    assert_eq!(fs::read_dir(scratch.0.join("new/folder")).unwrap().count(), 2, "no temporary file is left");
    assert_surroundings(&document, &page);
}

/// What a reader needs to repeat it is in the JSON, and on the page.
#[track_caller]
fn assert_surroundings(document: &Value, page: &str) {
    let (build, around) = (&document["build"], &document["environment"]);
    let affinity = fs::read_to_string("/proc/thread-self/status").unwrap();
    let affinity = affinity.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    assert_eq!(around["affinity"], affinity);
    assert!(build["rustc"].as_str().unwrap().starts_with("rustc 1."), "{build}");
    for feature in ["gc-core/losses", "gc-heap/census", "gc-heap/log", "gc-heap/losses", "gc-heap/usdt"] {
        assert!(build["features"].as_array().unwrap().iter().any(|on| on == feature), "{feature}: {build}");
    }
    for key in ["revision", "target", "flags", "opt_level", "lock"] {
        assert!(build[key].is_string(), "{key}: {build}");
    }
    let slack: u64 = fs::read_to_string("/proc/self/timerslack_ns").unwrap().trim().parse().unwrap();
    assert_eq!(around["timer_slack_ns"], slack);
    for key in ["online", "smt", "governors", "caches", "mitigations", "mitigations_asked", "limits", "swap_bytes"] {
        assert!(!around[key].is_null(), "{key}: {around}");
    }
    for state in [&around["began"], &around["ended"]] {
        assert_eq!(state["load"].as_array().unwrap().len(), 3, "{around}");
        assert!(state["pressure"].is_object() && state["swap_used_bytes"].is_u64(), "{around}");
    }
    let took_ns = around["ended"]["at_ns"].as_u64().unwrap() - around["began"]["at_ns"].as_u64().unwrap();
    let runs = document["runs"].as_array().unwrap();
    let measured_ns: u64 = runs.iter().map(|run| run["measured_ns"].as_u64().unwrap()).sum();
    assert!(took_ns > measured_ns, "the session, of {took_ns} ns, has its runs in it, of {measured_ns}");
    assert!(page.contains("Build and machine") && page.contains(build["rustc"].as_str().unwrap()), "{page}");
    for word in ["revision", "timer slack", "load at the end", "preemption"] {
        let known = word != "revision" || build["revision"] != "";
        assert!(!known || page.contains(&format!("<th class=\"name\">{word}</th>")), "{word}: {page}");
    }
}

#[test]
fn a_plain_run_goes_to_the_current_folder_and_asking_for_one_file_writes_one() {
    let scratch = Scratch::new("plain");
    let args = ["binary-trees", "--threads", "1", "--size", "8", "--heap", "8m", "--repeats", "1"];
    assert_eq!(scratch.bench(&[&args[..], &["--html", "page.html"]].concat()).status.code(), Some(0));
    assert_eq!(scratch.entries(), ["page.html"]);
    assert_eq!(scratch.bench(&args).status.code(), Some(0));
    assert_eq!(scratch.entries(), ["gc-bench-report.html", "gc-bench-report.json", "page.html"]);
}

#[test]
fn a_page_on_standard_output_has_nothing_beside_it() {
    let scratch = Scratch::new("page-out");
    let args = ["message-ring", "--quick", "--size", "20000", "--html", "-"];
    let out = scratch.bench(&args);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let page = text(&out.stdout);
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
    assert_eq!((page.matches("<!doctype").count(), scratch.entries()), (1, Vec::new()));
    // With the JSON in a file, the table is on neither.
    let out = scratch.bench(&[&args[..], &["--json", "found.json"]].concat());
    let page = text(&out.stdout);
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
    assert_eq!(scratch.entries(), ["found.json"]);
    assert!(text(&out.stderr).contains("wrote found.json"), "{}", text(&out.stderr));
    let lists = scratch.bench(&["primitives", "barrier", "--quick", "--html", "-"]);
    assert!(text(&lists.stdout).starts_with("<!doctype html>") && text(&lists.stdout).ends_with("</html>\n"));
}

#[test]
fn the_table_s_pooled_figures_are_those_of_the_json_s_histograms() {
    let document = json(&["message-ring", "--quick", "--size", "30000", "--repeats", "5"]);
    let found = &document["configurations"][0]["latency"];
    let mut all: Vec<(u64, u64)> = Vec::new();
    for run in document["runs"].as_array().unwrap() {
        let buckets = run["histograms"]["latency"].as_array().unwrap();
        all.extend(buckets.iter().map(|b| (b[0].as_u64().unwrap(), b[1].as_u64().unwrap())));
    }
    all.sort_unstable();
    let count: u64 = all.iter().map(|b| b.1).sum();
    assert_eq!((found["count"].as_u64(), count), (Some(count), 150_000));
    for (key, share) in [("p50_ns", 0.5), ("p99_ns", 0.99), ("p999_ns", 0.999), ("p9999_ns", 0.9999)] {
        let mut left = (count as f64 * share).ceil() as u64;
        let at = all.iter().find(|bucket| {
            let here = bucket.1 >= left;
            left = left.saturating_sub(bucket.1);
            here
        });
        let (estimate, low, high) = (&found[key]["estimate"], &found[key]["low"], &found[key]["high"]);
        assert_eq!(estimate.as_f64(), at.map(|b| b.0 as f64), "{key}");
        assert!(low.as_f64() <= estimate.as_f64() && estimate.as_f64() <= high.as_f64(), "{key}: {found}");
    }
    let few = &document["configurations"][0]["safepoint"];
    assert!(few["count"].as_u64() < Some(1000) && few.get("p99_ns").is_none(), "{few}");
}

#[test]
fn help_teaches_and_list_names_everything() {
    let scratch = Scratch::new("help");
    let help = scratch.bench(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for word in [
        "gcbench",
        "--barrier",
        "--rate",
        "pause-scaling",
        "Examples:",
        "Exit codes",
        "--until-ci",
        "--published",
        "--order-seed",
        "95 % interval",
        "baseline",
        "--force",
        "--cpus",
        "sweep",
    ] {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
    let list = scratch.bench(&["list"]);
    assert_eq!(list.status.code(), Some(0));
    for word in
        ["gcbench", "binary-trees", "message-ring", "table-churn", "json", "pause-scaling", "page-anonymous", "stw"]
    {
        assert!(text(&list.stdout).contains(word), "{word}");
    }
    let wide: Vec<&str> = text(&list.stdout).lines().filter(|line| line.chars().count() > 60).collect();
    assert!(wide.is_empty(), "wider than 60 columns: {wide:#?}");
    assert_eq!(scratch.entries(), Vec::<String>::new());
}

/// The disk is full when the runs are over: what they found is on standard output.
#[test]
fn a_file_that_cannot_be_written_leaves_the_table() {
    let scratch = Scratch::new("full");
    std::os::unix::fs::symlink("/dev/full", scratch.0.join("full")).unwrap();
    let out = scratch.bench(&["message-ring", "--quick", "--size", "20000", "--json", "full"]);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write full: No space left on device"), "{said}");
    assert!(text(&out.stdout).contains("checksum"), "{}", text(&out.stdout));
    assert_eq!(scratch.entries(), ["full"]);
}
