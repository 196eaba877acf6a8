//! Losses that were drained from the mutators' rings, until they are events. Empty without the
//! feature `losses`.

#[cfg(feature = "losses")]
use super::{Event, Events};
#[cfg(feature = "losses")]
use crate::lock::Mutex;
#[cfg(feature = "losses")]
use std::sync::atomic::{AtomicU64, Ordering};

/// What the readers of a heap's rings share.
#[derive(Default)]
pub(crate) struct Readers {
    /// Losses drained from the rings; its lock is the rings' reader lock.
    #[cfg(feature = "losses")]
    pub(crate) taken: Mutex<Vec<Event>>,
    /// Losses that did not fit a ring or belong to no mutator.
    #[cfg(feature = "losses")]
    missed: AtomicU64,
}

#[cfg(feature = "losses")]
impl Readers {
    /// Counts losses that are not recorded. Async-signal-safe.
    pub(crate) fn miss(&self, losses: u64) {
        if losses != 0 {
            self.missed.fetch_add(losses, Ordering::Relaxed);
        }
    }

    /// The number of losses that were missed since the last call.
    pub(super) fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}

#[cfg(not(feature = "losses"))]
impl Readers {
    pub(super) fn take_missed(&self) -> u64 {
        0
    }
}

#[cfg(feature = "losses")]
impl Events {
    /// Adds drained losses, and the number of missed ones.
    pub(crate) fn push_losses(&self, losses: &mut Vec<Event>, missed: u64) {
        self.losses.miss(missed);
        self.push_all(losses);
    }
}
