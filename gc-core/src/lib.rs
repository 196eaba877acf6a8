//! Mechanisms for a concurrent, compacting collector: system calls, and protocols on atomic words.
//! This crate has no heap; `gc-heap` builds the collector from it.
//!
//! Two halves:
//!
//! - **With system calls**: [`sys`] holds every system call of the project, [`views`] maps one
//!   memfd several times and unmaps a view's pages for the page barrier, [`fault`] delivers a
//!   thread's faults to the heap they belong to, [`handler_cell`] keeps what a thread's signal
//!   handlers may follow, [`probe`] reports what this kernel and this sandbox support.
//! - **Without**: colors, bitmaps, brakes, crews, desks (which lend work to helper threads),
//!   ephemerons, deposits, flips, forwarding, grey blocks, losses, page states, pauses, roots,
//!   slots, stops and the types of [`units`]. They use atomics and locks only, through one private
//!   module that is the standard library's or `loom`'s, so that a model checker can run them
//!   (`--cfg loom`); under `loom` the first half is not built. [`rules`] names the rules that a
//!   model can remove from them.

#[cfg(not(loom))]
pub mod fault;
#[cfg(not(loom))]
pub mod handler_cell;
#[cfg(not(loom))]
pub mod prefetch;
#[cfg(not(loom))]
pub mod probe;
#[cfg(not(loom))]
pub mod sys;
#[cfg(not(loom))]
pub mod views;

pub mod bitmap;
pub mod brake;
pub mod color;
pub mod crew;
pub mod desk;
pub mod ephemeron;
pub mod flip;
pub mod forwarding;
pub mod grey;
pub mod length;
pub mod locals;
#[cfg(feature = "losses")]
pub mod loss;
pub mod page_flip;
pub mod page_state;
pub mod parked_tlab;
pub mod pause;
pub mod remembered;
pub mod root_stack;
pub mod root_table;
pub mod rules;
pub mod scan;
pub mod slot;
pub mod stop;
#[cfg(loom)]
pub mod sync;
#[cfg(not(loom))]
mod sync;
pub mod units;
mod waiting;
pub mod weak;
pub mod word;
pub mod zeroed;

/// The features of this crate, and whether each was compiled in.
pub const FEATURES: [(&str, bool); 2] = [("inject", cfg!(feature = "inject")), ("losses", cfg!(feature = "losses"))];
