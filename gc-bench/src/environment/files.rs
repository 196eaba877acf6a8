//! What the system says in files.

use std::fs;
use std::path::{Path, PathBuf};

/// A file's text without its ends; empty where there is none.
pub(super) fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The entries of a folder whose names begin so, in order.
pub(super) fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let mut found: Vec<PathBuf> = found.filter(named).collect();
    found.sort();
    found
}
