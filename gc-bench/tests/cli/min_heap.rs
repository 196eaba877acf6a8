//! The least heap of a small workload, and going on behind what was tried.

use std::fs;

use crate::common::{Scratch, assert_refused, text};

/// 20,000 messages of 1 KiB are held: more than 20 MiB, and not twice as much.
#[test]
fn the_least_heap_is_found_and_tries_are_not_made_twice() {
    let scratch = Scratch::new("minheap");
    let args = ["minheap", "message-ring", "--quick", "--size", "50000", "--within", "20%", "--tries", "1"];
    let out = scratch.bench(&args);
    let said = text(&out.stdout).to_owned();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let line = said.lines().find(|line| line.starts_with("message-ring")).unwrap();
    let least: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(line.contains("MiB") && (20.0..40.0).contains(&least), "{said}");
    let tries = fs::read_to_string(scratch.0.join("gc-bench-minheap.tries")).unwrap();
    let done = tries.lines().filter(|line| line.contains("took_s")).count();
    assert!(tries.lines().count() <= 12 && done >= 2, "{tries}");
    // All of it was tried.
    let again = scratch.bench(&args);
    assert_eq!((text(&again.stdout), again.status.code()), (&*said, Some(0)));
    assert!(text(&again.stderr).contains("tries were made before"), "{}", text(&again.stderr));
    assert_eq!(fs::read_to_string(scratch.0.join("gc-bench-minheap.tries")).unwrap(), tries);
}

#[test]
fn a_search_that_cannot_be_is_refused() {
    assert_refused(&["minheap", "gcbanch"], 2, &["gcbanch"]);
    assert_refused(&["minheap", "gcbench", "--within", "0%"], 2, &["--within"]);
    assert_refused(&["minheap", "gcbench", "--quick", "--keep", "/nowhere/at/all"], 2, &["/nowhere/at/all"]);
}
