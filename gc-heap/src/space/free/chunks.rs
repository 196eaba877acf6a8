//! Chunks: the 32 blocks that one huge page of 2 MiB holds, of a heap whose collector makes huge
//! pages.
//!
//! All memory of a huge chunk is there: its blocks are in use, or free and in the order of those to
//! be uncommitted. It is uncommitted as a whole or not at all, because a hole splits the page.

use super::{FreeSpace, SLICE, State, add};
use crate::space::{BLOCK_BYTES, Block};
use gc_core::views::HUGE_PAGE;
use gc_core::zeroed::{NoMemory, table};
use std::iter::repeat;
use std::sync::atomic::Ordering;

/// Blocks of a chunk.
pub(crate) const CHUNK_BLOCKS: usize = HUGE_PAGE / BLOCK_BYTES;

/// All blocks of a chunk.
const ALL: u32 = u32::MAX;
const _: () = assert!(CHUNK_BLOCKS == u32::BITS as usize);

/// What the pages of a chunk are.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Page {
    #[default]
    Small,
    /// The collector makes them one, while the blocks are in use: no block is uncommitted.
    Making,
    Huge,
}

#[derive(Clone, Copy, Default)]
struct Chunk {
    page: Page,
    /// When one of its blocks became free last.
    freed: u32,
}

/// The chunks of a heap; empty where its pages stay as they are. Blocks at the end that fill no
/// chunk belong to none.
#[derive(Default)]
pub(super) struct Chunks(Box<[Chunk]>);

impl Chunks {
    fn new(blocks: usize) -> Result<Chunks, NoMemory> {
        Ok(Chunks(table(blocks / CHUNK_BLOCKS, repeat(Chunk::default()))?))
    }

    /// Notes that a block became free.
    #[inline]
    pub(super) fn note_freed(&mut self, block: Block, now: u32) {
        if let Some(chunk) = self.0.get_mut(block.number() / CHUNK_BLOCKS) {
            chunk.freed = now;
        }
    }

    /// The chunk of a block that is uncommitted with its chunk alone.
    pub(super) fn undivided(&self, block: Block) -> Option<usize> {
        let chunk = block.number() / CHUNK_BLOCKS;
        self.0.get(chunk).filter(|chunk| chunk.page != Page::Small).map(|_| chunk)
    }

    /// Whether the collector makes the pages of a block one.
    pub(super) fn is_being_made(&self, block: Block) -> bool {
        self.0.get(block.number() / CHUNK_BLOCKS).is_some_and(|chunk| chunk.page == Page::Making)
    }

    /// Whether a chunk is huge, and no block of it became free within the last `delay`.
    pub(super) fn is_idle(&self, chunk: usize, now: u32, delay: u32) -> bool {
        let Chunk { page, freed } = self.0[chunk];
        page == Page::Huge && now.wrapping_sub(freed) >= delay
    }
}

/// The first block of a chunk.
pub(super) fn first_of(chunk: usize) -> Block {
    Block::new(chunk * CHUNK_BLOCKS)
}

/// The blocks of a chunk, in ascending order.
pub(crate) fn blocks_of(chunk: usize) -> impl DoubleEndedIterator<Item = Block> {
    first_of(chunk).run(CHUNK_BLOCKS)
}

/// A free chunk that nobody can allocate until it is returned.
#[derive(Debug)]
pub(crate) struct TakenChunk {
    chunk: usize,
    /// Blocks whose memory was there.
    committed: u32,
}

impl TakenChunk {
    /// Where the chunk begins in the heap's file.
    pub(crate) fn offset(&self) -> usize {
        self.chunk * HUGE_PAGE
    }
}

impl FreeSpace {
    /// From here on chunks can be huge. Called when nothing has been taken yet.
    pub(crate) fn track_chunks(&self) -> Result<(), NoMemory> {
        self.state.lock().chunks = Chunks::new(self.blocks)?;
        Ok(())
    }

    /// All chunks that are committed are huge from the start (pretouched heaps).
    pub(crate) fn all_huge(&self) {
        let mut state = self.state.lock();
        (0..self.limit / CHUNK_BLOCKS).for_each(|chunk| self.set_page(&mut state, chunk, Page::Huge));
    }

    /// The lowest huge chunk from this one on.
    pub(crate) fn huge_chunk(&self, from: usize) -> Option<usize> {
        self.find_chunk(from, |state, chunk| state.chunks.0[chunk].page == Page::Huge)
    }

    /// Whether threads wait for blocks.
    pub(crate) fn is_awaited(&self) -> bool {
        self.state.lock().blocks_wanted > 0
    }

    /// The first chunk from this one on that is one.
    fn find_chunk(&self, from: usize, is_one: impl Fn(&State, usize) -> bool) -> Option<usize> {
        let mut next = from;
        loop {
            let state = self.state.lock();
            let end = state.chunks.0.len();
            let part = next..end.min(next + 2 * SLICE);
            if part.is_empty() {
                return None;
            }
            next = part.end;
            let found = { part }.find(|&chunk| is_one(&state, chunk));
            if found.is_some() {
                return found;
            }
        }
    }

    /// Takes the lowest free chunk that is not huge, so that nobody waits for the memory while it
    /// is made so. None while threads wait for blocks, or may soon.
    pub(crate) fn take_chunk(&self) -> Option<TakenChunk> {
        let chunk = self.find_chunk(0, |state, chunk| {
            state.free.chunk(chunk) == ALL
                && state.chunks.0[chunk].page == Page::Small
                && self.has_memory_for(state, chunk)
        })?;
        let mut state = self.state.lock();
        let left = self.free().saturating_sub(state.kept() + CHUNK_BLOCKS);
        let is_left = state.free.chunk(chunk) == ALL && self.has_memory_for(&state, chunk);
        if state.blocks_wanted > 0 || left < self.limit / 16 || !is_left {
            return None;
        }
        let mut committed = 0;
        for (index, block) in blocks_of(chunk).enumerate() {
            committed |= u32::from(state.order.remove(block)) << index;
            state.free.take(block);
        }
        add(&self.free, -(CHUNK_BLOCKS as isize));
        add(&self.uncommitting, CHUNK_BLOCKS as isize);
        Some(TakenChunk { chunk, committed })
    }

    /// Whether there is memory for the blocks of a free chunk that have none.
    fn has_memory_for(&self, state: &State, chunk: usize) -> bool {
        let there = state.order.chunk(chunk).map_or(CHUNK_BLOCKS, |there| there.count_ones() as usize);
        CHUNK_BLOCKS - there <= self.unassigned(state)
    }

    /// Whether a chunk is free and has no memory; `false` where the heap has no more offsets than
    /// memory, and nobody keeps that.
    pub(crate) fn is_bare(&self, chunk: usize) -> bool {
        let state = self.state.lock();
        state.free.chunk(chunk) == ALL && state.order.chunk(chunk) == Some(0)
    }

    /// Returns a chunk, as free as before. `huge`: it is one page now. Otherwise it has what was
    /// there, and the memory of its first block.
    pub(crate) fn return_chunk(&self, taken: TakenChunk, huge: bool) {
        let TakenChunk { chunk, committed } = taken;
        let now_committed = if huge { ALL } else { committed | 1 };
        let mut state = self.state.lock();
        add(&self.uncommitting, -(CHUNK_BLOCKS as isize));
        add(&self.committed, (now_committed & !committed).count_ones() as isize);
        self.committed_peak.fetch_max(self.committed.load(Ordering::Relaxed), Ordering::Relaxed);
        if huge {
            self.set_page(&mut state, chunk, Page::Huge);
        }
        let has = |blocks: u32, block: Block| blocks >> (block.number() % CHUNK_BLOCKS) & 1 == 1;
        let is_there = |&block: &Block| has(now_committed, block);
        let freed = state.free.give(blocks_of(chunk).filter(|block| !is_there(block)));
        add(&self.free, freed as isize);
        // From the end: the lowest become the first to be used, and the last to be uncommitted.
        self.put_back(&mut state, blocks_of(chunk).rev().filter(is_there));
        self.check(&state);
        self.serve(state);
        let is_new = |&block: &Block| !has(committed, block);
        blocks_of(chunk).filter(is_there).filter(is_new).for_each(|block| self.note(block, 1));
    }

    /// Begins to make a chunk huge whose blocks are in use: until [`made`](Self::made) none of them
    /// is uncommitted. `false`: some memory of it is not there, or it is huge.
    pub(crate) fn begin_chunk(&self, chunk: usize) -> bool {
        let mut state = self.state.lock();
        // One that is not free may be on its way to be, without its memory.
        let is_uncommitting = state.giving > 0 || self.uncommitting.load(Ordering::Relaxed) > 0;
        let is_there = |block| !state.free.is_free(block) || state.order.contains(block);
        if is_uncommitting || state.chunks.0[chunk].page != Page::Small || !blocks_of(chunk).all(is_there) {
            return false;
        }
        self.set_page(&mut state, chunk, Page::Making);
        true
    }

    /// Ends what [`begin_chunk`](Self::begin_chunk) began. `huge`: it succeeded.
    pub(crate) fn made(&self, chunk: usize, huge: bool) {
        let mut state = self.state.lock();
        self.set_page(&mut state, chunk, if huge { Page::Huge } else { Page::Small });
    }

    pub(super) fn set_page(&self, state: &mut State, chunk: usize, page: Page) {
        let was = std::mem::replace(&mut state.chunks.0[chunk].page, page);
        add(&self.huge, isize::from(page == Page::Huge) - isize::from(was == Page::Huge));
    }

    /// Blocks have been uncommitted: of a huge page nothing is left.
    pub(super) fn chunks_gone(&self, state: &mut State, blocks: &[Block]) {
        for &block in blocks {
            if let Some(chunk) = state.chunks.undivided(block) {
                self.set_page(state, chunk, Page::Small);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::AllocClass;
    use super::*;
    use std::time::Duration;

    fn space(blocks: usize) -> FreeSpace {
        let space = FreeSpace::new(blocks, 0).unwrap();
        space.track_chunks().unwrap();
        space
    }

    #[test]
    fn a_free_chunk_is_taken_made_and_used_from_the_bottom() {
        let space = space(4 * CHUNK_BLOCKS + 3);
        assert_eq!(space.take(AllocClass::Mutator), Some(Block::new(0)));
        let taken = space.take_chunk().unwrap();
        assert_eq!((taken.offset(), taken.committed), (HUGE_PAGE, 0));
        let figures = space.figures();
        assert_eq!((figures.used, figures.committed), (1, 1), "what is being made is nobody's");
        for block in (1..CHUNK_BLOCKS).chain([2 * CHUNK_BLOCKS]) {
            assert_eq!(space.take(AllocClass::Mutator), Some(Block::new(block)), "nobody waits for it");
        }
        space.return_chunk(taken, true);
        assert_eq!((space.figures().huge, space.figures().committed), (1, 2 * CHUNK_BLOCKS + 1));
        assert_eq!(space.take(AllocClass::Mutator), Some(Block::new(CHUNK_BLOCKS)));
        assert_eq!((space.huge_chunk(0), space.huge_chunk(2)), (Some(1), None));
        // What was refused is as before, with the first block's memory.
        let taken = space.take_chunk().unwrap();
        assert_eq!(taken.offset(), 3 * HUGE_PAGE);
        space.return_chunk(taken, false);
        assert_eq!((space.figures().huge, space.figures().committed), (1, 2 * CHUNK_BLOCKS + 2));
        assert_eq!(space.free(), 4 * CHUNK_BLOCKS + 3 - space.figures().used);
    }

    #[test]
    fn a_huge_chunk_is_uncommitted_as_a_whole_or_not_at_all() {
        let space = space(4 * CHUNK_BLOCKS);
        space.return_chunk(space.take_chunk().unwrap(), true);
        let blocks: Vec<_> = (0..2 * CHUNK_BLOCKS).map(|_| space.take(AllocClass::Mutator).unwrap()).collect();
        let idle = |space: &FreeSpace| {
            let mut idle = Vec::new();
            let mut left = space.free_committed();
            while left > 0 {
                let part = space.take_uncommittable(Duration::ZERO, left.min(8));
                assert!(part.looked > 0, "nothing changes meanwhile");
                left = left.saturating_sub(part.looked);
                idle.extend(part.blocks);
            }
            idle
        };
        // Of the second chunk, which is small, each block by itself.
        let [one, five, of_second] = [1, 5, CHUNK_BLOCKS + 7].map(Block::new);
        space.free_blocks([one, five, of_second]);
        let gone = idle(&space);
        assert_eq!(gone, [of_second]);
        space.uncommitted(&gone, true);
        assert_eq!(space.figures().huge, 1);
        let of_first = |&block: &Block| block < Block::new(CHUNK_BLOCKS) && block != one && block != five;
        space.free_blocks(blocks.iter().copied().filter(of_first));
        let gone = idle(&space);
        assert!(gone.iter().copied().eq(blocks_of(0)));
        space.uncommitted(&gone, true);
        assert_eq!((space.figures().huge, space.figures().committed), (0, CHUNK_BLOCKS - 1));
    }

    /// What was used just now, of a chunk whose other blocks have been free for long.
    #[test]
    fn a_chunk_is_idle_when_its_last_block_has_been_free_for_the_delay() {
        let mut chunks = Chunks::new(CHUNK_BLOCKS).unwrap();
        chunks.0[0].page = Page::Huge;
        chunks.note_freed(Block::new(3), 100);
        chunks.note_freed(Block::new(4), 900);
        assert!(!chunks.is_idle(0, 1000, 200) && chunks.is_idle(0, 1100, 200));
    }

    #[test]
    fn a_chunk_in_use_is_made_where_all_of_it_is_there() {
        let space = space(4 * CHUNK_BLOCKS);
        for _ in 0..CHUNK_BLOCKS - 1 {
            space.take(AllocClass::Mutator).unwrap();
        }
        assert!(!space.begin_chunk(0), "the last block has no memory");
        space.take(AllocClass::Mutator).unwrap();
        space.free_blocks([Block::new(3)]);
        assert!(space.begin_chunk(0) && !space.begin_chunk(0));
        assert_eq!(space.take_uncommittable(Duration::ZERO, 64).blocks, [], "a hole would split what is being made");
        space.made(0, true);
        assert_eq!(space.figures().huge, 1);
        space.made(0, false);
        assert_eq!(space.figures().huge, 0);
    }

    #[test]
    fn no_chunk_is_taken_from_threads_that_wait() {
        let space = space(4 * CHUNK_BLOCKS);
        let run = space.take_run(AllocClass::Mutator, 2 * CHUNK_BLOCKS).unwrap();
        let waiting = space.await_blocks(3 * CHUNK_BLOCKS, false);
        assert!(space.take_chunk().is_none());
        drop(waiting);
        space.free_blocks(run.run(2 * CHUNK_BLOCKS));
        assert!(space.take_chunk().is_some());
    }
}
