//! What a core dump has of a heap, each crash in a child that is to crash.

use crate::child::command;
use crate::common::backing;
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Backing, Barrier, Heap, Local, Slot, Trace};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

pub(crate) const SCENES: &[(&str, fn())] = &[
    ("crash-load", || crash(Barrier::Load, true)),
    ("crash-page", || crash(Barrier::Page, true)),
    ("crash-bare", || {
        crash(Barrier::Load, false);
    }),
];

#[derive(Trace)]
struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

/// In the upper half of a node's number: its bytes are nowhere else, code and constants have them
/// added.
fn id(node: u64) -> u64 {
    (0x5eed_0000_u64 + std::hint::black_box(0xc0de)) << 32 | node
}

const NODES: u64 = 40_000;

/// A megabyte of objects in a heap of a gigabyte, two threads, and an abort.
fn crash(barrier: Barrier, objects: bool) {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel reads a value of this frame. (Where the hard limit is lower it refuses,
    // and there is no core.)
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) };
    let heap = Heap::builder().max_bytes(1 << 30).barrier(barrier).backing(backing()).dump_objects(objects);
    let heap = heap.build().unwrap();
    std::thread::scope(|scope| {
        heap.enter(|m| {
            let list: Local<'_, Option<Node>> = m.local(None);
            for node in 0..NODES {
                let m = m.reserve(AllocSize::of::<Node>()).unwrap();
                list.set(m, Some(m.place(NodeInit { id: id(node), next: list.get(m) })));
            }
            m.collect();
            let (entered, waits) = std::sync::mpsc::channel();
            let heap = &heap;
            scope.spawn(move || {
                heap.enter(|_| {
                    entered.send(()).unwrap();
                    std::thread::park();
                })
            });
            m.blocking(|| waits.recv().unwrap());
            std::process::abort();
        })
        .unwrap();
    });
}

/// The core of a scene that crashes; none where the system puts cores elsewhere.
fn core_of(scene: &str) -> Option<(std::fs::Metadata, Vec<u8>)> {
    let folder: PathBuf = std::env::temp_dir().join(format!("parallax-{scene}-{:?}-{}", backing(), std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let output = command(scene).current_dir(&folder).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{scene}: {}\n{text}", output.status);
    let core = std::fs::read_dir(&folder).unwrap().next().map(|entry| {
        let path = entry.unwrap().path();
        let metadata = std::fs::metadata(&path).unwrap();
        // As long as it has holes it may be long.
        let bytes = if metadata.len() < 1 << 30 { std::fs::read(&path).unwrap() } else { Vec::new() };
        (metadata, bytes)
    });
    std::fs::remove_dir_all(&folder).unwrap();
    if core.is_none() {
        println!("IGNORED, no core file here: see /proc/sys/kernel/core_pattern and `ulimit -Hc`");
    }
    core
}

/// How often a node is in a core.
fn copies(core: &[u8], node: u64) -> usize {
    let wanted = id(node).to_ne_bytes();
    core.chunks_exact(8).filter(|word| **word == wanted).count()
}

/// Bytes that a program of no objects dumps: its stacks, its allocator, the collector's tables.
const ELSE: u64 = 16 << 20;

fn is_dumped_once(scene: &str) {
    let Some((metadata, core)) = core_of(scene) else { return };
    assert!(metadata.blocks() * 512 < ELSE, "{} bytes written", metadata.blocks() * 512);
    if backing() == Backing::Memfd {
        // A reader of a pipe gets the holes too.
        assert!(metadata.len() < 8 * ELSE, "{} bytes long", metadata.len());
        // Nodes of the middle: the newest may be in a register, on a stack.
        for node in [NODES / 4, NODES / 2] {
            assert_eq!(copies(&core, node), 1, "node {node}");
        }
    }
}

fn a_crash_dumps_objects_once_and_nothing_unused() {
    is_dumped_once("crash-load");
}

fn a_crash_with_the_page_barrier_dumps_objects_once_and_nothing_unused() {
    is_dumped_once("crash-page");
}

fn objects_are_left_out_of_dumps_where_that_is_asked_for() {
    let Some((metadata, core)) = core_of("crash-bare") else { return };
    assert!(metadata.blocks() * 512 < ELSE);
    assert_eq!(copies(&core, NODES / 2), 0);
}

pub(crate) const TESTS: Tests = Tests {
    once: tests![a_crash_dumps_objects_once_and_nothing_unused, objects_are_left_out_of_dumps_where_that_is_asked_for,],
    page: tests![a_crash_with_the_page_barrier_dumps_objects_once_and_nothing_unused],
    ..Tests::NONE
};
