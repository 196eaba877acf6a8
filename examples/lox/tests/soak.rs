//! The soak's own parts: programs are generated, and growth is found.

mod common;
#[path = "../soak/generate.rs"]
mod generate;
#[path = "../soak/watch.rs"]
mod watch;

use common::{MODES, in_parallel, run_text};
use generate::{Shape, program};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use watch::{Sample, growth, report, watch};

fn small(seed: u64) -> Shape {
    Shape { seed, pairs: 1, keep: 2000, seconds: 0.7 }
}

#[test]
fn a_seed_is_a_program() {
    assert_eq!(program(&small(1)), program(&small(1)));
    let programs: std::collections::BTreeSet<_> = (1..=20).map(|seed| program(&small(seed))).collect();
    assert_eq!(programs.len(), 20);
}

#[test]
fn generated_programs_find_all_as_they_made_it() {
    let runs: Vec<(u64, &[&str])> = (1..=12).map(|seed| (seed, MODES[seed as usize % MODES.len()])).collect();
    let wrong = Mutex::new(Vec::new());
    in_parallel(&runs, |&(seed, mode)| {
        let outcome = run_text(&format!("generated_{seed}"), &program(&small(seed)), mode);
        if (outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()) != (Some(0), "done\n", "") {
            wrong.lock().expect("no panic").push(format!("seed {seed}, {mode:?}: {outcome:?}"));
        }
    });
    let wrong = wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn growth_is_found() {
    let steady = Sample {
        seconds: 0.0,
        shared_kib: 60_000.0,
        private_kib: 5000.0,
        mappings: 60.0,
        descriptors: 6.0,
        threads: 5.0,
        live_mib: 10.0,
    };
    let none = vec![steady; 30];
    assert_eq!(growth(&none, 65_536.0), Vec::<String>::new());
    assert_eq!(growth(&none, 50_000.0).len(), 1, "more than the heap may hold");
    assert_eq!(growth(&none[..8], 65_536.0).len(), 1, "too few");
    let grow: [fn(&mut Sample, f64); 5] = [
        |sample, by| sample.private_kib *= 1.0 + (by - 1.0) * 10.0,
        |sample, by| sample.mappings *= by,
        |sample, by| sample.descriptors *= by,
        |sample, by| sample.threads *= by,
        |sample, by| sample.live_mib *= by,
    ];
    for (index, grow) in grow.iter().enumerate() {
        let mut samples = none.clone();
        samples.iter_mut().enumerate().for_each(|(n, sample)| grow(sample, 1.0 + n as f64 / 10.0));
        assert_eq!(growth(&samples, 1e9).len(), 1, "figure {index}");
        // What is done growing after a third is no growth.
        samples.iter_mut().skip(10).for_each(|sample| *sample = steady);
        assert_eq!(growth(&samples, 1e9), Vec::<String>::new(), "figure {index}");
    }
}

#[test]
fn a_program_that_keeps_more_and_more_is_found() {
    // What is kept grows with the square of the time, to a third of the heap: also on a machine
    // that lets the program run unevenly, each third of the time adds more than the one before.
    let text = "class Node { init(next) { this.next = next; } }\nvar kept; var lost; var count = 0; var begin = time();\n\
                for (var x = 0; x < 1; x = (time() - begin) / 3) {\n\
                \x20 for (; count < 400000 * x * x; count = count + 1) kept = Node(kept);\n\
                \x20 for (var i = 0; i < 2000; i = i + 1) lost = Node(nil);\n}\nprint \"done\";\n";
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("leak.lox");
    std::fs::write(&file, text).expect("the test's folder can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lox"));
    command.args(["--heap", "64m", "--gc-log"]).arg(&file);
    let watched = watch(&mut command, Duration::from_millis(10)).expect("lox starts");
    assert_eq!((watched.status.code(), watched.stdout.as_str(), watched.stderr.as_str()), (Some(0), "done\n", ""));
    // What is kept lies in the file.
    let last = watched.samples.last().expect("it ran for seconds");
    assert!(last.shared_kib > last.live_mib * 1024.0, "{}", last.line());
    let grown = growth(&watched.samples, 1e9);
    let live = |text: &String| text.starts_with("live memory");
    assert!(
        grown.iter().any(live),
        "{:.1} s: {grown:?}\n{}{:?}",
        watched.seconds,
        report(&watched.samples),
        watched.samples.last().map(Sample::line)
    );
    assert_eq!(Sample::HEADER.split(',').count(), watched.samples[0].line().split(',').count());
}
