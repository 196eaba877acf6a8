//! Slots: words that hold references, loaded and stored by mutators, healed by any thread.
//!
//! A word in a slot may be *stale*: its object has moved since. A load heals a stale word, by
//! compare-and-swap to the good one. A heal that fails changes nothing: another thread has healed
//! the slot or stored to it, so its word is good or null. So a heal never overwrites a store.
//!
//! Loads are Acquire and stores Release: an object's header and fields are written before a
//! reference to it. A heal is Release because the thread that heals may have made the copy.
//!
//! While marking runs, a store logs the word that it overwrites (snapshot at the beginning, Yuasa
//! 1990): no other unscanned slot may refer to the object by then.
//!
//! See "Slots" and "The snapshot" in `docs/protocol.md`; `loom_slot`, `loom_store_log` and
//! `loom_local_heal` run these functions.

use crate::bitmap::MarkBitmap;
use crate::color::AddressSpace;
use crate::rules::{Rule, kept, order};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::store_last;
use crate::units::Offset;
use crate::word::{GoodWord, Word};
use std::hint::cold_path;

// `cold_path` counts in the function whose branch it is in. In a method of `Barriers` it would be
// lost, and the slow path would stand in the way of the fast one.

/// The mutator's operations for the barriers, for slots of one type.
pub trait Barriers {
    /// Whether a loaded word is a stale reference, or one of another heap.
    fn is_bad(&self, word: Word) -> bool;

    /// The good word for a bad one, after it was offered to [`heal`](heal()) in its slot.
    fn heal(&self, slot: &AtomicU64, word: Word) -> GoodWord;

    /// The good word for a bad one that is in no slot.
    fn resolve(&self, word: Word) -> GoodWord;

    /// Whether marking runs, as of this mutator's last safepoint.
    fn is_logging(&self) -> bool;

    /// Logs an overwritten word, if [`must_log`] returns `true`.
    fn log(&self, word: Word);

    /// Whether a store has more to do than to store: one flag, so that a heap whose stores are
    /// watched at all times costs the others nothing. If this is false, marking does not run.
    #[inline(always)]
    fn is_watching_stores(&self) -> bool {
        self.is_logging()
    }

    /// Whether a store to this slot has more to do, where [`is_watching_stores`] is true: the
    /// second question, which most stores answer. While marking runs it is true of all slots.
    ///
    /// [`is_watching_stores`]: Self::is_watching_stores
    #[inline(always)]
    fn is_watched(&self, _slot: &AtomicU64) -> bool {
        true
    }

    /// Remembers a slot that is given a word, if a young collection has to find it. Called before
    /// or after the store, with no safepoint between, where the slot [is
    /// watched](Self::is_watched).
    #[inline(always)]
    fn remember(&self, _slot: &AtomicU64, _word: GoodWord) {}
}

/// Loads a slot, and heals it.
#[inline(always)]
pub fn load(slot: &AtomicU64, m: &impl Barriers) -> GoodWord {
    let word = Word::of(slot, order(Rule::LoadAcquire, Ordering::Acquire));
    if m.is_bad(word) {
        cold_path();
        return m.heal(slot, word);
    }
    GoodWord::new(word)
}

/// Loads a slot that no thread but the caller stores to, and heals it. `if_good` is called if it
/// needs no healing.
///
/// Relaxed: another thread heals such a slot only after a pause that this one has left since, and
/// the reference that it stores was published before that pause.
#[inline(always)]
pub fn load_own(slot: &AtomicU64, m: &impl Barriers, if_good: impl FnOnce()) -> GoodWord {
    let word = Word::of(slot, Ordering::Relaxed);
    if m.is_bad(word) {
        cold_path();
        return m.heal(slot, word);
    }
    if_good();
    GoodWord::new(word)
}

/// Stores to a slot.
#[inline(always)]
pub fn store(slot: &AtomicU64, word: GoodWord, m: &impl Barriers) {
    store_and_log(slot, word, m, Ordering::Acquire, |_| true);
}

/// Stores to a slot that no thread but the caller stores to.
#[inline(always)]
pub fn store_own(slot: &AtomicU64, word: GoodWord, m: &impl Barriers) {
    store_and_log(slot, word, m, Ordering::Relaxed, |_| true);
}

/// Stores to a slot. An old word for which `pays` is false is not a reference: it is not logged,
/// and no call is made.
#[inline(always)]
pub fn store_where(slot: &AtomicU64, word: GoodWord, m: &impl Barriers, pays: impl Fn(Word) -> bool) {
    store_and_log(slot, word, m, Ordering::Acquire, pays);
}

#[inline(always)]
fn store_and_log(slot: &AtomicU64, word: GoodWord, m: &impl Barriers, load: Ordering, pays: impl Fn(Word) -> bool) {
    let log = || {
        if m.is_watching_stores() && kept(Rule::LogStores) {
            cold_path();
            if m.is_watched(slot) {
                m.remember(slot, word);
                if m.is_logging() {
                    let old = Word::of(slot, load);
                    if pays(old) {
                        m.log(old);
                    }
                }
            }
        }
    };
    if kept(Rule::LogThenStore) {
        log();
    }
    publish(slot, word.word());
    if !kept(Rule::LogThenStore) {
        log();
    }
}

/// Stores to a slot whose old word need not be logged.
#[inline(always)]
pub fn publish(slot: &AtomicU64, word: Word) {
    store_last(slot, word.bits(), order(Rule::StoreRelease, Ordering::Release));
}

/// Stores to a slot, and returns the old word.
#[inline(always)]
pub fn swap(slot: &AtomicU64, word: GoodWord, m: &impl Barriers) -> GoodWord {
    let old = Word::new(slot.swap(word.bits(), Ordering::AcqRel));
    if m.is_watching_stores() {
        cold_path();
        if m.is_watched(slot) {
            m.remember(slot, word);
            if m.is_logging() {
                m.log(old);
            }
        }
    }
    if m.is_bad(old) {
        cold_path();
        return m.resolve(old);
    }
    GoodWord::new(old)
}

/// Stores `new` if the slot holds the object of `expected`, a good word.
///
/// # Errors
/// The slot's word, good, if it is another.
#[inline(always)]
pub fn compare_exchange(
    slot: &AtomicU64,
    expected: GoodWord,
    new: GoodWord,
    m: &impl Barriers,
) -> Result<GoodWord, GoodWord> {
    // Heal first: a stale word for the same object would compare as different.
    let mut word = Word::of(slot, order(Rule::LoadAcquire, Ordering::Acquire));
    loop {
        if m.is_bad(word) {
            cold_path();
            m.heal(slot, word);
            word = Word::of(slot, order(Rule::LoadAcquire, Ordering::Acquire));
            continue;
        }
        if word != expected.word() {
            return Err(GoodWord::new(word));
        }
        match slot.compare_exchange(word.bits(), new.bits(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                if m.is_watching_stores() {
                    cold_path();
                    if m.is_watched(slot) {
                        m.remember(slot, new);
                        if m.is_logging() {
                            m.log(word);
                        }
                    }
                }
                return Ok(expected);
            }
            Err(now) => word = Word::new(now),
        }
    }
}

/// Heals a slot in which a stale word was found. `false`: another thread has healed or overwritten
/// it, and its word is at least as new and stays.
#[inline(always)]
pub fn heal(slot: &AtomicU64, stale: Word, good: GoodWord) -> bool {
    // Release: the copy, which the caller may have made, is written before a reference to it.
    let release = order(Rule::HealRelease, Ordering::Release);
    if !kept(Rule::HealByCas) {
        store_last(slot, good.bits(), release);
        return true;
    }
    slot.compare_exchange(stale.bits(), good.bits(), release, Ordering::Relaxed).is_ok()
}

/// Whether a reference that is overwritten while marking runs has to be logged: not if its object
/// is marked already. Without this test a busy mutator could keep marking from ever ending. A stale
/// word is logged untested.
#[inline]
#[must_use]
pub fn must_log(space: &AddressSpace, bad_mask: u64, marks: &MarkBitmap, word: Word) -> bool {
    word.has_any(bad_mask) || !marks.get(space.offset(word.bits()).granule())
}

/// The marker's operations for slots.
pub trait Remap {
    /// Whether a loaded word is a reference.
    fn is_reference(&self, word: Word) -> bool;

    /// Whether a reference is stale, or [exempt](Self::is_exempt): one test for both.
    fn is_bad(&self, word: Word) -> bool;

    /// Whether the marking does not collect the object of a reference, stale or good: it takes it
    /// for live, and does not follow it. Asked of words that are bad, and of what they lead to.
    #[inline(always)]
    fn is_exempt(&self, _word: Word) -> bool {
        false
    }

    /// The place of the object of a good reference.
    fn place(&self, word: GoodWord) -> Offset;

    /// The new place of the object of a stale reference. All objects have their places before a
    /// marking begins.
    fn remap(&self, word: Word) -> Offset;

    /// The good reference to the object at a place.
    fn good(&self, place: Offset) -> GoodWord;
}

/// What a marker finds in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visited {
    /// No reference.
    Nothing,
    /// A reference to an object that the marking does not collect, and takes for live.
    Exempt,
    /// A reference to the object at a place.
    Object(Offset),
}

/// The place of the object that a slot refers to, if the marking follows it; heals the slot.
#[inline(always)]
pub fn visit(slot: &AtomicU64, marker: &impl Remap) -> Option<Offset> {
    match look(slot, marker) {
        Visited::Object(place) => Some(place),
        Visited::Nothing | Visited::Exempt => None,
    }
}

/// What a slot refers to; heals the slot.
#[inline(always)]
pub fn look(slot: &AtomicU64, marker: &impl Remap) -> Visited {
    let word = Word::of(slot, order(Rule::LoadAcquire, Ordering::Acquire));
    if !marker.is_reference(word) {
        return Visited::Nothing;
    }
    if !marker.is_bad(word) {
        return Visited::Object(marker.place(GoodWord::new(word)));
    }
    if marker.is_exempt(word) {
        return Visited::Exempt;
    }
    let place = marker.remap(word);
    let good = marker.good(place);
    // A mutator that is faster heals with the same word, or stores a good one.
    heal(slot, word, good);
    if marker.is_exempt(good.word()) { Visited::Exempt } else { Visited::Object(place) }
}
