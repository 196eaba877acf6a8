//! Children made by `fork`: what they are refused, what they can do, and that their parents notice
//! nothing.

use crate::child::{child, plays_well};
use crate::common::{catch_unwind, checked};
use crate::harness::{Tests, tests};
use crate::threads::{check, list};
use gc_heap::{AllocSize, Barrier, Bytes, EnterError, GcLog, Heap, HeapThread, MIN_HEAP_BYTES, Mutator};
use gc_heap::{Resource, ResourceQueue, Root};
use std::io::Read;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

pub(crate) const SCENES: &[(&str, fn())] = &[
    ("forked", forked),
    ("forked-crowd", forked_crowd),
    ("forked-asked", forked_asked),
    ("forked-blocking", forked_blocking),
];

/// Forks. `child` is what the child does; `parent` gets its end of a pipe, to tell the child by
/// closing it. A child that hangs is ended by a signal: its deadline is a thread that it does not
/// have.
fn fork(child: impl FnOnce(std::io::PipeReader), parent: impl FnOnce(std::io::PipeWriter)) {
    let (reader, writer) = std::io::pipe().unwrap();
    // SAFETY: the child runs what a child of many threads can: other threads of this program hold
    // no lock when it is made but the heap's own.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        drop(writer);
        // SAFETY: no memory is involved.
        unsafe { libc::alarm(30) };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| child(reader)));
        // SAFETY: leaves without running anything of the parent's.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    parent(writer);
    let mut status = 0;
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "the child failed: {status:#x}");
}

fn fill(m: &mut Mutator<'_>, byte: u8) -> Root<Bytes> {
    let m = m.reserve(AllocSize::tail::<Bytes>(4 << 20)).unwrap();
    Root::new(m, m.place_bytes::<Bytes>((), &vec![byte; 4 << 20]))
}

fn forked() {
    let heaps = [Barrier::Load, Barrier::StopTheWorld, Barrier::Page]
        .map(|barrier| (barrier, Heap::builder().max_bytes(16 << 20).barrier(barrier).verify(true).build()));
    // No thread is still being made when the first child is: the standard library has a lock for
    // that.
    heaps.iter().flat_map(|(_, heap)| heap).for_each(Heap::collect);
    for (barrier, heap) in heaps.into_iter().filter_map(|(barrier, heap)| Some((barrier, heap.ok()?))) {
        let mut thread = heap.thread().unwrap();
        let root = thread.enter(|m| fill(m, 1)).unwrap();
        // Committed, free, and soon in use: what a child must not give back.
        drop(thread.enter(|m| fill(m, 2)).unwrap());
        heap.collect();
        heap.collect();
        // Whatever it asks, the child is told; and it can have a heap of its own.
        let refused = |thread: &mut HeapThread| {
            assert_eq!(heap.enter(|_| ()), Err(EnterError::Forked));
            assert_eq!(heap.thread().err(), Some(EnterError::Forked));
            assert_eq!(thread.enter(|_| ()), Err(EnterError::Forked));
            let calls: [&dyn Fn(); 6] = [
                &|| heap.collect(),
                &|| assert_ne!(heap.census().objects(), 0),
                &|| assert_ne!(heap.heap_snapshot().census().objects(), 0),
                &|| assert_ne!(heap.release_memory(), 0),
                &|| assert_ne!(heap.trim(), 0),
                &|| heap.set_soft_max_bytes(0),
            ];
            for call in calls {
                assert!(catch_unwind(std::panic::AssertUnwindSafe(call)).is_err());
            }
            assert_eq!(heap.stats().max_bytes, 16 << 20);
        };
        let mut kept = None;
        fork(
            |mut told| {
                told.read_to_end(&mut Vec::new()).unwrap();
                refused(&mut thread);
                drop(fork_own(barrier));
            },
            |tell| {
                kept = Some(heap.enter(|m| fill(m, 3)).unwrap());
                heap.collect();
                drop(tell);
            },
        );
        let whole =
            |root: &Root<Bytes>, byte| heap.enter(|m| root.get(m).tail().iter().all(|&found| found == byte)).unwrap();
        assert!(whole(&root, 1) && whole(&kept.unwrap(), 3), "a child took memory from its parent");
        // Dropped in the child, all of it.
        fork(|_| drop((root, thread, heap.clone(), heap)), |_| ());
    }
}

/// A child's own heap, after its parent's.
fn fork_own(barrier: Barrier) -> Heap {
    let own = Heap::builder().max_bytes(8 << 20).barrier(barrier).build().unwrap();
    own.enter(|m| {
        let head = list(m, 5);
        m.collect();
        check(m, head.get(m), 5);
    })
    .unwrap();
    own
}

/// Fails where a child waits for a collector that it does not have, or reaches into the file that
/// it shares with its parent.
pub(crate) fn a_forked_child_is_refused() {
    plays_well("forked");
}

/// Threads of the parent wait, in all its heaps, when the child is made, and the child's threads
/// get their stacks.
fn forked_crowd() {
    let heaps: Vec<Heap> = (0..16).map(|_| Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap()).collect();
    heaps.iter().for_each(Heap::collect);
    std::thread::sleep(Duration::from_millis(20));
    for _ in 0..10 {
        let crowd = |_| {
            for barrier in [Barrier::Load, Barrier::StopTheWorld] {
                let heaps: Vec<Heap> = (0..4).map(|_| fork_own(barrier)).collect();
                let work = |m: &mut Mutator<'_>| (0..3).for_each(|_| m.collect());
                std::thread::scope(|scope| {
                    heaps.iter().cycle().take(8).for_each(|heap| {
                        scope.spawn(|| heap.enter(work).unwrap());
                    });
                });
            }
        };
        fork(crowd, drop);
    }
}

/// Threads of the parent use every lock that a question of a child could need, as fast as they can.
fn forked_asked() {
    for barrier in [Barrier::Load, Barrier::StopTheWorld, Barrier::Page] {
        let heap = Heap::builder().max_bytes(16 << 20).barrier(barrier).record_losses(true).build();
        let Ok(heap) = heap else { continue };
        let (queue, log) = (ResourceQueue::<u64>::new(&heap), GcLog::new());
        let ask = || {
            let stats = heap.stats();
            assert!(stats.used_bytes <= stats.committed_bytes && stats.committed_bytes <= stats.committed_peak_bytes);
            assert!(stats.live_bytes <= stats.used_bytes as u64);
            let pauses = heap.pauses();
            assert_eq!(pauses.total.count, pauses.reach.count);
            heap.take_events().0.iter().for_each(|event| drop(log.line(event)));
            let _ = (heap.refusals(), queue.take(), queue.ready(), queue.kept());
            drop(heap.add_external(64 << 20));
        };
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let threads = [0; 2].map(|_| {
                scope.spawn(|| {
                    let work = |m: &mut Mutator<'_>| {
                        for _ in 0..50 {
                            let m = m.reserve(AllocSize::of::<Resource<u64>>()).unwrap();
                            let _ = queue.place(m, 1);
                        }
                        let _ = list(m, 2_000);
                    };
                    while !over.load(Relaxed) {
                        heap.enter(work).unwrap();
                        ask();
                    }
                })
            });
            let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                (0..40).for_each(|_| fork(|_| (0..3).for_each(|_| ask()), drop));
            }));
            over.store(true, Relaxed);
            assert!(threads.into_iter().all(|thread| thread.join().is_ok()) && asked.is_ok());
        });
    }
}

/// Fails where a child waits for a lock that a thread of its parent held.
pub(crate) fn a_forked_child_asks_a_heap_that_was_in_use() {
    plays_well("forked-asked");
}

/// A child returns from the `blocking` in which it was made.
fn forked_blocking() {
    let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
    let _ = heap.enter(|m| {
        // SAFETY: the child does nothing but return, and the heap ends it.
        let child = m.blocking(|| unsafe { libc::fork() });
        assert!(child > 0, "it goes on inside its parent's heap");
        let mut status = 0;
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "{status:#x}");
        m.collect();
    });
}

/// Fails where the message of a child that returns from `blocking` names another cause.
pub(crate) fn a_forked_child_that_returns_from_blocking_hears_why_it_ends() {
    let output = child("forked-blocking");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{told}", output.status);
    assert!(told.contains("returns from `blocking`, but this process is a child made by `fork`"), "{told}");
    assert!(!told.contains("coroutine"), "{told}");
}

/// Fails where threads of the child wait in queues in which the parent's threads still are: those
/// of `parking_lot` did.
pub(crate) fn a_forked_child_of_many_threads_has_heaps_of_its_own() {
    plays_well("forked-crowd");
}

/// A child shares the heap's file: the views are not mapped in it, so that it cannot write there.
pub(crate) fn a_forked_child_does_not_disturb_its_parent(barrier: Barrier) {
    let heap = checked(barrier, 8 << 20).build().unwrap();
    heap.enter(|m| {
        let head = list(m, 10_000);
        let address = format!("{:?}", head.get(m).unwrap());
        let address = address.split("0x").nth(1).and_then(|hex| hex.split(')').next()).unwrap();
        let address = usize::from_str_radix(address, 16).unwrap();
        for _ in 0..5 {
            // SAFETY: the child calls nothing but `mincore` and `_exit`, which are safe after a
            // fork of many threads.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let mut resident = 0_u8;
                // SAFETY: `mincore` looks up a mapping and writes one byte to `resident`; it
                // touches nothing else.
                unsafe {
                    let mapped = libc::mincore((address & !4095) as *mut libc::c_void, 1, (&raw mut resident).cast());
                    libc::_exit(if mapped == 0 { 1 } else { 0 });
                }
            }
            assert!(child > 0);
            m.collect();
            let mut status = 0;
            // SAFETY: waits for our own child.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "the child sees the heap: {status}");
            check(m, head.get(m), 10_000);
        }
    })
    .unwrap();
}

/// Fails where the child waits for, or joins, a collector thread that it does not have.
pub(crate) fn a_forked_child_drops_its_copy_of_a_heap(barrier: Barrier) {
    let heap = checked(barrier, 8 << 20).build().unwrap();
    // SAFETY: the child drops one handle, which takes no lock, and calls `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(heap)));
        // SAFETY: leaves without running anything of the parent's.
        unsafe { libc::_exit(i32::from(dropped.is_err())) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
    heap.enter(|m| {
        let head = list(m, 10_000);
        m.collect();
        check(m, head.get(m), 10_000);
    })
    .unwrap();
}

pub(crate) const TESTS: Tests = Tests {
    concurrent: tests![a_forked_child_does_not_disturb_its_parent, a_forked_child_drops_its_copy_of_a_heap],
    once: tests![
        a_forked_child_asks_a_heap_that_was_in_use,
        a_forked_child_is_refused,
        a_forked_child_of_many_threads_has_heaps_of_its_own,
        a_forked_child_that_returns_from_blocking_hears_why_it_ends
    ],
    ..Tests::NONE
};
