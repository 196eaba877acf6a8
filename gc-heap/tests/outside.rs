//! An embedder's crate, outside this workspace: one line in its `Cargo.toml`, no patch, no
//! libclang; and the packages that a registry would have.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, process};

/// A folder that is gone when the value is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = Folder(env::temp_dir().join(format!("{name}-{}", process::id())));
        fs::create_dir_all(&folder.0).unwrap();
        folder
    }
}

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

/// The crates for a registry.
const LIBRARIES: [&str; 4] = ["gc-core", "gc-heap-derive", "gc-heap", "gc-heap-tools"];

/// Where cargo puts what it builds here: beside the workspace's own, so that the next run has it.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside")
}

/// Runs cargo, and gives what it says. What the crates need from the registry is there, because
/// building these tests needed it: so cargo may be offline, as it must be where there is no
/// network.
fn cargo(arguments: &[&str]) -> String {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo runs the tests"));
    cargo
        .args(arguments)
        .env("CARGO_NET_OFFLINE", "true")
        // Where a folder above has a configuration of cargo (a vendored registry, say), it counts.
        .current_dir(repository())
        .env("CARGO_TARGET_DIR", target())
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        // A build script that looks for libclang is told to look where there is none.
        .env("LIBCLANG_PATH", "/nonexistent")
        .env("LLVM_CONFIG_PATH", "/nonexistent/llvm-config")
        .env("CLANG_PATH", "/nonexistent/clang");
    succeed(&mut cargo)
}

fn succeed(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{command:?}\n{said}{}", String::from_utf8_lossy(&out.stderr));
    said
}

/// Makes an embedder's crate whose `Cargo.toml` ends with these lines, builds it and runs it.
fn embed(name: &str, dependencies: &str) {
    let folder = Folder::new(name);
    fs::create_dir(folder.0.join("src")).unwrap();
    let manifest = folder.0.join("Cargo.toml");
    let package = format!("[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n");
    fs::write(&manifest, format!("{package}\n{dependencies}")).unwrap();
    fs::write(folder.0.join("src/main.rs"), PROGRAM).unwrap();
    // The versions that are there. Cargo takes out of it what this crate does not need.
    fs::copy(repository().join("Cargo.lock"), folder.0.join("Cargo.lock")).unwrap();
    let said = cargo(&["run", "--quiet", "--manifest-path", manifest.to_str().unwrap()]);
    assert!(said.starts_with("sum 42, cycles ") && !said.contains("cycles 0"), "{said}");
    // Not by luck of this machine, which may have libclang.
    let lock = fs::read_to_string(folder.0.join("Cargo.lock")).unwrap();
    assert!(lock.contains("name = \"crossbeam-deque\""), "{lock}");
    for needless in ["userfaultfd", "userfaultfd-sys", "bindgen", "clang-sys"] {
        assert!(!lock.contains(&format!("name = \"{needless}\"")), "the crate depends on {needless}:\n{lock}");
    }
}

#[test]
fn a_crate_outside_the_workspace_needs_one_line() {
    let heap = env!("CARGO_MANIFEST_DIR");
    embed("outside-one-line", &format!("[dependencies]\ngc-heap = {{ path = {heap:?} }}\n"));
}

/// From the packages alone, as a registry would have them (`cargo xtask package`): each file that a
/// build needs is in them, and they find one another by name and version.
#[test]
fn the_packages_are_whole() {
    let unpacked = Folder::new("outside-packages-of");
    let files = cargo(&["xtask", "package"]);
    let version = env!("CARGO_PKG_VERSION");
    let mut lines =
        format!("[dependencies]\ngc-heap = \"{version}\"\ngc-heap-tools = \"{version}\"\n\n[patch.crates-io]\n");
    assert_eq!(files.lines().count(), LIBRARIES.len(), "{files}");
    for file in files.lines() {
        let name = Path::new(file).file_name().unwrap().to_str().unwrap();
        let name = name.strip_suffix(&format!("-{version}.crate")).unwrap();
        assert_ne!(name, "gc-core", "the name is somebody else's on crates.io");
        succeed(Command::new("tar").arg("xzf").arg(file).arg("-C").arg(&unpacked.0));
        let folder = unpacked.0.join(format!("{name}-{version}"));
        for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            assert!(folder.join(file).is_file(), "the package of {name} has no {file}");
        }
        lines += &format!("{name} = {{ path = {folder:?} }}\n");
    }
    embed("outside-packages", &lines);
}

/// A crate of the workspace is in the list above, or never goes to a registry.
#[test]
fn each_crate_is_packaged_or_says_that_it_is_not() {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let members = manifest.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.contains(&"gc-heap") && members.contains(&"gc-bench"), "{members:?}");
    let mut packaged = 0;
    for member in members {
        let manifest = fs::read_to_string(repository().join(member).join("Cargo.toml")).unwrap();
        let is_library = LIBRARIES.iter().any(|name| manifest.contains(&format!("name = \"{name}\"\n")));
        assert_ne!(is_library, manifest.contains("publish = false"), "{member}");
        packaged += usize::from(is_library);
    }
    assert_eq!(packaged, LIBRARIES.len());
}
