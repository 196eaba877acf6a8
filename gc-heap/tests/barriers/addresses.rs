//! Addresses are not memory: what a heap reserves does not count where memory is limited, promised
//! or locked. Each scene changes its process, and plays in a child.

use crate::child::plays_well;
use crate::common::backing;
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Backing, Barrier, BuildError, Heap, Local, Mutator, Root, RootStack, Slot, Stress, Tagged, Trace, Value,
};
use std::sync::Barrier as Rendezvous;

pub(crate) const SCENES: &[(&str, fn())] = &[
    ("data-load", || threads_below_a_limit_on_data(Barrier::Load)),
    ("data-page", || threads_below_a_limit_on_data(Barrier::Page)),
    ("data-anonymous", threads_of_private_memory_below_a_limit_on_data),
    ("locked-load", || a_heap_in_a_locked_process(Barrier::Load)),
    ("locked-page", || a_heap_in_a_locked_process(Barrier::Page)),
    ("built-load", || a_large_heap_is_built(Barrier::Load)),
    ("built-page", || a_large_heap_is_built(Barrier::Page)),
];

const MIB: usize = 1 << 20;

#[derive(Trace)]
struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

/// A line of `/proc/self/status`, in bytes.
fn status(field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("a line of it");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// A thread's work: more locals than a frame has room for at first, and a collection over them.
fn many_locals<'s>(m: &mut Mutator<'s>, count: u64) {
    let mut locals: Vec<Local<'s, Node>> = Vec::new();
    for id in 0..count {
        let m = m.reserve(AllocSize::of::<Node>()).unwrap();
        locals.push(m.local(m.place(NodeInit { id, next: None })));
    }
    m.collect();
    for (id, local) in locals.iter().enumerate() {
        let node = local.get(m);
        assert_eq!((node.id, node.next.get(m).is_none()), (id as u64, true));
    }
}

fn threads_below_a_limit_on_data(barrier: Barrier) {
    const THREADS: usize = 16;
    let before = status("VmData");
    let heap = Heap::builder().max_bytes(64 * MIB).barrier(barrier).build().unwrap();
    // Stacks of threads count, of this test's own.
    let limit = (before + 160 * MIB) as u64;
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: the kernel reads a value of this frame.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) }, 0);
    let all = Rendezvous::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let thread = std::thread::Builder::new().stack_size(MIB);
            let work = || {
                heap.enter(|m| {
                    m.blocking(|| all.wait());
                    many_locals(m, 20_000);
                })
                .unwrap();
            };
            thread.spawn_scoped(scope, work).unwrap();
        }
    });
    assert!(status("VmData") < before + 160 * MIB);
}

/// Private memory counts, and twice from a flip on: of roots what is in use, not the 24 GiB that
/// there may be.
fn threads_of_private_memory_below_a_limit_on_data() {
    const THREADS: usize = 16;
    const LIMIT: usize = 640 * MIB;
    let before = status("VmData");
    let limit = libc::rlimit { rlim_cur: (before + LIMIT) as u64, rlim_max: (before + LIMIT) as u64 };
    // SAFETY: the kernel reads a value of this frame.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) }, 0);
    // Moves what can be moved, in every cycle.
    let stress = Stress { cycle_every: u32::MAX, ..Stress::default() };
    let builder = Heap::builder().max_bytes(64 * MIB).barrier(Barrier::Page).backing(Backing::Anonymous).stress(stress);
    let heap = match builder.build() {
        Ok(heap) => heap,
        Err(error @ BuildError::PageBarrier(_)) => return println!("IGNORED: {error}"),
        Err(error) => panic!("{error}"),
    };
    for round in 1..=3 {
        let all = Rendezvous::new(THREADS);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                let thread = std::thread::Builder::new().stack_size(MIB);
                let work = || {
                    heap.enter(|m| {
                        m.blocking(|| all.wait());
                        let stack = RootStack::<Tagged>::with_capacity(&heap, 10_000).unwrap();
                        stack.push(m, Value::num(7.0));
                        many_locals(m, 10_000);
                        let root = Root::<Tagged>::new(m, Value::num(8.0));
                        m.collect();
                        assert_eq!((stack.peek(m, 0).as_num(), root.get(m).as_num()), (Some(7.0), Some(8.0)));
                    })
                    .unwrap();
                };
                thread.spawn_scoped(scope, work).unwrap();
            }
        });
        let (stats, refused) = (heap.stats(), heap.refusals());
        assert!(stats.relocations >= round && stats.compactions == 0, "{stats:?}");
        assert_eq!(refused.count, 0, "the last: {:?}", refused.last);
    }
}

fn a_heap_in_a_locked_process(barrier: Barrier) {
    // SAFETY: locks what will be mapped, and touches nothing.
    if unsafe { libc::mlockall(libc::MCL_FUTURE) } != 0 {
        return println!("IGNORED, mlockall is refused");
    }
    let before = status("VmRSS");
    let heap = match Heap::builder().max_bytes(512 * MIB).barrier(barrier).build() {
        Ok(heap) => heap,
        // Who may not lock that much may not map it either.
        Err(error) => {
            let limited = status("VmLck") < 64 * MIB;
            assert!(limited && error.to_string().contains("os error 11"), "{error}");
            return println!("IGNORED, RLIMIT_MEMLOCK: {error}");
        }
    };
    heap.enter(|m| many_locals(m, 20_000)).unwrap();
    let brought_in = status("VmRSS") - before;
    assert!(brought_in < 128 * MIB, "{} MiB brought in", brought_in / MIB);
}

fn a_large_heap_is_built(barrier: Barrier) {
    const BYTES: usize = 4 << 30;
    let before = status("RssAnon");
    let heap = Heap::builder().max_bytes(BYTES).barrier(barrier).build().unwrap();
    let touched = status("RssAnon") - before;
    // 2 MiB a GiB, when a table of the page barrier was filled at the start.
    assert!(touched < 2 * MIB, "{} KiB touched for a heap of 4 GiB", touched >> 10);
    heap.enter(|m| many_locals(m, 1000)).unwrap();
}

fn sixteen_threads_run_below_a_limit_on_data() {
    plays_well("data-load");
}

fn sixteen_threads_run_below_a_limit_on_data_with_the_page_barrier() {
    plays_well(if backing() == Backing::Memfd { "data-page" } else { "data-anonymous" });
}

fn a_locked_process_has_no_more_of_a_heap_than_it_uses() {
    plays_well("locked-load");
}

fn a_locked_process_has_no_more_of_a_heap_with_the_page_barrier_than_it_uses() {
    if backing() == Backing::Memfd {
        plays_well("locked-page");
    }
}

fn to_build_a_large_heap_touches_little() {
    plays_well("built-load");
}

fn to_build_a_large_heap_with_the_page_barrier_touches_little() {
    plays_well("built-page");
}

pub(crate) const TESTS: Tests = Tests {
    once: tests![
        sixteen_threads_run_below_a_limit_on_data,
        a_locked_process_has_no_more_of_a_heap_than_it_uses,
        to_build_a_large_heap_touches_little,
    ],
    page: tests![
        sixteen_threads_run_below_a_limit_on_data_with_the_page_barrier,
        a_locked_process_has_no_more_of_a_heap_with_the_page_barrier_than_it_uses,
        to_build_a_large_heap_with_the_page_barrier_touches_little,
    ],
    ..Tests::NONE
};
