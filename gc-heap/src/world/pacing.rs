//! Pacing: a cycle begins when the free memory will just last until the cycle has freed some.
//!
//! The duration of the next cycle is predicted from the expected marking work, the allocation rate
//! from the most recent interval. Mutators update the prediction as they allocate, so it follows a
//! program that changes between two cycles.

use crate::config::Barrier;
use crate::inner::HeapInner;
use crate::inner::pacing::{ENOUGH_FREE, Pacing};
use crate::space::BLOCK_BYTES;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Fraction of the heap that is allocated between two updates.
const LOOKS: usize = 32;

impl Pacing {
    /// The number of free blocks below which the next cycle begins.
    fn trigger(&self, inner: &HeapInner) -> usize {
        let least = least(inner);
        if inner.config.barrier == Barrier::StopTheWorld {
            return least;
        }
        let blocks = inner.memory.blocks.len();
        let wanted = self.model.wanted(least as f64) as usize;
        let most = blocks * 3 / 4;
        let Some(pages) = &inner.memory.pages else { return wanted.min(most) };
        // While more than this is free, a plan relocates nothing, and if no block dies as a whole,
        // the cycle gains nothing.
        let live = inner.memory.free.live_bytes() as usize / BLOCK_BYTES;
        let useless = blocks.saturating_sub(live) / 100 * ENOUGH_FREE;
        let density = f64::from(pages.density.load(Ordering::Relaxed)) / 1000.0;
        let moved = pages.moved.load(Ordering::Relaxed) as usize;
        let destinations = destinations((wanted - least) as f64, density, moved, blocks);
        // Mutators may not allocate the blocks reserved for the next flip.
        let kept = inner.memory.free.kept() - inner.memory.free.reserve();
        (wanted + destinations.max(kept)).min(most).min(useless.max(wanted + kept))
    }
}

/// Page barrier: destination blocks a flip needs to free at least what is allocated until the next
/// one.
///
/// `D` blocks hold the objects of sources of density `r` and gain `D (1/r - 1)`. At most a quarter
/// of the heap is reserved for this: if that is not enough, cycles follow one another, and finally
/// a stop-the-world compaction. And at most as much as there is to move, which is little if objects
/// are large: the last time `moved` blocks moved, and this time at most twice as many.
fn destinations(expected: f64, density: f64, moved: usize, blocks: usize) -> usize {
    let wanted = expected * density / (1.0 - density).max(0.05);
    (wanted as usize).min(blocks / 4).min((2 * moved).max(blocks / 64))
}

/// Blocks that must stay free in any case: the reserve, and a few for each mutator so that none
/// stalls on its way to a safepoint.
fn least(inner: &HeapInner) -> usize {
    let mutators = inner.world.mutators.lock().len();
    let few = (inner.memory.free.reserve() + 3 * mutators.max(1) + 1).min(inner.memory.blocks.len() / 4);
    debug_assert!(few * BLOCK_BYTES <= inner.config.max_bytes);
    few
}

impl HeapInner {
    /// Records that the collector begins a marking.
    pub(crate) fn pace_begins(&self) {
        self.pace(&self.schedule.pacing.lock());
    }

    pub(crate) fn pace_cycle_begins(&self) {
        let mut pacing = self.schedule.pacing.lock();
        // Read under the lock: no thread has recorded a larger number before.
        let taken = self.memory.free.taken();
        pacing.begun = Instant::now();
        pacing.measure(taken);
        let before = std::mem::replace(&mut pacing.taken, taken);
        pacing.model.marks((taken - before) as f64);
    }

    pub(crate) fn pace_cycle_ended(&self) {
        let mut pacing = self.schedule.pacing.lock();
        let figures = self.memory.free.figures();
        pacing.measure(figures.taken);
        let seconds = pacing.begun.elapsed().as_secs_f64();
        pacing.model.ended(seconds, figures.live_bytes as f64 / BLOCK_BYTES as f64, figures.used as f64);
        self.pace(&pacing);
    }

    /// Updates the prediction after a mutator has allocated a fraction of the heap.
    pub(crate) fn pace_look(&self) {
        // If another thread is updating, this one need not.
        if let Some(mut pacing) = self.schedule.pacing.try_lock() {
            pacing.measure(self.memory.free.taken());
            self.pace(&pacing);
        }
    }

    /// Sets the trigger, and when it is updated next. Under the lock, so that no older trigger
    /// replaces a newer one.
    fn pace(&self, pacing: &Pacing) {
        let step = (self.memory.blocks.len() / LOOKS).max(1);
        self.schedule.requests.set_trigger(pacing.trigger(self), self.memory.free.free().saturating_sub(step));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_gain_what_is_allocated() {
        assert_eq!(destinations(100.0, 0.5, 500, 1000), 100);
        assert_eq!(destinations(100.0, 0.0, 500, 1000), 0);
        assert_eq!(destinations(1000.0, 0.9, 500, 1000), 250, "a quarter at most");
        assert_eq!(destinations(1000.0, 0.9, 20, 1000), 40, "no more than what may be moved");
    }
}
