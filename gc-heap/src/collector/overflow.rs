//! The overflow path of a marker whose stack is full when no further chunk is allowed. See "A full
//! mark stack" in `docs/protocol.md`.

use super::mark::Marker;
use crate::space::{BLOCK_MARK_WORDS, Block, BlockGranule};
use std::sync::atomic::Ordering;

/// Entries whose objects are being fetched meanwhile.
const AHEAD: usize = 8;

/// A block is scanned again until it has yielded this many entries; they are processed first.
const ENOUGH: usize = 16;

/// Position of a marker in a block that it scans again.
#[derive(Clone, Copy)]
pub(super) struct Again {
    block: Block,
    /// Index of the next word of mark bits to read.
    word: usize,
    /// Remaining bits of the word before.
    bits: u64,
}

impl<const MANY: bool> Marker<'_, MANY> {
    /// Marks the objects of the oldest entries without scanning them, so that the entries can go.
    /// Those that have slots are found again by their blocks. It pushes nothing, so it ends for
    /// every shape of heap.
    pub(super) fn overflow(&mut self, entries: usize) {
        self.shared.overflows.fetch_add(1, Ordering::Relaxed);
        for index in 0..entries {
            if index + AHEAD < entries {
                self.prefetch(self.stack[index + AHEAD]);
            }
            let offset = self.stack[index];
            if self.set_mark(offset) {
                let kind = self.count_object(offset);
                // A pair may wait for any object, and is looked up when the block is scanned.
                if kind.has_slots() || self.ephemeron_phase {
                    // After the mark is set, so that the marker that takes the block sees it.
                    self.shared.greys.add(offset.block());
                }
            }
        }
        self.stack.drain(..entries);
        if MANY {
            self.shared.crew.tell();
        }
    }

    /// Begins a block that has marked but unscanned objects.
    pub(super) fn scan_again(&mut self, block: Block) {
        debug_assert!(self.again.is_none());
        self.again = Some(Again { block, word: 0, bits: 0 });
    }

    /// Continues such a block, or the next one, until there are entries to mark. `false`: no grey
    /// block is left.
    #[cold]
    #[inline(never)]
    pub(super) fn scan_greys(&mut self) -> bool {
        let Some(mut again) = self.again.take() else {
            let Some(block) = self.shared.greys.take(self.last_grey) else { return false };
            self.last_grey = block;
            self.scan_again(block);
            return true;
        };
        while self.stack.len() < ENOUGH {
            if again.bits == 0 {
                if again.word == BLOCK_MARK_WORDS {
                    return true;
                }
                again.bits = self.inner.memory.marks.load(again.block.mark_words().start + again.word);
                again.word += 1;
                continue;
            }
            let granule = BlockGranule::new((again.word - 1) * 64 + again.bits.trailing_zeros() as usize);
            again.bits &= again.bits - 1;
            let offset = again.block.granule(granule).offset();
            // Blocks whose bits are all set, because mutators allocate in them, are never grey: no
            // bit is set there by a marker.
            let (kind, _) = self.inner.marked_object(offset);
            self.scan_slots(offset, kind);
            if self.ephemeron_phase {
                self.mark_values_of(offset);
            }
        }
        self.again = Some(again);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::mark_queue::SharedMarkQueue;
    use crate::collector::pair_blocks::Passes;
    use crate::collector::reclaim::each_pair;
    use crate::collector::roots::Roots;
    use crate::inner::HeapInner;
    use crate::space::Offset;
    use crate::{AllocSize, Array, Ephemeron, Heap, Local, Mutator, OutOfMemory, Root, Slot, SlotArray, Trace};

    #[derive(Trace)]
    struct Node {
        left: Slot<Option<Node>>,
        right: Slot<Option<Node>>,
        many: Slot<Option<SlotArray<Option<Node>>>>,
        pairs: Slot<Option<Array<Pair>>>,
    }

    type Nodes = SlotArray<Option<Node>>;
    type Pair = Ephemeron<Node, Option<Node>>;
    type Pairs = Array<Pair>;

    fn node<'s>(m: &mut Mutator<'s>) -> Result<Local<'s, Node>, OutOfMemory> {
        m.alloc::<Node>(|_| NodeInit { left: None, right: None, many: None, pairs: None })
    }

    /// A node that refers to `len` nodes by an array, and by the last of them to the next such
    /// node: a comb.
    fn comb<'s>(m: &mut Mutator<'s>, rows: usize, len: usize) -> Result<Local<'s, Node>, OutOfMemory> {
        let first = node(m)?;
        let row = m.local(first.get(m));
        for _ in 0..rows {
            let m = &mut *m.frame();
            let many = m.build::<Nodes>(AllocSize::tail::<Nodes>(len), |m| m.place_array((), len, None))?;
            for index in 0..len {
                let m = &mut *m.frame();
                let leaf = node(m)?;
                many.get(m).tail()[index].set(m, Some(leaf.get(m)));
            }
            row.get(m).many.set(m, Some(many.get(m)));
            row.set(m, many.get(m).tail()[len - 1].get(m).unwrap());
        }
        Ok(first)
    }

    fn tree<'s>(m: &mut Mutator<'s>, depth: u32) -> Result<Local<'s, Node>, OutOfMemory> {
        let top = node(m)?;
        if depth > 0 {
            let m = &mut *m.frame();
            let (left, right) = (tree(m, depth - 1)?, tree(m, depth - 1)?);
            top.get(m).left.set(m, Some(left.get(m)));
            top.get(m).right.set(m, Some(right.get(m)));
        }
        Ok(top)
    }

    /// Ephemerons of which each has the value of the one behind it as its key; the first key is in
    /// the node.
    fn chain<'s>(m: &mut Mutator<'s>, len: usize) -> Result<Local<'s, Node>, OutOfMemory> {
        let first = node(m)?;
        let pairs = m.build::<Pairs>(AllocSize::tail::<Pairs>(len), |m| m.place_array((), len, None))?;
        first.get(m).pairs.set(m, Some(pairs.get(m)));
        let key = m.local(first.get(m));
        for index in (0..len).rev() {
            let m = &mut *m.frame();
            let value = node(m)?;
            pairs.get(m).tail()[index].set(m, Some((key.get(m), Some(value.get(m)))));
            key.set(m, value.get(m));
        }
        Ok(first)
    }

    /// Marks by `markers`, whose stacks hold `local` entries and which have `chunks` beside. Gives
    /// the objects, and how often a stack was full.
    fn marked<const MANY: bool>(inner: &HeapInner, markers: usize, local: usize, chunks: usize) -> (u64, usize) {
        inner.memory.blocks.all().for_each(|block| {
            inner.memory.clear_marks(block);
            inner.memory.blocks.set_live_bytes(block, 0);
        });
        let shared = SharedMarkQueue::of(inner, markers, Roots::of(inner), local, chunks);
        let mut sums = Vec::new();
        let mut pairs: Vec<Vec<Offset>> = Vec::new();
        // As `Marking::drain` does it.
        for ephemeron_phase in [false, true] {
            shared.crew.begin(false);
            let found = std::sync::Mutex::new(std::mem::take(&mut pairs));
            let work = || {
                let mut marker = Marker::<MANY>::new(inner, &shared);
                if ephemeron_phase {
                    marker.start_ephemeron_phase(std::mem::take(&mut *found.lock().unwrap()));
                }
                marker.drain_parallel(false);
                found.lock().unwrap().push(std::mem::take(&mut marker.pairs));
                let counted = marker.count();
                marker.leave();
                counted
            };
            std::thread::scope(|scope| {
                let helper = || if shared.crew.join() { work() } else { (0, 0) };
                let helpers: Vec<_> = (1..markers).map(|_| scope.spawn(helper)).collect();
                sums.push(work());
                sums.extend(helpers.into_iter().map(|helper| helper.join().unwrap()));
            });
            pairs = found.into_inner().unwrap();
        }
        let mut marker = Marker::<MANY>::new(inner, &shared);
        marker.ephemeron_phase = true;
        Passes::default().run(&mut marker, 0);
        sums.push(marker.count());
        marker.leave();
        let mut waiting = Vec::new();
        shared.waiting.take_all(|pair| waiting.push(pair));
        while let Some(block) = inner.memory.pair_blocks.take(Block::new(0)) {
            each_pair(inner, block, |pair| waiting.push(pair));
        }
        assert!(waiting.is_empty(), "{} pairs whose keys are marked wait", waiting.len());
        assert!(shared.greys.is_empty() && shared.peak_bytes() <= (chunks * 512 + markers * local) * 8);
        let blocks = &inner.memory.blocks;
        let live: u64 = blocks.all().map(|block| u64::from(blocks.live_bytes(block))).sum();
        assert_eq!(live, sums.iter().map(|(_, bytes)| bytes).sum::<u64>(), "the table, and what markers counted");
        (sums.iter().map(|(objects, _)| objects).sum(), shared.overflows.load(Ordering::Relaxed))
    }

    #[test]
    fn all_is_marked_once_however_little_the_stacks_hold() {
        let heap = Heap::builder().max_bytes(32 << 20).build().unwrap();
        heap.enter(|m| -> Result<(), OutOfMemory> {
            let mut roots = Vec::new();
            let shapes = [comb(m, 200, 60)?, comb(m, 3, 5000)?, tree(m, 12)?, chain(m, 3000)?];
            let expected = 1 + 200 * 61 + 1 + 3 * 5001 + (1 << 13) - 1 + 3002;
            for shape in shapes {
                roots.push(Root::<Node>::new(m, shape.get(m)));
            }
            // No cycle has run; none runs now. The objects are older than the marking.
            let inner = heap.inner();
            inner.world.phase.next_epoch();
            assert_eq!(marked::<false>(inner, 1, 1024, 1000), (expected, 0));
            for (local, chunks) in [(2, 0), (3, 1), (32, 0), (1024, 0)] {
                let (objects, overflows) = marked::<false>(inner, 1, local, chunks);
                assert_eq!(objects, expected, "{local} entries, {chunks} chunks");
                assert!(overflows > 0, "{local} entries, {chunks} chunks: never full");
                for markers in [2, 3] {
                    let (objects, _) = marked::<true>(inner, markers, local, chunks);
                    assert_eq!(objects, expected, "{markers} markers, {local} entries, {chunks} chunks");
                }
            }
            Ok(())
        })
        .unwrap()
        .unwrap();
    }
}
