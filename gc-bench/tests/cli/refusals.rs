//! What cannot be is refused at once: one clear line, exit code 2, and nothing half written.

use std::fs;
use std::process::Command;

use crate::common::{Scratch, assert_refused, text};
use crate::sandbox::{WITHOUT_USERFAULTFD, bench_with};

#[test]
fn a_heap_that_cannot_be() {
    assert_refused(&["gcbench", "--heap", "0"], 2, &["0 bytes"]);
    assert_refused(&["gcbench", "--heap", "1024t"], 2, &["1024 TiB", "does not fit this machine"]);
    assert_refused(&["gcbench", "--heap", "lots"], 2, &["lots", "256m"]);
    assert_refused(&["message-ring", "--heap", "16m"], 2, &["message-ring", "alive at once"]);
    assert_refused(&["binary-trees", "--size", "32"], 2, &["binary-trees", "alive at once"]);
    assert_refused(&["json", "--heap", "0"], 2, &["0 bytes"]);
    // Larger than what is alive, and still smaller than any heap.
    assert_refused(&["binary-trees", "--size", "5", "--heap", "1m"], 2, &["4 MiB"]);
}

#[test]
fn a_soft_maximum_that_cannot_be() {
    let above = ["gcbench", "--heap", "64m", "--soft-max", "65m"];
    assert_refused(&above, 2, &["soft maximum of 65 MiB", "more than the heap's maximum of 64 MiB"]);
    assert_refused(&["gcbench", "--soft-max", "0"], 2, &["soft maximum of 0 B", "less than the smallest heap"]);
    assert_refused(&["message-ring", "--soft-max", "64m"], 2, &["soft maximum of 64 MiB", "alive all the time"]);
    assert_refused(&["json", "--soft-max", "1g"], 2, &["more than the heap's maximum of 512 MiB"]);
    assert_refused(&["gcbench", "--soft-max", "lots"], 2, &["lots", "256m"]);
    assert_refused(&["gcbench", "--spare", "1x"], 2, &["1x", "256m"]);
    assert_refused(&["gcbench", "--uncommit-delay", "0"], 2, &["--uncommit-delay", "above 0"]);
    assert_refused(&["minheap", "gcbench", "--soft-max", "64m"], 2, &["leave out --soft-max"]);
    assert_refused(&["curve", "gcbench", "--soft-max", "64m"], 2, &["leave out --soft-max"]);
    assert_refused(&["gcbench", "--peer", "g1", "--soft-max", "64m"], 2, &["--soft-max", "leave out that or --peer"]);
}

#[test]
fn an_option_of_the_heap_that_it_does_not_take() {
    assert_refused(&["pause-scaling", "--address-factor", "17"], 2, &["an address factor of 17", "1 to 16"]);
    assert_refused(&["gcbench", "--address-factor", "0"], 2, &["--address-factor <N>", "at least 1"]);
    assert_refused(&["gcbench", "--address-factor", "half"], 2, &["half", "--address-factor <N>", "whole number"]);
    for share in ["1.5", "0", "nan"] {
        assert_refused(&["json", "--memory-stall-limit", share], 2, &[share, "above 0 and at most 1"]);
    }
    assert_refused(&["gcbench", "--memory-stall-limit", "10%"], 2, &["10%", "a share such as 0.1"]);
}

#[test]
fn a_barrier_that_is_not_there() {
    assert_refused(&["gcbench", "--barrier", "paige"], 2, &["paige", "load", "page", "stw"]);
    assert_refused(&["gcbench", "--barrier", "load,load"], 2, &["load is named twice"]);
    assert_refused(&["pause-scaling", "--barrier", "load,stw"], 2, &["name one barrier"]);
}

#[test]
fn a_sandbox_without_userfaultfd_has_no_page_barrier() {
    let scratch = Scratch::new("no-page-barrier");
    let args = ["gcbench", "--quick", "--barrier", "load,page"];
    let out = bench_with(&scratch, &args, &WITHOUT_USERFAULTFD, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    let said = text(&out.stderr);
    assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    for part in ["page barrier", "userfaultfd", "not permitted", "use `load` or `stw`"] {
        assert!(said.contains(part), "{said} does not say {part}");
    }
    assert_eq!(scratch.entries(), Vec::<String>::new(), "nothing was run");
}

#[test]
fn words_that_mean_nothing() {
    assert_refused(&["gcbanch"], 2, &["gcbanch", "gcbench"]);
    assert_refused(&["gcbench", "--nonsense"], 2, &["--nonsense"]);
    assert_refused(&["gcbench", "--repeats", "0"], 2, &["--repeats"]);
    assert_refused(&["gcbench", "--workers", "65", "--heap", "64m"], 2, &["65 collector threads"]);
    assert_refused(&["json", "--workers", "1025"], 2, &["1025 collector threads", "1 to 64"]);
    let large_without_memory = ["gcbench", "--huge-pages", "collapse", "--no-pretouch"];
    assert_refused(&large_without_memory, 2, &["HugePages::Collapse", "pretouch"]);
    assert_refused(&["table-churn", "--seconds", "-1"], 2, &["--seconds"]);
}

#[test]
fn processors_that_are_not_there() {
    assert_refused(&["gcbench", "--cpus", "0"], 2, &["--cpus", "at least 1"]);
    assert_refused(&["gcbench", "--cpus", "two"], 2, &["--cpus", "0,2-3"]);
    assert_refused(&["gcbench", "--cpus", "3-1"], 2, &["--cpus", "3 is more than 1"]);
    assert_refused(&["table-churn", "--cpus", "60000"], 2, &["--cpus 60000", "this process has"]);
    assert_refused(&["pause-scaling", "--cpus", "0-0,59999"], 2, &["59999 is not among"]);
    assert_refused(&["json", "--cpus", "60000"], 2, &["--cpus 60000"]);
    assert_refused(&["curve", "--cpus", "60000"], 2, &["--cpus 60000"]);
}

#[test]
fn a_sandbox_that_binds_no_process_to_processors() {
    let scratch = Scratch::new("no-affinity");
    let calls = [(libc::SYS_sched_setaffinity, None)];
    let args = ["gcbench", "--quick", "--cpus", "1"];
    let out = bench_with(&scratch, &args, &calls, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    let said = text(&out.stderr);
    assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("--cpus: sched_setaffinity") && said.contains("not permitted"), "{said}");
    assert_eq!(scratch.entries(), Vec::<String>::new(), "nothing was run");
}

#[test]
fn repeats_that_cannot_be() {
    assert_refused(&["gcbench", "--until-ci", "2"], 2, &["--until-ci", "2%"]);
    assert_refused(&["gcbench", "--until-ci", "0%"], 2, &["--until-ci"]);
    assert_refused(&["gcbench", "--until-ci", "2%", "--repeats", "3"], 2, &["5 runs and more"]);
    assert_refused(&["gcbench", "--until-ci", "2%", "--max-repeats", "4"], 2, &["--max-repeats 4"]);
    assert_refused(&["gcbench", "--max-repeats", "20"], 2, &["--until-ci"]);
    assert_refused(&["gcbench", "--max-minutes", "20"], 2, &["--until-ci"]);
    assert_refused(&["gcbench", "--published", "--quick"], 2, &["--published", "--quick"]);
    assert_refused(&["gcbench", "--published", "--repeats", "3"], 2, &["--repeats"]);
    assert_refused(&["gcbench", "--order-seed", "x"], 2, &["--order-seed"]);
    assert_refused(&["pause-scaling", "--until-ci", "2%"], 2, &["--until-ci"]);
}

#[test]
fn an_option_that_the_workload_has_no_use_for() {
    assert_refused(
        &["gcbench", "--threads", "2"],
        2,
        &["gcbench has no use for --threads", "binary-trees, table-churn"],
    );
    assert_refused(&["message-ring", "--seconds", "3"], 2, &["no use for --seconds"]);
    assert_refused(&["message-ring", "--rate", "fast"], 2, &["--rate", "sweep"]);
    assert_refused(&["--seconds", "1"], 2, &["no use for --seconds"]);
    assert_refused(&["--size", "1"], 2, &["--size"]);
    assert_refused(&["pause-scaling", "--heap", "1g"], 2, &["--heap"]);
    assert_refused(&["json", "--rate", "0"], 2, &["--rate"]);
}

#[test]
fn a_document_that_cannot_be_read() {
    let scratch = Scratch::new("documents");
    let path = |name: &str, bytes: &[u8]| {
        let path = scratch.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    assert_refused(&["json", "/no/such/file.json"], 2, &["/no/such/file.json"]);
    assert_refused(&["json", "/"], 2, &["cannot read /"]);
    assert_refused(&["json", &path("broken", b"{\"a\":\n [1,,2]}")], 2, &["line 2, column 5"]);
    assert_refused(&["json", &path("short", b"{\"a\": tru")], 2, &["line 1, column 7"]);
    assert_refused(&["json", &path("empty", b"")], 2, &["line 1, column 1"]);
    assert_refused(&["json", &path("bytes", b"[\"\xff\"]")], 2, &["not UTF-8"]);
    assert_refused(&["json", &path("deep", &[b'['; 4000])], 2, &["nested"]);
}

#[test]
fn a_machine_without_cargo() {
    let scratch = Scratch::new("no-cargo");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_gc-bench"));
    let out =
        bench.arg("json").current_dir(&scratch.0).env_remove("CARGO").env("PATH", "/nonexistent").output().unwrap();
    let said = text(&out.stderr);
    assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("cargo metadata") && said.contains("a file instead"), "{said}");
}

#[test]
fn a_place_that_cannot_be_written() {
    let scratch = Scratch::new("places");
    let file = scratch.0.join("file");
    fs::write(&file, "x").unwrap();
    let (file, folder) = (file.to_str().unwrap(), scratch.0.to_str().unwrap());
    assert_refused(&["gcbench", "--out", file], 2, &[file]);
    assert_refused(&["gcbench", "--out", "/proc/nowhere"], 2, &["/proc/nowhere"]);
    assert_refused(&["gcbench", "--json", folder], 2, &[folder, "folder"]);
    assert_refused(&["gcbench", "--html", "/no/such/folder/page.html"], 2, &["/no/such/folder"]);
    assert_refused(&["--html", "-", "--json", "-"], 2, &["standard output cannot hold both"]);
    assert_eq!(scratch.entries(), ["file"]);
    assert_eq!(fs::read_to_string(file).unwrap(), "x");
}

/// Named before anything runs: the work that was asked for would take ten minutes.
#[test]
fn an_earlier_report_is_not_overwritten() {
    let scratch = Scratch::new("earlier");
    let files = ["gc-bench-report.html", "gc-bench-report.json"];
    files.iter().for_each(|name| fs::write(scratch.0.join(name), name).unwrap());
    for (args, named) in [
        (&["table-churn"][..], &files[..]),
        (&["json"], &files),
        (&["pause-scaling"], &files),
        (&["primitives"], &files),
        (&["publish"], &files),
        (&["curve"], &files),
        (&["table-churn", "--json", "gc-bench-report.json"], &files[1..]),
        (&["table-churn", "--html", "gc-bench-report.html", "--json", "-"], &files[..1]),
        (&["table-churn", "--out", "."], &files),
    ] {
        let out = scratch.bench(args);
        let said = text(&out.stderr);
        assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{args:?}: {said}");
        assert!(said.contains("there already") && said.contains("--force"), "{args:?}: {said}");
        assert!(files.iter().all(|name| said.contains(name) == named.contains(name)), "{args:?}: {said}");
        assert!(out.stdout.is_empty(), "{}", text(&out.stdout));
        assert_eq!(scratch.entries(), files, "{args:?} leaves nothing behind");
    }
    assert!(files.iter().all(|name| fs::read_to_string(scratch.0.join(name)).unwrap() == *name));
    let forced = ["message-ring", "--quick", "--size", "20000", "--force", "--html", files[0]];
    let out = scratch.bench(&forced);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(fs::read_to_string(scratch.0.join(files[0])).unwrap().starts_with("<!doctype html>"));
    assert_eq!(fs::read_to_string(scratch.0.join(files[1])).unwrap(), files[1]);
}

#[test]
fn a_run_that_fails_is_code_1_and_keeps_the_last_report() {
    let scratch = Scratch::new("failing");
    fs::write(scratch.0.join("gc-bench-report.json"), "the last one").unwrap();
    // Room for the records and not for what dies beside them: it is accepted, and cannot work.
    let args = ["binary-trees", "--threads", "1", "--size", "16", "--heap", "6200k", "--repeats", "1", "--force"];
    let out = scratch.bench(&args);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.lines().count() == 1 && said.contains("out of memory"), "{said}");
    assert_eq!(scratch.entries(), ["gc-bench-report.json"]);
    assert_eq!(fs::read_to_string(scratch.0.join("gc-bench-report.json")).unwrap(), "the last one");
}

#[test]
fn run_one_is_not_for_people() {
    assert_refused(&["run-one"], 2, &["gc-bench run"]);
}
