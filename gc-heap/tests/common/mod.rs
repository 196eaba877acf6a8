//! What the integration tests share: heaps of every sort, a deadline, a generator of numbers.

// Each test file is a crate of its own and uses its part.
#![allow(dead_code)]

mod deadline;
mod stray;

pub(crate) use crate::random::Random;
pub(crate) use deadline::{deadline, deadline_after};
use gc_heap::{Backing, Barrier, Heap, HeapBuilder, Mirror, Stress};
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
pub(crate) use stray::{print_stray_faults, set_trial};

thread_local! {
    /// Where the last panic of this thread was that was expected.
    static PANICKED_AT: std::cell::RefCell<Option<(String, u32)>> = const { std::cell::RefCell::new(None) };
    /// The memory that the heaps of the test on this thread are made of.
    static BACKING: std::cell::Cell<Backing> = const { std::cell::Cell::new(Backing::Memfd) };
    /// Whether they have generations.
    static GENERATIONS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// The memory of the heaps of this test.
pub(crate) fn backing() -> Backing {
    BACKING.get()
}

/// Whether the heaps of this test have generations.
pub(crate) fn generations() -> bool {
    GENERATIONS.get()
}

/// Says whether they have, for the test that runs on this thread.
pub(crate) fn set_generations(generations: bool) {
    GENERATIONS.set(generations);
}

/// Says what it is, for the test that runs on this thread.
pub(crate) fn set_backing(backing: Backing) {
    BACKING.set(backing);
}

/// Factor on the number of cases, from `PARALLAX_STRESS`; 1 where it is not set.
pub(crate) fn factor() -> u32 {
    std::env::var("PARALLAX_STRESS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// A heap of the sort that the test on this thread is for, as a program would have it.
pub(crate) fn plain(barrier: Barrier, max_bytes: usize) -> HeapBuilder {
    Heap::builder().max_bytes(max_bytes).barrier(barrier).backing(backing()).generations(generations())
}

/// The heap that tests begin with: everything verified, stale addresses fault.
pub(crate) fn checked(barrier: Barrier, max_bytes: usize) -> HeapBuilder {
    plain(barrier, max_bytes).verify(true).single_view(true)
}

/// Cycles all the time, threads delayed at unlucky places.
pub(crate) fn stress(seed: u64) -> Stress {
    Stress { cycle_every: 50, delay_one_in: 16, seed }
}

/// Both mirrors, one and two collector threads.
pub(crate) fn sorts() -> impl Iterator<Item = (Mirror, usize)> {
    [(Mirror::MmapMemfd, 1), (Mirror::MremapOldSizeZero, 2)].into_iter()
}

/// Checked heaps of both sorts, each calm and under stress.
pub(crate) fn every_heap(barrier: Barrier, max_bytes: usize, seed: u64) -> impl Iterator<Item = Heap> {
    sorts().flat_map(move |(mirror, workers)| {
        let builder = checked(barrier, max_bytes).mirror(mirror).workers(workers);
        [builder.clone(), builder.stress(stress(seed))].map(|builder| builder.build().unwrap())
    })
}

/// Runs `work` while another thread, outside the heap, collects all the time, with a pause between
/// two cycles.
pub(crate) fn while_collecting<R>(heap: &Heap, pause: Duration, work: impl FnOnce() -> R) -> R {
    let collect = || {
        heap.collect();
        std::thread::sleep(pause);
    };
    while_repeating(collect, work)
}

/// Runs `work` while another thread, outside the heap, repeats something.
pub(crate) fn while_repeating<R>(again: impl Fn() + Sync, work: impl FnOnce() -> R) -> R {
    /// Ends the other thread also where `work` panics.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                again();
            }
        });
        let _done = Done(&done);
        work()
    })
}

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// As `std::panic::catch_unwind`, for panics that the test expects: nothing is printed of them.
pub(crate) fn catch_unwind<R>(f: AssertUnwindSafe<impl FnOnce() -> R>) -> std::thread::Result<R> {
    let before = EXPECTED.replace(true);
    let result = std::panic::catch_unwind(f);
    EXPECTED.set(before);
    result
}

/// Checks that something panics.
pub(crate) fn panics<R>(f: impl FnOnce() -> R) {
    assert!(catch_unwind(AssertUnwindSafe(f)).is_err(), "this must panic");
}

/// Leaves expected panics out of what is printed.
pub(crate) fn print_unexpected_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !EXPECTED.get() {
            return print(info);
        }
        let place = info.location().map(|at| (at.file().to_owned(), at.line()));
        PANICKED_AT.with_borrow_mut(|last| *last = place);
    }));
}

/// Runs what must panic: with what text, and in which file and line.
pub(crate) fn panic_of<R>(f: impl FnOnce() -> R) -> (String, String, u32) {
    let panic = catch_unwind(AssertUnwindSafe(f)).err().expect("this must panic");
    let (file, line) = PANICKED_AT.take().expect("the place of a panic");
    (*panic.downcast::<String>().expect("a text with numbers"), file, line)
}
