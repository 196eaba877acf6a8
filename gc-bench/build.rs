//! Tells the program what it is built of: the revision, the compiler and its flags, the versions of
//! its dependencies. Reports name them, so that a reader can build the same.

use std::env;
use std::path::Path;
use std::process::Command;

/// What the program is compiled from, by path from the workspace. (Cargo runs this again where one
/// of them has changed.)
const SOURCES: [&str; 13] = [
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "gc-core/src",
    "gc-core/Cargo.toml",
    "gc-heap/src",
    "gc-heap/derive",
    "gc-heap/Cargo.toml",
    "gc-bench/src",
    "gc-bench/peers",
    "gc-bench/build.rs",
    "gc-bench/Cargo.toml",
    "gc-core/userfaultfd-sys",
];

/// What a command in the workspace prints; `None` where it fails, or is not there.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).current_dir("..").output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn tell(name: &str, value: &str) {
    println!("cargo::rustc-env=GC_BENCH_{name}={}", value.lines().next().unwrap_or_default());
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn main() {
    for path in SOURCES.map(|path| Path::new("..").join(path)) {
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    // Each commit, checkout and rebase is a line of it. Figures are those of release builds, and
    // the others need not be compiled anew for each commit.
    if variable("PROFILE") == "release"
        && let Some(log) = output("git", &["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    // The revision of an archive is unknown, also where another project's repository is around it.
    let tracked = output("git", &["ls-files", "--error-unmatch", "gc-bench/build.rs"]).is_some();
    let of_sources = |args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain(["--"]).chain(SOURCES).collect();
        if tracked { output("git", &args) } else { None }
    };
    // Not the newest of all: with a commit of another file the program stays as it is.
    tell("REVISION", &of_sources(&["log", "-1", "--format=%H"]).unwrap_or_default());
    let changes = of_sources(&["--no-optional-locks", "status", "--porcelain"]);
    let dirty = changes.map(|changes| (!changes.is_empty()).to_string());
    tell("DIRTY", &dirty.unwrap_or_default());
    tell("LOCK", &output("git", &["hash-object", "Cargo.lock"]).unwrap_or_default());
    tell("RUSTC", &output(&variable("RUSTC"), &["--version"]).unwrap_or_default());
    tell("TARGET", &variable("TARGET"));
    tell("FLAGS", &variable("CARGO_ENCODED_RUSTFLAGS").replace('\u{1f}', " "));
    tell("OPT_LEVEL", &variable("OPT_LEVEL"));
    tell("TARGET_FEATURES", &variable("CARGO_CFG_TARGET_FEATURE"));
}
