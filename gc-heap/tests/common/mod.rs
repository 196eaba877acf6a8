//! What the integration tests share: heaps of every sort, a deadline, a generator of numbers.

// Each test file is a crate of its own and uses its part.
#![allow(dead_code)]

pub(crate) use crate::random::Random;
use gc_heap::{Backing, Barrier, Heap, HeapBuilder, Mirror, Stress};
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

thread_local! {
    /// Where the last panic of this thread was that was expected.
    static PANICKED_AT: std::cell::RefCell<Option<(String, u32)>> = const { std::cell::RefCell::new(None) };
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

/// The longest a test may take, of the time that it is given: see [`Given`].
pub(crate) fn deadline(what: &'static str) -> Deadline {
    let (sender, receiver) = channel();
    let limit = Duration::from_secs(120) * factor();
    std::thread::spawn(move || {
        let (begun, mut given) = (Instant::now(), Given::new());
        while given.total < limit {
            if receiver.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            given.look();
        }
        eprintln!("{what}: no end after {limit:?} ({:?} by the clock): a deadlock or a livelock", begun.elapsed());
        std::process::abort();
    });
    Deadline(sender)
}

/// How often it is looked how the process fares.
const LOOK: Duration = Duration::from_millis(500);

/// The time that the process was given. On a machine where others have the processors a test gets on as slowly as they like,
/// so while a thread of the process wants a processor, only what the process had of them counts. Where none does, all waits
/// for something else, and the clock counts.
struct Given {
    total: Duration,
    looked: Instant,
    cpu: Duration,
}

impl Given {
    fn new() -> Given {
        Given { total: Duration::ZERO, looked: Instant::now(), cpu: cpu_time() }
    }

    fn look(&mut self) {
        let (now, cpu) = (Instant::now(), cpu_time());
        let passed = now - self.looked;
        self.total += if wants_processor() { passed.min(cpu.saturating_sub(self.cpu)) } else { passed };
        (self.looked, self.cpu) = (now, cpu);
    }
}

/// The fields of a `stat` file of proc(5) from the state on; the name before it may hold anything.
fn stat(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().map(str::to_owned).collect())
}

/// What all threads of the process have had of the processors; a hundredth of a second more or less.
fn cpu_time() -> Duration {
    let stat = stat("/proc/self/stat".as_ref());
    let ticks = stat.get(11..13).expect("utime and stime").iter().map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Whether a thread of the process, but for this one, has a processor or waits for one.
fn wants_processor() -> bool {
    let this = std::fs::read_link("/proc/thread-self").unwrap();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    threads
        .filter(|thread| Some(&*thread.file_name()) != this.file_name())
        .any(|thread| stat(&thread.path().join("stat")).first().is_some_and(|state| state == "R"))
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
