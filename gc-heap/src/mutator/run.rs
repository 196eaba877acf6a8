//! Memory of large objects: runs of blocks that a thread takes, prepares and opens.

use super::Mutator;
use super::alloc_size::AllocSize;
use crate::error::OutOfMemory;
use crate::events::LossKind;
use crate::inner::tlab::Run;
use crate::object::map::MAX_WORDS;
use crate::space::blocks::BlockState;
use crate::space::free::{AllocClass, TakenRun};
use crate::space::{BLOCK_BYTES, Block};
use gc_core::forwarding::before_reuse;
use gc_core::page_flip::admit_then_open;

/// Bytes of a large object prepared between two safepoints.
const SLICE: usize = 1 << 20;

impl Mutator<'_> {
    /// Takes a run for a reservation.
    pub(super) fn take_run(&mut self, count: usize, room: AllocSize) -> Result<Block, OutOfMemory> {
        self.before_taking(count, room)?;
        if count <= self.inner.memory.max_blocks()
            && let Some(taken) = self.inner.memory.free.begin_run(AllocClass::Mutator, count, room.grows)
            && let Some(first) = self.completed(taken)
        {
            self.inner.after_taking();
            return Ok(first);
        }
        self.stall(count, true, room).map(|blocks| blocks[0])
    }

    /// Gets a run the memory that it lacks. Parked, because uncommitting that of other blocks takes
    /// milliseconds where they are many. `None`: the system refuses it.
    pub(super) fn completed(&mut self, taken: TakenRun) -> Option<Block> {
        match taken {
            TakenRun::Complete(first) => Some(first),
            TakenRun::Lacking(lacking) => {
                let (inner, first) = (std::sync::Arc::clone(&self.inner), lacking.blocks()[0]);
                self.parked(|| inner.memory.free.complete(lacking)).then_some(first)
            }
        }
    }

    /// Commits the memory of a run, and zeroes it if it is for slots, in slices with a safepoint
    /// between them: placing the object then needs no safepoint. Nothing refers to the run;
    /// `LargeUninitialized` keeps it from being freed or moved.
    ///
    /// A tail without slots is written only once, when it is placed.
    pub(super) fn prepare(&mut self, run: Run) {
        self.prepare_with(run, 0);
    }

    /// As [`prepare`](Self::prepare), with another word instead of zeroes.
    pub(super) fn prepare_with(&mut self, Run { first, count, zero }: Run, word: u64) {
        for block in first.run(count) {
            self.inner.memory.blocks.set_state(block, BlockState::LargeUninitialized);
        }
        before_reuse();
        let bytes = count * BLOCK_BYTES;
        for slice in (0..bytes).step_by(SLICE) {
            // Again for each slice: a safepoint may change the view.
            let (view, offset) = (self.good_view.get(), first.start() + slice);
            let len = SLICE.min(bytes - slice);
            let begun = self.record().account.begin(&self.inner);
            if zero {
                self.inner.memory.fill(offset.in_view(view) as usize, len, word);
            } else {
                self.inner.memory.commit(view, offset, len);
                if slice == 0 {
                    self.zero_beginning(first);
                }
            }
            self.record().account.end(&self.inner, LossKind::Zeroing, begun);
            self.run_safepoint();
        }
    }

    /// Zeroes the part of a run, which this thread has taken, that will hold a large object's
    /// header and fields: a thread that reads the block before they are written finds no stale
    /// object.
    fn zero_beginning(&self, first: Block) {
        self.inner.memory.zero(self.good_view.get(), first.start(), MAX_WORDS * 8);
    }

    /// Zeroes a large object's memory, which was bumped for it, before it is there.
    #[cold]
    #[inline(never)]
    pub(super) fn zero_large(&self, start: u64, bytes: usize) {
        let (heap, account) = (self.inner(), &self.record().account);
        let begun = account.begin(heap);
        let view = self.good_view.get();
        heap.memory.zero(view, heap.memory.space.offset(start), bytes);
        account.end(heap, LossKind::Zeroing, begun);
    }

    /// Takes a run for a large object, of the reservation or, if blocks are free, of the heap.
    pub(super) fn take_large(&self, bytes: usize) -> Option<u64> {
        let needed = bytes.div_ceil(BLOCK_BYTES);
        let mut reserved = self.tlabs.reserved.borrow_mut();
        let Run { first, count, zero } = match reserved.runs.iter().position(|run| run.count >= needed) {
            Some(index) => reserved.runs.swap_remove(index),
            None if self.inner.config.stress.is_on() => return None,
            None => {
                let first = self.inner.memory.free.take_run(AllocClass::Mutator, needed)?;
                self.zero_beginning(first);
                Run { first, count: needed, zero: false }
            }
        };
        self.large_is_zero.set(zero);
        if count > needed {
            self.inner.memory.free_unused(first + needed, count - needed);
        }
        admit_then_open(|| self.inner.relocation.admit(&self.inner, first, needed), || self.open_run(first, needed));
        Some(first.start().in_view(self.good_view.get()))
    }

    /// Begins the use of a run for a large object.
    fn open_run(&self, first: Block, count: usize) {
        let blocks = &self.inner.memory.blocks;
        if self.is_marking_or_resolving() {
            self.inner.memory.fill_marks(first);
        }
        blocks.set_live_bytes(first, 0);
        blocks.set_run(first, count);
        for block in first.run(count).rev() {
            let state = if block == first { BlockState::LargeFirst } else { BlockState::LargeContinued };
            self.inner.memory.begin_use(block, state, self.epoch.get());
        }
    }

    /// Frees the unused blocks of the last reservation.
    pub(crate) fn release_reserved(&mut self) {
        let reserved = self.tlabs.reserved.get_mut();
        if !reserved.blocks.is_empty() {
            self.inner.memory.free.free_blocks(reserved.blocks.drain(..));
        }
        for Run { first, count, .. } in reserved.runs.drain(..) {
            self.inner.memory.free_unused(first, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::PAGE_BYTES;
    use crate::{Bytes, Heap, MIN_HEAP_BYTES, SlotArray, Tagged};

    const LEN: usize = 300_000;

    /// Whether all words of the run that was just reserved, from the second page on, are these.
    fn reserved_words_are(m: &Mutator<'_>, word: u64) -> bool {
        let run = *m.tlabs.reserved.borrow().runs.first().expect("one run is reserved");
        let address = run.first.start().in_view(m.good_view.get()) as usize;
        // Writing each page's first byte commits the page.
        (PAGE_BYTES..LEN / 8 * 8).step_by(8).filter(|at| !at.is_multiple_of(PAGE_BYTES)).all(|at| {
            // SAFETY: reserved and not placed yet; mapped in the good view.
            unsafe { std::ptr::with_exposed_provenance::<u64>(address + at).read() == word }
        })
    }

    /// The old contents are not visible: there is no object yet. With slots everything is zero.
    #[test]
    fn room_for_tails_without_slots_is_not_zeroed() {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        heap.enter(|m| {
            // Whole blocks: wherever the next run is, it has been written to.
            let text = vec![0xab_u8; (3 << 20) - 64];
            m.reserve(AllocSize::tail::<Bytes>(text.len())).unwrap().place_bytes::<Bytes>((), &text);
            m.collect();
            m.reserve(AllocSize::tail::<Bytes>(LEN)).unwrap();
            assert!(reserved_words_are(m, 0xabab_abab_abab_abab), "memory was zeroed that is written whole");
            m.reserve(AllocSize::tail::<SlotArray<Tagged>>(LEN / 8)).unwrap();
            assert!(reserved_words_are(m, 0));
        })
        .unwrap();
    }
}
