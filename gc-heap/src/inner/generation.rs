//! What a cycle collects, what is live, which words are good, and where a stale word leads.
//!
//! Every file that needs one of these answers asks here, and a generation changes the answers: all
//! that is born is young, a cycle that flips promotes what it has marked, stores of young
//! references into old objects are remembered, and a young cycle takes old objects for live. The
//! rules, G1 to G14, are in `docs/generations.md`.

use super::HeapInner;
use super::mutator::Mutator;
use crate::space::memory::{ForwardingTable, Generations};
use crate::space::{Block, Offset};
use gc_core::color::GoodColors;
use gc_core::remembered::Sort;
use gc_core::word::{GoodWord, Word};
use std::sync::atomic::AtomicU64;

impl HeapInner {
    /// Begins a marking, in a pause: of young objects alone, or of all. What was remembered up to
    /// here becomes the part of then (G4).
    pub(crate) fn start_marking(&self, young: bool) {
        let phase = &self.world.phase;
        phase.set_young(young);
        if let Some(generations) = &self.memory.generations {
            generations.remembered.exchange();
            if !young {
                self.set_remembering(generations, generations.expects_young() && generations.has_old());
            }
        }
        phase.next_epoch();
        phase.set_logging(true);
    }

    /// Says, in a pause, whether stores are remembered from here on (G15). What was stored before
    /// they were, the collector finds by a walk of all old objects.
    fn set_remembering(&self, generations: &Generations, on: bool) {
        let phase = &self.world.phase;
        if !on || !phase.is_remembering() {
            generations.set_complete(false);
        }
        phase.set_remembering(on);
    }

    /// Whether a young cycle may begin: it finds the slots of all old objects that lead to young
    /// ones (G15).
    pub(crate) fn may_collect_young(&self) -> bool {
        self.memory.generations.as_ref().is_some_and(|generations| generations.is_complete() || !generations.has_old())
    }

    /// Whether the object at an offset is live: marked, allocated since mark start, or exempt.
    pub(crate) fn is_live(&self, offset: Offset) -> bool {
        let block = offset.block();
        self.memory.marks.get(offset.granule()) || self.is_newborn(block) || self.is_exempt(block)
    }

    /// Whether a block is of old objects while the cycle that runs, or the last one, is young: they
    /// have no marks, and count as live (G6).
    pub(crate) fn is_exempt(&self, block: Block) -> bool {
        self.world.phase.is_young() && self.memory.blocks.is_old(block)
    }

    /// The color bits of the words that the cycle that runs, or the last one, does not look at: in
    /// a young cycle those of old objects.
    pub(crate) fn exempt_bits(&self) -> u64 {
        if self.world.phase.is_young() { self.memory.space.old_bits() } else { 0 }
    }

    /// Whether a block has been opened since mark start: all that lies in it counts as live. The
    /// answer holds until the next mark start.
    #[inline]
    pub(crate) fn is_newborn(&self, block: Block) -> bool {
        self.memory.blocks.allocation_epoch(block) == self.world.phase.epoch()
    }

    /// The markings that a block has been through since its objects were born, the last one
    /// included.
    pub(crate) fn age(&self, block: Block) -> u32 {
        self.world.phase.epoch().wrapping_sub(self.memory.blocks.allocation_epoch(block))
    }

    /// Whether the cycle that runs, or the last one, collects a block: frees it if nothing in it is
    /// marked, and may evacuate or promote it. A whole cycle collects all blocks that are not
    /// newborn, a young one those of young objects.
    #[inline]
    pub(crate) fn collects(&self, block: Block) -> bool {
        !self.is_newborn(block) && !self.is_exempt(block)
    }

    /// Opens a block that a thread copies objects to. They are in no snapshot: as what is born,
    /// they are live until the next mark start. With generations they are old (G1).
    pub(crate) fn open_target(&self, block: Block, epoch: u32) {
        self.relocation.opens(block);
        self.memory.open_target(block, epoch);
    }

    /// The colors that are good after the next flip: that of a whole cycle is the flip of both
    /// generations, that of a young one leaves the words of old objects good (G9).
    pub(crate) fn next_good(&self) -> GoodColors {
        let GoodColors { young, old } = self.world.phase.good();
        GoodColors { young: young.other(), old: if self.world.phase.is_young() { old } else { old.other() } }
    }

    /// Makes colors good, in a pause (G9). In a whole cycle, which moves old objects, what was
    /// remembered up to here names places from before: it becomes the part of then, and the
    /// collector visits all that lives instead of it.
    pub(crate) fn flip(&self, good: GoodColors) {
        self.world.phase.set_good(good);
        if let Some(generations) = &self.memory.generations {
            let young = self.world.phase.is_young();
            if !young {
                generations.remembered.exchange();
            }
            // Old objects come into being.
            self.set_remembering(generations, young || generations.expects_young());
        }
    }

    /// The views of colors, by number.
    pub(crate) fn views_of(&self, good: GoodColors) -> impl Iterator<Item = usize> {
        let old = self.memory.generations.is_some().then(|| 2 + good.old.parity());
        std::iter::once(good.young.parity()).chain(old)
    }

    /// The words that are good now.
    pub(crate) fn good_words(&self) -> GoodWords {
        GoodWords::new(self, self.world.phase.good())
    }

    /// The good word of the object at an offset, by the generation of its block. Called by the
    /// collector, while no flip has happened whose promotions are not carried out.
    pub(crate) fn good_word(&self, offset: Offset) -> GoodWord {
        self.good_words().of(self.memory.blocks.is_old(offset.block()), offset)
    }

    /// Whether a word is a good reference of this heap.
    pub(crate) fn is_good(&self, word: Word) -> bool {
        self.memory.space.color(word.bits()).is_some() && !word.has_any(self.good_words().bad_mask)
    }

    /// The forwarding in which a stale word is looked up: that of its own generation. A block that
    /// was old, was freed and is young now may have both.
    #[inline(always)]
    pub(crate) fn forwarding_of(&self, stale: Word) -> &ForwardingTable {
        match &self.memory.generations {
            Some(generations) if self.memory.space.is_old(stale.bits()) => &generations.old_forwarding,
            _ => &self.memory.forwarding,
        }
    }

    /// The forwarding of a block in a plan: that of its generation.
    pub(crate) fn planned_forwarding(&self, block: Block) -> &ForwardingTable {
        match &self.memory.generations {
            Some(generations) if self.memory.blocks.is_old(block) => &generations.old_forwarding,
            _ => &self.memory.forwarding,
        }
    }

    /// Whether the object of a stale word is old now, if it is at `place`: asked of the word and of
    /// the plan, and not of the block, whose generation changes after the flip (G8, G9).
    pub(crate) fn is_old_at(&self, stale: Word, place: Offset) -> bool {
        let Some(generations) = &self.memory.generations else { return false };
        // What is copied is old; what a plan with an entry keeps stays what it was.
        self.memory.space.is_old(stale.bits())
            || self.memory.space.offset(stale.bits()) != place
            || generations.is_promoted(place.block())
    }

    /// The offset of a word's object, when the last relocation is complete.
    #[inline]
    pub(crate) fn remap(&self, word: Word) -> Offset {
        self.remap_from(self.good_words().bad_mask, word)
    }

    /// As [`remap`](Self::remap), for a caller that has the bits that no good word has.
    #[inline]
    pub(crate) fn remap_from(&self, bad_mask: u64, word: Word) -> Offset {
        debug_assert!(self.memory.space.owns(word.bits()));
        let offset = self.memory.space.offset(word.bits());
        if !word.has_any(bad_mask) {
            return offset;
        }
        match self.forwarding_of(word).entry(offset) {
            None => offset,
            // Every entry was published before this marking began.
            Some(entry) => entry.destination().expect("a relocation ends when every entry is published").offset(),
        }
    }

    /// The blocks of these forwarding tables are looked up no more: no reachable slot is stale, and
    /// no thread resolves a weak one (G7).
    pub(crate) fn drop_forwarding(&self, blocks: impl IntoIterator<Item = Block>) {
        for block in blocks {
            self.memory.forwarding.clear(block);
            self.memory.generations.iter().for_each(|generations| generations.old_forwarding.clear(block));
        }
        self.cancel_promotions();
    }

    /// As [`drop_forwarding`](Self::drop_forwarding), after a young marking: that of the old
    /// objects stays until a whole one has healed their words (G7). `blocks` are then those that
    /// have some.
    pub(crate) fn drop_young_forwarding(&self, blocks: &mut Vec<Block>) {
        blocks.iter().for_each(|&block| self.memory.forwarding.clear(block));
        let has_old =
            |block| self.memory.generations.iter().any(|generations| generations.old_forwarding.contains(block));
        blocks.retain(|&block| has_old(block));
        self.cancel_promotions();
    }

    /// Takes back what a plan promotes where it stands.
    pub(crate) fn cancel_promotions(&self) {
        if let Some(generations) = &self.memory.generations {
            generations.promoted().for_each(|block| generations.set_promoted(block, false));
        }
    }

    /// Visits what a young marking has to: the slots of old objects that were remembered before
    /// mark start, by their offsets. In a whole cycle, none.
    pub(crate) fn each_remembered(&self, mut visit: impl FnMut(Offset, Sort)) {
        if let Some(generations) = self.memory.generations.as_ref().filter(|_| self.world.phase.is_young()) {
            generations.remembered.each_then(|granule, sort| visit(granule.offset(), sort));
        }
    }

    /// Whether the object of a young word, stale or good, is old now; `None` for a word that is not
    /// young. For the collector, when all entries are published: with the good word.
    #[inline(always)]
    pub(crate) fn resolve_young(&self, words: GoodWords, word: Word) -> Option<(bool, GoodWord)> {
        let space = &self.memory.space;
        if !space.owns(word.bits()) || !word.has_any(space.young_bits()) {
            return None;
        }
        if !word.has_any(words.bad_mask) {
            return Some((false, GoodWord::new(word)));
        }
        let place = self.remap_from(words.bad_mask, word);
        let is_old = self.is_old_at(word, place);
        Some((is_old, words.of(is_old, place)))
    }
}

impl Mutator<'_> {
    /// The good word of the object at an offset, which a stale word led to.
    #[inline(always)]
    pub(crate) fn good_word(&self, stale: Word, offset: Offset) -> GoodWord {
        let is_old = self.inner.memory.generations.is_some() && self.inner.is_old_at(stale, offset);
        GoodWord::of_bits(offset.in_view(if is_old { self.old_view.get() } else { self.good_view.get() }))
    }

    /// As [`good_word`](Self::good_word), in a block that this thread copies to.
    pub(crate) fn target_word(&self, offset: Offset) -> GoodWord {
        GoodWord::of_bits(offset.in_view(self.old_view.get()))
    }

    /// Remembers a slot of an old object that is given a young word (G3). The slot's own address
    /// says that its holder is old: an old object is accessed by its old address alone.
    #[inline(always)]
    pub(crate) fn remember(&self, slot: &AtomicU64, sort: Sort, word: GoodWord) {
        let address = std::ptr::from_ref(slot).addr() as u64;
        if word.word().has_any(!address & self.young_bit.get()) {
            std::hint::cold_path();
            self.remember_call(address, sort, word);
        }
    }

    /// By a call that keeps the registers: otherwise every function with a store in it would save
    /// some, in heaps without generations too.
    pub(crate) fn remember_slow(&self, slot: u64, sort: Sort, word: Word) {
        // The bits of a number may look like those of a reference.
        if let Some(generations) = &self.inner.memory.generations
            && self.inner.memory.space.owns(word.bits())
        {
            generations.remembered.add(self.inner.memory.space.offset(slot).granule(), sort);
        }
    }
}

/// What tells good words from stale ones between two flips.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct GoodWords {
    pub(crate) colors: GoodColors,
    /// The bits that no good word has.
    pub(crate) bad_mask: u64,
    /// The view of young objects, in which new ones get their addresses.
    pub(crate) view: u64,
    /// The view of old objects, and of what is copied; without generations the same.
    pub(crate) old_view: u64,
    /// The color bit of young objects that is good; 0 without generations.
    pub(crate) young_bit: u64,
}

impl GoodWords {
    pub(crate) fn new(inner: &HeapInner, colors: GoodColors) -> GoodWords {
        let space = &inner.memory.space;
        let view = space.view(colors.young);
        let old_view = if space.has_generations() { space.old_view(colors.old) } else { view };
        let (bad_mask, young_bit) = (space.bad_mask_of(colors), view & space.young_bits());
        GoodWords { colors, bad_mask, view, old_view, young_bit }
    }

    /// The good word of the object at an offset.
    #[inline(always)]
    pub(crate) fn of(&self, is_old: bool, offset: Offset) -> GoodWord {
        GoodWord::of_bits(offset.in_view(if is_old { self.old_view } else { self.view }))
    }
}
