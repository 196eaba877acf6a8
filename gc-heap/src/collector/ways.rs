//! Which list of phases the collector runs for a cycle. Chosen when a heap is built; the way of the
//! page barrier is in `flip_way`.

use super::cycle::{Cycle, Cycles};
use super::evacuation_set::EvacuationGoal;
use super::pauses::{Concurrent, Pauses};
use crate::events::PauseKind;
use crate::inner::HeapInner;

/// A way to run a cycle.
pub(crate) trait Way: Send {
    /// A whole cycle.
    fn collect(&self, inner: &HeapInner, cycles: &mut Cycles, goal: EvacuationGoal);

    /// A young cycle, in a heap with generations.
    fn collect_young(&self, inner: &HeapInner, cycles: &mut Cycles) {
        self.collect(inner, cycles, EvacuationGoal::Reclaim);
    }
}

pub(crate) struct ByLoadBarrier;

impl Way for ByLoadBarrier {
    fn collect(&self, inner: &HeapInner, cycles: &mut Cycles, goal: EvacuationGoal) {
        Cycle::begin(Concurrent::new(inner), cycles, goal).with_load_barrier();
    }

    fn collect_young(&self, inner: &HeapInner, cycles: &mut Cycles) {
        Cycle::begin(Concurrent::new(inner), cycles, EvacuationGoal::Reclaim).young();
    }
}

pub(crate) struct InOnePause;

impl Way for InOnePause {
    fn collect(&self, inner: &HeapInner, cycles: &mut Cycles, goal: EvacuationGoal) {
        collect_in_a_pause(inner, cycles, goal, PauseKind::Collection);
    }
}

/// Runs a cycle in one pause.
pub(super) fn collect_in_a_pause(inner: &HeapInner, cycles: &mut Cycles, goal: EvacuationGoal, kind: PauseKind) {
    Concurrent::new(inner).with_world_stopped(kind, |stopped| Cycle::begin(stopped, cycles, goal).in_a_pause());
}
