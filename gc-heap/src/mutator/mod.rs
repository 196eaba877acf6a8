//! The mutator: a thread's access to the heap.
//!
//! `&mut Mutator` means that objects may move (a safepoint is possible), `&Mutator` means that they
//! do not. Everything else follows from that: raw references borrow `&Mutator`, and every function
//! that may reach a safepoint takes `&mut`.
//!
//! # Invariants
//!
//! 1. One *active* mutator a thread over all heaps, so a raw reference of one heap never meets the
//!    mutator of another. A thread-local word names it; entering, leaving, parking and returning
//!    each check it, and end the process on a mismatch (`enter`).
//! 2. No word that another thread writes lies inside [`Mutator`]: those are in its
//!    [`record::MutatorRecord`].
//! 3. The cells that mirror the phase (`bad_mask`, `logging`, ...) are reloaded by the mutator
//!    itself, whenever it leaves a safepoint and before it accesses a slot.

pub(crate) mod alloc;
pub(crate) mod alloc_size;
pub(crate) mod allocate;
pub(crate) mod bump;
pub(crate) mod construct;
pub(crate) mod enter;
pub(crate) mod grow;
pub(crate) mod keep;
pub(crate) mod run;
pub(crate) mod safepoint;
pub(crate) mod stall;
pub(crate) mod tlab;

pub use crate::inner::mutator::Mutator;
