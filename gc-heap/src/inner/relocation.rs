//! What differs between the ways in which a heap relocates objects beside running mutators, outside
//! of the collector: one trait, whose default is the load barrier.
//!
//! A heap has one implementation, chosen when it is built (`heap/choice.rs`), together with the
//! list of phases that the collector runs (`collector/ways.rs`). Every call stands on a slow path:
//! at a safepoint that has something to do, when a block is opened, in a pause. What a way does at
//! each load and store is in `barrier/`.

use crate::error::BuildError;
use crate::inner::HeapInner;
use crate::inner::mutator::Mutator;
use crate::space::{Block, Offset};
use crate::stats::{Durations, LossTotal};
use gc_core::fault::Registration;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How a heap relocates objects.
pub(crate) trait Relocation: Send + Sync {
    /// Whether every cycle runs in one pause, so that no mutator allocates while one runs.
    fn stops_the_world(&self) -> bool {
        false
    }

    /// Whether mutators fault on pages of the heap, and repair them.
    fn takes_faults(&self) -> bool {
        false
    }

    /// Whether loads heal slots after a relocation. Otherwise a relocation inside a pause ends with
    /// [`update_references`](Self::update_references).
    fn heals_slots(&self) -> bool {
        true
    }

    /// Updates every slot, roots included. Called in a pause, when all objects of the evacuation
    /// set have their places, if slots are not healed.
    fn update_references(&self, _inner: &HeapInner) {}

    /// Called before a mutator opens the `count` blocks from `first` on, which it has allocated:
    /// afterwards no other thread takes what it writes there for an object of before.
    fn admit(&self, _inner: &HeapInner, _first: Block, _count: usize) {}

    /// Whether [`admit`](Self::admit) has something to do.
    fn is_admitting(&self) -> bool {
        false
    }

    /// Called before a block that has been allocated is opened, by whatever thread.
    fn opens(&self, _block: Block) {}

    /// Called at a safepoint that has something to do: whether the mutator must not allocate in its
    /// TLABs any more.
    fn retires_tlabs(&self, _m: &Mutator<'_>) -> bool {
        false
    }

    /// Called at a safepoint that has something to do, before the mutator arrives or parks.
    fn publish(&self, _m: &Mutator<'_>) {}

    /// Called before an object's bytes are used through the canonical view.
    fn lend(&self, _inner: &HeapInner, _offset: Offset, _bytes: usize) {}

    /// The number of free blocks below which the next cycle begins. `least` must stay free in any
    /// case; after `wanted` a cycle ends in time, as predicted.
    fn trigger(&self, inner: &HeapInner, _least: usize, wanted: usize) -> usize {
        wanted.min(most_for_trigger(inner))
    }

    /// Called by the collector right before it stops the mutators for [`start`](Self::start):
    /// whether that takes so long that the collector should be awake meanwhile.
    fn rehearses_start(&self) -> bool {
        false
    }

    /// Begins the relocation, inside a pause: O(1). `false`: nothing has changed, and the plan is
    /// abandoned. Here, the color that mutators take for good changes.
    fn start(&self, inner: &HeapInner) -> bool {
        if inner.world.plan_aborted.load(Ordering::SeqCst) {
            return false;
        }
        let good = inner.next_good();
        if inner.config.single_view {
            // If the view cannot be made accessible, there is no relocation; if the other
            // cannot be protected, tests only detect less.
            for view in inner.views_of(good) {
                if let Err(error) = inner.memory.views.protect_view(view, true) {
                    inner.report.refusals.note(error);
                    return false;
                }
            }
            let stays = |view: &usize| inner.views_of(good).any(|next| next == *view);
            for view in inner.views_of(inner.good_words().colors).filter(|view| !stays(view)) {
                let hidden = inner.memory.views.protect_view(view, false);
                let _ = hidden.map_err(|error| inner.report.refusals.note(error));
            }
        }
        inner.flip(good);
        true
    }

    /// Slots found since the heap was built that led to no live object. Not 0: an invariant is
    /// broken.
    fn dangling(&self) -> u64 {
        0
    }

    /// Registers the mutators' view for fault handling, if mutators fault.
    fn serve_faults(&self, _inner: &Arc<HeapInner>) -> Result<Option<Registration>, BuildError> {
        Ok(None)
    }

    fn figures(&self) -> PageFigures {
        PageFigures::default()
    }

    /// The distribution of the faults that mutators have served.
    fn fault_durations(&self) -> Durations {
        Durations::default()
    }

    /// What it keeps.
    #[cfg(test)]
    fn state(&self) -> &dyn std::any::Any {
        &()
    }
}

/// The most free blocks at which a cycle may begin.
pub(crate) fn most_for_trigger(inner: &HeapInner) -> usize {
    inner.memory.max_blocks() * 3 / 4
}

/// What a heap reports of pages that are repaired.
#[derive(Default)]
pub(crate) struct PageFigures {
    pub(crate) faults: LossTotal,
    /// Rounds of waiting for another thread that was repairing the page.
    pub(crate) waits: u64,
    /// Pages repaired by mutators.
    pub(crate) by_mutators: u64,
}

/// The load barrier: mutators heal the slots that they load, and the next marking heals the rest.
pub(crate) struct HealOnLoad;

impl Relocation for HealOnLoad {}

/// Every cycle runs in one pause. Slots are healed as with the load barrier.
pub(crate) struct InPause;

impl Relocation for InPause {
    fn stops_the_world(&self) -> bool {
        true
    }

    /// A pause ends before any mutator allocates: only what must stay free has to be.
    fn trigger(&self, _inner: &HeapInner, least: usize, _wanted: usize) -> usize {
        least
    }
}
