//! Memory that one thread allocates from: bump regions, and what a reservation holds.

use crate::space::memory::Memory;
use std::cell::Cell;

/// A bump region: `top..limit` is free. Addresses in the good view; both 0 if there is no block.
#[derive(Default)]
pub(crate) struct Bump {
    pub(crate) top: Cell<u64>,
    pub(crate) limit: Cell<u64>,
}

impl Bump {
    pub(crate) fn rest(&self) -> usize {
        (self.limit.get() - self.top.get()) as usize
    }

    pub(crate) fn set(&self, top: u64, limit: u64) {
        self.top.set(top);
        self.limit.set(limit);
    }

    /// Moves the region to the other view after a change of the good color.
    pub(crate) fn change_view(&self, memory: &Memory, view: u64) {
        if self.limit.get() != 0 {
            // `limit` may be the end of the heap, one past the last offset: subtract before
            // splitting.
            let offset = memory.space.offset(self.limit.get() - 1) + 1;
            let rest = self.limit.get() - self.top.get();
            self.limit.set(view + offset);
            self.top.set(view + offset - rest);
        }
    }
}

/// Blocks allocated for a reservation and not used yet.
#[derive(Default)]
pub(crate) struct Reserved {
    /// For small and medium objects.
    pub(crate) blocks: Vec<usize>,
    /// For large ones: prepared, `LargeUninitialized`.
    pub(crate) runs: Vec<Run>,
}

/// Memory for a large object.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Whether all of it is zero, or only the beginning.
    pub(crate) zero: bool,
}
