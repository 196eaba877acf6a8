//! Blocks that one thread bumps through: its TLABs, and the block it copies to.

use super::Mutator;
use crate::space::BLOCK_BYTES;

impl Mutator<'_> {
    /// Ends allocation in all blocks this thread holds.
    pub(crate) fn retire(&self) {
        self.clear_stress_limit();
        self.inner.memory.close(self.top.replace(0), self.limit.replace(0));
        self.hard_limit.set(0);
        self.inner.memory.close(self.spare.top.replace(0), self.spare.limit.replace(0));
        self.inner.memory.close(self.copies.top.replace(0), self.copies.limit.replace(0));
    }

    /// Publishes the blocks that this thread was allocating in, when it parks: from here on the
    /// collector may close them.
    pub(crate) fn publish_tlabs(&self) {
        let tlab = (self.top.get(), self.hard_limit.get());
        let [spare, copies] = [&self.spare, &self.copies].map(|bump| (bump.top.get(), bump.limit.get()));
        for (deposit, (top, limit)) in self.record().deposits.iter().zip([tlab, spare, copies]) {
            if limit != 0 {
                let (block, fill) = self.inner.memory.filled(top, limit);
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

    /// Undoes the soft limit of stress mode.
    pub(crate) fn clear_stress_limit(&self) {
        if self.inner.config.stress.is_on() && self.limit.get() != 0 {
            self.limit.set(self.hard_limit.get());
        }
    }

    /// Opens an allocated block as TLAB.
    pub(crate) fn open_tlab(&self, block: usize) {
        self.inner.relocation.admit(&self.inner, block, 1);
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
        self.inner.memory.close(self.top.get(), self.limit.get());
        self.open_tlab(block);
    }
}
