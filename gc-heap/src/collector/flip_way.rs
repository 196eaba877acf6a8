//! Cycles that relocate by flips: what the page barrier adds to `ways`.

use super::cycle::{Cycle, Cycles};
use super::evacuation_set::EvacuationGoal;
use super::pauses::Concurrent;
use super::ways::Way;
use crate::inner::HeapInner;
use crate::space::pages::Pages;
use std::sync::Arc;

pub(crate) struct ByPageBarrier(pub(crate) Arc<Pages>);

impl Way for ByPageBarrier {
    fn collect(&self, inner: &HeapInner, cycles: &mut Cycles, goal: EvacuationGoal) {
        Cycle::begin(Concurrent::new(inner), cycles, goal).with_page_barrier(&self.0);
    }
}
