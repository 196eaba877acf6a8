//! Blocks that one thread bumps through: its TLABs, and the block it copies to.

use super::Mutator;
use crate::inner::HeapInner;
use crate::space::BLOCK_BYTES;
use crate::space::blocks::BlockState;
use gc_core::forwarding::before_reuse;
use std::cell::Cell;

/// A bump region: `top..limit` is free. Addresses in the good view; both 0 if there is no block.
#[derive(Default)]
pub(crate) struct Bump {
    pub(crate) top: Cell<u64>,
    pub(crate) limit: Cell<u64>,
}

impl Bump {
    pub(crate) fn rest(&self) -> usize {
        (self.limit.get() - self.top.get()) as usize
    }

    pub(crate) fn set(&self, top: u64, limit: u64) {
        self.top.set(top);
        self.limit.set(limit);
    }

    /// Moves the region to the other view after a change of the good color.
    pub(crate) fn change_view(&self, inner: &HeapInner, view: u64) {
        if self.limit.get() != 0 {
            // `limit` may be the end of the heap, one past the last offset: subtract before splitting.
            let offset = inner.space.offset(self.limit.get() - 1) + 1;
            let rest = self.limit.get() - self.top.get();
            self.limit.set(view + offset);
            self.top.set(view + offset - rest);
        }
    }
}

impl HeapInner {
    /// Prepares an allocated block for bumping. Nothing can refer into it yet.
    ///
    /// `live`: marking or weak resolution runs, and new objects must count as marked.
    pub(crate) fn open_block(&self, block: usize, epoch: u32, live: bool) {
        before_reuse();
        if live {
            self.fill_marks(block);
        }
        self.blocks.set_live_bytes(block, 0);
        self.blocks.set_used_bytes(block, 0);
        if let Some(pages) = &self.pages {
            pages.forget_first(block);
        }
        self.blocks.set_allocation_epoch(block, epoch);
        self.blocks.set_state(block, BlockState::Open);
    }

    /// Ends allocation in a block that holds `fill` bytes; an untouched one is freed.
    pub(crate) fn close_block(&self, block: usize, fill: usize) {
        self.blocks.set_used_bytes(block, fill);
        if fill == 0 {
            self.clear_marks(block);
            self.blocks.set_allocation_epoch(block, 0);
            self.blocks.set_state(block, BlockState::Free);
            self.free.give([block]);
        } else {
            self.blocks.set_state(block, BlockState::Closed);
        }
    }

    /// The block that a bump region's limit ends.
    pub(crate) fn close(&self, top: u64, limit: u64) {
        if limit != 0 {
            let (block, fill) = self.filled(top, limit);
            self.close_block(block, fill);
        }
    }

    /// The block that a bump region's limit ends, and the bytes bumped.
    fn filled(&self, top: u64, limit: u64) -> (usize, usize) {
        let block = self.space.offset(limit - 1) as usize / BLOCK_BYTES;
        (block, BLOCK_BYTES - (limit - top) as usize)
    }
}

impl Mutator<'_> {
    /// Ends allocation in all blocks this thread holds.
    pub(crate) fn retire(&self) {
        self.clear_stress_limit();
        self.inner.close(self.top.replace(0), self.limit.replace(0));
        self.hard_limit.set(0);
        self.inner.close(self.spare.top.replace(0), self.spare.limit.replace(0));
        self.inner.close(self.copies.top.replace(0), self.copies.limit.replace(0));
    }

    /// Publishes the blocks that this thread was allocating in, when it parks: from here on the
    /// collector may close them.
    pub(crate) fn publish_tlabs(&self) {
        let tlab = (self.top.get(), self.hard_limit.get());
        let [spare, copies] = [&self.spare, &self.copies].map(|bump| (bump.top.get(), bump.limit.get()));
        for (deposit, (top, limit)) in self.record().deposits.iter().zip([tlab, spare, copies]) {
            if limit != 0 {
                let (block, fill) = self.inner.filled(top, limit);
                deposit.put(block, fill);
            }
        }
    }

    /// Reclaims the published blocks when the thread unparks, except those that the collector has
    /// closed.
    pub(crate) fn reclaim_tlabs(&self) {
        let [tlab, spare, copies] = &self.record().deposits;
        if tlab.take().is_none() {
            self.top.set(0);
            self.limit.set(0);
            self.hard_limit.set(0);
        }
        for (deposit, bump) in [(spare, &self.spare), (copies, &self.copies)] {
            if deposit.take().is_none() {
                bump.set(0, 0);
            }
        }
    }

    /// Page barrier: publishes how far the TLABs are filled, so that other threads can repair the
    /// objects in them.
    pub(crate) fn publish_fill(&self) {
        if self.inner.pages.is_some() {
            let tlabs = [(self.top.get(), self.hard_limit.get()), (self.spare.top.get(), self.spare.limit.get())];
            for (index, (top, limit)) in tlabs.into_iter().enumerate() {
                let filled = (limit != 0).then(|| self.inner.filled(top, limit));
                if let Some((block, fill)) = filled {
                    self.inner.blocks.set_used_bytes(block, fill);
                }
                self.record().set_current(index, filled.map(|(block, _)| block));
            }
        }
    }

    /// Undoes the soft limit of stress mode.
    pub(crate) fn clear_stress_limit(&self) {
        if self.inner.config.stress.is_on() && self.limit.get() != 0 {
            self.limit.set(self.hard_limit.get());
        }
    }

    /// Opens an allocated block as TLAB.
    pub(crate) fn open_tlab(&self, block: usize) {
        if let Some(pages) = &self.inner.pages {
            // First: a repair must find the block as it was at the flip, or not visit it at all.
            pages.admit(&self.inner, block, 1);
        }
        self.inner.open_block(block, self.epoch.get(), self.is_marking_or_resolving());
        let start = self.good_view.get() + (block * BLOCK_BYTES) as u64;
        self.top.set(start);
        self.limit.set(start + BLOCK_BYTES as u64);
        self.hard_limit.set(self.limit.get());
    }

    /// Exchanges the TLAB and the spare one.
    pub(crate) fn swap_spare(&self) {
        let (top, limit) = (self.top.get(), self.limit.get());
        self.top.set(self.spare.top.get());
        self.limit.set(self.spare.limit.get());
        self.hard_limit.set(self.limit.get());
        self.spare.set(top, limit);
    }

    /// Replaces the TLAB or the spare one, whichever has less space left, by a newly allocated
    /// block, which becomes the TLAB.
    pub(crate) fn renew_tlab(&self, block: usize) {
        let rest = (self.limit.get() - self.top.get()) as usize;
        if self.spare.limit.get() == 0 || self.spare.rest() < rest {
            self.swap_spare();
        }
        self.inner.close(self.top.get(), self.limit.get());
        self.open_tlab(block);
    }
}
