//! Promotion: what survives a relocation becomes old, in heaps with generations.
//!
//! What is copied is old in its new block. A block of young objects that stays, and that has aged,
//! is promoted where it stands, if that pays (`aging`): the plan notes it beside the forwarding of
//! the young, and the flip puts that in force together with the colors (G8, G9).
//!
//! After the flip every word of a young object is stale. So when all objects have their places, the
//! collector visits slots of old objects (G10): a stale young word is healed, and a slot that leads
//! to what stays young is remembered. In a young cycle these are the slots that were remembered
//! before mark start, and all of what was promoted.
//!
//! In a whole cycle they are the slots of all old objects that live. The set from before a whole
//! flip names places from before it. And also where there is no flip it names slots of objects that
//! have died, in blocks that stay: what they lead to may be freed now, so a young cycle must not
//! read them. So it is thrown away, and this walk finds all that it could have told. If no young
//! cycle is in prospect there is no walk, and the next cycle is whole (G15).

use super::aging;
use crate::inner::HeapInner;
use crate::inner::generation::GoodWords;
use crate::object::Kind;
use crate::object::slots::{SlotRole, bits};
use crate::slot::is_reference;
use crate::space::blocks::BlockState;
use crate::space::memory::Generations;
use crate::space::{Block, Offset};
use gc_core::remembered::Sort;
use std::sync::atomic::Ordering;

/// Notes the blocks that the next flip promotes where they stand: those that have aged, of young
/// objects that this cycle has marked, and that are not in the evacuation set. `false`: there are
/// none.
pub(super) fn plan(inner: &HeapInner) -> bool {
    let Some(generations) = &inner.memory.generations else { return false };
    let mut any = false;
    for block in inner.memory.blocks.all().filter(|&block| aging::is_promoted(inner, block)) {
        generations.set_promoted(block, true);
        any = true;
    }
    any
}

/// Forgets what was remembered before mark start, in a whole cycle, which makes the set anew.
/// Before the flip, which exchanges the parts.
pub(super) fn forget_then(inner: &HeapInner) {
    if let Some(generations) = &inner.memory.generations {
        generations.remembered.take_then(|_, _| ());
    }
}

/// Carries the promotions out, after the flip, when all objects of the evacuation set have their
/// places, and before the next mark start. Where there was no flip, none is promoted, and the
/// remembered set is brought up to date.
pub(super) fn carry_out(inner: &HeapInner, set: &[Block], flipped: bool) {
    let Some(generations) = &inner.memory.generations else { return };
    let blocks = &inner.memory.blocks;
    // In a pause a large object may have moved since the plan.
    for block in generations.promoted().filter(|&block| !inner.memory.forwarding.contains(block)) {
        let state = blocks.state(block);
        // An array that grows has blocks of one generation.
        let _growing = (state == BlockState::LargeFirst).then(|| inner.memory.growing.lock());
        let run = if state == BlockState::LargeFirst { blocks.run(block) } else { 1 };
        blocks.set_use(block, state, true);
        (block + 1).run(run - 1).for_each(|part| blocks.set_use(part, BlockState::LargeContinued, true));
    }
    let walk = Walk { inner, generations, good: inner.good_words() };
    if inner.world.phase.is_young() {
        generations.remembered.take_then(|granule, sort| walk.remembered(granule.offset(), sort));
        generations.promoted().for_each(|block| walk.marked(block));
    } else {
        generations.remembered.take_then(|_, _| ());
        if inner.world.phase.is_remembering() {
            for block in blocks.all() {
                if blocks.is_old(block) && inner.is_marked_block(block) && !is_forwarded(inner, generations, block) {
                    walk.marked(block);
                }
            }
            set.iter().for_each(|&block| walk.evacuated(block));
        }
    }
    // What a young cycle leaves as it is was complete before.
    if !inner.world.phase.is_young() || flipped {
        generations.set_complete(inner.world.phase.is_remembering());
    }
}

/// Whether a block is in the set of the relocation that has just been: another may be in its place.
fn is_forwarded(inner: &HeapInner, generations: &Generations, block: Block) -> bool {
    inner.memory.forwarding.contains(block) || generations.old_forwarding.contains(block)
}

/// The visit of all slots of old objects.
struct Walk<'a> {
    inner: &'a HeapInner,
    generations: &'a Generations,
    good: GoodWords,
}

impl Walk<'_> {
    /// The marked objects of a block that stays. Dead ones are left alone: their slots may lead to
    /// what is not there any more.
    fn marked(&self, block: Block) {
        self.inner.memory.marks.each_set(block.mark_words(), |granule| {
            let offset = granule.offset();
            self.object(offset, self.inner.memory.object(offset).0);
        });
    }

    /// The objects that were evacuated from a block, by their entries: a mutator may not have
    /// closed the block that it has copied them to. What a young block has kept stays young.
    fn evacuated(&self, block: Block) {
        let own = |granule| block.granule(granule).offset();
        for (table, is_old) in [(&self.inner.memory.forwarding, false), (&self.generations.old_forwarding, true)] {
            for (granule, entry) in table.of_block(block).into_iter().flat_map(|forwarding| forwarding.iter()) {
                let (offset, kind) = self.inner.relocated_object(entry);
                if is_old || offset != own(granule) {
                    self.object(offset, kind);
                }
            }
        }
    }

    /// A slot that was remembered before mark start.
    fn remembered(&self, slot: Offset, sort: Sort) {
        match sort {
            Sort::Strong | Sort::Weak => self.slot(slot, slot, sort),
            Sort::Pair => self.pair(slot),
        }
    }

    fn pair(&self, key: Offset) {
        // Without a key the value is undefined, and may be stale for ever.
        if self.inner.memory.word(key).load(Ordering::Acquire) != 0 {
            self.slot(key, key, Sort::Pair);
            self.slot(key.word(1), key, Sort::Pair);
        }
    }

    #[inline(always)]
    fn object(&self, offset: Offset, kind: &'static Kind) {
        // Most objects have strong slots alone, and none in a tail.
        if kind.weak == 0 && kind.more.is_none() && !kind.tail_has_slots() {
            for at in bits(kind.strong | kind.tagged) {
                let slot = offset.word(at);
                self.slot(slot, slot, Sort::Strong);
            }
        } else {
            self.any_object(offset, kind);
        }
    }

    #[inline(never)]
    fn any_object(&self, offset: Offset, kind: &'static Kind) {
        let len = if kind.has_tail() { self.inner.memory.len_of(offset) } else { 0 };
        kind.slots(len).for_each(|(at, role)| {
            let slot = offset.word(at);
            match role {
                SlotRole::Strong => self.slot(slot, slot, Sort::Strong),
                SlotRole::Weak => self.slot(slot, slot, Sort::Weak),
                SlotRole::Key => self.pair(slot),
                SlotRole::Value => {} // with its key
            }
        });
    }

    /// Heals a slot that holds a stale young word, and remembers `entry` if what it leads to is
    /// young.
    fn slot(&self, slot: Offset, entry: Offset, sort: Sort) {
        let resolve = |word| if is_reference(word) { self.inner.resolve_young(self.good, word) } else { None };
        self.generations.remembered.revisit(self.inner.memory.word(slot), entry.granule(), sort, resolve);
    }
}

#[cfg(test)]
mod aging_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod young_tests;
