//! Relocation with the load barrier (Click, Tene, Wolf: Pauseless; Tene, Iyengar, Wolf: C4; ZGC):
//! each object of the set is evacuated once, by the first thread that needs it, and published by
//! compare-and-swap.
//!
//! No thread waits for another, which may be preempted: each copies to a place of its own and the
//! first to publish wins. If there is no memory to copy to, the object's own place is published: it
//! stays, and its block survives the cycle.

use super::evacuation_set::EvacuationGoal;
use crate::inner::HeapInner;
use crate::space::evacuate::{Copied, CopyPlace, relocate_object};
use crate::space::free::AllocClass;
use crate::space::{BLOCK_BYTES, Block, Offset};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Of a place without a block: where no block ends.
const NO_BLOCK: Offset = Offset::new(0);

/// The destination of a collector thread's copies.
struct CollectorPlace<'a> {
    inner: &'a HeapInner,
    top: Offset,
    limit: Offset,
    /// Copies are packed below this block, or moved out of the way of runs; `None`: into the lowest
    /// free block.
    below: Option<Block>,
    /// For the stress mode.
    random: Cell<u64>,
}

impl CopyPlace for CollectorPlace<'_> {
    fn bump(&mut self, bytes: usize) -> Option<Offset> {
        if self.limit - self.top < bytes {
            let free = &self.inner.memory.free;
            let block = match self.below {
                None => free.take(AllocClass::Collector)?,
                Some(block) => free.take_below(block)?,
            };
            self.close();
            self.inner.open_target(block, self.inner.world.phase.epoch());
            self.top = block.start();
            self.limit = self.top + BLOCK_BYTES;
        }
        let start = self.top;
        self.top += bytes;
        Some(start)
    }

    fn rewind(&mut self, bytes: usize) {
        self.top -= bytes;
    }

    fn stress_delay(&self) {
        self.inner.config.stress.delay(&self.random);
    }
}

impl CollectorPlace<'_> {
    fn close(&mut self) {
        if self.limit != NO_BLOCK {
            let block = (self.limit - 1).block();
            self.inner.memory.close_block(block, self.top - block.start());
            (self.top, self.limit) = (NO_BLOCK, NO_BLOCK);
        }
    }
}

/// Evacuates the blocks of the set towards the start of the heap, `workers` threads at once.
pub(crate) fn relocate(inner: &HeapInner, set: &[Block], goal: EvacuationGoal, workers: usize) {
    let next = AtomicUsize::new(0);
    inner.schedule.helpers.run_parallel(workers, || {
        let random = Cell::new(inner.config.stress.seed);
        let mut place = CollectorPlace { inner, top: NO_BLOCK, limit: NO_BLOCK, below: None, random };
        let mut copied = 0;
        let mut kept = 0;
        while let Some(&block) = set.get(next.fetch_add(1, Ordering::Relaxed)) {
            place.below = (goal == EvacuationGoal::MakeRun).then_some(block);
            if evacuate(inner, block, &mut place, &mut copied, &mut kept) {
                inner.memory.blocks.set_live_bytes(block, 0);
                inner.memory.end_use(block);
                // Release it at once: a stalled mutator takes the first block freed.
                inner.memory.free.free_blocks([block]);
            }
        }
        place.close();
        inner.report.counters.collector_copies.add(copied);
        inner.report.counters.kept_in_place.add(kept);
    });
}

/// Publishes every entry of a block. `true`: no object stayed, so the block can be released.
fn evacuate(inner: &HeapInner, block: Block, place: &mut CollectorPlace<'_>, copied: &mut u64, kept: &mut u64) -> bool {
    let forwarding = inner.planned_forwarding(block).of_block(block).expect("a block of the set has its forwarding");
    let mut empty = true;
    for (granule, entry) in forwarding.iter() {
        let own = block.granule(granule);
        let destination = match entry.destination() {
            Some(granule) => granule,
            // The block survives this cycle: copying the rest of it would use memory and free none.
            None if !empty => match entry.publish(own) {
                Ok(()) => {
                    *kept += 1;
                    own
                }
                Err(granule) => granule,
            },
            None => {
                place.stress_delay();
                let (offset, how) = relocate_object(&inner.memory, own.offset(), entry, place);
                match how {
                    Copied::Here => *copied += 1,
                    Copied::Kept => *kept += 1,
                    Copied::Elsewhere => {}
                }
                offset.granule()
            }
        };
        empty &= destination != own;
    }
    empty
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::SlotType;
    use crate::space::BLOCK_MARK_WORDS;
    use crate::{AllocSize, Bytes, Gc, Heap, MIN_HEAP_BYTES};
    use gc_core::forwarding::{Entry, Forwarding};

    const LEN: usize = 40;

    /// A place to copy to, beside another thread that publishes at the worst moment.
    struct Beside<'a> {
        entry: Entry<'a>,
        /// Where the other thread has copied the object: published when this one has chosen its own
        /// place.
        other: Offset,
        /// `None`: nothing should be copied here.
        to: Option<Offset>,
        rewound: usize,
    }

    impl CopyPlace for Beside<'_> {
        fn bump(&mut self, _: usize) -> Option<Offset> {
            assert!(self.to.is_some(), "an object that was moved before is copied");
            assert_eq!(self.entry.publish(self.other.granule()), Ok(()));
            self.to
        }

        fn rewind(&mut self, bytes: usize) {
            self.rewound += bytes;
        }

        fn stress_delay(&self) {}
    }

    /// Runs `f` with an object's offset, its forwarding, and the offset of a block that nobody
    /// uses.
    fn with_object(f: impl FnOnce(&HeapInner, Offset, Entry<'_>, Offset)) {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        heap.enter(|m| {
            let m = m.reserve(AllocSize::tail::<Bytes>(LEN)).unwrap();
            let object: Gc<'_, Bytes> = m.place_bytes((), &[7; LEN]);
            let inner = heap.inner();
            let offset = inner.memory.space.offset(<Bytes as SlotType>::to_word(object).bits());
            let granule = offset.granule().in_block();
            let mut bits = [0; BLOCK_MARK_WORDS];
            bits[granule.number() / 64] |= 1 << (granule.number() % 64);
            let forwarding = Forwarding::new(bits).unwrap();
            let block = inner.memory.free.take(AllocClass::Collector).unwrap();
            f(inner, offset, forwarding.entry(granule).unwrap(), block.start());
        })
        .unwrap();
    }

    /// Otherwise there would be two copies, and a store into one would be missing in the other.
    #[test]
    fn of_two_that_copy_an_object_the_first_to_publish_wins() {
        with_object(|inner, offset, entry, block| {
            let other = block + BLOCK_BYTES / 2;
            let mut place = Beside { entry, other, to: Some(block), rewound: 0 };
            assert_eq!(relocate_object(&inner.memory, offset, entry, &mut place), (other, Copied::Elsewhere));
            assert_eq!((entry.destination(), place.rewound), (Some(other.granule()), 16 + LEN));
        });
    }

    /// The block of an object that was moved may be in use again: a header that is read there says
    /// nothing.
    #[test]
    fn a_header_is_not_believed_once_the_object_is_elsewhere() {
        with_object(|inner, offset, entry, block| {
            entry.publish(block.granule()).unwrap();
            // As part of what is there now: 512 KiB, of no kind.
            inner.memory.word(offset).store(u64::MAX << 48, Ordering::Relaxed);
            let mut place = Beside { entry, other: block, to: None, rewound: 0 };
            assert_eq!(relocate_object(&inner.memory, offset, entry, &mut place), (block, Copied::Elsewhere));
        });
    }
}
