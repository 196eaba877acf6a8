//! After marking: weak references, then dead blocks.

use super::mark::remap;
use crate::shared::Shared;
use crate::slot::is_reference;
use crate::space::blocks::Use;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Clears weak slots whose object is dead and remaps the others.
pub(crate) fn resolve_weak(shared: &Shared, slots: &[usize]) {
    resolve_slots(shared, slots);
    shared.weak_roots.for_each(|slot| {
        resolve_slot(shared, slot);
    });
}

/// As `resolve_weak`, in objects alone.
pub(crate) fn resolve_slots(shared: &Shared, slots: &[usize]) {
    for &slot in slots {
        resolve_slot(shared, shared.word(slot));
    }
}

/// Empties the ephemerons whose key is dead. Their values are left as they are: without a key nobody reads them.
pub(crate) fn resolve_pairs(shared: &Shared, dead: &[usize]) {
    let emptied = dead.iter().filter(|&&pair| resolve_slot(shared, shared.word(pair))).count();
    shared.counters.ephemerons_cleared.add(emptied as u64);
}

/// `true`: the slot was cleared.
fn resolve_slot(shared: &Shared, slot: &AtomicU64) -> bool {
    let view = shared.space.view(shared.phase.good());
    let mut word = slot.load(Ordering::Acquire);
    while is_reference(word) {
        let offset = remap(shared, word);
        let resolved = if shared.is_live(offset) { view + offset as u64 } else { 0 };
        if resolved == word {
            return false;
        }
        match slot.compare_exchange(word, resolved, Ordering::Release, Ordering::Acquire) {
            Ok(_) => return resolved == 0,
            // A mutator stored or healed: look again.
            Err(now) => word = now,
        }
    }
    false
}

/// Closes the blocks of threads that have been parked since before this marking began. They would close them themselves when
/// they leave; but a thread may wait for hours, and there may be more threads than blocks.
pub(crate) fn close_parked(shared: &Shared) {
    let epoch = shared.phase.epoch();
    let records = shared.mutators.lock().clone();
    for deposit in records.iter().flat_map(|record| &record.deposits) {
        let old = |block| shared.blocks.birth(block) != epoch;
        if let Some((block, fill)) = deposit.take_if(old) {
            shared.close_block(block, fill);
        }
    }
}

/// Frees the blocks that hold nothing live. Returns how many.
pub(crate) fn free_dead(shared: &Shared) -> usize {
    let random = Cell::new(shared.config.stress.seed ^ u64::from(shared.phase.epoch()));
    free_dead_and(shared, |block| {
        if block.is_multiple_of(4) {
            shared.config.stress.delay(&random);
        }
    })
}

/// As `free_dead`; `between` is called between the two looks at a block.
fn free_dead_and(shared: &Shared, mut between: impl FnMut(usize)) -> usize {
    let blocks = &shared.blocks;
    let epoch = shared.phase.epoch();
    let mut dead = Vec::new();
    // From the end, so that the lowest of them is taken first and the next one follows it in memory.
    for block in (0..blocks.len()).rev() {
        // The use first: mutators take free blocks meanwhile, and who sees the use sees the birth set before it. The other
        // way round a block that is taken and filled between the two looks is young, and would be freed.
        let usage = blocks.usage(block);
        between(block);
        if blocks.birth(block) == epoch || blocks.live(block) != 0 {
            continue;
        }
        match usage {
            Use::Closed => {
                blocks.set_usage(block, Use::Free);
                dead.push(block);
            }
            Use::LargeHead => {
                for part in (block..block + blocks.run(block)).rev() {
                    blocks.set_usage(part, Use::Free);
                    dead.push(part);
                }
            }
            _ => {}
        }
    }
    let freed = dead.len();
    shared.free.give(dead);
    freed
}

/// Makes the mark bits and the live counts clean for the next marking.
pub(crate) fn clear_marks(shared: &Shared) {
    let blocks = &shared.blocks;
    let epoch = shared.phase.epoch();
    for block in 0..blocks.len() {
        if blocks.live(block) != 0 || blocks.birth(block) == epoch {
            shared.clear_marks(block);
            blocks.set_live(block, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::free::Taker;
    use crate::{Heap, LEAST_HEAP_BYTES};

    /// Between the two looks at a block a mutator takes it, fills it and has done with it.
    #[test]
    fn a_block_that_is_taken_between_the_two_looks_is_not_freed() {
        let heap = Heap::builder().max_bytes(LEAST_HEAP_BYTES).build().unwrap();
        let shared = heap.shared();
        let epoch = shared.phase.epoch();
        let mut taken = None;
        // No cycle has run, and no thread is in the heap: every block is free, and the lowest is looked at last.
        let freed = free_dead_and(shared, |block| {
            if block == 0 {
                let block = shared.take_block().unwrap();
                shared.open_block(block, epoch, true);
                shared.close_block(block, 64);
                taken = Some(block);
            }
        });
        assert_eq!(taken, Some(0));
        assert_eq!((freed, shared.blocks.usage(0)), (0, Use::Closed), "a young block was freed under its objects");
    }

    /// The same of a large object, as `take_large` makes it.
    #[test]
    fn a_run_that_is_taken_between_the_two_looks_is_not_freed() {
        let heap = Heap::builder().max_bytes(LEAST_HEAP_BYTES).build().unwrap();
        let shared = heap.shared();
        let (blocks, epoch) = (&shared.blocks, shared.phase.epoch());
        let freed = free_dead_and(shared, |block| {
            if block == 0 {
                assert_eq!(shared.free.take_run(Taker::Mutator, 1), Some(0));
                blocks.set_live(0, 0);
                blocks.set_run(0, 1);
                blocks.set_birth(0, epoch);
                blocks.set_usage(0, Use::LargeHead);
            }
        });
        assert_eq!((freed, blocks.usage(0)), (0, Use::LargeHead), "a young object was freed");
    }
}
