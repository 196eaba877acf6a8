//! Memory that one thread allocates from: its TLABs, the block that it copies to, and what a
//! reservation holds.
//!
//! # The limits of a bump pointer
//!
//! `top <= end <= block_end`, and the block is the one that `block_end` ends.
//!
//! | limit | who writes it | what it says |
//! | --- | --- | --- |
//! | `Tlab::top` | the thread | the next free byte |
//! | `Tlab::end` | the thread | how far it may bump: to the block's end, in stress mode to the end of the reserved room |
//! | `Tlab::block_end` | the thread | where the block ends; 0 if there is none |
//! | `MutatorRecord::end` | the thread, and any that requests a safepoint | `end` for the check of `reserve`: 0 requests a safepoint, 1 says that there is no TLAB |
//! | `BlockTable::used_bytes` | the thread at safepoints, and the one that closes the block | how far repair walks the block (page barrier) |
//! | `MutatorRecord::deposits` | the thread when it parks, the collector | how far a parked thread's block is filled, for the thread that closes it |

use crate::inner::record::MutatorRecord;
use crate::space::memory::Memory;
use crate::space::{BLOCK_BYTES, Block};
use std::cell::{Cell, RefCell};

/// A block that one thread bumps through. Addresses in the good view; all 0 if there is no block.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Tlab {
    top: Cell<u64>,
    end: Cell<u64>,
    block_end: Cell<u64>,
}

impl Tlab {
    /// The next `bytes`, if there is room for them.
    #[inline(always)]
    pub(crate) fn bump(&self, bytes: usize) -> Option<u64> {
        let top = self.top.get();
        let new = top + bytes as u64;
        if new > self.end.get() {
            return None;
        }
        self.top.set(new);
        Some(top)
    }

    /// Undoes the last bump, of `bytes`.
    pub(crate) fn rewind(&self, bytes: usize) {
        self.top.set(self.top.get() - bytes as u64);
    }

    #[inline(always)]
    pub(crate) fn top(&self) -> u64 {
        self.top.get()
    }

    #[inline(always)]
    pub(crate) fn end(&self) -> u64 {
        self.end.get()
    }

    fn cells(&self) -> impl Iterator<Item = &Cell<u64>> {
        [&self.top, &self.end, &self.block_end].into_iter()
    }

    #[cfg(test)]
    pub(crate) fn limits(&self) -> [u64; 3] {
        [self.top.get(), self.end.get(), self.block_end.get()]
    }

    /// Bytes that may still be bumped.
    pub(crate) fn rest(&self) -> usize {
        debug_assert!(self.top <= self.end && self.end <= self.block_end);
        (self.end.get() - self.top.get()) as usize
    }

    /// Begins a block at its start.
    pub(crate) fn open(&self, start: u64) {
        debug_assert!(self.block_end.get() == 0, "a block is closed before another is opened");
        let end = start + BLOCK_BYTES as u64;
        self.top.set(start);
        self.end.set(end);
        self.block_end.set(end);
    }

    /// Stress mode: no more than `bytes` may be bumped until [`lift_limit`](Self::lift_limit).
    pub(crate) fn limit_to(&self, bytes: usize) {
        self.end.set(self.end.get().min(self.top.get() + bytes as u64));
    }

    pub(crate) fn lift_limit(&self) {
        self.end.set(self.block_end.get());
    }

    fn swap(&self, other: &Tlab) {
        self.top.swap(&other.top);
        self.end.swap(&other.end);
        self.block_end.swap(&other.block_end);
    }

    /// The block, and the bytes bumped in it.
    pub(crate) fn filled(&self, memory: &Memory) -> Option<(Block, usize)> {
        let (top, end) = (self.top.get(), self.block_end.get());
        debug_assert!(end == 0 || end - top <= BLOCK_BYTES as u64);
        (end != 0).then(|| memory.filled(top, end))
    }

    /// Another thread has the block, or nobody.
    fn forget(&self) {
        self.cells().for_each(|limit| limit.set(0));
    }

    /// Ends allocation in the block.
    pub(crate) fn close(&self, memory: &Memory) {
        let filled = self.filled(memory);
        self.forget();
        if let Some((block, fill)) = filled {
            memory.close_block(block, fill);
        }
    }

    /// Moves the addresses to the other view after a change of the good color.
    fn change_view(&self, memory: &Memory, view: u64) {
        let old = self.block_end.get();
        if old != 0 {
            // The end may be the heap's, one past the last offset: subtract before splitting.
            let new = memory.space.offset(old - 1).in_view(view) + 1;
            self.cells().for_each(|limit| limit.set(new - (old - limit.get())));
        }
    }
}

/// The blocks of one thread.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Tlabs {
    /// The TLAB.
    pub(crate) active: Tlab,
    /// A second TLAB, for objects that do not fit the first.
    pub(crate) spare: Tlab,
    /// The block that this thread copies to.
    pub(crate) copy: Tlab,
    pub(crate) reserved: RefCell<Reserved>,
}

impl Tlabs {
    fn all(&self) -> [&Tlab; 3] {
        [&self.active, &self.spare, &self.copy]
    }

    /// Ends allocation in all blocks.
    pub(crate) fn retire(&self, memory: &Memory) {
        self.all().iter().for_each(|tlab| tlab.close(memory));
    }

    /// After a change of the good color: `target` is the view of the objects that this thread
    /// copies.
    pub(crate) fn change_view(&self, memory: &Memory, view: u64, target: u64) {
        self.active.change_view(memory, view);
        self.spare.change_view(memory, view);
        self.copy.change_view(memory, target);
    }

    pub(crate) fn swap_spare(&self) {
        self.active.swap(&self.spare);
    }

    /// Closes the TLAB or the spare one, whichever has less space left; the TLAB is then to be
    /// opened.
    pub(crate) fn make_room(&self, memory: &Memory) {
        if self.spare.block_end.get() == 0 || self.spare.rest() < self.active.rest() {
            self.swap_spare();
        }
        self.active.close(memory);
    }

    /// Publishes the blocks when the thread parks: from here on the collector may close them.
    pub(crate) fn on_park(&self, memory: &Memory, record: &MutatorRecord) {
        for (deposit, tlab) in record.deposits.iter().zip(self.all()) {
            if let Some((block, fill)) = tlab.filled(memory) {
                deposit.put(block, fill);
            }
        }
    }

    /// Reclaims the published blocks when the thread unparks, except those that the collector has
    /// closed.
    pub(crate) fn on_unpark(&self, record: &MutatorRecord) {
        for (deposit, tlab) in record.deposits.iter().zip(self.all()) {
            if deposit.take().is_none() {
                tlab.forget();
            }
        }
    }
}

/// Blocks allocated for a reservation and not used yet.
#[derive(Default)]
pub(crate) struct Reserved {
    /// For small and medium objects.
    pub(crate) blocks: Vec<Block>,
    /// For large ones: prepared, `LargeUninitialized`.
    pub(crate) runs: Vec<Run>,
}

/// Memory for a large object.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) first: Block,
    pub(crate) count: usize,
    /// Whether all of it is zero, or only the beginning.
    pub(crate) zero: bool,
}
