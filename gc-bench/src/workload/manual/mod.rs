//! The workloads with memory that the program frees itself: what the same work costs where nothing
//! is collected.
//!
//! Operations, clock reads and samples are those of the workloads beside this folder, whose
//! settings and constants these share. Memory comes from the system's allocator (`malloc` and
//! `free`, which Rust's boxes and vectors call), an allocation for each object. A tree is freed
//! when it was counted, a message when another takes its place, a cache's entry when it is evicted.
//! A record of `table-churn` may be linked from others when it is replaced: so references to it are
//! counted.

mod binary_trees;
mod gcbench;
mod lru_cache;
mod message_ring;
mod steady;
mod table_churn;
mod worker;

use super::work::Work;
use crate::failure::Failure;
use crate::measure::{ByHand, Measured};

/// Runs a workload without a heap.
pub(crate) fn run(work: &Work, bench: &ByHand) -> Result<Measured, Failure> {
    match work {
        Work::GcBench(of) => Ok(gcbench::run(of, bench)),
        Work::BinaryTrees(of) => Ok(binary_trees::run(of, bench)),
        Work::MessageRing(of) => Ok(message_ring::run(of, bench)),
        Work::TableChurn(of) => Ok(steady::run(&of.steady, bench, |id| table_churn::Churn::new(of, id))),
        Work::LruCache(of) => Ok(steady::run(&of.steady, bench, |id| lru_cache::Cache::new(of, id))),
        Work::Tides(_) | Work::Robson(_) | Work::Idle(_) | Work::Json(_) | Work::PauseScaling(_) => {
            Err(Failure::input(format!("{} is of this heap alone: leave out --peer", work.name())))
        }
    }
}
