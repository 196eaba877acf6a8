//! `sensitivity`: whether `gc-bench compare` finds a slowdown that is there, and none that is not.
//!
//! Builds this workspace three times in copies: twice as it is, in two folders, and once with a
//! slowdown put into the allocation path. Compares the second build with the first, and the slower
//! one with the first, in runs by pairs of one session.

use crate::mutation::{self, Edit, Mutation};
use crate::tree;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The slowdown, in thousandths of the program's time.
const SLOWER: u32 = 30;

/// What counts as slower.
const THRESHOLD: &str = "1%";

/// What `gc-bench compare` exits with where something is slower than that.
const IS_SLOWER: i32 = 3;

/// A thread that takes a block first waits, without giving up its processor, for [`SLOWER`] of the
/// time since its last one. So it has the same share in each program, however much that allocates.
fn slowdown() -> Mutation {
    let wait = format!(
        "thread_local!(static LAST: std::cell::Cell<u64> = const {{ std::cell::Cell::new(0) }});
        let begun = gc_core::sys::monotonic_ns();
        let since = LAST.with(|last| if last.get() == 0 {{ 0 }} else {{ begun - last.get() }});
        while gc_core::sys::monotonic_ns() - begun < since * {SLOWER} / 1000 {{}}
        LAST.with(|last| last.set(gc_core::sys::monotonic_ns()));"
    );
    let old = "self.tlabs.make_room(&self.inner.memory); self.open_tlab(block);";
    let edit = Edit { old: old.to_owned(), new: format!("{wait}\n{old}") };
    Mutation { name: "the slowdown".into(), package: "gc-heap".into(), edits: vec![edit], ..Mutation::default() }
}

/// Builds `gc-bench` in a copy of the workspace in this folder, with these changes. Gives the program.
fn build(name: &str, change: Option<&Mutation>) -> Result<PathBuf, String> {
    println!("building {name}");
    let copy = tree::copy(&format!("target/sensitivity/{name}"))?;
    if let Some(mutation) = change {
        for (path, text) in mutation::apply(mutation, &tree::sources(&copy.join(&mutation.package).join("src"))?)? {
            tree::write(&path, text.as_bytes())?;
        }
    }
    let target = copy.with_file_name(format!("{name}-target"));
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--release", "--locked", "--package", "gc-bench"]);
    cargo.current_dir(&copy).env("CARGO_TARGET_DIR", &target);
    let status = cargo.status().map_err(|error| format!("cargo build: {error}"))?;
    if !status.success() {
        return Err(format!("{name} does not build"));
    }
    Ok(target.join("release/gc-bench"))
}

/// Runs `new` in turn with `old`, and compares. Gives the comparison's text and exit code.
fn compare(old: &Path, new: &Path, repeats: &str, workload: &str) -> Result<(String, Option<i32>), String> {
    let report = new.with_file_name("sensitivity.json");
    let (old_text, report_text) = (old.display().to_string(), report.display().to_string());
    let measure = ["run", workload, "--against", &old_text, "--repeats", repeats, "--json", &report_text, "--force"];
    let output = Command::new(new).args(measure).output().map_err(|error| format!("{}: {error}", new.display()))?;
    if !output.status.success() {
        return Err(format!("gc-bench {}:\n{}", measure.join(" "), String::from_utf8_lossy(&output.stderr)));
    }
    let judge = ["compare", &report_text, "--threshold", THRESHOLD];
    let output = Command::new(new).args(judge).output().map_err(|error| format!("{}: {error}", new.display()))?;
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code()))
}

/// Runs the whole of it, with as many repeats of the workload as the arguments say.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let (repeats, workload) = (arguments.first().unwrap_or(&"20"), arguments.get(1).unwrap_or(&"gcbench"));
    // Fewer have no interval worth the name.
    if !repeats.parse::<u32>().is_ok_and(|repeats| repeats >= 5) {
        return Err(format!("{repeats} repeats: say a number from 5 on"));
    }
    let slower = slowdown();
    let (one, two, slow) = (build("one", None)?, build("two", None)?, build("slower", Some(&slower))?);
    let mut wrong = Vec::new();
    let cases = [
        ("the same source", &one, &two, Some(0)),
        ("the same source, the other one first", &two, &one, Some(0)),
        ("a slowdown of 3 % in the allocation path", &one, &slow, Some(IS_SLOWER)),
    ];
    for (what, old, new, expected) in cases {
        let (text, code) = compare(old, new, repeats, workload)?;
        println!("\n{what}:\n{text}");
        if code != expected {
            wrong.push(format!(
                "{what}: gc-bench compare --threshold {THRESHOLD} exits with {code:?}, not {expected:?}"
            ));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowdown_can_be_put_in() {
        let sources = tree::sources(&tree::root().join("gc-heap/src")).unwrap();
        let changed = mutation::apply(&slowdown(), &sources).unwrap();
        assert!(changed.values().all(|text| text.contains("since * 30 / 1000")) && changed.len() == 1);
    }
}
