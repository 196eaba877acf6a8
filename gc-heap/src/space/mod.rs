//! The heap's memory as blocks: the state of each, the free ones, and the forwarding of evacuated
//! ones.

pub(crate) mod blocks;
pub(crate) mod evacuate;
pub(crate) mod forward;
pub(crate) mod free;
pub(crate) mod memory;
pub(crate) mod pages;

pub(crate) use gc_core::forwarding::{BLOCK_BYTES, BLOCK_GRANULES, BLOCK_MARK_WORDS};

/// Types of which zero bytes are a value.
///
/// # Safety
/// As said.
pub(crate) unsafe trait Zero {}
// SAFETY: integers, in memory as such.
unsafe impl Zero for std::sync::atomic::AtomicU8 {}
// SAFETY: as above.
unsafe impl Zero for std::sync::atomic::AtomicU32 {}
// SAFETY: as above.
unsafe impl Zero for std::sync::atomic::AtomicU64 {}
// SAFETY: a null pointer.
unsafe impl<T> Zero for std::sync::atomic::AtomicPtr<T> {}

/// A table of so many zeroes, one entry or several for each block of the largest heap: untouched, so that what is not in use of the heap
/// has no memory here either.
pub(crate) fn zeroes<T: Zero>(len: usize) -> Box<[T]> {
    // SAFETY: zero is a value of the type.
    unsafe { Box::new_zeroed_slice(len).assume_init() }
}

/// Objects above this size take runs of blocks of their own and are never copied.
pub(crate) const LARGE_BYTES: usize = BLOCK_BYTES / 2;

/// Bytes of a page, the unit of gating and repair.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Pages of a block.
pub(crate) const BLOCK_PAGES: usize = BLOCK_BYTES / PAGE_BYTES;

/// Maximum number of collector threads of a heap: each copies to a block of its own from the
/// relocation reserve, which is at most a quarter of the heap.
pub(crate) fn max_workers(blocks: usize) -> usize {
    blocks / 4 - 1
}

/// Blocks that only relocation may take, so that compaction always progresses: two for each collector thread and a few for
/// mutators, or a sixteenth of the heap if that is less, but never fewer than one for each.
pub(crate) fn relocation_reserve(blocks: usize, workers: usize) -> usize {
    (2 * workers + 4).min(blocks / 16).max(workers + 1)
}
