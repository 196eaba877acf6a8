//! Stands in for `loss` where the crate is built without the feature `losses`: no mutator has a ring, and the compiler
//! removes what would write into one.

use crate::config::Config;
use crate::inner::HeapInner;
use crate::inner::record::MutatorRecord;
use std::sync::Arc;

/// There is none.
pub(crate) enum LossRing {}

impl LossRing {
    pub(crate) fn flush(&self) {
        match *self {}
    }

    pub(crate) fn is_half_full(&self) -> bool {
        match *self {}
    }
}

pub(crate) fn ring(_: &Config) -> Option<LossRing> {
    None
}

pub(crate) fn record_to(ring: &LossRing, _: &HeapInner) {
    match *ring {}
}

pub(crate) fn record_to_nobody() {}

pub(crate) fn faulted(_: &HeapInner, _begin_ns: u64, _ns: u64) {}

#[derive(Default)]
pub(crate) struct SlowPathLosses;

impl SlowPathLosses {
    pub(crate) fn timed(&self, ring: &LossRing, _begin_ns: u64, _ns: u64, _untimed: u32) {
        match *ring {}
    }

    pub(crate) fn untimed(&self, ring: &LossRing, _now_ns: u64, _untimed: u32) {
        match *ring {}
    }
}

impl HeapInner {
    pub(crate) fn gather_losses(&self) {}

    pub(crate) fn take_losses(&self, _: &[Arc<MutatorRecord>]) {}

    pub(crate) fn try_take_losses(&self, _: &MutatorRecord) {}
}
