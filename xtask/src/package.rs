//! `package`: makes the files that go to a registry.
//!
//! On crates.io the name `gc-core` belongs to somebody else, and a program that takes this crate by
//! its path names it `gc-core`. So the crate is published under [`PUBLISHED`]: this task packages a
//! copy of the workspace in which it has that name. The library's name stays `gc_core`.

use crate::tree;
use std::fs;
use std::path::Path;
use std::process::Command;

const PUBLISHED: &str = "gc-heap-core";

/// The crates for a registry, each after those that it depends on.
const CRATES: [&str; 4] = [PUBLISHED, "gc-heap-derive", "gc-heap", "gc-heap-tools"];

/// Replaces a text that must be in a manifest exactly once.
fn edit(copy: &Path, manifest: &str, edits: &[(&str, &str)]) -> Result<(), String> {
    let path = copy.join(manifest);
    let mut text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    for (old, new) in edits {
        match text.matches(old).count() {
            1 => text = text.replace(old, new),
            count => return Err(format!("{manifest}: `{old}` is there {count} times, not once")),
        }
    }
    tree::write(&path, text.as_bytes())
}

/// Packages the crates, with further arguments for `cargo package`, and says where the files are.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let copy = tree::copy("target/package-tree")?;
    let renamed = format!("name = \"{PUBLISHED}\"");
    let library = format!("[lib]\nname = \"gc_core\"\n\n[package]\n{renamed}");
    let dependency = format!("gc-core = {{ package = \"{PUBLISHED}\", path");
    let dependency = dependency.as_str();
    let edits = [("[package]\nname = \"gc-core\"", library.as_str()), ("gc-core = { path", dependency)];
    edit(&copy, "gc-core/Cargo.toml", &edits)?;
    for manifest in ["Cargo.toml", "gc-heap/Cargo.toml"] {
        edit(&copy, manifest, &[("gc-core = { path", dependency)])?;
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(tree::root().join("target"), Into::into);
    let mut cargo = Command::new("cargo");
    // Without a lock file: to make one, cargo would need the index of what the workspace replaces.
    cargo.args(["package", "--quiet", "--no-verify", "--exclude-lockfile", "--allow-dirty"]);
    CRATES.iter().for_each(|name| {
        cargo.args(["--package", name]);
    });
    cargo.args(arguments).current_dir(&copy).env("CARGO_TARGET_DIR", &target);
    let status = cargo.status().map_err(|error| format!("cargo package: {error}"))?;
    if !status.success() {
        return Err("cargo package failed".to_owned());
    }
    for name in CRATES {
        println!("{}", target.join("package").join(format!("{name}-{}.crate", env!("CARGO_PKG_VERSION"))).display());
    }
    Ok(())
}
