//! Verification of the whole heap, in a pause.
//!
//! Visits everything reachable from the roots and checks each slot. Only reachable objects are
//! checked: the slots of dead objects are undefined.

use crate::events::Phase;
use crate::inner::HeapInner;
use crate::object::Kind;
use crate::object::slots::SlotRole;
use crate::slot::is_reference;
use crate::space::blocks::BlockState;
use crate::space::{BLOCK_BYTES, GRANULE_BYTES, LARGE_BYTES, Offset};
use gc_core::remembered::Sort;
use gc_core::word::Word;
use std::sync::atomic::{AtomicU64, Ordering};

/// The point in the cycle at which verification runs; determines which invariants must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checkpoint {
    /// Marks are final; weak slots are not resolved yet.
    Marked,
    /// Weak slots are resolved, the old forwarding is gone, dead blocks are free.
    Freed,
    /// Every entry of the new forwarding is published; slots may be stale.
    Relocated,
}

impl Checkpoint {
    /// The invariants that hold after a phase, if it establishes any.
    pub(crate) fn after(phase: Phase) -> Option<Checkpoint> {
        match phase {
            Phase::Mark => Some(Checkpoint::Marked),
            Phase::Reclaim => Some(Checkpoint::Freed),
            Phase::Plan => None,
            Phase::Relocate | Phase::Repair => Some(Checkpoint::Relocated),
        }
    }
}

struct Verifier<'a> {
    inner: &'a HeapInner,
    when: Checkpoint,
    seen: Vec<u64>,
    todo: Vec<Offset>,
    slots: u64,
}

/// Checks the heap; mutators are stopped.
///
/// # Panics
/// With a description, if an invariant does not hold.
pub(crate) fn verify(inner: &HeapInner, when: Checkpoint) {
    let seen = vec![0; inner.memory.bytes / GRANULE_BYTES / 64];
    let mut verifier = Verifier { inner, when, seen, todo: Vec::new(), slots: 0 };
    for record in inner.world.mutators.lock().clone() {
        record.each_local(|slot| verifier.strong(slot, "a local"));
    }
    for stack in inner.roots.stacks.lock().clone() {
        if !stack.is_given_up() {
            stack.scan(0..stack.top(), |slot| verifier.strong(slot, "a root stack"));
        }
    }
    inner.roots.strong.for_each(|slot| verifier.strong(slot, "a process-wide root"));
    inner.roots.weak.for_each(|slot| verifier.weak(slot, "a weak root"));
    inner.roots.watched.for_each(|slot| verifier.weak(slot, "a watched object's word"));
    while let Some(offset) = verifier.todo.pop() {
        verifier.object(offset);
    }
    inner.report.counters.verified_slots.add(verifier.slots);
    let dangling = inner.relocation.dangling();
    assert!(dangling == 0, "verification ({when:?}): {dangling} slots were repaired that led to no live object");
}

impl Verifier<'_> {
    fn fail(&self, what: &str, place: &str, word: Word) -> ! {
        panic!("verification ({:?}): {what}: {place} holds {:#x}", self.when, word.bits())
    }

    /// The offset of the word's object, after checks that apply to every slot.
    fn check(&mut self, slot: &AtomicU64, place: &str) -> Option<(Word, Offset)> {
        self.slots += 1;
        let inner = self.inner;
        let word = Word::of(slot, Ordering::Relaxed);
        if !is_reference(word) {
            return None;
        }
        if inner.memory.space.color(word.bits()).is_none() {
            self.fail("a word that is no address of this heap", place, word);
        }
        let mut offset = inner.memory.space.offset(word.bits());
        if offset.bytes() >= inner.memory.bytes || !offset.bytes().is_multiple_of(GRANULE_BYTES) {
            self.fail("a reference outside the heap", place, word);
        }
        if !inner.is_good(word) {
            match inner.forwarding_of(word).entry(offset).map(|entry| entry.destination()) {
                None => {}
                Some(Some(granule)) => offset = granule.offset(),
                Some(None) => self.fail("a stale reference to an object that was never moved", place, word),
            }
        } else if inner.memory.generations.is_some()
            && inner.memory.space.is_old(word.bits()) != inner.memory.blocks.is_old(offset.block())
        {
            self.fail("the color of a good word is not its block's generation", place, word);
        } else if self.when != Checkpoint::Marked && inner.forwarding_of(word).contains(offset.block()) {
            // A good reference into an evacuated block: correct only if the block has been reused
            // since (or kept).
            if inner.memory.blocks.state(offset.block()) == BlockState::Free {
                self.fail("a good reference into an evacuated block", place, word);
            }
        }
        Some((word, offset))
    }

    /// Rules G1, G4 and G10 for a slot of an object, or of its pair: `entry` is the slot that is
    /// remembered.
    fn check_generation(&self, holder: Offset, slot: &AtomicU64, (entry, sort): (Offset, Sort), place: &str) {
        let Some(generations) = &self.inner.memory.generations else { return };
        let (word, space, blocks) =
            (Word::of(slot, Ordering::Relaxed), &self.inner.memory.space, &self.inner.memory.blocks);
        if !is_reference(word) || !blocks.is_old(holder.block()) || space.is_old(word.bits()) {
            return;
        }
        // Otherwise the next cycle is whole, and its marking visits and heals every slot (G15).
        if !generations.is_complete() {
            return;
        }
        // From mark start to the end of the relocation the part of then counts too. What a thread
        // has stored between mark start and a young flip is remembered for the next cycle, and
        // healed by it.
        let is_remembered = match self.when {
            Checkpoint::Relocated => generations.remembered.contains(entry.granule(), sort),
            Checkpoint::Marked | Checkpoint::Freed => generations.remembered.contains_in_any(entry.granule(), sort),
        };
        let heals_later = match self.when {
            // Weak slots are resolved after mark end, and so are pairs, whose values are visited
            // for live keys alone.
            Checkpoint::Marked => sort != Sort::Strong && is_remembered,
            Checkpoint::Freed => false,
            Checkpoint::Relocated => self.inner.world.phase.is_young() && is_remembered,
        };
        if !self.inner.is_good(word) && !heals_later {
            self.fail("a slot of an old object holds a stale young word", place, word);
        }
        if !is_remembered {
            self.fail("a slot of an old object leads to a young one and is not remembered", place, word);
        }
    }

    fn strong(&mut self, slot: &AtomicU64, place: &str) {
        let Some((word, offset)) = self.check(slot, place) else { return };
        let inner = self.inner;
        let stale = !inner.is_good(word) && !word.has_any(inner.exempt_bits());
        if stale && self.when != Checkpoint::Relocated {
            self.fail("a reachable slot is stale after marking", place, word);
        }
        if self.when != Checkpoint::Relocated && !inner.is_live(offset) {
            self.fail("a reachable object is not marked", place, word);
        }
        self.reach(offset, place, word);
    }

    fn weak(&mut self, slot: &AtomicU64, place: &str) {
        let Some((word, offset)) = self.check(slot, place) else { return };
        if self.when == Checkpoint::Freed && !self.inner.is_live(offset) {
            self.fail("a weak slot still refers to a dead object", place, word);
        }
    }

    fn reach(&mut self, offset: Offset, place: &str, word: Word) {
        let granule = offset.granule().number();
        let (index, bit) = (granule / 64, 1 << (granule % 64));
        if self.seen[index] & bit != 0 {
            return;
        }
        self.seen[index] |= bit;
        let state = self.inner.memory.blocks.state(offset.block());
        if !matches!(state, BlockState::Closed | BlockState::Open | BlockState::LargeFirst) {
            self.fail(&format!("a reference into a block that is {state:?}"), place, word);
        }
        self.todo.push(offset);
    }

    fn object(&mut self, offset: Offset) {
        let inner = self.inner;
        let header = inner.memory.word(offset).load(Ordering::Relaxed);
        if header & 0xffff_ffff_fff0 == 0 || header & 0x3f != 0 {
            panic!("verification ({:?}): no object's header at offset {offset:#x}: {header:#x}", self.when);
        }
        let (kind, bytes) = inner.memory.object(offset);
        let len = if kind.has_tail() { inner.memory.word(offset.word(1)).load(Ordering::Relaxed) } else { 0 };
        if bytes != kind.size_of(len) {
            panic!("verification ({:?}): {} at offset {offset:#x}: size {bytes}, length {len}", self.when, kind.name());
        }
        if bytes <= LARGE_BYTES && offset.block() != (offset + bytes - 1).block() {
            panic!("verification ({:?}): {} at offset {offset:#x} crosses blocks", self.when, kind.name());
        }
        if bytes > LARGE_BYTES {
            self.run(offset, bytes, kind);
        }
        let name = kind.name();
        kind.slots(len as usize).for_each(|(word, role)| {
            let at = offset.word(word);
            let slot = inner.memory.word(at);
            let entry = match role {
                SlotRole::Strong => Some((at, Sort::Strong)),
                SlotRole::Weak => Some((at, Sort::Weak)),
                SlotRole::Key => Some((at, Sort::Pair)),
                SlotRole::Value => {
                    let key = offset.word(word - 1);
                    (inner.memory.word(key).load(Ordering::Relaxed) != 0).then_some((key, Sort::Pair))
                }
            };
            entry.into_iter().for_each(|entry| self.check_generation(offset, slot, entry, name));
            match role {
                SlotRole::Strong => self.strong(slot, name),
                SlotRole::Weak => self.weak(slot, name),
                SlotRole::Key => self.pair(slot, inner.memory.word(at.word(1)), name),
                SlotRole::Value => {} // with its key
            }
        });
    }

    /// The blocks of a large object.
    fn run(&self, offset: Offset, bytes: usize, kind: &Kind) {
        let (blocks, first) = (&self.inner.memory.blocks, offset.block());
        let run = bytes.div_ceil(BLOCK_BYTES);
        let continues = |block| blocks.state(block) == BlockState::LargeContinued && blocks.first_of(block) == first;
        let begins = offset == first.start() && blocks.state(first) == BlockState::LargeFirst;
        if !begins || blocks.run(first) != run || !(first + 1).run(run - 1).all(continues) {
            let states: Vec<_> = first.run(run).map(|block| (blocks.state(block), blocks.run(block))).collect();
            panic!("verification ({:?}): {} at offset {offset:#x}, {bytes} bytes: {states:?}", self.when, kind.name());
        }
    }

    /// An ephemeron. Its value is valid as long as there is a key, and undefined without one.
    fn pair(&mut self, key: &AtomicU64, value: &AtomicU64, place: &str) {
        self.weak(key, place);
        let Some((word, offset)) = self.check(key, place) else { return };
        if self.when != Checkpoint::Relocated {
            if !self.inner.is_good(word) && !word.has_any(self.inner.exempt_bits()) {
                self.fail("the key of a reachable ephemeron is stale after marking", place, word);
            }
            if !self.inner.is_live(offset) {
                // Before resolution: the pair is about to be emptied.
                return;
            }
        }
        self.strong(value, place);
    }
}
