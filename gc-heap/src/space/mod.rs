//! The heap's memory as blocks: the state of each, the free ones, and the forwarding of evacuated
//! ones.

pub(crate) mod blocks;
pub(crate) mod evacuate;
pub(crate) mod free;
pub(crate) mod memory;
pub(crate) mod pages;

pub(crate) use gc_core::units::{
    BLOCK_BYTES, BLOCK_GRANULES, BLOCK_MARK_WORDS, BLOCK_PAGES, GRANULE_BYTES, PAGE_BYTES,
};
pub(crate) use gc_core::units::{Block, BlockGranule, Granule, Offset, Page};

/// Objects above this size take runs of blocks of their own and are copied in pauses only.
pub(crate) const LARGE_BYTES: usize = BLOCK_BYTES / 2;

/// Maximum number of collector threads of a heap: each copies to a block of its own from the
/// relocation reserve, which is at most a quarter of the heap.
pub(crate) fn max_workers(blocks: usize) -> usize {
    blocks / 4 - 1
}

/// Blocks that only relocation may take, so that compaction always progresses: two for each
/// collector thread and a few for mutators, or a sixteenth of the heap if that is less, but never
/// fewer than one for each.
pub(crate) fn relocation_reserve(blocks: usize, workers: usize) -> usize {
    (2 * workers + 4).min(blocks / 16).max(workers + 1)
}
