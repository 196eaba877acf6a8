//! The phase of the cycle, as mutators copy it.

use gc_core::color::{Color, GoodColors};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

/// Mutators copy these when they leave a safepoint. Written inside pauses, except `resolving`,
/// which is switched off before a handshake.
pub(crate) struct PhaseWords {
    /// The parity of the young good color, and twice that of the old one.
    good: AtomicU8,
    /// The store barrier logs, and new objects are live.
    logging: AtomicBool,
    /// Weak references are being resolved: a weak load tests the mark.
    resolving: AtomicBool,
    /// The cycle that runs, or the last one, collects young objects alone.
    young: AtomicBool,
    /// Stores of young references into old objects are remembered.
    remembering: AtomicBool,
    /// Number of the current or last marking, from 1.
    epoch: AtomicU32,
}

impl PhaseWords {
    pub(crate) fn new() -> PhaseWords {
        PhaseWords {
            good: AtomicU8::new(0),
            logging: AtomicBool::new(false),
            resolving: AtomicBool::new(false),
            young: AtomicBool::new(false),
            remembering: AtomicBool::new(false),
            epoch: AtomicU32::new(1),
        }
    }

    pub(crate) fn good(&self) -> GoodColors {
        let good = self.good.load(Ordering::SeqCst) as usize;
        GoodColors { young: Color::from_parity(good), old: Color::from_parity(good >> 1) }
    }

    pub(crate) fn set_good(&self, good: GoodColors) {
        self.good.store((good.young.parity() | good.old.parity() << 1) as u8, Ordering::SeqCst);
    }

    pub(crate) fn is_logging(&self) -> bool {
        self.logging.load(Ordering::SeqCst)
    }

    pub(crate) fn set_logging(&self, on: bool) {
        self.logging.store(on, Ordering::SeqCst);
    }

    pub(crate) fn is_resolving(&self) -> bool {
        self.resolving.load(Ordering::SeqCst)
    }

    pub(crate) fn set_resolving(&self, on: bool) {
        self.resolving.store(on, Ordering::SeqCst);
    }

    pub(crate) fn is_young(&self) -> bool {
        // Relaxed: written in the pause of mark start, which orders it with all threads.
        self.young.load(Ordering::Relaxed)
    }

    pub(crate) fn set_young(&self, young: bool) {
        self.young.store(young, Ordering::Relaxed);
    }

    pub(crate) fn is_remembering(&self) -> bool {
        // Relaxed: written in pauses.
        self.remembering.load(Ordering::Relaxed)
    }

    pub(crate) fn set_remembering(&self, on: bool) {
        self.remembering.store(on, Ordering::Relaxed);
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::SeqCst)
    }

    pub(crate) fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}
