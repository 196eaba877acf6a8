//! What a file may say, and what it is told where it says something else.

use super::*;

fn read(text: &str) -> Result<Sweep, String> {
    table(text, text.starts_with('{')).and_then(sweep)
}

fn labels(text: &str) -> Vec<String> {
    read(text).unwrap().runs.plans.iter().map(Plan::label).collect()
}

const WORKERS: &str = "workers = 1\nquick = true\n";

#[test]
fn a_point_is_a_choice_of_a_value_for_each_list() {
    let text =
        "barrier = ['load', 'stw']\nheap = ['48m', '64m']\n[[workload]]\nname = 'message-ring'\nsize = [20000, 30000]";
    let expected = [
        "message-ring, size 20000, heap 48 MiB",
        "message-ring, size 20000, heap 48 MiB, stw, 1 worker",
        "message-ring, size 20000, heap 64 MiB",
        "message-ring, size 20000, heap 64 MiB, stw, 1 worker",
        "message-ring, size 30000, heap 48 MiB",
        "message-ring, size 30000, heap 48 MiB, stw, 1 worker",
        "message-ring, size 30000, heap 64 MiB",
        "message-ring, size 30000, heap 64 MiB, stw, 1 worker",
    ];
    let text = [WORKERS, text].concat();
    assert_eq!(labels(&text), expected);
    let sweep = read(&text).unwrap();
    assert_eq!((sweep.runs.schedule.repeats, sweep.timeout), (3, Duration::from_secs(600)));
    assert!(sweep.runs.plans.iter().all(|plan| plan.quick && plan.heap.workers == 1));
    assert_eq!(sweep.runs.plans[2].heap.heap_bytes, 64 << 20);
    assert_eq!(sweep.runs.schedule.seed, read(&text).unwrap().runs.schedule.seed, "of the file alone");
    let other = text.replace("64m", "65m");
    assert_ne!(sweep.runs.schedule.seed, read(&other).unwrap().runs.schedule.seed);
}

#[test]
fn what_stands_in_a_workload_is_its_own() {
    let text = "quick = true\nfactors = [1.5, 2]\nrepeats = 4\norder-seed = 9\ntimeout = 2.5
        [[workload]]\nname = 'binary-trees'\nthreads = [1, 2]\nleast = '10m'
        [[workload]]\nname = 'binary-trees'\nthreads = 1\nheap = '1g'\nlabel = 'roomy'\nno-pretouch = true";
    let expected = [
        "binary-trees, 1 thread, 1.5 times the least heap",
        "binary-trees, 1 thread, 2 times the least heap",
        "binary-trees, 2 threads, 1.5 times the least heap",
        "binary-trees, 2 threads, 2 times the least heap",
        "binary-trees, 1 thread, roomy",
    ];
    assert_eq!(labels(text), expected);
    let sweep = read(text).unwrap();
    let schedule = sweep.runs.schedule;
    assert_eq!((schedule.repeats, schedule.seed, sweep.timeout), (4, 9, Duration::from_millis(2500)));
    let heaps: Vec<u64> = sweep.runs.plans.iter().map(|plan| plan.heap.heap_bytes >> 20).collect();
    assert_eq!(heaps, [15, 20, 15, 20, 1024]);
    let pretouch: Vec<bool> = sweep.runs.plans.iter().map(|plan| plan.heap.pretouch).collect();
    assert_eq!(pretouch, [true, true, true, true, false]);
}

#[test]
fn json_says_the_same_as_toml() {
    let json = r#"{"quick": true, "workload": [{"name": "lru-cache", "skew": [0.5, 0.8]}, "tides"]}"#;
    let toml = "quick = true\nworkload = [{ name = 'lru-cache', skew = [0.5, 0.8] }, 'tides']";
    let [one, other] = [json, toml].map(|text| read(text).unwrap().runs);
    assert_eq!((&one.plans, one.schedule.seed), (&other.plans, other.schedule.seed));
    assert_eq!(labels(json), ["lru-cache, 2 threads, skew 0.5", "lru-cache, 2 threads, skew 0.8", "tides, 2 threads"]);
    assert_eq!(labels("workload = 'gcbench'"), ["gcbench"]);
}

#[test]
fn what_cannot_be_is_said_with_its_key() {
    for (text, parts) in [
        ("", &["names no workload", "[[workload]]"][..]),
        ("repeats = 2\nheap = [\n", &["line "]),
        ("repeats = 2\nrepeats = 3", &["line 2", "duplicate"]),
        ("{\"workload\": ", &["EOF"]),
        ("workload = []", &["names no workload"]),
        ("workload = [3]", &["`workload`", "a name"]),
        ("workload = ['gcbanch']", &["gcbanch", "gcbench"]),
        ("[[workload]]\nsize = 3", &["needs a `name`"]),
        ("[[workload]]\nname = 3", &["`name` must be text"]),
        ("workload = ['json']", &["json"]),
        ("workload = ['--force']", &["--force"]),
        ("repeats = 0\nworkload = 'gcbench'", &["`repeats`", "from 1 to 10000"]),
        ("repeats = 1.5\nworkload = 'gcbench'", &["`repeats`"]),
        ("order-seed = -1\nworkload = 'gcbench'", &["`order-seed`"]),
        ("timeout = 0\nworkload = 'gcbench'", &["`timeout`", "above 0"]),
        ("timeout = 'long'\nworkload = 'gcbench'", &["`timeout`"]),
        ("heap = 'lots'\nworkload = 'gcbench'", &["`heap`", "lots", "256m"]),
        ("heap = []\nworkload = 'gcbench'", &["`heap` is an empty list"]),
        ("heap = '64m'\nfactors = 2\nworkload = 'gcbench'", &["`heap` and `factors`"]),
        ("factors = 2\nworkload = 'gcbench'", &["gcbench", "`least`", "minheap"]),
        ("factors = 0.5\n[[workload]]\nname = 'gcbench'\nleast = '20m'", &["`factors`", "from 1 to 100"]),
        ("[[workload]]\nname = 'gcbench'\nleast = '20m'", &["`least` has no use without `factors`"]),
        ("least = '20m'\nworkload = 'gcbench'", &["`least` is of a workload"]),
        ("[[workload]]\nname = 'gcbench'\nrepeats = 2", &["`repeats` is of the whole sweep"]),
        ("repeat = 2\nworkload = 'gcbench'", &["gcbench", "--repeat"]),
        ("threads = 2\nworkload = 'gcbench'", &["gcbench has no use for --threads"]),
        ("barrier = ['load', 'paige']\nworkload = 'gcbench'", &["paige"]),
        ("barrier = ['load', 'load']\nworkload = 'gcbench'", &["`barrier` has load twice"]),
        ("heap = ['64m', '64m']\nworkload = 'gcbench'", &["`heap` has 64m twice"]),
        ("rate = 'sweep'\nworkload = 'gcbench'", &["`rate` must be a number"]),
        ("json = 'x'\nworkload = 'gcbench'", &["`json`", "command line"]),
        ("force = true\nworkload = 'gcbench'", &["`force`", "command line"]),
        ("until-ci = '2%'\nworkload = 'gcbench'", &["`until-ci`", "`repeats`"]),
        ("help = true\nworkload = 'gcbench'", &["`help`"]),
        ("size = { a = 1 }\nworkload = 'gcbench'", &["`size` must be text, a number"]),
        ("size = 2026-01-01\nworkload = 'gcbench'", &["`size` must be text, a number"]),
        ("workload = ['gcbench', 'gcbench']", &["two points are called gcbench", "`label`"]),
        ("heap = ['64m', '65536k']\nworkload = 'gcbench'", &["two points are called gcbench, heap 64 MiB"]),
        ("cpus = '60000'\nworkload = 'gcbench'", &["--cpus 60000"]),
    ] {
        let said = read(text).expect_err(text);
        assert!(parts.iter().all(|part| said.contains(part)), "{text}: {said} does not say {parts:?}");
    }
    let seeds = (0..200).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let text = format!("seed = [{seeds}]\nperiod = [{seeds}]\nworkload = 'tides'");
    assert!(read(&text).is_err_and(|said| said.contains("more than 10000 points")));
}
