//! Refuses the heap's system calls one at a time, and says how a program ends then.
//!
//! ```text
//! cargo run -p gc-heap --example sweep                          # every case, minutes
//! cargo run -p gc-heap --example sweep -- --cases 200 --seed 7  # a part of them, the same for the same seed
//! cargo run -p gc-heap --example sweep -- --only page mremap    # of barriers and calls whose names begin so
//! ```
//!
//! A case is a barrier, a call, an errno, and which of the calls of that name are refused: one, or
//! all from one on. Each runs a small workload in a child process. Well ends a child that did all
//! its work and found its data right, also one that a typed error kept from some of it. Exit code
//! 1, with a line to repeat each, if one died by a signal, hung, panicked, or read wrong data.

mod cases;
mod child;
mod table;

use cases::{BARRIERS, Case};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use table::Table;

const USAGE: &str = "sweep [--cases N] [--seed N] [--jobs N] [--markdown] [--only BARRIER [CALL]]";

struct Options {
    cases: usize,
    seed: u64,
    jobs: usize,
    markdown: bool,
    only: (String, String),
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options { cases: usize::MAX, seed: 1, jobs, markdown: false, only: Default::default() };
    while let Some(name) = arguments.next() {
        let mut number =
            || arguments.next().and_then(|value| value.parse().ok()).ok_or(format!("{name} needs a number"));
        match name.as_str() {
            "--cases" => options.cases = number()?,
            "--seed" => options.seed = number()? as u64,
            "--jobs" => options.jobs = number()?.max(1),
            "--markdown" => options.markdown = true,
            "--only" => {
                let barrier = arguments.next().ok_or("--only needs the name of a barrier")?;
                options.only = (barrier, arguments.next().unwrap_or_default());
            }
            _ => return Err(format!("{name}: unknown")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == child::CHILD) {
        return child::play(&arguments.split_off(1));
    }
    let options = match options(arguments.into_iter()) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\nusage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut cases = Vec::new();
    for barrier in BARRIERS.into_iter().filter(|barrier| barrier.starts_with(&options.only.0)) {
        match child::count(barrier) {
            Ok(made) => cases.extend(cases::of(barrier, &made)),
            Err(why) => println!("IGNORED, {barrier} cannot run here: {why}"),
        }
    }
    cases.retain(|case| case.call.starts_with(&options.only.1));
    let all = cases.len();
    let cases = cases::some(cases, options.cases, options.seed);
    let table = run(&cases, options.jobs);
    println!("{} of {all} cases, seed {}\n", cases.len(), options.seed);
    println!("{}", if options.markdown { table.markdown() } else { table.text() });
    table.failures().iter().for_each(|failure| println!("{failure}"));
    if table.failures().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(cases: &[Case], jobs: usize) -> Table {
    let table = Mutex::new(Table::default());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let end = child::run(case);
                    table.lock().unwrap().add(case, end);
                }
            });
        }
    });
    table.into_inner().unwrap()
}
