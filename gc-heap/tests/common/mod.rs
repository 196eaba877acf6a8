//! What the integration tests share: heaps of every sort, a deadline, a generator of numbers.

// Each test file is a crate of its own and uses its part.
#![allow(dead_code)]

use gc_heap::{Backing, Barrier, Heap, HeapBuilder, Mirror, Stress};
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

thread_local! {
    /// The memory that the heaps of the test on this thread are made of.
    static BACKING: std::cell::Cell<Backing> = const { std::cell::Cell::new(Backing::Memfd) };
}

/// The memory of the heaps of this test.
pub(crate) fn backing() -> Backing {
    BACKING.get()
}

/// Says what it is, for the test that runs on this thread.
pub(crate) fn set_backing(backing: Backing) {
    BACKING.set(backing);
}

/// Factor on the number of cases, from `PARALLAX_STRESS`; 1 where it is not set.
pub(crate) fn factor() -> u32 {
    std::env::var("PARALLAX_STRESS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Ends the process when a test hangs: a deadlock is a failure, not patience. Dropped, it does nothing.
pub(crate) struct Deadline(#[allow(dead_code, reason = "its drop is the signal")] Sender<()>);

/// The longest a test may take. Far above what any takes on a loaded machine.
pub(crate) fn deadline(what: &'static str) -> Deadline {
    let (sender, receiver) = channel();
    let limit = Duration::from_secs(120) * factor();
    std::thread::spawn(move || {
        if receiver.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{what}: no end after {limit:?}: a deadlock or a livelock");
            std::process::abort();
        }
    });
    Deadline(sender)
}

/// The heap that tests begin with: everything verified, stale addresses fault.
pub(crate) fn checked(barrier: Barrier, max_bytes: usize) -> HeapBuilder {
    Heap::builder().max_bytes(max_bytes).barrier(barrier).backing(backing()).verify(true).single_view(true)
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

/// Runs `work` while another thread, outside the heap, collects all the time, with a pause between two cycles.
pub(crate) fn while_collecting<R>(heap: &Heap, pause: Duration, work: impl FnOnce() -> R) -> R {
    /// Ends the collecting thread also where `work` panics.
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
                heap.collect();
                std::thread::sleep(pause);
            }
        });
        let _done = Done(&done);
        work()
    })
}

/// A xorshift generator: the same numbers for the same seed, on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
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

/// Leaves expected panics out of what is printed.
pub(crate) fn print_unexpected_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !EXPECTED.get() {
            print(info);
        }
    }));
}
