//! Tasks of this workspace that cargo does not have: `cargo xtask mutate`, `cargo xtask sensitivity`,
//! `cargo xtask package`.

mod mutate;
mod mutation;
mod package;
mod sensitivity;
mod tree;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask mutate [--list | --check | --all | NAME..]

Removes a rule from a copy of this workspace and runs the test that must fail then (docs/trust.md).

  --list   name every mutation, its rule and its test
  --check  only look whether every text that a mutation replaces is in the sources, exactly once
  --all    run all mutations; the exit code is 1 if a test of one passes
  NAME..   run these

Usage: cargo xtask sensitivity [REPEATS [WORKLOAD]]

Builds gc-bench three times, twice from the same source and once with a slowdown of 3 % in the
allocation path, and looks whether `gc-bench compare` finds it, and finds no difference where there
is none. For an idle machine, half an hour.

  REPEATS   runs of each, 20 where it is not given
  WORKLOAD  of gc-bench, gcbench where it is not given

Usage: cargo xtask package [ARGUMENT OF CARGO PACKAGE]..

Packages the library crates for a registry, under the names that they have there: gc-heap-core (here
gc-core), gc-heap-derive, gc-heap, gc-heap-tools. Prints the files.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["mutate", "--list"] => mutate::list(),
        ["mutate", "--check"] => mutate::check(),
        ["mutate", "--all"] => mutate::run(&[]),
        ["mutate", names @ ..] if !names.is_empty() && names.iter().all(|name| !name.starts_with('-')) => {
            mutate::run(names)
        }
        ["sensitivity", arguments @ ..] if arguments.len() <= 2 => sensitivity::run(arguments),
        ["package", arguments @ ..] => package::run(arguments),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
