//! The figures of the free space, which are written under its lock.

use super::{CHUNK_BLOCKS, FreeSpace, State};
use crate::space::{BLOCK_BYTES, Block};
use gc_core::sys::Process;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What there was at one moment. Of each two figures that say something about one another:
/// `live_bytes` <= bytes of `used` <= those of `committed` <= those of `committed_peak`; `used` <=
/// `taken`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Allocated blocks.
    pub(crate) used: usize,
    /// Blocks whose memory is there, and the most that there were.
    pub(crate) committed: usize,
    pub(crate) committed_peak: usize,
    /// Chunks that are huge pages.
    pub(crate) huge: usize,
    /// Blocks ever taken, and ever uncommitted.
    pub(crate) taken: usize,
    pub(crate) given_back: usize,
    /// Found by the last marking.
    pub(crate) live_bytes: u64,
}

impl Figures {
    /// Of figures that a thread was changing: those of which it has written some and not all are
    /// made to fit, so that what the type promises holds. One change is of a block, or of the
    /// blocks that are uncommitted in one call.
    fn made_to_fit(self) -> Figures {
        let committed = self.committed.max(self.used);
        Figures {
            used: self.used,
            committed,
            huge: self.huge.min(committed / CHUNK_BLOCKS),
            committed_peak: self.committed_peak.max(committed),
            taken: self.taken.max(self.used),
            given_back: self.given_back,
            live_bytes: self.live_bytes.min((self.used * BLOCK_BYTES) as u64),
        }
    }
}

/// Adds to a figure that is only ever written under the lock, which the caller holds: a load and a
/// store do, others may read meanwhile.
pub(super) fn add(figure: &AtomicUsize, change: isize) {
    figure.store(figure.load(Ordering::Relaxed).wrapping_add_signed(change), Ordering::Relaxed);
}

impl FreeSpace {
    /// Blocks that may have memory at once.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Blocks for which there is memory now.
    pub(crate) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// Blocks ever taken for new objects.
    pub(crate) fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Blocks ever taken by mutators for objects that they evacuate.
    pub(crate) fn copied(&self) -> usize {
        self.copied.load(Ordering::Relaxed)
    }

    /// Blocks ever uncommitted.
    pub(crate) fn given_back(&self) -> usize {
        self.given_back.load(Ordering::Relaxed)
    }

    /// Blocks in a row that have never been taken: what is below was taken one by one, what is
    /// above for large objects.
    pub(crate) fn never_taken(&self) -> Range<Block> {
        let ends = self.never_taken.load(Ordering::Relaxed);
        Block::new(ends as u32 as usize)..Block::new((ends >> 32) as usize)
    }

    /// Bytes that the last marking found live.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }

    /// A marking has found so much live, and nothing of what it found dead is free yet.
    pub(crate) fn set_live_bytes(&self, bytes: u64) {
        let _state = self.state.lock();
        self.live_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Figures of one moment.
    pub(crate) fn figures(&self) -> Figures {
        let _state = self.state.lock();
        self.load_figures()
    }

    /// Figures of one moment; in a child made by `fork`, of the `fork`, whoever held the lock then:
    /// nobody writes them in the child.
    pub(crate) fn figures_in(&self, process: Process) -> Figures {
        let state = self.state.lock_in(process);
        let figures = self.load_figures();
        if state.is_some() { figures } else { figures.made_to_fit() }
    }

    fn load_figures(&self) -> Figures {
        let not_used = self.uncommitting.load(Ordering::Relaxed) + self.free.load(Ordering::Relaxed);
        Figures {
            used: self.limit.saturating_sub(not_used),
            committed: self.committed.load(Ordering::Relaxed),
            committed_peak: self.committed_peak.load(Ordering::Relaxed),
            huge: self.huge.load(Ordering::Relaxed),
            taken: self.taken.load(Ordering::Relaxed),
            given_back: self.given_back.load(Ordering::Relaxed),
            live_bytes: self.live_bytes.load(Ordering::Relaxed),
        }
    }

    /// Under the lock.
    pub(super) fn set_never_taken(&self, blocks: Range<Block>) {
        let [start, end] = [blocks.start, blocks.end].map(|block| block.number() as u64);
        self.never_taken.store(start | end << 32, Ordering::Relaxed);
    }

    /// Counts a block that is taken. `true`: its memory is not there yet.
    #[inline]
    pub(super) fn mark_taken(&self, state: &mut State, block: Block) -> bool {
        add(&self.free, -1);
        add(&self.taken, 1);
        let commits = !state.order.remove(block);
        if commits {
            add(&self.committed, 1);
            self.committed_peak.fetch_max(self.committed.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        commits
    }
}
