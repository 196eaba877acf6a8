//! Words of the two colors, after a flip: odd is good, even is stale. An object is named by its granule.

use gc_core::color::{AddressSpace, Color};

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
    SPACE.offset(word) as usize / 8
}
