//! Every program under `cases/` prints what is written beside it, under every collector.
//!
//! Beside a program stands `name.expected`: `exit` and the exit code, then each line of standard
//! output behind `1 ` and each line of standard error behind `2 `.

mod common;

use common::{MODES, Outcome, in_parallel, run_file};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

fn programs(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the cases are there") {
        let path = entry.expect("the cases can be read").path();
        if path.is_dir() {
            programs(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "lox") {
            found.push(path);
        }
    }
}

fn expected(program: &Path) -> Outcome {
    let file = program.with_extension("expected");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut outcome = Outcome { code: None, stdout: String::new(), stderr: String::new() };
    for line in text.lines() {
        match line.split_at_checked(2) {
            Some(("1 ", rest)) => outcome.stdout += &format!("{rest}\n"),
            Some(("2 ", rest)) => outcome.stderr += &format!("{rest}\n"),
            _ => outcome.code = line.strip_prefix("exit ").and_then(|code| code.parse().ok()),
        }
    }
    outcome
}

#[test]
fn programs_print_what_is_written_beside_them() {
    let mut found = Vec::new();
    programs(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases"), &mut found);
    assert!(found.len() > 100, "the cases are there");
    let wrong = Mutex::new(Vec::new());
    in_parallel(&found, |program| {
        let expected = expected(program);
        for mode in MODES {
            let outcome = run_file(program, mode);
            if outcome != expected {
                let name = program.display();
                wrong.lock().expect("no panic").push(format!("{name} {mode:?}:\n{outcome:?}=== expected {expected:?}"));
            }
        }
    });
    let wrong = wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "{} runs differ\n{}", wrong.len(), wrong.join("\n"));
}
