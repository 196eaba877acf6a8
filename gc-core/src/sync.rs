//! Atomics and spinning, the standard library's or `loom`'s. What must be modelled takes them from here.

#[cfg(loom)]
mod loom_atomic;

/// Atomics for models.
#[cfg(loom)]
#[allow(unused_imports)]
pub mod atomic {
    pub use super::loom_atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
    pub use loom::sync::atomic::{Ordering, fence};
}

#[cfg(loom)]
#[allow(unused_imports)]
pub(crate) use loom::{hint, thread};
#[cfg(not(loom))]
#[allow(unused_imports)]
pub(crate) use std::{hint, sync::atomic, thread};
