//! Tests that count as ignored, never as passed, where the kernel or a sandbox refuses what they
//! need.

use libtest_mimic::{Arguments, Trial};
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

/// A test: its name, its body, and why it cannot run here, if so.
pub(crate) type Test = (&'static str, fn(), Option<String>);

/// A function with its name.
macro_rules! named {
    ($test:ident) => {
        (stringify!($test), $test as fn())
    };
}
pub(crate) use named;

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// As `std::panic::catch_unwind`, for panics that the test expects: nothing is printed of them, so
/// that the output of a run that fails is about what failed.
#[allow(dead_code, reason = "not every test that includes this expects panics")]
pub(crate) fn catch_unwind<R>(f: impl FnOnce() -> R) -> std::thread::Result<R> {
    let before = EXPECTED.replace(true);
    let result = std::panic::catch_unwind(AssertUnwindSafe(f));
    EXPECTED.set(before);
    result
}

/// Runs them.
pub(crate) fn run(tests: Vec<Test>) -> ExitCode {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !EXPECTED.get() {
            print(info);
        }
    }));
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for (name, body, refused) in tests {
        if let Some(why) = refused.as_ref().filter(|_| !arguments.list) {
            println!("{name} is IGNORED, it cannot run here: {why}");
        }
        let run = move || {
            body(); // a panic fails the trial
            Ok(())
        };
        trials.push(Trial::test(name, run).with_ignored_flag(refused.is_some()));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
