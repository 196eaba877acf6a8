//! The workspace, and the copies of it that tasks change.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}

/// The texts of all Rust files below a folder.
pub(crate) fn sources(folder: &Path) -> Result<BTreeMap<PathBuf, String>, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        if path.is_dir() {
            found.append(&mut sources(&path)?);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).map_err(failed(&path))?;
            found.insert(path, text);
        }
    }
    Ok(found)
}

/// Writes a file if its bytes differ: cargo goes by the time of the last change.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|now| now == bytes) {
        return Ok(());
    }
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed(path))?;
    fs::write(path, bytes).map_err(failed(path))
}

/// Brings the copy in this folder of the workspace up to date: what git knows, and new files that it
/// does not ignore. Gives the copy's folder.
pub(crate) fn copy(folder: &str) -> Result<PathBuf, String> {
    let (root, to) = (root(), root().join(folder));
    let listed = Command::new("git").args(["ls-files", "-co", "--exclude-standard", "-z"]).current_dir(&root).output();
    let listed = listed.map_err(|error| format!("git ls-files: {error}"))?;
    let names = String::from_utf8(listed.stdout).map_err(|error| error.to_string())?;
    if !listed.status.success() || names.is_empty() {
        return Err("git ls-files failed: this task needs a checkout".to_owned());
    }
    let names: Vec<&str> = names.split_terminator('\0').filter(|name| root.join(name).is_file()).collect();
    for name in &names {
        let from = root.join(name);
        write(&to.join(name), &fs::read(&from).map_err(failed(&from))?)?;
    }
    // Files that are gone, or moved, would be found by their text.
    for package in ["gc-core", "gc-heap"] {
        for path in sources(&to.join(package))?.into_keys() {
            let name = path.strip_prefix(&to).ok().and_then(Path::to_str).unwrap_or_default();
            if !names.contains(&name) {
                fs::remove_file(&path).map_err(failed(&path))?;
            }
        }
    }
    Ok(to)
}
