//! What lies in a slot, as types: any [`Word`], and one that a mutator may use as it is, a
//! [`GoodWord`].
//!
//! Only the barriers make one of the other: a function that takes or returns a `GoodWord` says by
//! its type that the word has been tested, or was made with the good color.

use crate::sync::atomic::{AtomicU64, Ordering};
use std::fmt;

/// The 64 bits of a slot: null, a reference, stale or good, or an immediate where the slot may hold
/// any value.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Word(u64);

impl Word {
    /// No reference.
    pub const NULL: Word = Word(0);

    /// The word of these bits.
    #[inline(always)]
    #[must_use]
    pub const fn new(bits: u64) -> Word {
        Word(bits)
    }

    /// What a slot holds.
    #[inline(always)]
    #[must_use]
    pub fn of(slot: &AtomicU64, order: Ordering) -> Word {
        Word(slot.load(order))
    }

    /// Its bits. Those of a reference are its address.
    #[inline(always)]
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether it is null.
    #[inline(always)]
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// Whether it has any bit of a mask: of the bits that no good word has, or of a generation.
    #[inline(always)]
    #[must_use]
    pub const fn has_any(self, mask: u64) -> bool {
        self.0 & mask != 0
    }
}

/// Null, an immediate, or a reference of the good color. So it stays until the next flip, which no
/// mutator meets before its next safepoint.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct GoodWord(Word);

impl GoodWord {
    /// No reference.
    pub const NULL: GoodWord = GoodWord(Word::NULL);

    /// A word that the caller has tested, or made of the good color.
    #[inline(always)]
    #[must_use]
    pub const fn new(word: Word) -> GoodWord {
        GoodWord(word)
    }

    /// As [`new`](Self::new), of bits: an immediate, or the address of an object in its good view.
    #[inline(always)]
    #[must_use]
    pub const fn of_bits(bits: u64) -> GoodWord {
        GoodWord(Word(bits))
    }

    /// As a word.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> Word {
        self.0
    }

    /// Its bits. Those of a reference are its address.
    #[inline(always)]
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0.bits()
    }

    /// Whether it is null.
    #[inline(always)]
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0.is_null()
    }
}

impl From<GoodWord> for Word {
    #[inline(always)]
    fn from(good: GoodWord) -> Word {
        good.word()
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Word({:#x})", self.0)
    }
}

impl fmt::Debug for GoodWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoodWord({:#x})", self.bits())
    }
}
