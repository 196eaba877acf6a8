//! What a workload says of itself, and what several of them use.

use std::ops::RangeInclusive;
use std::sync::Barrier;

use gc_heap::{EnterError, Mutator, OutOfMemory};

use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::size::grouped;

pub(super) const MIB: u64 = 1 << 20;

/// How many threads do an operation over and over, and for how long that is measured.
pub(crate) struct Timed {
    pub(super) threads: u64,
    pub(super) seconds: f64,
}

/// A workload with its settings, and the work itself.
pub(crate) trait Workload {
    /// Its name on the command line and in reports.
    fn name(&self) -> &'static str;

    /// The heap that it gets where nobody says a size.
    fn heap_bytes(&self, quick: bool) -> u64;

    /// A lower bound of what is alive at once: a heap below it cannot work.
    fn min_live_bytes(&self) -> u64;

    /// A lower bound of what is alive at any time: a soft maximum below it is never kept.
    fn lasting_live_bytes(&self) -> u64 {
        self.min_live_bytes()
    }

    /// Where threads work for a set time: what its threads, its seconds and its label follow from.
    fn timed(&self) -> Option<Timed> {
        None
    }

    /// Mutator threads.
    fn threads(&self) -> u64 {
        self.timed().map_or(1, |timed| timed.threads)
    }

    /// Length of the measured part; 0 where the work is fixed.
    fn seconds(&self) -> f64 {
        self.timed().map_or(0.0, |timed| timed.seconds)
    }

    /// What tells its runs apart, save for the barrier.
    fn label(&self) -> String {
        let alone = || self.name().to_owned();
        self.timed().map_or_else(alone, |timed| with_threads(self.name(), timed.threads))
    }

    /// Whether all of the measured part does the same work, so that its quarters can be compared.
    fn is_steady(&self) -> bool {
        true
    }

    /// Whether misses of the address cache are what it costs.
    fn large_pages_help(&self) -> bool {
        false
    }

    /// Whether its heap is touched beforehand where nobody says; not where the run shows how much
    /// memory the heap has.
    fn wants_pretouch(&self) -> bool {
        true
    }

    /// The checksum, where the work is fixed: a run that has another one has failed.
    fn expected_checksum(&self) -> Option<i64> {
        None
    }

    /// Whether other runtimes have it.
    fn has_peers(&self) -> bool {
        true
    }

    fn run(&self, bench: &Bench<'_>) -> Result<Measured, Failure>;
}

/// A workload that is named on the command line.
pub(crate) trait Standard: Workload + Sized {
    const NAME: &'static str;
    /// A line for the help.
    const ABOUT: &'static str;
    /// Whether it is run where no workload is named.
    const IN_A_PLAIN_RUN: bool = true;
    /// Its own options. One that other workloads have as well has the same name and type there.
    type Args: clap::Args;

    /// What is to be run with these options: one, or one for each standard number of threads.
    fn works(args: Self::Args, quick: bool) -> Result<Vec<Self>, Failure>;
}

/// A standard setting, or the small one.
pub(super) fn pick<T>(quick: bool, standard: T, small: T) -> T {
    if quick { small } else { standard }
}

/// Refuses a `--size` that the workload cannot have.
pub(super) fn check_size(name: &str, size: u64, limit: RangeInclusive<u64>) -> Result<u64, Failure> {
    if limit.contains(&size) {
        return Ok(size);
    }
    let (from, to) = (limit.start(), grouped(*limit.end()));
    Err(Failure::input(format!("--size of {name} must be {from} to {to}")))
}

/// The name with the number of threads.
pub(super) fn with_threads(name: &str, threads: u64) -> String {
    format!("{name}, {threads} thread{}", if threads == 1 { "" } else { "s" })
}

/// For workloads whose first mutator is this thread.
pub(super) fn alone(
    bench: &Bench<'_>,
    f: impl FnOnce(&mut Mutator<'_>) -> Result<Measured, OutOfMemory>,
) -> Result<Measured, Failure> {
    let _attends = bench.attend();
    bench.heap.enter(f).map_err(from_enter)?.map_err(from_memory)
}

pub(super) fn from_enter(e: EnterError) -> Failure {
    Failure::run(e.to_string())
}

pub(super) fn from_memory(e: OutOfMemory) -> Failure {
    Failure::run(e.to_string())
}

/// Where the threads of a workload meet. One that fails would leave the others waiting, so it comes
/// to every meeting that is left, failed or not.
pub(super) struct Meetings<'a> {
    barrier: &'a Barrier,
    left: u32,
}

impl<'a> Meetings<'a> {
    pub(super) fn new(barrier: &'a Barrier, meetings: u32) -> Self {
        Self { barrier, left: meetings }
    }

    /// Waits for all, outside the heap: who is not there yet may need a stop to get there.
    pub(super) fn meet(&mut self, m: &mut Mutator<'_>) {
        m.blocking(|| self.barrier.wait());
        self.left -= 1;
    }
}

impl Drop for Meetings<'_> {
    fn drop(&mut self) {
        for _ in 0..self.left {
            self.barrier.wait();
        }
    }
}
