//! The heap's memory as blocks: what each is used for, which are free, and where evacuated ones went.

pub(crate) mod blocks;
pub(crate) mod forward;
pub(crate) mod free;
pub(crate) mod pages;

pub(crate) use gc_core::forwarding::{BLOCK_BYTES, BLOCK_GRANULES, BLOCK_MARK_WORDS};

/// Objects above this size take runs of blocks of their own and are never copied.
pub(crate) const LARGE_BYTES: usize = BLOCK_BYTES / 2;

/// Bytes of a page, the unit of gating and repair.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Pages of a block.
pub(crate) const BLOCK_PAGES: usize = BLOCK_BYTES / PAGE_BYTES;
