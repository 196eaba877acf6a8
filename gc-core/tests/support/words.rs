//! Words of the two colors, after a flip: odd is good, even is stale. An object is named by its
//! granule.

use gc_core::bitmap::MarkBitmap;
use gc_core::color::{AddressSpace, Color};
use gc_core::slot;

const SPACE: AddressSpace = AddressSpace::new(1 << 40, 1 << 30);

/// The word of the object at a granule, as it is stored now.
pub(crate) fn good(granule: usize) -> u64 {
    SPACE.view(Color::Odd) + granule as u64 * 8
}

/// The word of the object at a granule, as it was stored before the flip.
pub(crate) fn stale(granule: usize) -> u64 {
    SPACE.view(Color::Even) + granule as u64 * 8
}

/// The load barrier's test.
pub(crate) fn is_bad(word: u64) -> bool {
    word & SPACE.bad_mask(Color::Odd) != 0
}

/// The granule of a word of any color.
pub(crate) fn granule(word: u64) -> usize {
    SPACE.offset(word).granule().number()
}

/// Whether a mutator logs a word that it overwrites.
pub(crate) fn must_log(marks: &MarkBitmap, word: u64) -> bool {
    word != 0 && slot::must_log(&SPACE, SPACE.bad_mask(Color::Odd), marks, word)
}
