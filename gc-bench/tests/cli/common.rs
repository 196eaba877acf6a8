//! Running the built bench, and looking at what it says and leaves behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Runs the bench in a folder.
pub(crate) fn bench_in(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gc-bench")).args(args).current_dir(folder).output().expect("the bench starts")
}

/// A folder of this test's own, removed with it.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("gc-bench-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a temporary folder");
        Self(folder)
    }

    /// Everything in it, hidden files too.
    pub(crate) fn entries(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.0)
            .expect("the folder is there")
            .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn bench(&self, args: &[&str]) -> Output {
        bench_in(&self.0, args)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the bench speaks UTF-8")
}

/// Runs with `--json -` and reads the document that standard output must be.
pub(crate) fn json(args: &[&str]) -> Value {
    let scratch = Scratch::new(&args.join("-").replace('/', "_"));
    let out = scratch.bench(&[args, &["--json", "-"]].concat());
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert_eq!(scratch.entries(), Vec::<String>::new(), "nothing but standard output is written");
    serde_json::from_slice(&out.stdout).expect("standard output is one JSON document")
}

/// Asserts that the bench refuses: the code, one line on standard error that says what, and nothing
/// left behind.
#[track_caller]
pub(crate) fn assert_refused(args: &[&str], code: i32, parts: &[&str]) {
    let scratch = Scratch::new(&format!("refused-{}", args.join("-").replace('/', "_")));
    let out = scratch.bench(args);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{args:?} is answered with one line: {said}");
    assert!(said.starts_with("gc-bench: "), "{said}");
    for part in parts {
        assert!(said.contains(part), "{args:?}: {said} does not say {part}");
    }
    assert!(out.stdout.is_empty(), "{}", text(&out.stdout));
    assert_eq!(scratch.entries(), Vec::<String>::new(), "{args:?} leaves nothing behind");
}
