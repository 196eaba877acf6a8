//! The collector: mark, reclaim, relocate, on a thread of its own.
//!
//! `driver` is the thread, `cycle` the list of phases of a cycle, one for each way to run it; the
//! other files are what the phases do.

mod aging;
mod by_flips;
mod choice;
mod cycle;
pub(crate) mod driver;
pub(crate) mod evacuation_set;
pub(crate) mod finalize;
pub(crate) mod flip;
mod flip_plan;
pub(crate) mod flip_way;
#[cfg(feature = "census")]
pub(crate) mod heap_walk;
mod huge;
mod idle;
mod large;
pub(crate) mod mark;
pub(crate) mod mark_queue;
mod marking;
mod overflow;
mod pair_blocks;
mod pauses;
mod phase_report;
pub(crate) mod pressure;
mod promote;
pub(crate) mod reclaim;
mod relocate;
mod relocation;
pub(crate) mod roots;
mod run_plan;
mod scan;
mod telemetry;
mod uncommit;
pub(crate) mod verify;
pub(crate) mod ways;
