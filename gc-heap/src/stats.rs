//! Counters of a heap.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a heap has done so far, and what it holds. All counts are since the heap was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapStats {
    /// Maximum size in bytes.
    pub max_bytes: usize,
    /// Bytes in blocks that are not free.
    pub used_bytes: usize,
    /// Bytes of memory that the heap holds from the system (once, however many views map them).
    pub committed_bytes: usize,
    /// The most that was ever committed.
    pub committed_peak_bytes: usize,
    /// Bytes handed out in blocks, ever.
    pub allocated_bytes: u64,
    /// Cycles that have ended.
    pub cycles: u64,
    /// Of these, cycles that relocated.
    pub relocations: u64,
    /// Compactions in a stop.
    pub compactions: u64,
    /// Objects marked.
    pub marked_objects: u64,
    /// Bytes found live by the last marking.
    pub live_bytes: u64,
    /// Objects copied by collector threads.
    pub collector_copies: u64,
    /// Objects copied by mutators that loaded a stale slot first.
    pub mutator_copies: u64,
    /// Objects that stayed in place because there was nowhere to copy them to.
    pub kept_in_place: u64,
    /// Stale slots healed by mutators.
    pub healed: u64,
    /// Overwritten words logged by mutators.
    pub logged: u64,
    /// Attempts to end marking that found work left.
    pub mark_end_retries: u64,
    /// Waits for memory.
    pub stalls: u64,
    /// Live objects and slots looked at by verification.
    pub verified_slots: u64,
}

macro_rules! counters {
    ($($name:ident),*) => {
        /// The counting side of [`HeapStats`].
        #[derive(Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter),* }
    };
}

counters!(
    cycles,
    relocations,
    compactions,
    marked_objects,
    live_bytes,
    collector_copies,
    mutator_copies,
    kept_in_place,
    healed,
    logged,
    mark_end_retries,
    stalls,
    verified_slots
);

/// A relaxed counter.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
