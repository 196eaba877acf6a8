//! More offsets than memory: a heap of `blocks` offsets, at most `limit` of which have memory.
//!
//! Then a run of free *offsets* exists almost always, however the free memory lies, and what a run
//! lacks in memory is taken from free blocks elsewhere. The heap's file is sparse: a block whose
//! memory is uncommitted keeps its offset, which costs a few bytes of tables.
//!
//! # The invariant
//!
//! *At no moment do more blocks have memory than `limit`.* A block has memory if it is in use, if
//! it is free and in the order of those to be uncommitted, or while the kernel uncommits it. Free
//! is what is neither in use nor being uncommitted, up to the limit, so the invariant says that the
//! order is no longer than what is free (`check`). The difference is memory that no block has
//! ([`FreeSpace::unassigned`]): a block without memory is taken only as long as there is some.
//!
//! Where there is too little, blocks lend theirs. Under the lock the blocks that are wanted are
//! taken, and as many free blocks that have memory, none of which anybody can take from here on
//! ([`FreeSpace::lend`]). Then these are uncommitted without the lock, and only then does the taker
//! get its blocks, which nobody has touched meanwhile ([`FreeSpace::complete`]). Nobody else can
//! use the memory in between: it is counted as that of the blocks that were taken.
//!
//! Memory goes in whole huge pages. Where that is not enough, a huge page is split, and its blocks
//! lend theirs one by one.
//!
//! If the kernel refuses to uncommit a block, it keeps its memory. Then what was taken is given
//! back, and whoever wanted it goes on as if there were no run of offsets: with a cycle and a
//! compaction, and at last with a run that has all its memory, or none.

use super::chunks::Page;
use super::{AllocClass, CHUNK_BLOCKS, FreeSpace, State, add};
use crate::lock::MutexGuard;
use crate::space::Block;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Blocks whose memory is brought to single ones at a time: some 20 us.
const BROUGHT: usize = 4;

/// A run of blocks.
#[must_use]
pub(crate) enum TakenRun {
    /// Its first block.
    Complete(Block),
    /// It lacks memory.
    Lacking(Lacking),
}

/// Blocks that were taken, and those that lend them the memory that they lack.
#[must_use]
pub(crate) struct Lacking {
    taken: Vec<Block>,
    /// Of these, the ones without memory.
    bare: Vec<Block>,
    /// In the order of their addresses.
    lenders: Vec<Block>,
    /// So many of the lenders are needed. The others' memory becomes free.
    needed: usize,
    taker: Option<AllocClass>,
}

impl Lacking {
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.taken
    }

    fn surplus(&self) -> usize {
        self.lenders.len() - self.needed
    }
}

impl FreeSpace {
    /// Whether there are more blocks than may have memory.
    #[inline(always)]
    pub(super) fn has_bare_blocks(&self) -> bool {
        self.limit < self.blocks
    }

    /// Blocks of memory that no block has.
    pub(super) fn unassigned(&self, state: &State) -> usize {
        self.free() - state.order.len()
    }

    /// The invariant.
    #[inline]
    pub(super) fn check(&self, state: &State) {
        debug_assert!(
            state.order.len() <= self.free() && self.committed.load(Ordering::Relaxed) <= self.limit,
            "{} free blocks have memory, and there is some for {}; {} committed",
            state.order.len(),
            self.free(),
            self.committed.load(Ordering::Relaxed),
        );
    }

    /// The block that a thread that wants one gets next: the lowest, or where it has no memory and
    /// there is none for it the lowest that has.
    pub(super) fn next(&self, state: &mut State) -> Option<Block> {
        let lowest = state.free.lowest()?;
        if state.order.contains(lowest) || self.unassigned(state) > 0 { Some(lowest) } else { state.order.lowest() }
    }

    /// Takes the [`next`](Self::next) block out of the free ones.
    #[inline(never)]
    pub(super) fn take_next(&self, state: &mut State) -> Option<Block> {
        let block = self.next(state)?;
        state.free.take(block);
        Some(block)
    }

    /// If the [`next`](Self::next) block lies where runs are taken, and a lower one is free, some
    /// memory is uncommitted for that: small objects among large ones would divide the offsets.
    pub(super) fn bring_memory_down<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let end = Block::new(self.limit);
        let spare = self.free() > state.kept() + state.blocks_wanted + 2 * BROUGHT;
        if !spare || state.blocks_wanted > 0 || self.unassigned(&state) > 0 {
            return state;
        }
        match (state.free.lowest(), state.order.lowest()) {
            (Some(lowest), Some(next)) if lowest < end && next >= end => self.bring(state, BROUGHT),
            _ => state,
        }
    }

    /// If the [`next`](Self::next) block does not lie below `end`, and a lower one is free, memory
    /// for that is uncommitted.
    pub(super) fn bring_memory_below<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        end: Block,
    ) -> MutexGuard<'a, State> {
        match (state.free.lowest(), self.next(&mut state)) {
            (Some(lowest), Some(next)) if lowest < end && next >= end => self.bring(state, 1),
            _ => state,
        }
    }

    /// Uncommits so many blocks, those that have been free for the longest.
    fn bring<'a>(&'a self, mut state: MutexGuard<'a, State>, count: usize) -> MutexGuard<'a, State> {
        let idle = self.take_idle(&mut state, Duration::ZERO, count);
        drop(state);
        for run in idle.blocks.chunk_by(|&a, &b| a + 1 == b) {
            self.uncommit(run);
        }
        self.state.lock()
    }

    /// The first block of a run that has all its memory, or for which there is memory.
    pub(super) fn find_run(&self, state: &mut State, count: usize) -> Option<Block> {
        if !self.has_bare_blocks() {
            return state.free.highest(count);
        }
        if let Some(first) = state.order.highest(count) {
            return Some(first);
        }
        let first = state.free.highest(count)?;
        let bare = first.run(count).filter(|&block| !state.order.contains(block)).count();
        (bare <= self.unassigned(state)).then_some(first)
    }

    /// As [`take_run`](Self::take_run); where the run lacks memory, the caller has to
    /// [`complete`](Self::complete) it: that takes 70 us a MiB, so no pause should wait for it.
    /// `grows`: with as many free blocks behind it as possible, where there are more than memory.
    pub(crate) fn begin_run(&self, taker: AllocClass, count: usize, grows: bool) -> Option<TakenRun> {
        let mut state = self.state.lock();
        if !self.may_allocate(&state, taker, count) {
            return None;
        }
        let middle = if grows && self.has_bare_blocks() { state.free.middle(count) } else { None };
        let taken = middle.and_then(|first| self.take_at(&mut state, first, count, taker));
        let taken = match taken {
            Some(taken) => taken,
            None => self.pop_run_or_lend(&mut state, count, taker)?,
        };
        if let TakenRun::Complete(first) = taken {
            self.is_for(taker, count);
            drop(state);
            self.note(first, count);
        }
        Some(taken)
    }

    /// So much memory is free.
    pub(super) fn pop_run_or_lend(&self, state: &mut State, count: usize, taker: AllocClass) -> Option<TakenRun> {
        if let Some(first) = self.pop_run(state, count) {
            return Some(TakenRun::Complete(first));
        }
        if !self.has_bare_blocks() {
            return None;
        }
        let first = state.free.highest(count)?;
        let lacking = self.lend(state, first.run(count).collect(), Some(taker))?;
        self.run_was_taken(first, count);
        Some(TakenRun::Lacking(lacking))
    }

    /// Takes free blocks that lack memory, and as many others as they need that of. `None`: there
    /// are not so many.
    pub(super) fn lend(&self, state: &mut State, taken: Vec<Block>, taker: Option<AllocClass>) -> Option<Lacking> {
        if taken.len() > self.free() {
            return None;
        }
        let bare: Vec<Block> = taken.iter().copied().filter(|&block| !state.order.contains(block)).collect();
        let needed = bare.len() - self.unassigned(state);
        for &block in &taken {
            state.free.take(block);
            state.order.remove(block);
        }
        let lenders = self.take_lenders(state, needed);
        let enough = lenders.len() >= needed;
        let lacking = Lacking { needed: needed.min(lenders.len()), taken, bare, lenders, taker };
        let (count, surplus) = (lacking.taken.len() as isize, lacking.surplus() as isize);
        add(&self.free, -count - surplus);
        add(&self.uncommitting, surplus);
        add(&self.taken, count);
        state.giving += lacking.lenders.len();
        add(&self.committed, lacking.bare.len() as isize - lacking.needed as isize);
        if !enough {
            // The others are in a chunk that is being made huge.
            self.undo(state, &lacking, &[]);
            return None;
        }
        self.committed_peak.fetch_max(self.committed.load(Ordering::Relaxed), Ordering::Relaxed);
        self.check(state);
        Some(lacking)
    }

    /// Takes so many free blocks that have memory, or a few more or fewer: those that have been
    /// free for the longest.
    fn take_lenders(&self, state: &mut State, needed: usize) -> Vec<Block> {
        let now = self.born.elapsed().as_millis() as u32;
        let (mut lenders, mut passed) = (Vec::new(), 0);
        while lenders.len() < needed
            && passed < needed + 4 * CHUNK_BLOCKS
            && let Some(last) = self.take_last(state, now, 0)
        {
            passed += usize::from(last.count == 0);
            lenders.extend(last.first.run(last.count));
        }
        // Blocks of huge pages that are in use in part.
        passed = 0;
        while lenders.len() < needed
            && passed < 2 * CHUNK_BLOCKS
            && let Some((block, _)) = state.order.last()
        {
            state.order.remove(block);
            if state.chunks.is_being_made(block) {
                state.order.push_first([block].into_iter(), now).for_each(drop);
                passed += 1;
                continue;
            }
            state.free.take(block);
            if let Some(chunk) = state.chunks.undivided(block) {
                self.set_page(state, chunk, Page::Small);
            }
            lenders.push(block);
        }
        lenders.sort_unstable();
        lenders
    }

    /// Uncommits what was lent, so that the taker may use its blocks. `false`: the system has
    /// refused that, and the blocks are free again.
    pub(crate) fn complete(&self, lacking: Lacking) -> bool {
        let mut gone = Vec::with_capacity(lacking.lenders.len());
        for run in lacking.lenders.chunk_by(|&a, &b| a + 1 == b) {
            if (self.uncommit)(run) {
                gone.extend_from_slice(run);
            }
        }
        let mut state = self.state.lock();
        if gone.len() < lacking.lenders.len() {
            self.undo(&mut state, &lacking, &gone);
            self.serve(state);
            return false;
        }
        let surplus = lacking.surplus() as isize;
        state.giving -= gone.len();
        self.chunks_gone(&mut state, &gone);
        state.free.give(gone.iter().copied());
        add(&self.free, surplus);
        add(&self.uncommitting, -surplus);
        add(&self.committed, -surplus);
        add(&self.given_back, gone.len() as isize);
        if let Some(taker) = lacking.taker {
            self.is_for(taker, lacking.taken.len());
        }
        self.check(&state);
        self.serve(state);
        self.note_all(&lacking.bare);
        true
    }

    /// Undoes [`lend`](Self::lend). `gone`: lenders that have been uncommitted, in the order of
    /// their addresses.
    pub(super) fn undo(&self, state: &mut State, lacking: &Lacking, gone: &[Block]) {
        let Lacking { taken, bare, lenders, needed, .. } = lacking;
        state.giving -= lenders.len();
        add(&self.uncommitting, -(lacking.surplus() as isize));
        add(&self.committed, *needed as isize - (bare.len() + gone.len()) as isize);
        add(&self.given_back, gone.len() as isize);
        self.chunks_gone(state, gone);
        state.free.give(bare.iter().chain(gone).copied());
        // As many as were free before; those that have memory are counted as they are put back.
        add(&self.free, (bare.len() + gone.len()) as isize - *needed as isize);
        let has_memory = |block: &&Block| bare.binary_search(block).is_err();
        self.put_back(state, taken.iter().filter(has_memory).copied());
        self.put_back(state, lenders.iter().filter(|block| gone.binary_search(block).is_err()).copied());
        self.check(state);
    }
}

#[cfg(test)]
mod tests;
