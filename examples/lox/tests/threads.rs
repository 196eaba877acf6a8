//! Threads, where a program beside its expected output cannot say what must hold.

mod common;

use common::lox;
use std::path::Path;
use std::process::Command;

/// The path of a program that a test has made.
fn written(name: &str, text: &str) -> String {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.lox"));
    std::fs::write(&file, text).expect("the test's folder can be written");
    file.display().to_string()
}

#[test]
fn a_thread_that_cannot_enter_the_heap_has_failed_for_all_who_join_it() {
    // Each thread takes 256 MiB of addresses, and there are 4 GiB. All that have begun wait for a
    // message.
    let text = "var c = channel(); fun w() { receive(c); }
class Link {} var l = nil;
for (var i = 0; i < 20; i = i + 1) { var n = Link(); n.thread = spawn(w); n.next = l; l = n; }
var t = time(); while (time() - t < 1) {}
for (var i = 0; i < 20; i = i + 1) send(c, i);
for (; l != nil; l = l.next) join(l.thread);
";
    let file = written("cannot_enter", text);
    let limited = format!("ulimit -v 4000000; exec '{}' --heap 16m '{file}'", env!("CARGO_BIN_EXE_lox"));
    let (failed, joined, not_started) = (
        "A thread has failed: the system refused a resource for a thread in a heap: mmap(reserve)(len=0x10000000",
        "The thread has failed.\n[line 6] in script\n",
        "Cannot start a thread: Resource temporarily unavailable (os error 11).\n[line 3] in script\n",
    );
    for _ in 0..20 {
        // The allocator would take addresses for each thread as well.
        let output = Command::new("sh").args(["-c", &limited]).env("MALLOC_ARENA_MAX", "1").output();
        let output = output.expect("there is a shell");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(70), &b""[..]), "{stderr}");
        if stderr.contains(joined) {
            assert!(stderr.starts_with(failed), "{stderr}");
            return;
        }
        // Where threads run late, the addresses that one takes to begin with are not there either.
        assert!(stderr.contains(not_started), "{stderr}");
    }
    panic!("no thread was ever started that could not enter the heap");
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
