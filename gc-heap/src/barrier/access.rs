//! Every load, store, swap and exchange of a slot by a mutator.
//!
//! What all of them have in common is the slot, its [`Place`], and the mutator. The loads that find
//! a good word, and the stores while no marking runs, are the fast paths: they are inlined into the
//! embedder's code, and `docs/performance.md` has their instructions.

use super::Place;
#[cfg(test)]
use super::recorder;
use crate::inner::mutator::Mutator;
use crate::object::SlotKind;
use crate::object::word::is_reference;
use crate::roots::table::{RootCell, RootTable};
use gc_core::remembered::Sort;
use gc_core::slot::{self, Barriers};
use gc_core::word::{GoodWord, Word};
use gc_core::{ephemeron, weak};
use std::hint::cold_path;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the words of a slot may be: references alone, or any [`Value`](crate::Value).
pub(crate) trait Words: 'static {
    const KIND: SlotKind;
}

/// A mutator's barriers for slots of such words, in such a place, which is a constant.
struct Typed<'a, 's, S>(&'a Mutator<'s>, Place, PhantomData<fn(S)>);

impl<'a, 's, S: Words> Typed<'a, 's, S> {
    #[inline(always)]
    fn of(at: Place, m: &'a Mutator<'s>) -> Typed<'a, 's, S> {
        Typed(m, at, PhantomData)
    }
}

impl<S: Words> Barriers for Typed<'_, '_, S> {
    #[inline(always)]
    fn is_bad(&self, word: Word) -> bool {
        match S::KIND {
            SlotKind::Tagged => is_reference(word) && word.has_any(self.0.bad_mask()),
            _ => word.has_any(self.0.bad_mask()),
        }
    }

    #[inline(always)]
    fn heal(&self, slot: &AtomicU64, word: Word) -> GoodWord {
        self.0.heal(slot, word)
    }

    #[inline(always)]
    fn resolve(&self, word: Word) -> GoodWord {
        self.0.resolve(word)
    }

    #[inline(always)]
    fn is_logging(&self) -> bool {
        self.0.is_logging()
    }

    #[inline(always)]
    fn log(&self, word: Word) {
        self.0.log(word);
    }

    /// Slots outside of objects are visited by every marking: what is stored there is not
    /// remembered.
    #[inline(always)]
    fn is_watching_stores(&self) -> bool {
        if self.1.is_in_object() { self.0.watching.get() } else { self.0.is_logging() }
    }

    #[inline(always)]
    fn is_watched(&self, slot: &AtomicU64) -> bool {
        !self.1.is_in_object() || std::ptr::from_ref(slot).addr() as u64 & self.0.watched_bits.get() != 0
    }

    #[inline(always)]
    fn remember(&self, slot: &AtomicU64, word: GoodWord) {
        if self.1.is_in_object() {
            self.0.remember(slot, Sort::Strong, word);
        }
    }
}

/// Each store of a mutator comes here once for each slot, before or after the store, with no
/// safepoint between; the first word of a root, of a local or of a stack's new slot counts as a
/// store over 0. The first words of objects come by [`initial`] and [`initialised`]: these are
/// births, and no thread has a reference to the holder yet. The collector's stores (a heal, a copy,
/// the clearing of a weak slot, the root of a revived object) do not come here. A slot's end comes
/// by [`on_end`].
///
/// `old` reads the old word; a barrier that does not need it does not pay for it. Another thread
/// may store to the slot between this read and the store, except after [`swap`] and
/// [`compare_exchange`].
#[inline(always)]
pub(super) fn on_store(slot: &AtomicU64, at: Place, old: impl FnOnce() -> Word, new: GoodWord, m: &Mutator<'_>) {
    debug_assert!(at.is_of(slot, m), "{at:?} is not the place of {slot:p}");
    debug_assert!(is_good(new.word(), m), "a store of {new:?}, which is stale");
    #[cfg(test)]
    recorder::record(std::ptr::from_ref(slot).addr(), at, old(), new);
    #[cfg(not(test))]
    let _ = old;
}

/// Slots that end while their memory stays come here once, with their last words, before they may
/// be used again: locals, slots of root stacks, entries of the tables of roots. Any thread may drop
/// a root at any time, also after the heap has ended, so there is no mutator. Slots in objects end
/// with their object. The slots of a whole root stack that is dropped end when the collector
/// removes it, and the word of a registration when it has been announced: neither comes here.
#[inline(always)]
pub(super) fn on_end<'a, I: Iterator<Item = &'a AtomicU64>>(at: Place, slots: impl FnOnce() -> I) {
    debug_assert!(!at.is_in_object(), "{at:?} ends with its object");
    #[cfg(test)]
    recorder::record_ends(at, slots);
    #[cfg(not(test))]
    let _ = slots;
}

/// What a slot may be given: a good reference of this heap, or no reference of this heap.
fn is_good(word: Word, m: &Mutator<'_>) -> bool {
    !is_reference(word) || !m.inner().memory.space.owns(word.bits()) || !word.has_any(m.bad_mask())
}

/// As [`on_store`], for the first word of a slot of an object that no thread has a reference to
/// yet. The slot is at this address, and there is no mutator. Returns the word to write.
#[inline(always)]
pub(crate) fn initial(address: usize, at: Place, word: GoodWord) -> u64 {
    #[cfg(test)]
    recorder::record(address, at, Word::NULL, word);
    #[cfg(not(test))]
    let _ = (address, at);
    word.bits()
}

/// As [`initial`], for strong slots that have just been initialised by a copy of their bytes.
#[inline(always)]
pub(crate) fn initialised<'a>(slots: impl FnOnce() -> &'a [AtomicU64]) {
    #[cfg(test)]
    for slot in slots() {
        recorder::record(std::ptr::from_ref(slot).addr(), Place::Field, Word::NULL, GoodWord::new(relaxed(slot)()));
    }
    #[cfg(not(test))]
    let _ = slots;
}

fn relaxed(slot: &AtomicU64) -> impl FnOnce() -> Word {
    || Word::of(slot, Ordering::Relaxed)
}

/// Loads a slot, and heals it.
#[inline(always)]
pub(crate) fn load<S: Words>(slot: &AtomicU64, at: Place, m: &Mutator<'_>) -> GoodWord {
    slot::load(slot, &Typed::<S>::of(at, m))
}

/// Loads a slot that no thread but the caller stores to, and heals it. `if_good` is called if it
/// needs no healing.
#[inline(always)]
pub(crate) fn load_own<S: Words>(slot: &AtomicU64, at: Place, m: &Mutator<'_>, if_good: impl FnOnce()) -> GoodWord {
    slot::load_own(slot, &Typed::<S>::of(at, m), if_good)
}

/// Loads a word that is no reference, or that the caller tests for null alone: no barrier.
#[inline(always)]
pub(crate) fn load_plain(slot: &AtomicU64, _at: Place) -> Word {
    // Relaxed: the word leads nowhere from here.
    Word::of(slot, Ordering::Relaxed)
}

/// Stores to a slot.
#[inline(always)]
pub(crate) fn store<S: Words>(slot: &AtomicU64, at: Place, word: GoodWord, m: &Mutator<'_>) {
    on_store(slot, at, relaxed(slot), word, m);
    slot::store(slot, word, &Typed::<S>::of(at, m));
}

/// Stores to a slot that no thread but the caller stores to.
#[inline(always)]
pub(crate) fn store_own<S: Words>(slot: &AtomicU64, at: Place, word: GoodWord, m: &Mutator<'_>) {
    on_store(slot, at, relaxed(slot), word, m);
    slot::store_own(slot, word, &Typed::<S>::of(at, m));
}

/// Stores to a slot that most of the time holds no reference, which is tested before it is logged.
#[inline(always)]
pub(crate) fn store_over_value<S: Words>(slot: &AtomicU64, at: Place, word: GoodWord, m: &Mutator<'_>) {
    on_store(slot, at, relaxed(slot), word, m);
    slot::store_where(slot, word, &Typed::<S>::of(at, m), is_reference);
}

/// Stores to a slot, and returns the old word, good.
#[inline(always)]
pub(crate) fn swap<S: Words>(slot: &AtomicU64, at: Place, word: GoodWord, m: &Mutator<'_>) -> GoodWord {
    let old = slot::swap(slot, word, &Typed::<S>::of(at, m));
    on_store(slot, at, || old.word(), word, m);
    old
}

/// Stores `new` if the slot holds the object of `expected`, a good word.
///
/// # Errors
/// The slot's word, good, if it is another.
#[inline(always)]
pub(crate) fn compare_exchange<S: Words>(
    slot: &AtomicU64,
    at: Place,
    expected: GoodWord,
    new: GoodWord,
    m: &Mutator<'_>,
) -> Result<GoodWord, GoodWord> {
    let old = slot::compare_exchange(slot, expected, new, &Typed::<S>::of(at, m))?;
    on_store(slot, at, || old.word(), new, m);
    Ok(old)
}

/// Loads a weak slot.
#[inline(always)]
pub(crate) fn load_weak(slot: &AtomicU64, _at: Place, m: &Mutator<'_>) -> GoodWord {
    weak::load(slot, m)
}

/// Stores to a weak slot. The overwritten word is not logged: a weak slot does not keep its object
/// alive.
#[inline(always)]
pub(crate) fn store_weak(slot: &AtomicU64, at: Place, word: GoodWord, m: &Mutator<'_>) {
    on_store(slot, at, relaxed(slot), word, m);
    if m.watching.get() && at.is_in_object() {
        cold_path();
        m.remember(slot, Sort::Weak, word);
    }
    slot::publish(slot, word.word());
}

/// A new entry of a table of roots.
pub(crate) fn new_root(table: &Arc<RootTable>, at: Place, word: GoodWord, m: &Mutator<'_>) -> RootCell {
    let cell = RootCell::new(table, word.word(), !m.is_logging());
    on_store(cell.slot(table), at, || Word::NULL, word, m);
    cell
}

/// The end of an entry of a table of roots: the caller drops it next.
#[inline(always)]
pub(crate) fn end_root(cell: &RootCell, at: Place) {
    on_end(at, || std::iter::once(cell.last_slot()));
}

/// The two words of an ephemeron.
#[derive(Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub(crate) key: &'a AtomicU64,
    pub(crate) value: &'a AtomicU64,
}

impl Pair<'_> {
    /// Key and value, if the key is there; both good.
    #[inline(always)]
    pub(crate) fn load<S: Words>(self, m: &Mutator<'_>) -> Option<(GoodWord, GoodWord)> {
        ephemeron::get(self.key, self.value, m, &Typed::<S>::of(Place::EphemeronValue, m))
    }

    /// The value, if the pair has this key, which the caller has.
    #[inline(always)]
    pub(crate) fn value_of<S: Words>(self, key: GoodWord, m: &Mutator<'_>) -> Option<GoodWord> {
        ephemeron::value_of(self.key, self.value, key, m, &Typed::<S>::of(Place::EphemeronValue, m))
    }

    /// Whether the pair has this key.
    #[inline(always)]
    pub(crate) fn has_key(self, key: GoodWord, m: &Mutator<'_>) -> bool {
        ephemeron::has_key(self.key, key, m)
    }

    /// Whether there is no pair.
    #[inline(always)]
    pub(crate) fn is_empty(self) -> bool {
        self.key.load(Ordering::Acquire) == 0
    }

    /// Replaces the pair by one of a key and a value, or removes it. Each of the two words that is
    /// stored comes to [`on_store`].
    #[inline(always)]
    pub(crate) fn store(self, pair: Option<(GoodWord, GoodWord)>, m: &Mutator<'_>) {
        let Pair { key, value } = self;
        on_store(key, Place::Key, relaxed(key), pair.map_or(GoodWord::NULL, |(key, _)| key), m);
        if let Some((_, new)) = pair {
            // Without a key the value's word is undefined.
            let old = || if relaxed(key)().is_null() { Word::NULL } else { relaxed(value)() };
            on_store(value, Place::EphemeronValue, old, new, m);
        }
        if let Some((new_key, new_value)) = pair.filter(|_| m.watching.get()) {
            // The pair, by its key's word, if either half is young.
            m.remember(key, Sort::Pair, new_key);
            m.remember(key, Sort::Pair, new_value);
        }
        ephemeron::set(key, value, pair, m);
    }
}
