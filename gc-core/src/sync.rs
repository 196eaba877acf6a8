//! Atomics and spinning, the standard library's or `loom`'s. What must be modelled takes them from here.

#[cfg(loom)]
#[allow(unused_imports)]
pub(crate) use loom::{hint, sync::atomic, thread};
#[cfg(not(loom))]
#[allow(unused_imports)]
pub(crate) use std::{hint, sync::atomic, thread};
