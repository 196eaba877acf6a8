//! State, allocation epoch and live bytes of each block.

use super::{BLOCK_BYTES, Block};
use gc_core::zeroed::{NoMemory, zeroed};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Use of a block. Only the block's owner (the allocator that took it, later the collector) changes
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum BlockState {
    /// In the free space, or on its way there.
    Free = 0,
    /// Small and medium objects; nothing is allocated here any more.
    Closed = 1,
    /// A TLAB: its mutator may still allocate in it. Never in the relocation set.
    Open = 2,
    /// First block of a large object.
    LargeFirst = 3,
    /// Further block of a large object.
    LargeContinued = 4,
    /// Taken for a large object that is not initialised yet: live, untraced, never moved.
    LargeUninitialized = 5,
    /// Page barrier: withheld at plan, filled page by page while it is repaired. Live as a whole.
    EvacuationTarget = 6,
}

impl BlockState {
    fn from_u8(value: u8) -> BlockState {
        match value {
            0 => BlockState::Free,
            1 => BlockState::Closed,
            2 => BlockState::Open,
            3 => BlockState::LargeFirst,
            4 => BlockState::LargeContinued,
            5 => BlockState::LargeUninitialized,
            _ => BlockState::EvacuationTarget,
        }
    }
}

/// Bit of the byte of a block's use: its objects are old.
const OLD: u8 = 0x80;

/// Metadata of all blocks, one array a property so that a scan touches few lines.
pub(crate) struct BlockTable {
    /// State and generation: one byte, so that a thread that sees the one sees the other.
    state: Box<[AtomicU8]>,
    allocation_epoch: Box<[AtomicU32]>,
    live_bytes: Box<[AtomicU32]>,
    /// Of a large object's first block: its blocks; of a further one: how many blocks before it the
    /// object begins.
    run: Box<[AtomicU32]>,
    /// Bytes from the block's start that may hold objects; of an open block as of its mutator's
    /// last safepoint.
    used_bytes: Box<[AtomicU32]>,
    /// Pins of objects that begin in the block.
    pins: Box<[AtomicU32]>,
}

impl BlockTable {
    pub(crate) fn new(blocks: usize) -> Result<BlockTable, NoMemory> {
        Ok(BlockTable {
            state: zeroed(blocks)?,
            allocation_epoch: zeroed(blocks)?,
            live_bytes: zeroed(blocks)?,
            run: zeroed(blocks)?,
            used_bytes: zeroed(blocks)?,
            pins: zeroed(blocks)?,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.state.len()
    }

    /// All of them, in ascending order.
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = Block> + ExactSizeIterator + use<> {
        Block::new(0).run(self.len())
    }

    pub(crate) fn state(&self, block: Block) -> BlockState {
        BlockState::from_u8(self.state[block.number()].load(Ordering::Acquire) & !OLD)
    }

    /// Keeps the generation. Release: a thread that sees the use sees the allocation epoch and the
    /// run set before.
    pub(crate) fn set_state(&self, block: Block, state: BlockState) {
        let old = self.state[block.number()].load(Ordering::Relaxed) & OLD;
        self.state[block.number()].store(state as u8 | old, Ordering::Release);
    }

    /// Sets use and generation. Release: as [`set_state`](Self::set_state).
    pub(crate) fn set_use(&self, block: Block, state: BlockState, is_old: bool) {
        self.state[block.number()].store(state as u8 | if is_old { OLD } else { 0 }, Ordering::Release);
    }

    /// Whether the block's objects are old, in a heap with generations.
    pub(crate) fn is_old(&self, block: Block) -> bool {
        self.state[block.number()].load(Ordering::Acquire) & OLD != 0
    }

    /// The marking during or after which the block's memory was first published.
    pub(crate) fn allocation_epoch(&self, block: Block) -> u32 {
        self.allocation_epoch[block.number()].load(Ordering::Acquire)
    }

    pub(crate) fn set_allocation_epoch(&self, block: Block, epoch: u32) {
        self.allocation_epoch[block.number()].store(epoch, Ordering::Release);
    }

    /// Bytes marked live by the last marking. Large objects count in their first block.
    pub(crate) fn live_bytes(&self, block: Block) -> u32 {
        self.live_bytes[block.number()].load(Ordering::Relaxed)
    }

    pub(crate) fn set_live_bytes(&self, block: Block, bytes: u32) {
        self.live_bytes[block.number()].store(bytes, Ordering::Relaxed);
    }

    /// Adds marked bytes; several markers may.
    #[inline]
    pub(crate) fn add_live(&self, block: Block, bytes: u32) {
        self.live_bytes[block.number()].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds marked bytes; the caller is the only marker.
    #[inline(always)]
    pub(crate) fn add_live_alone(&self, block: Block, bytes: u32) {
        let live = &self.live_bytes[block.number()];
        live.store(live.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }

    pub(crate) fn run(&self, block: Block) -> usize {
        self.run[block.number()].load(Ordering::Relaxed) as usize
    }

    /// The first block of the large object that continues in a block.
    pub(crate) fn first_of(&self, continued: Block) -> Block {
        continued - self.run(continued)
    }

    /// For all blocks of a large object.
    pub(crate) fn set_run(&self, first: Block, len: usize) {
        self.run[first.number()].store(len as u32, Ordering::Relaxed);
        for block in (first + 1).run(len - 1) {
            self.run[block.number()].store((block - first) as u32, Ordering::Relaxed);
        }
    }

    /// Makes blocks that were taken for it, the `more` ones behind the `len` that it has, a part of
    /// a large object, as old as that. The caller has the lock [`growing`].
    ///
    /// [`growing`]: super::memory::Memory::growing
    pub(crate) fn extend(&self, first: Block, len: usize, more: usize) {
        let epoch = self.allocation_epoch[first.number()].load(Ordering::Acquire);
        let is_old = self.is_old(first);
        for block in (first + len).run(more) {
            self.run[block.number()].store((block - first) as u32, Ordering::Relaxed);
            self.set_live_bytes(block, 0);
            self.set_allocation_epoch(block, epoch);
            self.set_use(block, BlockState::LargeContinued, is_old);
        }
        self.run[first.number()].store((len + more) as u32, Ordering::Relaxed);
    }

    pub(crate) fn used_bytes(&self, block: Block) -> usize {
        self.used_bytes[block.number()].load(Ordering::Acquire) as usize
    }

    /// Release: a thread that sees the fill sees the headers below it.
    pub(crate) fn set_used_bytes(&self, block: Block, bytes: usize) {
        debug_assert!(bytes <= BLOCK_BYTES, "{block:?} is filled with {bytes} bytes");
        self.used_bytes[block.number()].store(bytes as u32, Ordering::Release);
    }

    pub(crate) fn is_pinned(&self, block: Block) -> bool {
        self.pins[block.number()].load(Ordering::SeqCst) != 0
    }

    /// SeqCst: before the check whether the block is in a set (see `handles::pinned`).
    pub(crate) fn pin(&self, block: Block) {
        let before = self.pins[block.number()].fetch_add(1, Ordering::SeqCst);
        assert!(before != u32::MAX, "more pins of one block than can be counted");
    }

    pub(crate) fn unpin(&self, block: Block) {
        let before = self.pins[block.number()].fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before != 0, "a pin of {block:?} ends that was not counted");
    }
}
