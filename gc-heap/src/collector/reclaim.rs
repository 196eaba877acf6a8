//! After marking: weak references, then dead blocks and dropped roots.

use crate::barrier::collector as slots;
use crate::inner::HeapInner;
use crate::object::slots::{SlotGroup, bits};
use crate::roots::region::RootMemory;
use crate::slot::is_reference;
use crate::space::blocks::BlockState;
use crate::space::free::SLICE;
use crate::space::{BLOCK_BYTES, Block, Granule, Offset};
use gc_core::ephemeron::PendingEphemerons;
use gc_core::grey::GreyBlocks;
use gc_core::remembered::Sort;
use gc_core::word::{GoodWord, Word};
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

/// Clears weak slots whose object is dead and remaps the others: those of marked objects, and weak
/// roots.
pub(crate) fn resolve_weak(inner: &HeapInner, slots: &[Vec<Offset>]) {
    resolve_slots(inner, slots);
    inner.roots.weak.for_each(|slot| {
        resolve_slot(inner, slot);
    });
}

/// As `resolve_weak`, for slots in objects only: the listed ones, and those in the blocks that the
/// markers have added because their lists were full.
pub(crate) fn resolve_slots(inner: &HeapInner, slots: &[Vec<Offset>]) {
    for &slot in slots.iter().flatten() {
        resolve_slot(inner, inner.memory.word(slot));
    }
    take_blocks(&inner.memory.weak_blocks, |block| resolve_block(inner, block));
}

/// Resolves the weak slots in a block that a marker has seen, of the objects that are marked. To
/// resolve a slot twice, or one that a mutator has written since, changes nothing.
fn resolve_block(inner: &HeapInner, block: Block) {
    each_group(inner, block, |first, group| {
        bits(group.weak).for_each(|word| resolve_slot(inner, inner.memory.word((first + word).offset())));
    });
}

/// Visits the ephemerons of marked objects whose key is in a block that a marker has seen, by their
/// offsets, in ascending order within each object.
pub(super) fn each_pair(inner: &HeapInner, block: Block, mut visit: impl FnMut(Offset)) {
    each_group(inner, block, |first, group| {
        bits(group.keys).for_each(|word| visit((first + word).offset()));
    });
}

/// Visits the slots of marked objects in a block, in groups, each with the granule of its first
/// word.
fn each_group(inner: &HeapInner, block: Block, mut visit: impl FnMut(Granule, SlotGroup)) {
    let blocks = &inner.memory.blocks;
    let words = block.granules();
    match blocks.state(block) {
        // Only live objects have slots that a marker has seen.
        BlockState::LargeFirst => each_group_of(inner, words.start, &words, &mut visit),
        BlockState::LargeContinued => {
            each_group_of(inner, blocks.first_of(block).granules().start, &words, &mut visit);
        }
        _ => {
            let visit = |granule| each_group_of(inner, granule, &words, &mut visit);
            inner.memory.marks.each_set(block.mark_words(), visit);
        }
    }
}

/// As `each_group`, of the object at a granule.
fn each_group_of(inner: &HeapInner, first: Granule, part: &Range<Granule>, visit: &mut impl FnMut(Granule, SlotGroup)) {
    let offset = first.offset();
    let (kind, _) = inner.marked_object(offset);
    let words = part.start.max(first) - first..part.end - first;
    let len = if kind.has_tail() { inner.memory.len_of(offset) } else { 0 };
    kind.slots_in(words, len).for_each(|group| visit(first + group.first, group));
}

/// Empties the ephemerons whose key is dead: those that still wait, and those in the blocks that
/// the markers have added because there was no room. Their values are left as they are: without a
/// key no thread reads them.
pub(crate) fn resolve_pairs(inner: &HeapInner, waiting: &PendingEphemerons) {
    let mut emptied = 0;
    let mut resolve = |pair: Offset| {
        let (key, value) = (inner.memory.word(pair), inner.memory.word(pair.word(1)));
        emptied += u64::from(slots::resolve_pair(key, value, is_reference, |word| resolved(inner, word)));
    };
    waiting.take_all(&mut resolve);
    take_blocks(&inner.memory.pair_blocks, |block| each_pair(inner, block, &mut resolve));
    inner.report.counters.ephemerons_cleared.add(emptied);
}

/// Takes the blocks of a set, to which no thread adds.
fn take_blocks(set: &GreyBlocks, mut visit: impl FnMut(Block)) {
    let mut near = Block::new(0);
    while let Some(block) = set.take(near) {
        visit(block);
        near = block;
    }
}

fn resolve_slot(inner: &HeapInner, slot: &AtomicU64) {
    slots::resolve_weak(slot, is_reference, |word| resolved(inner, word));
}

/// Resolves what a young marking has met in old objects: their remembered weak slots and pairs.
pub(crate) fn resolve_remembered(inner: &HeapInner) {
    let mut emptied = 0;
    inner.each_remembered(|offset, sort| match sort {
        Sort::Strong => {}
        Sort::Weak => resolve_slot(inner, inner.memory.word(offset)),
        Sort::Pair => {
            let (key, value) = (inner.memory.word(offset), inner.memory.word(offset.word(1)));
            emptied += u64::from(slots::resolve_pair(key, value, is_reference, |word| resolved(inner, word)));
        }
    });
    inner.report.counters.ephemerons_cleared.add(emptied);
}

/// The good word of a live object, 0 of a dead one. A word that is exempt stays as it is.
fn resolved(inner: &HeapInner, word: Word) -> GoodWord {
    if word.has_any(inner.exempt_bits()) {
        return GoodWord::new(word);
    }
    let offset = inner.remap(word);
    if inner.is_live(offset) { inner.good_word(offset) } else { GoodWord::NULL }
}

/// Retires TLABs of threads parked since before mark start: a thread may stay parked for hours, and
/// there may be more threads than blocks.
pub(crate) fn retire_parked_tlabs(inner: &HeapInner) {
    let records = inner.world.mutators.lock().clone();
    for deposit in records.iter().flat_map(|record| &record.deposits) {
        if let Some((block, fill)) = deposit.take_if(|block| inner.collects(block)) {
            inner.memory.close_block(block, fill);
        }
    }
}

/// Frees the blocks that hold nothing live. Returns how many, and how many of them were old.
pub(crate) fn free_dead(inner: &HeapInner) -> (usize, usize) {
    let random = Cell::new(inner.config.stress.seed ^ u64::from(inner.world.phase.epoch()));
    free_dead_and(inner, |block| {
        if block.number().is_multiple_of(4) {
            inner.config.stress.delay(&random);
        }
    })
}

/// As `free_dead`; `between` is called between the two reads of a block's state.
fn free_dead_and(inner: &HeapInner, mut between: impl FnMut(Block)) -> (usize, usize) {
    let blocks = &inner.memory.blocks;
    let mut dead = Dead { inner, blocks: [Block::new(0); SLICE], len: 0, freed: 0 };
    let mut old = 0;
    // From the end: blocks that were freed first are uncommitted first, and the lowest blocks are
    // reused first.
    for block in blocks.all().rev() {
        // Read the use before the allocation epoch: mutators allocate free blocks concurrently, and
        // a thread that sees the use sees the allocation epoch set before it. In the other order a
        // block that is allocated and filled between the two reads would be freed although it is
        // young.
        let state = blocks.state(block);
        between(block);
        if !inner.collects(block) || blocks.live_bytes(block) != 0 {
            continue;
        }
        match state {
            BlockState::Closed => {
                old += usize::from(blocks.is_old(block));
                inner.memory.end_use(block);
                dead.push(block);
            }
            BlockState::LargeFirst => {
                old += if blocks.is_old(block) { blocks.run(block) } else { 0 };
                for part in block.run(blocks.run(block)).rev() {
                    inner.memory.end_use(part);
                    dead.push(part);
                }
            }
            _ => {}
        }
    }
    dead.free();
    (dead.freed, old)
}

/// Dead blocks on their way to the free space: some at a time, because a list of all could be as
/// long as the heap.
struct Dead<'a> {
    inner: &'a HeapInner,
    blocks: [Block; SLICE],
    len: usize,
    freed: usize,
}

impl Dead<'_> {
    fn push(&mut self, block: Block) {
        self.blocks[self.len] = block;
        self.len += 1;
        if self.len == SLICE {
            self.free();
        }
    }

    fn free(&mut self) {
        self.inner.memory.free.free_blocks(self.blocks[..self.len].iter().copied());
        self.freed += std::mem::take(&mut self.len);
    }
}

/// Reclaims dropped roots. No marking runs.
pub(crate) fn reclaim_dropped_roots(inner: &HeapInner) {
    inner.roots.strong.reclaim();
    inner.roots.weak.reclaim();
    inner.roots.watched.reclaim();
    inner.roots.wide_stacks.lock().clear();
    // Dropped without the lock, because dropping unmaps their memory.
    let given_up: Vec<_> = inner.roots.stacks.lock().extract_if(.., |stack| stack.is_given_up()).collect();
    drop(given_up);
    if let RootMemory::Gated(area) = &inner.roots.memory {
        area.uncommit_released(&inner.memory.views);
    }
}

/// What there is when a cycle has ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    /// Bytes that are not live in the blocks that a compaction could evacuate.
    pub(crate) scattered: usize,
    /// Bytes that were marked in blocks that are old now.
    pub(crate) old_bytes: u64,
    /// Whether any block is old.
    pub(crate) has_old: bool,
}

/// Clears the mark bits and the live counts for the next marking.
pub(crate) fn clear_marks(inner: &HeapInner) -> Left {
    let blocks = &inner.memory.blocks;
    let mut left = Left::default();
    for block in blocks.all() {
        let (live, is_newborn) = (blocks.live_bytes(block), inner.is_newborn(block));
        if blocks.is_old(block) {
            left.has_old = true;
            left.old_bytes += u64::from(live);
        }
        if live != 0 || is_newborn {
            inner.memory.clear_marks(block);
            blocks.set_live_bytes(block, 0);
            if inner.collects(block) && blocks.state(block) == BlockState::Closed && !blocks.is_pinned(block) {
                left.scattered += BLOCK_BYTES.saturating_sub(live as usize);
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::free::AllocClass;
    use crate::{Heap, MIN_HEAP_BYTES};

    /// Between the two reads of a block's state a mutator allocates, fills and closes it.
    #[test]
    fn a_block_that_is_taken_between_the_two_looks_is_not_freed() {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        let inner = heap.inner();
        let epoch = inner.world.phase.epoch();
        let (lowest, mut taken) = (Block::new(0), None);
        // No cycle has run, and no thread is in the heap: every block is free, and the lowest is
        // read last.
        let freed = free_dead_and(inner, |block| {
            if block == lowest {
                let block = inner.take_block().unwrap();
                inner.open_block(block, epoch, true);
                inner.memory.close_block(block, 64);
                taken = Some(block);
            }
        });
        assert_eq!(taken, Some(lowest));
        assert_eq!(
            (freed, inner.memory.blocks.state(lowest)),
            ((0, 0), BlockState::Closed),
            "a newborn block was freed under its objects"
        );
    }

    /// The same for a large object, as `take_large` makes it.
    #[test]
    fn a_run_that_is_taken_between_the_two_looks_is_not_freed() {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        let inner = heap.inner();
        let (blocks, epoch) = (&inner.memory.blocks, inner.world.phase.epoch());
        let highest = Block::new(blocks.len() - 1);
        let freed = free_dead_and(inner, |block| {
            if block == highest {
                assert_eq!(inner.memory.free.take_run(AllocClass::Mutator, 1), Some(block));
                blocks.set_live_bytes(block, 0);
                blocks.set_run(block, 1);
                inner.memory.begin_use(block, BlockState::LargeFirst, epoch);
            }
        });
        assert_eq!((freed, blocks.state(highest)), ((0, 0), BlockState::LargeFirst), "a newborn object was freed");
    }
}
