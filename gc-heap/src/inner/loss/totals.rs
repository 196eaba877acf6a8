//! The sums of a heap's delays.

use crate::events::LossKind;
use crate::stats::{Durations, Histogram, LossTotal};
use std::sync::atomic::{AtomicU64, Ordering};

/// Durations of a heap's delays by kind, save those that are counted elsewhere: faults, and slow
/// paths of loads.
pub(crate) struct Totals {
    by_kind: [Histogram; LossKind::ALL.len()],
    /// The kernel's share of all faults, as estimated.
    pub(super) fault_kernel_ns: AtomicU64,
    /// Of slow paths of loads and of stores and of refills, timed ones and the estimate of the
    /// others.
    loads_ns: AtomicU64,
    stores_ns: AtomicU64,
    refills_ns: AtomicU64,
}

impl Default for Totals {
    fn default() -> Self {
        Totals {
            by_kind: std::array::from_fn(|_| Histogram::default()),
            fault_kernel_ns: AtomicU64::new(0),
            loads_ns: AtomicU64::new(0),
            stores_ns: AtomicU64::new(0),
            refills_ns: AtomicU64::new(0),
        }
    }
}

impl Totals {
    pub(crate) fn durations(&self, kind: LossKind) -> Durations {
        self.by_kind[kind as usize].durations()
    }

    pub(crate) fn total(&self, kind: LossKind) -> LossTotal {
        self.by_kind[kind as usize].total()
    }

    pub(crate) fn record(&self, kind: LossKind, ns: u64) {
        self.by_kind[kind as usize].record(ns);
    }

    pub(crate) fn fault_kernel_ns(&self) -> u64 {
        self.fault_kernel_ns.load(Ordering::Relaxed)
    }

    /// The time of all slow paths of a kind, or of all refills.
    pub(crate) fn sampled_ns(&self, kind: LossKind) -> u64 {
        self.sampled(kind).load(Ordering::Relaxed)
    }

    pub(super) fn sampled(&self, kind: LossKind) -> &AtomicU64 {
        match kind {
            LossKind::SlowPaths => &self.loads_ns,
            LossKind::Stores => &self.stores_ns,
            _ => &self.refills_ns,
        }
    }
}
