//! What the kernel and the machine word give a collector. This crate knows no heap: it offers mechanisms, and `gc-heap`
//! builds the collector from them.
//!
//! Two halves:
//!
//! - **With system calls**: [`sys`] holds every system call of the project, [`views`] maps one memfd several times and takes
//!   a view away from the program, [`fault`] brings a thread's faults to the heap they belong to, [`probe`] tells what this
//!   kernel and this sandbox can do.
//! - **Without**: colors, bitmaps, crews, deposits, forwarding, grey blocks, losses, page states and stops. They use atomics only, through one private module that
//!   is the standard library's or `loom`'s, so that a model checker can run them (`--cfg loom`); then the first half is
//!   not built.

#[cfg(not(loom))]
pub mod fault;
#[cfg(not(loom))]
pub mod probe;
#[cfg(not(loom))]
pub mod sys;
#[cfg(not(loom))]
pub mod views;

pub mod bitmap;
pub mod color;
pub mod crew;
pub mod forwarding;
pub mod grey;
pub mod loss;
pub mod page_state;
pub mod parked_tlab;
pub mod stop;
#[cfg(loom)]
pub mod sync;
#[cfg(not(loom))]
mod sync;
