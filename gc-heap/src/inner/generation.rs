//! What a cycle collects, what is live, which words are good, and where a stale word leads.
//!
//! Every file that needs one of these answers asks here. A generation changes the answers: old
//! objects are live in a young cycle and are not collected, the good word of an object depends on
//! its generation, and each generation has its own forwarding. So a generation is written in this
//! file, in `barrier/access.rs` (what a store does) and in `collector/cycle.rs` (its list of
//! phases).

use super::HeapInner;
use super::mutator::Mutator;
use crate::space::BLOCK_BYTES;
use crate::space::memory::ForwardingTable;
use gc_core::color::Color;
use gc_core::units::Granule;

impl HeapInner {
    /// Whether the object at an offset is live: marked, or allocated since mark start.
    pub(crate) fn is_live(&self, offset: usize) -> bool {
        self.memory.marks.get(Granule::at(offset)) || self.is_newborn(offset / BLOCK_BYTES)
    }

    /// Whether a block has been opened since mark start: all that lies in it counts as live. The
    /// answer holds until the next mark start.
    #[inline]
    pub(crate) fn is_newborn(&self, block: usize) -> bool {
        self.memory.blocks.allocation_epoch(block) == self.world.phase.epoch()
    }

    /// Whether the cycle that runs, or the last one, collects a block: frees it if nothing in it is
    /// marked, and may evacuate it. A whole cycle collects all blocks that are not newborn.
    #[inline]
    pub(crate) fn collects(&self, block: usize) -> bool {
        !self.is_newborn(block)
    }

    /// Opens a block that a thread copies objects to. They are in no snapshot: as what is born, they
    /// are live until the next mark start.
    pub(crate) fn open_target(&self, block: usize, epoch: u32) {
        self.open_block(block, epoch, false);
    }

    /// The color that is good after the next flip.
    pub(crate) fn next_good(&self) -> Color {
        self.world.phase.good().other()
    }

    /// The words that are good now.
    pub(crate) fn good_words(&self) -> GoodWords {
        GoodWords::new(self, self.world.phase.good())
    }

    /// The good word of the object at an offset.
    pub(crate) fn good_word(&self, offset: usize) -> u64 {
        self.good_words().at(offset)
    }

    /// Whether a word is a good reference of this heap.
    pub(crate) fn is_good(&self, word: u64) -> bool {
        self.memory.space.color(word) == Some(self.world.phase.good())
    }

    /// The forwarding in which a stale word is looked up.
    #[inline(always)]
    pub(crate) fn forwarding_of(&self, _stale: u64) -> &ForwardingTable {
        &self.memory.forwarding
    }

    /// The offset of a word's object, when the last relocation is complete.
    #[inline]
    pub(crate) fn remap(&self, word: u64) -> usize {
        debug_assert!(self.memory.space.owns(word));
        let offset = self.memory.space.offset(word) as usize;
        if word & self.memory.space.bad_mask(self.world.phase.good()) == 0 {
            return offset;
        }
        match self.forwarding_of(word).entry(offset) {
            None => offset,
            // Every entry was published before this marking began.
            Some(entry) => entry.destination().expect("a relocation ends when every entry is published").offset(),
        }
    }

    /// The blocks of these forwarding tables are looked up no more: no reachable slot is stale, and
    /// no thread resolves a weak one.
    pub(crate) fn drop_forwarding(&self, blocks: impl IntoIterator<Item = usize>) {
        blocks.into_iter().for_each(|block| self.memory.forwarding.clear(block));
    }
}

impl Mutator<'_> {
    /// The good word of the object at an offset, which a stale word led to.
    #[inline(always)]
    pub(crate) fn good_word(&self, offset: usize) -> u64 {
        self.good_view.get() + offset as u64
    }

    /// As [`good_word`](Self::good_word), in a block that this thread copies to.
    pub(crate) fn target_word(&self, offset: usize) -> u64 {
        self.good_view.get() + offset as u64
    }
}

/// What tells good words from stale ones between two flips.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct GoodWords {
    pub(crate) color: Color,
    /// The bits that no good word has.
    pub(crate) bad_mask: u64,
    /// The view in which new objects get their addresses.
    pub(crate) view: u64,
}

impl GoodWords {
    pub(crate) fn new(inner: &HeapInner, color: Color) -> GoodWords {
        let space = &inner.memory.space;
        GoodWords { color, bad_mask: space.bad_mask(color), view: space.view(color) }
    }

    /// The view of the blocks that threads copy to.
    pub(crate) fn target_view(&self) -> u64 {
        self.view
    }

    /// The good word of the object at an offset.
    #[inline(always)]
    pub(crate) fn at(&self, offset: usize) -> u64 {
        self.view + offset as u64
    }
}
