//! An embedder's crate, outside this workspace: one line in its `Cargo.toml`, no patch, no libclang.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs, process};

/// A folder that is gone when the value is.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

const PROGRAM: &str = r#"
use gc_heap::{Heap, Slot, Trace};

#[derive(Trace)]
struct Link {
    number: u64,
    next: Slot<Option<Link>>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let heap = Heap::builder().max_bytes(16 << 20).build()?;
    let sum = heap.enter(|m| -> Result<u64, gc_heap::OutOfMemory> {
        let last = m.alloc::<Link>(|_| LinkInit { number: 40, next: None })?;
        let first = m.alloc::<Link>(|m| LinkInit { number: 2, next: Some(last.get(m)) })?;
        m.collect();
        let first = first.get(m);
        Ok(first.number + first.next.get(m).map_or(0, |next| next.number))
    })??;
    println!("sum {sum}, cycles {}", heap.stats().cycles);
    Ok(())
}
"#;

/// Runs cargo on the crate. What it needs from the registry is there, because building these tests
/// needed it: so it may be offline, as it must be where there is no network.
fn cargo(command: &str, manifest: &Path) -> Output {
    Command::new(env::var_os("CARGO").expect("cargo runs the tests"))
        .args([command, "--quiet", "--offline", "--manifest-path"])
        .arg(manifest)
        // Where a folder above has a configuration of cargo (a vendored registry, say), it counts.
        .current_dir(repository())
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        // A build script that looks for libclang is told to look where there is none.
        .env("LIBCLANG_PATH", "/nonexistent")
        .env("LLVM_CONFIG_PATH", "/nonexistent/llvm-config")
        .env("CLANG_PATH", "/nonexistent/clang")
        .output()
        .unwrap()
}

#[test]
fn a_crate_outside_the_workspace_needs_one_line() {
    let folder = Folder(env::temp_dir().join(format!("gc-heap-outside-{}", process::id())));
    fs::create_dir_all(folder.0.join("src")).unwrap();
    let manifest = folder.0.join("Cargo.toml");
    let heap = env!("CARGO_MANIFEST_DIR");
    let lines = format!(
        "[package]\nname = \"outside\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\ngc-heap = {{ path = {heap:?} }}\n"
    );
    fs::write(&manifest, lines).unwrap();
    fs::write(folder.0.join("src/main.rs"), PROGRAM).unwrap();
    // The versions that are there. Cargo takes out of it what this crate does not need.
    fs::copy(repository().join("Cargo.lock"), folder.0.join("Cargo.lock")).unwrap();
    let out = cargo("run", &manifest);
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.starts_with("sum 42, cycles ") && !said.contains("cycles 0"), "{said}");
    // Not by luck of this machine, which may have libclang.
    let lock = fs::read_to_string(folder.0.join("Cargo.lock")).unwrap();
    assert!(lock.contains("name = \"crossbeam-deque\""), "{lock}");
    for needless in ["userfaultfd", "userfaultfd-sys", "bindgen", "clang-sys"] {
        assert!(!lock.contains(&format!("name = \"{needless}\"")), "the crate depends on {needless}:\n{lock}");
    }
}
