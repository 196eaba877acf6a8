//! What a word says by itself.

use gc_core::word::Word;

/// Whether a word is a reference (of any color).
#[inline(always)]
pub(crate) const fn is_reference(word: Word) -> bool {
    word.bits().wrapping_sub(1) < (1 << 48) - 1
}

/// Bytes of the header: fields start here in an object without a tail.
pub(crate) const HEADER_BYTES: usize = 8;

/// Bytes of header and length word: fields start here in an object with a tail.
pub(crate) const TAILED_HEADER_BYTES: usize = 16;
