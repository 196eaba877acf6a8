//! Pacing: a cycle begins when the free memory will just last until the cycle has freed some.
//!
//! The duration of the next cycle is predicted from the expected marking work, the allocation rate
//! from the most recent interval. Mutators update the prediction as they allocate, so it follows a
//! program that changes between two cycles.

use crate::events::CycleKind;
use crate::inner::HeapInner;
use crate::inner::pacing::Pacing;
use crate::space::BLOCK_BYTES;
use std::time::Instant;

/// Fraction of the heap that is allocated between two updates.
const LOOKS: usize = 32;

impl Pacing {
    /// The number of free blocks below which the next cycle begins, and those of them that lie
    /// beyond the goal of the soft maximum.
    fn trigger(&self, inner: &HeapInner) -> (usize, usize) {
        let least = least(inner);
        let model = match inner.schedule.requests.next_kind() {
            CycleKind::Young => &self.young,
            CycleKind::Whole => &self.whole,
        };
        let trigger = inner.relocation.trigger(inner, least, model.wanted(least as f64) as usize);
        let beyond = inner.schedule.soft_max.beyond(self.used);
        if beyond == 0 {
            return (trigger, 0);
        }
        // What lies beyond counts as used, and half of the rest is for the program.
        let rest = inner.memory.max_blocks() - beyond - self.used;
        (beyond + trigger.min(rest / 2), beyond)
    }
}

/// Blocks that must stay free in any case: the reserve, and a few for each mutator so that none
/// stalls on its way to a safepoint.
fn least(inner: &HeapInner) -> usize {
    let mutators = inner.world.mutators.lock().len();
    let few = (inner.memory.free.reserve() + 3 * mutators.max(1) + 1).min(inner.memory.max_blocks() / 4);
    debug_assert!(few * BLOCK_BYTES <= inner.config.max_bytes);
    few
}

impl HeapInner {
    /// Records that the collector begins a marking.
    pub(crate) fn pace_begins(&self) {
        self.pace(&self.schedule.pacing.lock());
    }

    pub(crate) fn pace_cycle_begins(&self, kind: CycleKind) {
        let mut pacing = self.schedule.pacing.lock();
        // Read under the lock: no thread has recorded a larger number before.
        let allocated = self.memory.free.allocated();
        pacing.begun = Instant::now();
        pacing.copied = self.memory.free.copied();
        pacing.measure(allocated);
        let before = std::mem::replace(&mut pacing.allocated, allocated);
        pacing.young.marks((allocated - before) as f64);
        if kind == CycleKind::Whole {
            let before = std::mem::replace(&mut pacing.allocated_by_whole, allocated);
            pacing.whole.marks((allocated - before) as f64);
        }
        let model = match kind {
            CycleKind::Young => &pacing.young,
            CycleKind::Whole => &pacing.whole,
        };
        let used = self.memory.max_blocks() - self.memory.free.free();
        // Where the world is stopped, a mutator on its way to the pause would wait for nothing.
        if !self.relocation.stops_the_world() {
            self.schedule.throttle.begin(self.report.events.now(), model, used, self.memory.free.kept());
        }
    }

    /// `survived`: of a young cycle, the bytes that it has marked; `stay`: those of them that the
    /// next one marks again, if they live then.
    pub(crate) fn pace_cycle_ended(&self, kind: CycleKind, survived: u64, stay: u64) {
        let mut pacing = self.schedule.pacing.lock();
        let figures = self.memory.free.figures();
        let allocated = self.memory.free.allocated();
        pacing.measure(allocated);
        pacing.took = pacing.begun.elapsed();
        let seconds = pacing.took.as_secs_f64();
        let copied = (self.memory.free.copied() - pacing.copied) as f64;
        pacing.used = figures.used;
        pacing.lasting = figures.used.saturating_sub(allocated - pacing.allocated);
        let (used, blocks) = (figures.used as f64, |bytes: u64| bytes as f64 / BLOCK_BYTES as f64);
        match kind {
            CycleKind::Whole => {
                pacing.whole.ended(seconds, blocks(figures.live_bytes), used);
                pacing.whole.copied(copied);
                pacing.young.uses(used);
            }
            CycleKind::Young => {
                pacing.young.ended_young(seconds, blocks(survived), blocks(stay), used);
                pacing.whole.uses(used);
            }
        }
        self.pace(&pacing);
    }

    /// Acts on a soft maximum that has changed.
    pub(crate) fn pace_anew(&self) {
        self.pace(&self.schedule.pacing.lock());
        self.request_if_due();
        // Free memory may lie beyond it.
        self.schedule.requests.work.notify_one();
    }

    /// Whether more is in use than the goal of the soft maximum, because the program has allocated
    /// it during the last cycle, and since: another one would free some. At most a fifth of the
    /// time goes to such cycles.
    pub(crate) fn uses_more_than_its_goal(&self) -> bool {
        let pacing = self.schedule.pacing.lock();
        let goal = self.schedule.soft_max.goal(pacing.lasting);
        self.memory.free.figures().used > goal && pacing.begun.elapsed() >= 5 * pacing.took
    }

    /// Blocks that are committed beyond the goal of the soft maximum, and not in use.
    pub(crate) fn committed_beyond(&self) -> usize {
        let goal = self.schedule.soft_max.goal(self.schedule.pacing.lock().used);
        let figures = self.memory.free.figures();
        figures.committed.saturating_sub(goal.max(figures.used))
    }

    /// Updates the prediction after a mutator has allocated a fraction of the heap.
    pub(crate) fn pace_look(&self) {
        // If another thread is updating, this one need not.
        if let Some(mut pacing) = self.schedule.pacing.try_lock() {
            pacing.measure(self.memory.free.allocated());
            self.pace(&pacing);
        }
    }

    /// Sets the trigger, and when it is updated next. Under the lock, so that no older trigger
    /// replaces a newer one.
    fn pace(&self, pacing: &Pacing) {
        let step = (self.memory.max_blocks() / LOOKS).max(1);
        let (trigger, beyond) = pacing.trigger(self);
        self.schedule.requests.set_trigger(trigger, beyond, self.memory.free.free().saturating_sub(step));
    }
}
