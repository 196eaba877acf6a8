//! Threads, where a program beside its expected output cannot say what must hold.

mod common;

use common::{Outcome, lox};
use std::path::Path;

fn run(name: &str, text: &str, arguments: &[&str]) -> Outcome {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.lox"));
    std::fs::write(&file, text).expect("the test's folder can be written");
    lox(&[arguments, &[&file.display().to_string()]].concat(), b"")
}

#[test]
fn a_thread_that_cannot_enter_the_heap_has_failed_for_all_who_join_it() {
    // The page barrier has roots for some thousand threads at a time. All that have begun wait for a message.
    let text = "var c = channel(); fun w() { receive(c); }
class Link {} var l = nil;
for (var i = 0; i < 1200; i = i + 1) { var n = Link(); n.thread = spawn(w); n.next = l; l = n; }
var t = time(); while (time() - t < 2) {}
for (var i = 0; i < 1200; i = i + 1) send(c, i);
for (; l != nil; l = l.next) join(l.thread);
";
    let outcome = run("cannot_enter", text, &["--gc", "page"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(70), ""), "{outcome:?}");
    let (failed, joined) = (
        "A thread has failed: no address space for the roots of another thread.\n",
        "The thread has failed.\n[line 6] in script\n",
    );
    assert!(outcome.stderr.starts_with(failed) && outcome.stderr.contains(joined), "{outcome:?}");
}

#[test]
fn threads_that_wait_while_the_prompt_is_in_use_are_no_deadlock() {
    let input = "var c = channel(); fun w() { receive(c); } fun spawn_all() { for (var i = 0; i < 50; i = i + 1) spawn(w); }\n\
                 fun pause() { var t = time(); while (time() - t < 0.05) {} }\n\
                 fun send_all() { for (var i = 0; i < 50; i = i + 1) send(c, 1); }\n\
                 spawn_all(); pause();\nreceive(c);\npause(); send_all(); pause();\n\
                 var d = channel(); fun v() { print receive(d); } var t = spawn(v); pause();\nsend(d, \"got it\"); join(t);\n";
    for _ in 0..5 {
        let outcome = lox(&[], input.as_bytes());
        // The fifth line is the deadlock: the threads' and its own.
        let deadlock = |place: &str| format!("Deadlock: every thread waits.\n[line 1] in {place}\n");
        assert_eq!(outcome.stderr, deadlock("w()").repeat(50) + &deadlock("script"), "{outcome:?}");
        assert!(outcome.stdout.ends_with("got it\n> \n"), "{outcome:?}");
        assert_eq!(outcome.code, Some(0));
    }
}

#[test]
fn who_waits_for_something_else_costs_nothing() {
    let text = "var a = channel(); var b = channel(); fun echo() { while (true) { var x = receive(a); if (x == nil) return; send(b, x); } }\n\
                fun trips() { var t = clock(); for (var i = 0; i < 2000; i = i + 1) { send(a, i); receive(b); } return clock() - t; }\n\
                var idle = channel(); fun wait() { receive(idle); }\n\
                spawn(echo); var alone = trips(); for (var i = 0; i < 500; i = i + 1) spawn(wait);\n\
                var t = time(); while (time() - t < 0.5) {}\n\
                var among = trips(); if (among < alone * 5 + 0.2) print \"fine\"; else { print alone; print among; } send(a, nil);\n";
    let outcome = run("idle_waiters", text, &["--gc", "load"]);
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(0), "fine\n", ""));
}
