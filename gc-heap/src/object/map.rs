//! Which words are slots, computed at compile time and composed from field to struct to array.

/// Words that an object's fixed part can have, header included: a longer one wants a tail.
pub(crate) const MAX_WORDS: usize = 512;

/// 64-bit groups of a map that covers [`MAX_WORDS`].
pub(crate) const GROUPS: usize = MAX_WORDS / 64;

type Bits = [u64; GROUPS];

/// What the collector does with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// A typed reference: null or an address.
    Strong,
    /// A tagged word: a number, a boolean, nil, or a reference.
    Tagged,
    /// A typed reference that keeps nothing alive and is cleared when its object dies.
    Weak,
}

/// The slots of a run of words, of a field or a struct: bit `i` stands for the `i`-th word from its
/// start.
///
/// Derived code composes these in constants. There is no reason to make one by hand, except in an
/// `unsafe impl` of [`Field`](super::Field), which must be exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordMap {
    pub(crate) words: usize,
    pub(crate) strong: Bits,
    pub(crate) tagged: Bits,
    pub(crate) weak: Bits,
    /// Bit `i`: word `i` is the key of an ephemeron, and the next word its value. Neither is in
    /// another map.
    pub(crate) pairs: Bits,
}

impl WordMap {
    /// A map of `words` words without a slot.
    ///
    /// # Panics
    ///
    /// Over 512 words; in a constant, that is a compile error.
    pub const fn empty(words: usize) -> Self {
        assert!(
            words <= MAX_WORDS,
            "the fixed part of a heap object is limited to 512 words (4096 bytes, header included): use a tail"
        );
        Self { words, strong: [0; GROUPS], tagged: [0; GROUPS], weak: [0; GROUPS], pairs: [0; GROUPS] }
    }

    /// A map without a slot for a value of type `T`, rounded up to whole words.
    pub const fn empty_for<T>() -> Self {
        Self::empty(size_of::<T>().div_ceil(8))
    }

    /// One word, and it is a slot.
    pub const fn slot(sort: SlotKind) -> Self {
        let mut map = Self::empty(1);
        match sort {
            SlotKind::Strong => map.strong[0] = 1,
            SlotKind::Tagged => map.tagged[0] = 1,
            SlotKind::Weak => map.weak[0] = 1,
        }
        map
    }

    /// Two words, and they are an ephemeron.
    pub(crate) const fn pair() -> Self {
        let mut map = Self::empty(2);
        map.pairs[0] = 1;
        map
    }

    /// Whether any word is a slot.
    pub const fn has_slots(&self) -> bool {
        let mut group = 0;
        while group < GROUPS {
            if self.strong[group] | self.tagged[group] | self.weak[group] | self.pairs[group] != 0 {
                return true;
            }
            group += 1;
        }
        false
    }

    /// This map with the slots of `other`, whose first word stands at `at_word`. Grows to hold it.
    ///
    /// # Panics
    ///
    /// Over 512 words, and when both claim a word.
    pub const fn merge(self, other: Self, at_word: usize) -> Self {
        let end = at_word + other.words;
        let mut map = Self::empty(if end > self.words { end } else { self.words });
        map.strong = or_shifted(self.strong, other.strong, at_word);
        map.tagged = or_shifted(self.tagged, other.tagged, at_word);
        map.weak = or_shifted(self.weak, other.weak, at_word);
        map.pairs = or_shifted(self.pairs, other.pairs, at_word);
        map
    }

    /// This map `n` times in a row.
    ///
    /// # Panics
    ///
    /// Over 512 words.
    pub const fn repeat(self, n: usize) -> Self {
        let mut map = Self::empty(self.words.saturating_mul(n));
        if self.has_slots() {
            let mut i = 0;
            while i < n {
                map = map.merge(self, i * self.words);
                i += 1;
            }
        }
        map
    }

    /// The map of a struct `S`, so far `self`, with a field of type `F` and map `field` at `offset`
    /// bytes.
    ///
    /// # Panics
    ///
    /// When the struct is packed tighter than its field allows, or as [`WordMap::merge`].
    pub(crate) const fn with_field<S, F>(self, field: Self, offset: usize) -> Self {
        assert!(
            align_of::<S>() >= align_of::<F>() && offset.is_multiple_of(align_of::<F>()),
            "a heap object cannot be packed: its slots are read as whole, aligned words"
        );
        // A field without slots may share its words with others.
        if !field.has_slots() {
            return self;
        }
        assert!(offset.is_multiple_of(8) && size_of::<F>() == field.words * 8, "a slot is not aligned to a word");
        self.merge(field, offset / 8)
    }

    /// The map of `[F; n]`, given the map of `F`.
    pub(crate) const fn array<F>(element: Self, n: usize) -> Self {
        if element.has_slots() {
            assert!(size_of::<F>() == element.words * 8, "a slot is not aligned to a word");
            element.repeat(n)
        } else {
            // Elements smaller than a word share words.
            Self::empty(size_of::<F>().saturating_mul(n).div_ceil(8))
        }
    }
}

const fn or_shifted(mut to: Bits, from: Bits, by: usize) -> Bits {
    let (skip, shift) = (by / 64, by % 64);
    let mut group = 0;
    while group < GROUPS {
        if from[group] != 0 {
            let low = from[group] << shift;
            let high = if shift == 0 { 0 } else { from[group] >> (64 - shift) };
            // `merge` has checked that the words fit, so what would fall off the end is zero.
            if low != 0 {
                assert!(to[group + skip] & low == 0, "two fields claim one word");
                to[group + skip] |= low;
            }
            if high != 0 {
                assert!(to[group + skip + 1] & high == 0, "two fields claim one word");
                to[group + skip + 1] |= high;
            }
        }
        group += 1;
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRONG: WordMap = WordMap::slot(SlotKind::Strong);
    const WEAK: WordMap = WordMap::slot(SlotKind::Weak);

    // What derived code does, in constants: that these compile is part of the test.
    const MIXED: WordMap = WordMap::empty(2).merge(STRONG, 0).merge(WordMap::slot(SlotKind::Tagged), 3);
    const WIDE: WordMap = WordMap::empty(1).merge(MIXED.repeat(20), 62);
    const FULL: WordMap = STRONG.repeat(MAX_WORDS);

    fn bits(of: &Bits) -> Vec<usize> {
        (0..MAX_WORDS).filter(|i| of[i / 64] >> (i % 64) & 1 == 1).collect()
    }

    #[test]
    fn merge_places_each_slot_at_its_word_and_grows() {
        assert_eq!(MIXED.words, 4);
        assert_eq!((bits(&MIXED.strong), bits(&MIXED.tagged), bits(&MIXED.weak)), (vec![0], vec![3], vec![]));
    }

    #[test]
    fn repeat_crosses_groups() {
        assert_eq!(WIDE.words, 62 + 80);
        assert_eq!(bits(&WIDE.strong), (0..20).map(|i| 62 + 4 * i).collect::<Vec<_>>());
        assert_eq!(bits(&WIDE.tagged), (0..20).map(|i| 65 + 4 * i).collect::<Vec<_>>());
        assert_eq!(FULL.strong, [u64::MAX; GROUPS]);
        assert_eq!(WEAK.repeat(0), WordMap::empty(0));
    }

    #[test]
    fn any_pair_of_offsets_composes_as_bit_by_bit() {
        for at in 0..MAX_WORDS - 80 {
            let inner = WordMap::empty(80).merge(WEAK, 0).merge(WEAK, 17).merge(WEAK, 79);
            let map = STRONG.merge(inner, at);
            assert_eq!(bits(&map.weak), [at, at + 17, at + 79]);
            assert_eq!((bits(&map.strong), map.words), (vec![0], at + 80));
        }
    }

    #[test]
    fn arrays_of_small_numbers_share_words() {
        assert_eq!(WordMap::array::<u8>(WordMap::empty_for::<u8>(), 17), WordMap::empty(3));
        assert_eq!(WordMap::array::<[u8; 0]>(WordMap::empty(0), 1000), WordMap::empty(0));
        assert_eq!(WordMap::array::<u64>(STRONG, 3), STRONG.repeat(3));
    }

    #[test]
    #[should_panic(expected = "use a tail")]
    fn too_many_words_name_the_remedy() {
        let _ = STRONG.repeat(MAX_WORDS).merge(WEAK, MAX_WORDS);
    }

    #[test]
    #[should_panic(expected = "use a tail")]
    fn an_absurd_array_does_not_wrap() {
        let _ = WordMap::array::<u64>(STRONG, usize::MAX / 8 + 2);
    }

    #[test]
    #[should_panic(expected = "two fields claim one word")]
    fn two_slots_in_one_word_are_refused() {
        let _ = MIXED.merge(STRONG, 0);
    }

    #[test]
    #[should_panic(expected = "cannot be packed")]
    fn a_field_aligned_more_than_its_struct_is_refused() {
        let _ = WordMap::empty(2).with_field::<[u8; 16], u64>(STRONG, 8);
    }

    #[test]
    #[should_panic(expected = "not aligned to a word")]
    fn a_slot_between_words_is_refused() {
        let _ = WordMap::empty(2).with_field::<[u32; 4], [u32; 2]>(STRONG, 4);
    }
}
