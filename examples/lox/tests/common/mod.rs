//! Running the interpreter.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The collectors, plain and disturbed, that every program runs under with equal output.
pub(crate) const MODES: [&[&str]; 6] = [
    &["--gc", "load"],
    &["--gc", "page"],
    &["--gc", "stw"],
    &["--gc", "load", "--gc-stress"],
    &["--gc", "page", "--gc-stress"],
    &["--gc", "stw", "--gc-stress"],
];

/// What a run gave.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "code {:?}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// Runs `lox` with these arguments and this input.
pub(crate) fn lox(arguments: &[&str], input: &[u8]) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lox"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lox starts");
    child.stdin.take().expect("piped").write_all(input).expect("lox reads its input, or ignores little");
    let output = child.wait_with_output().expect("lox ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs a program in a file.
pub(crate) fn run_file(file: &Path, arguments: &[&str]) -> Outcome {
    let file = file.to_str().expect("paths of the tests are UTF-8");
    lox(&[arguments, &["--heap", "16m", file]].concat(), b"")
}

/// Runs a program that a test has made.
pub(crate) fn run_text(name: &str, text: &str, arguments: &[&str]) -> Outcome {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.lox"));
    std::fs::write(&file, text).expect("the test's folder can be written");
    run_file(&file, arguments)
}

/// Does work for each item on as many threads as there are processors.
pub(crate) fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}
