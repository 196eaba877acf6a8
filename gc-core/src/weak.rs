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
use crate::word::{GoodWord, Word};
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
    fn is_live(&self, good: GoodWord) -> bool;

    /// [`load_slow`], out of line.
    fn load_slow(&self, slot: &AtomicU64, word: Word) -> GoodWord;
}

/// Loads a weak slot.
#[inline(always)]
pub fn load(slot: &AtomicU64, m: &impl WeakBarriers) -> GoodWord {
    // Acquire: as in every slot.
    let word = Word::of(slot, Ordering::Acquire);
    if !m.is_bad(word) && !m.is_marking_or_resolving() {
        return GoodWord::new(word);
    }
    cold_path();
    m.load_slow(slot, word)
}

/// A weak load that the fast test did not settle: a stale word, or marking or resolution runs.
#[inline(always)]
pub fn load_slow(slot: &AtomicU64, word: Word, m: &impl WeakBarriers) -> GoodWord {
    if word.is_null() {
        return GoodWord::NULL;
    }
    let good = if m.is_bad(word) { m.resolve(word) } else { GoodWord::new(word) };
    if m.is_resolving() && kept(Rule::WeakTestsMark) && !m.is_live(good) {
        // Dead: the collector is about to clear the slot. Marking is over, so this load may not
        // revive the object.
        return GoodWord::NULL;
    }
    if good.word() != word {
        // A failure means that the slot was cleared, healed or overwritten, which is all correct.
        heal(slot, word, good);
    }
    if m.is_logging() && kept(Rule::WeakLogs) {
        m.log(good.word());
    }
    good
}

/// Heals a weak slot, or clears it if its object is dead. Called by the collector, after mark end.
/// `resolved` returns the good word of a live object, null for a dead one. `true`: the slot was
/// cleared.
#[inline]
pub fn resolve(slot: &AtomicU64, is_reference: impl Fn(Word) -> bool, resolved: impl Fn(Word) -> GoodWord) -> bool {
    let mut word = Word::of(slot, Ordering::Acquire);
    while is_reference(word) {
        let resolved = resolved(word);
        if resolved.word() == word {
            return false;
        }
        if !kept(Rule::ClearByCas) {
            store_last(slot, resolved.bits(), Ordering::Release);
            return resolved.is_null();
        }
        match slot.compare_exchange(word.bits(), resolved.bits(), Ordering::Release, Ordering::Acquire) {
            Ok(_) => return resolved.is_null(),
            // A mutator stored or healed: check again.
            Err(now) => word = Word::new(now),
        }
    }
    false
}
