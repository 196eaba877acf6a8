//! Atomics and spinning, the standard library's or `loom`'s. Code that is to be modelled takes them
//! from here.

#[cfg(loom)]
mod loom_atomic;

/// Sleeping until a word changes.
#[cfg(loom)]
#[path = "sync/loom_futex.rs"]
pub mod futex;

/// Sleeping until a word changes.
#[cfg(not(loom))]
pub(crate) mod futex {
    use super::atomic::AtomicU32;

    /// Sleeps while a word holds `expected`, until a wake or a signal: the caller checks the word
    /// again.
    pub(crate) fn wait(word: &AtomicU32, expected: u32) {
        crate::sys::futex_wait(word, expected, None);
    }

    /// Wakes all threads that sleep on a word. It orders nothing.
    pub(crate) fn wake_all(word: &AtomicU32) {
        crate::sys::futex_wake(word, u32::MAX);
    }
}

/// Atomics for models.
#[cfg(loom)]
#[allow(unused_imports)]
pub mod atomic {
    pub use super::loom_atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
    pub use loom::sync::atomic::{Ordering, fence};
}

#[cfg(loom)]
#[allow(unused_imports)]
pub(crate) use loom::{
    hint,
    sync::{Condvar, Mutex, MutexGuard},
    thread,
};
#[cfg(not(loom))]
#[allow(unused_imports)]
pub(crate) use std::{
    hint,
    sync::{Condvar, Mutex, MutexGuard, atomic},
    thread,
};

/// A plain store of a slot. In a model it comes after all that has happened to the word so far: for
/// `loom` a plain store may come before a compare-and-swap that has not seen it.
#[inline(always)]
pub(crate) fn store_last(word: &atomic::AtomicU64, value: u64, order: atomic::Ordering) {
    #[cfg(loom)]
    word.swap(value, order);
    #[cfg(not(loom))]
    word.store(value, order);
}
