//! How a thread gets and ends its TLABs.

use super::Mutator;
use crate::space::Block;
use gc_core::page_flip::admit_then_open;

impl Mutator<'_> {
    /// Ends allocation in all blocks this thread holds.
    pub(crate) fn retire(&self) {
        self.tlabs.retire(&self.inner.memory);
    }

    /// Undoes the limit of stress mode.
    pub(crate) fn clear_stress_limit(&self) {
        if self.inner.config.stress.is_on() {
            self.tlabs.active.lift_limit();
        }
    }

    /// Opens an allocated block as TLAB.
    fn open_tlab(&self, block: Block) {
        admit_then_open(
            || self.inner.relocation.admit(&self.inner, block, 1),
            || self.inner.open_block(block, self.epoch.get(), self.is_marking_or_resolving()),
        );
        self.tlabs.active.open(block.start().in_view(self.good_view.get()));
    }

    /// Replaces the TLAB or the spare one, whichever has less space left, by a newly allocated
    /// block, which becomes the TLAB.
    pub(crate) fn renew_tlab(&self, block: Block) {
        self.tlabs.make_room(&self.inner.memory);
        self.open_tlab(block);
    }
}
