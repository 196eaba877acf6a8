//! Weak slots: the protocol of weak loads with the end of marking, and their resolution.
//!
//! While marking runs, a weak load logs the object that it returns, because that becomes strongly
//! reachable although the snapshot does not contain it. From mark end until the handshake after
//! resolution it tests the mark, and returns no dead object. A mutator uses its copy of the phase
//! for both, which it reloads only at safepoints.
//!
//! See "Weak references" in `docs/protocol.md`; `loom_weak`, `loom_ephemeron` and `loom_root_table`
//! run these functions.

use crate::rules::{Rule, kept};
use crate::slot::{Barriers, heal};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::store_last;
use std::hint::cold_path;

/// The mutator's operations for weak slots.
pub trait WeakBarriers: Barriers {
    /// Whether weak slots are being resolved, as of this mutator's last safepoint.
    fn is_resolving(&self) -> bool;

    /// Whether marking runs or weak slots are being resolved.
    #[inline(always)]
    fn is_marking_or_resolving(&self) -> bool {
        self.is_logging() | self.is_resolving()
    }

    /// Whether the object of a good word is live, by its mark or its birth. Called after marking
    /// has ended.
    fn is_live(&self, good: u64) -> bool;

    /// [`load_slow`], out of line.
    fn load_slow(&self, slot: &AtomicU64, word: u64) -> u64;
}

/// Loads a weak slot: a good word, or 0.
#[inline(always)]
pub fn load(slot: &AtomicU64, m: &impl WeakBarriers) -> u64 {
    // Acquire: as in every slot.
    let word = slot.load(Ordering::Acquire);
    if !m.is_bad(word) && !m.is_marking_or_resolving() {
        return word;
    }
    cold_path();
    m.load_slow(slot, word)
}

/// A weak load that the fast test did not settle: a stale word, or marking or resolution runs.
#[inline(always)]
pub fn load_slow(slot: &AtomicU64, word: u64, m: &impl WeakBarriers) -> u64 {
    if word == 0 {
        return 0;
    }
    let good = if m.is_bad(word) { m.resolve(word) } else { word };
    if m.is_resolving() && kept(Rule::WeakTestsMark) && !m.is_live(good) {
        // Dead: the collector is about to clear the slot. Marking is over, so this load may not
        // revive the object.
        return 0;
    }
    if good != word {
        // A failure means that the slot was cleared, healed or overwritten, which is all correct.
        heal(slot, word, good);
    }
    if m.is_logging() && kept(Rule::WeakLogs) {
        m.log(good);
    }
    good
}

/// Heals a weak slot, or clears it if its object is dead. Called by the collector, after mark end.
/// `resolved` returns the good word of a live object, 0 for a dead one. `true`: the slot was
/// cleared.
#[inline]
pub fn resolve(slot: &AtomicU64, is_reference: impl Fn(u64) -> bool, resolved: impl Fn(u64) -> u64) -> bool {
    let mut word = slot.load(Ordering::Acquire);
    while is_reference(word) {
        let resolved = resolved(word);
        if resolved == word {
            return false;
        }
        if !kept(Rule::ClearByCas) {
            store_last(slot, resolved, Ordering::Release);
            return resolved == 0;
        }
        match slot.compare_exchange(word, resolved, Ordering::Release, Ordering::Acquire) {
            Ok(_) => return resolved == 0,
            // A mutator stored or healed: check again.
            Err(now) => word = now,
        }
    }
    false
}
