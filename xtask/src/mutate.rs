//! `mutate`: removes rules one at a time, each in a copy of the workspace, and runs the test that must fail.

use crate::mutation::{self, Mutation};
use crate::tree;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Seconds that a build and a test may take. A test that does not end has failed.
const BUILD: u32 = 900;
const TEST: u32 = 150;

/// What `timeout` exits with when it ended a command, or had to kill it.
const CUT_OFF: [i32; 2] = [124, 137];

fn mutations() -> Result<Vec<Mutation>, String> {
    mutation::all(&tree::root().join("xtask/mutations"))
}

pub(crate) fn list() -> Result<(), String> {
    for Mutation { name, rule, tested_in, target, test, .. } in mutations()? {
        println!(
            "{name}\n    rule: {rule}\n    test: cargo test --manifest-path {tested_in}/Cargo.toml {} -- '{test}'",
            target.join(" ")
        );
    }
    Ok(())
}

/// The mutations that the tables of removed rules name, in their last column.
fn tabled(page: &str) -> Vec<&str> {
    let rows = page.lines().skip_while(|line| !line.starts_with("| rule removed"));
    let cells = rows.filter_map(|line| line.strip_suffix(" |")?.rsplit(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// Looks whether each mutation can be applied, and is in the table of docs/trust.md.
pub(crate) fn check() -> Result<(), String> {
    let root = tree::root();
    let page = fs::read_to_string(root.join("docs/trust.md")).map_err(|error| format!("docs/trust.md: {error}"))?;
    let all = mutations()?;
    let mut wrong = Vec::new();
    for mutation in &all {
        let sources = tree::sources(&root.join(&mutation.package).join("src"))?;
        wrong.extend(mutation::apply(mutation, &sources).err());
        if !tabled(&page).contains(&mutation.name.as_str()) {
            wrong.push(format!("{}: is not in the table of docs/trust.md", mutation.name));
        }
    }
    let named = tabled(&page);
    let gone = named.iter().filter(|name| !all.iter().any(|mutation| mutation.name == **name));
    wrong.extend(gone.map(|name| format!("docs/trust.md: there is no mutation {name}")));
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    println!("{} mutations can be applied", all.len());
    Ok(())
}

/// How a test ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    CutOff,
}

/// Runs `cargo test` in the copy.
fn cargo(copy: &Path, mutation: &Mutation, seconds: u32, rest: &[&str]) -> Result<(End, String), String> {
    let seconds = seconds.to_string();
    let mut command = Command::new("timeout");
    // By the folder, not by the package's name, which may be another.
    let manifest = format!("{}/Cargo.toml", mutation.tested_in);
    command.args(["--kill-after=10", &seconds, "cargo", "test", "--quiet", "--locked", "--manifest-path", &manifest]);
    command.args(&mutation.target).args(rest).current_dir(copy);
    // One folder for all: what no mutation touches is built once. The copy warns of what a removed rule no longer uses.
    command.env("CARGO_TARGET_DIR", copy.with_file_name("target")).env("RUSTFLAGS", "--cap-lints=warn");
    // A third of the disk and less of the time, for backtraces that nobody reads.
    command.env("CARGO_PROFILE_DEV_DEBUG", "false");
    // From one mutation to the next a few lines of one file change.
    command.env("CARGO_INCREMENTAL", "1");
    let output = command.output().map_err(|error| format!("timeout cargo test: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let end = match output.status.code() {
        Some(0) => End::Passed,
        Some(code) if CUT_OFF.contains(&code) => End::CutOff,
        _ => End::Failed,
    };
    Ok((end, text))
}

fn build(copy: &Path, mutation: &Mutation) -> Result<(), String> {
    match cargo(copy, mutation, BUILD, &["--no-run"])? {
        (End::Passed, _) => Ok(()),
        (_, text) => Err(format!("does not build:\n{}", last(&text, 30))),
    }
}

fn last(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Whether a run executed a test: a name that fits none passes too.
fn has_run(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("test result: ") && !line.contains(" 0 passed; 0 failed;"))
}

/// Runs the test until it fails, so often as the mutation says. Gives how it ended, or why it proves nothing.
fn run_test(copy: &Path, mutation: &Mutation, runs: u32) -> Result<End, String> {
    for _ in 0..runs {
        match cargo(copy, mutation, TEST, &["--", &mutation.test])? {
            (End::Passed, text) if !has_run(&text) => {
                return Err(format!("no test is called {}:\n{}", mutation.test, last(&text, 5)));
            }
            (End::Passed, _) => {}
            (end, _) => return Ok(end),
        }
    }
    Ok(End::Passed)
}

/// With the rule removed.
fn removed(copy: &Path, mutation: &Mutation) -> Result<End, String> {
    let sources = tree::sources(&copy.join(&mutation.package).join("src"))?;
    let changed = mutation::apply(mutation, &sources)?;
    for (path, text) in &changed {
        tree::write(path, text.as_bytes())?;
    }
    let end = build(copy, mutation).and_then(|()| run_test(copy, mutation, mutation.runs));
    for path in changed.keys() {
        tree::write(path, sources[path].as_bytes())?;
    }
    end
}

/// Runs the mutations of these names; all, where none is given.
pub(crate) fn run(names: &[&str]) -> Result<(), String> {
    let all = mutations()?;
    if let Some(name) = names.iter().find(|name| !all.iter().any(|mutation| mutation.name == **name)) {
        return Err(format!("there is no mutation {name}; `cargo xtask mutate --list` names them"));
    }
    let chosen: Vec<&Mutation> =
        all.iter().filter(|mutation| names.is_empty() || names.contains(&mutation.name.as_str())).collect();
    let copy = tree::copy("target/mutate/tree")?;
    // As it stands each test passes: else its failure would prove nothing.
    let mut sound = Vec::new();
    let mut bad = 0;
    for mutation in chosen {
        match build(&copy, mutation).and_then(|()| run_test(&copy, mutation, 1)) {
            Ok(End::Passed) => sound.push(mutation),
            Ok(_) => {
                bad += 1;
                println!("{}: ERROR: {} fails with the rule in place", mutation.name, mutation.test);
            }
            Err(why) => {
                bad += 1;
                println!("{}: ERROR: {why}", mutation.name);
            }
        }
    }
    for mutation in sound {
        let Mutation { name, test, .. } = mutation;
        match removed(&copy, mutation) {
            Ok(End::Failed) => println!("{name}: found, {test} fails"),
            Ok(End::CutOff) => println!("{name}: found, {test} does not end"),
            Ok(End::Passed) => {
                bad += 1;
                println!("{name}: NOT FOUND, {test} passes without the rule: {}", mutation.rule);
            }
            Err(why) => {
                bad += 1;
                println!("{name}: ERROR: {why}");
            }
        }
    }
    if bad == 0 { Ok(()) } else { Err(format!("{bad} mutations are not found, or cannot be run")) }
}
