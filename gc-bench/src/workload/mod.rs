//! The workloads. Each does what the peer program of the same name does (warm-up, work, checksum, samples), in the style
//! that this heap's API asks for.

mod binary_trees;
mod gcbench;
mod json;
mod message_ring;
mod pause_scaling;
mod table_churn;

use std::sync::Barrier;

use gc_heap::{EnterError, Mutator, OutOfMemory};

use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::plan::Workload;

pub(crate) use json::check as check_document;

/// Runs the workload that the plan names.
pub(crate) fn run(bench: &Bench<'_>) -> Result<Measured, Failure> {
    match bench.plan.workload {
        Workload::GcBench => alone(bench, gcbench::run),
        Workload::BinaryTrees => alone(bench, binary_trees::run),
        Workload::MessageRing => alone(bench, message_ring::run),
        Workload::TableChurn => table_churn::run(bench),
        Workload::Json => json::run(bench),
        Workload::PauseScaling => pause_scaling::run(bench),
    }
}

/// For workloads whose first mutator is this thread.
fn alone(
    bench: &Bench<'_>,
    f: impl FnOnce(&Bench<'_>, &mut Mutator<'_>) -> Result<Measured, OutOfMemory>,
) -> Result<Measured, Failure> {
    bench.heap.enter(|m| f(bench, m)).map_err(from_enter)?.map_err(from_memory)
}

fn from_enter(e: EnterError) -> Failure {
    Failure::run(e.to_string())
}

fn from_memory(e: OutOfMemory) -> Failure {
    Failure::run(e.to_string())
}

/// Marsaglia's xorshift, as the peers have it.
pub(crate) struct Rng(u64);

impl Rng {
    /// Each thread its own sequence. A state of 0 would stay 0.
    pub(crate) fn new(seed: u64, thread: u64) -> Self {
        Self(seed.wrapping_add(thread.wrapping_mul(7919)).max(1))
    }

    #[inline(always)]
    pub(crate) fn next(&mut self) -> u64 {
        let mut x = self.0;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0 = x;
        x
    }
}

/// Where the threads of a workload meet. One that fails would leave the others waiting, so it comes to every meeting that
/// is left, failed or not.
struct Meetings<'a> {
    barrier: &'a Barrier,
    left: u32,
}

impl<'a> Meetings<'a> {
    fn new(barrier: &'a Barrier, meetings: u32) -> Self {
        Self { barrier, left: meetings }
    }

    /// Waits for all, outside the heap: who is not there yet may need a stop to get there.
    fn meet(&mut self, m: &mut Mutator<'_>) {
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
