//! What is accounted to the heap from outside it: its growth begins cycles.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes outside the heap that are accounted to it.
pub(crate) struct External {
    bytes: AtomicUsize,
    /// Bytes at the begin of the last cycle, minus bytes released since: growth is counted from
    /// there.
    low: AtomicUsize,
    /// Minimum growth that starts a cycle.
    step: usize,
}

impl External {
    pub(crate) fn new(step: usize) -> External {
        External { bytes: AtomicUsize::new(0), low: AtomicUsize::new(0), step }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Adds. `true`: a cycle is due.
    pub(crate) fn add(&self, bytes: usize) -> bool {
        // SeqCst, like the load in `is_due` and the flag of `request_soon`: either the thread that
        // adds sees that the last cycle has ended, or the collector sees the added bytes at the end
        // of the cycle.
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.is_due()
    }

    /// Whether external memory has grown enough to start a cycle.
    pub(crate) fn is_due(&self) -> bool {
        let low = self.low.load(Ordering::Relaxed);
        self.bytes.load(Ordering::SeqCst).saturating_sub(low) >= self.step.max(low)
    }

    pub(crate) fn sub(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        // As if these bytes had existed when the cycle began. Taking the minimum would be wrong:
        // while some threads release, others add.
        let _ = self.low.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |low| Some(low.saturating_sub(bytes)));
    }

    /// Records that a cycle begins: the present bytes may be long-lived.
    pub(crate) fn cycle_begins(&self) {
        self.low.store(self.bytes(), Ordering::Relaxed);
    }
}
