//! The heap's memory: its views, its blocks, and the tables that say what is in them.

use crate::space::blocks::{BlockState, BlockTable};
use crate::space::forward::ForwardingTable;
use crate::space::free::FreeSpace;
use crate::space::{BLOCK_BYTES, BLOCK_GRANULES, BLOCK_MARK_WORDS};
use gc_core::bitmap::MarkBitmap;
use gc_core::color::AddressSpace;
use gc_core::forwarding::before_reuse;
use gc_core::views::Views;
use std::sync::atomic::AtomicU64;

/// The memory of one heap.
pub(crate) struct Memory {
    pub(crate) views: Views,
    pub(crate) space: AddressSpace,
    pub(crate) blocks: BlockTable,
    pub(crate) free: FreeSpace,
    pub(crate) marks: MarkBitmap,
    pub(crate) forwarding: ForwardingTable,
    /// Bytes of the heap.
    pub(crate) bytes: usize,
}

impl Memory {
    pub(crate) fn new(views: Views, bytes: usize, reserve: usize) -> Memory {
        let blocks = bytes / BLOCK_BYTES;
        Memory {
            space: AddressSpace::new(views.base() as u64, views.span() as u64),
            blocks: BlockTable::new(blocks),
            free: FreeSpace::new(blocks, reserve).dumped(views.dumps().cloned()),
            marks: MarkBitmap::new(blocks * BLOCK_GRANULES),
            forwarding: ForwardingTable::new(blocks),
            views,
            bytes,
        }
    }

    /// The word at an offset, through the canonical view.
    #[inline(always)]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset < self.bytes && offset.is_multiple_of(8));
        let address = self.views.canonical() + offset;
        // SAFETY: the canonical view maps the whole heap readable and writable as long as `self`; every word of it is
        // accessed atomically by the collector, and offsets below the heap's size are all that ever get here.
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(address) }
    }

    /// Clears the mark bits of a block.
    pub(crate) fn clear_marks(&self, block: usize) {
        self.marks.store_words(block * BLOCK_MARK_WORDS, BLOCK_MARK_WORDS, 0);
    }

    /// Marks a whole block: objects allocated in it later are live, and the marker finds their bits
    /// set.
    pub(crate) fn fill_marks(&self, block: usize) {
        self.marks.store_words(block * BLOCK_MARK_WORDS, BLOCK_MARK_WORDS, u64::MAX);
    }

    /// Bytes in blocks that are not free.
    pub(crate) fn used_bytes(&self) -> usize {
        self.free.figures().used * BLOCK_BYTES
    }
}

impl Memory {
    /// Prepares an allocated block for bumping. Nothing can refer into it yet.
    ///
    /// `live`: marking or weak resolution runs, and new objects must count as marked.
    pub(crate) fn open_block(&self, block: usize, epoch: u32, live: bool) {
        before_reuse();
        if live {
            self.fill_marks(block);
        }
        self.blocks.set_live_bytes(block, 0);
        self.blocks.set_used_bytes(block, 0);
        self.blocks.set_allocation_epoch(block, epoch);
        self.blocks.set_state(block, BlockState::Open);
    }

    /// Ends allocation in a block that holds `fill` bytes; an untouched one is freed.
    pub(crate) fn close_block(&self, block: usize, fill: usize) {
        self.blocks.set_used_bytes(block, fill);
        if fill == 0 {
            self.clear_marks(block);
            self.blocks.set_allocation_epoch(block, 0);
            self.blocks.set_state(block, BlockState::Free);
            self.free.free_blocks([block]);
        } else {
            self.blocks.set_state(block, BlockState::Closed);
        }
    }

    /// The block that a bump region's limit ends.
    pub(crate) fn close(&self, top: u64, limit: u64) {
        if limit != 0 {
            let (block, fill) = self.filled(top, limit);
            self.close_block(block, fill);
        }
    }

    /// The block that a bump region's limit ends, and the bytes bumped.
    pub(crate) fn filled(&self, top: u64, limit: u64) -> (usize, usize) {
        let block = self.space.offset(limit - 1) as usize / BLOCK_BYTES;
        (block, BLOCK_BYTES - (limit - top) as usize)
    }
}
