//! Words of the two colors, after a flip: odd is good, even is stale. An object is named by its
//! granule.

use gc_core::bitmap::MarkBitmap;
use gc_core::color::{AddressSpace, Color};
use gc_core::slot::must_log as must_log_word;
use gc_core::sync::atomic::AtomicU64;
use gc_core::word::{GoodWord, Word};

const SPACE: AddressSpace = AddressSpace::new(1 << 40, 1 << 30);

/// The word of the object at a granule, as it is stored now.
pub(crate) fn good(granule: usize) -> GoodWord {
    GoodWord::of_bits(SPACE.view(Color::Odd) + granule as u64 * 8)
}

/// The word of the object at a granule, as it was stored before the flip.
pub(crate) fn stale(granule: usize) -> Word {
    Word::new(SPACE.view(Color::Even) + granule as u64 * 8)
}

/// The load barrier's test.
pub(crate) fn is_bad(word: impl Into<Word>) -> bool {
    word.into().has_any(SPACE.bad_mask(Color::Odd))
}

/// The granule of a word of any color.
pub(crate) fn granule(word: impl Into<Word>) -> usize {
    SPACE.offset(word.into().bits()).granule().number()
}

/// Whether a mutator logs a word that it overwrites.
pub(crate) fn must_log(marks: &MarkBitmap, word: Word) -> bool {
    !word.is_null() && must_log_word(&SPACE, SPACE.bad_mask(Color::Odd), marks, word)
}

/// A slot that holds a word.
pub(crate) fn slot(word: impl Into<Word>) -> AtomicU64 {
    AtomicU64::new(word.into().bits())
}
