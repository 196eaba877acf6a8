//! Stands in for `loss` where the crate is built without the feature `losses`: accounts are empty,
//! and the compiler removes what would write into one.

use crate::config::Config;
use crate::events::LossKind;
use crate::inner::HeapInner;
use crate::inner::record::MutatorRecord;
use crate::stats::{Durations, LossTotal};
use gc_core::zeroed::NoMemory;
use std::sync::Arc;

/// Without figures.
#[derive(Default)]
pub(crate) struct Totals;

impl Totals {
    pub(crate) fn durations(&self, _: LossKind) -> Durations {
        Durations::default()
    }

    pub(crate) fn total(&self, _: LossKind) -> LossTotal {
        LossTotal::default()
    }

    pub(crate) fn fault_kernel_ns(&self) -> u64 {
        0
    }

    pub(crate) fn sampled_ns(&self, _: LossKind) -> u64 {
        0
    }
}

/// Without entries.
pub(crate) struct Account;

/// No time.
#[derive(Clone, Copy)]
pub(crate) struct Begun;

impl Account {
    pub(crate) fn new(_: &Config, _mutator: u64) -> Result<Account, NoMemory> {
        Ok(Account)
    }

    pub(crate) fn is_half_full(&self) -> bool {
        false
    }

    pub(crate) fn flush(&self) {}

    pub(crate) fn depart(&self, _: &HeapInner) {}

    pub(crate) fn look(&self, _: &HeapInner, _now_ns: u64) {}

    pub(crate) fn begin(&self, _: &HeapInner) -> Begun {
        Begun
    }

    pub(crate) fn end(&self, _: &HeapInner, _: LossKind, _: Begun) -> u64 {
        0
    }

    pub(crate) fn end_elsewhere(&self, _: &HeapInner, _: Begun) {}

    pub(crate) fn note(&self, _: &HeapInner, _: LossKind, _begin_ns: u64, _ns: u64) {}

    pub(crate) fn note_with_look(&self, _: &HeapInner, _: LossKind, _begin_ns: u64, _ns: u64) {}

    pub(crate) fn exclude(&self, _ns: u64) {}

    pub(crate) fn lost_ns(&self) -> u64 {
        0
    }
}

/// To nothing.
pub(crate) struct Recording;

impl Recording {
    pub(crate) fn new(_: &Arc<MutatorRecord>, _: &Arc<HeapInner>) -> Arc<Recording> {
        Arc::new(Recording)
    }
}

pub(crate) fn record_to(_: Arc<Recording>, _: &HeapInner) {}

pub(crate) fn record_to_nobody() -> Option<Arc<Recording>> {
    None
}

pub(crate) fn faulted(_: &HeapInner, _begin_ns: u64, _ns: u64) {}

#[derive(Default)]
pub(crate) struct SlowPathLosses;

impl SlowPathLosses {
    pub(crate) fn timed(&self, _: &HeapInner, _: &Account, _at: (LossKind, u64), _ns: u64, _untimed: u32) {}

    pub(crate) fn untimed(&self, _: &HeapInner, _: &Account, _at: (LossKind, u64), _untimed: u32) {}

    pub(crate) fn begin(&self, _: &HeapInner, _: &Account, _: LossKind, _untimed: u32) -> Begun {
        Begun
    }

    pub(crate) fn end(&self, _: &HeapInner, _: &Account, _: LossKind, _: Begun, _is_usual: bool) {}
}

impl HeapInner {
    pub(crate) fn gather_losses(&self) {}

    pub(crate) fn take_losses(&self, _: &[Arc<MutatorRecord>]) {}

    pub(crate) fn try_take_losses(&self, _: &MutatorRecord) {}
}
