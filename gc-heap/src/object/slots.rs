//! The slots of a part of an object: a page may hold the middle of one.

use super::kind::{Kind, MoreMap};
use std::ops::Range;

/// The bits of a map of 64 words that begins at word `first`, for the words of a range.
#[inline(always)]
fn within(map: u64, first: usize, words: &Range<usize>) -> u64 {
    let low = words.start.saturating_sub(first);
    let high = words.end.saturating_sub(first);
    if low >= 64 || high == 0 {
        return 0;
    }
    let below_high = if high >= 64 { u64::MAX } else { (1 << high) - 1 };
    map & below_high & (u64::MAX << low)
}

#[inline(always)]
fn each_bit(mut map: u64, mut visit: impl FnMut(usize)) {
    while map != 0 {
        visit(map.trailing_zeros() as usize);
        map &= map - 1;
    }
}

impl Kind {
    /// Visits the words of `words` (of the object, from its header) that are slots of any sort, save ephemerons. `len` reads the length of
    /// the tail; it is called only where the range reaches into a tail with slots.
    #[inline(always)]
    pub(crate) fn each_slot(&self, words: Range<usize>, len: impl FnOnce() -> usize, visit: impl FnMut(usize)) {
        let fixed = self.strong | self.tagged | self.weak;
        let tail = self.tail_strong | self.tail_tagged | self.tail_weak;
        let more = |more: &MoreMap, group: usize| more.strong[group] | more.tagged[group] | more.weak[group];
        self.each_of(fixed, more, tail, words, len, visit);
    }

    /// As [`each_slot`](Self::each_slot), of the weak slots alone.
    pub(crate) fn each_weak(&self, words: Range<usize>, len: impl FnOnce() -> usize, visit: impl FnMut(usize)) {
        self.each_of(self.weak, |more, group| more.weak[group], self.tail_weak, words, len, visit);
    }

    /// Visits the words of a range that these maps name: of the first 64 words, of the groups behind
    /// them, and of a tail's element.
    #[inline(always)]
    fn each_of(
        &self,
        fixed: u64,
        more_of: impl Fn(&MoreMap, usize) -> u64,
        map: u64,
        words: Range<usize>,
        len: impl FnOnce() -> usize,
        mut visit: impl FnMut(usize),
    ) {
        each_bit(within(fixed, 0, &words), &mut visit);
        if let Some(more) = self.more {
            for group in 0..more.strong.len() {
                let first = (group + 1) * 64;
                each_bit(within(more_of(more, group), first, &words), |bit| visit(first + bit));
            }
        }
        let tail = self.fixed_bytes as usize / 8;
        if map != 0 && words.end > tail {
            let stride = self.tail_stride as usize / 8;
            let elements = (words.start.saturating_sub(tail) / stride)..(words.end - tail).div_ceil(stride).min(len());
            for element in elements {
                let first = tail + element * stride;
                each_bit(within(map, first, &words), |bit| visit(first + bit));
            }
        }
    }

    /// Visits the words of `words` that are the key or (`true`) the value of an ephemeron, where `more` says that there are
    /// some. `len` as in [`each_slot`](Self::each_slot).
    #[cold]
    pub(crate) fn each_pair(
        &self,
        words: Range<usize>,
        len: impl FnOnce() -> usize,
        mut visit: impl FnMut(usize, bool),
    ) {
        let Some(more) = self.more else { return };
        let mut pairs = |map, first| {
            each_bit(map, |bit| {
                for (word, is_value) in [(first + bit, false), (first + bit + 1, true)] {
                    if words.contains(&word) {
                        visit(word, is_value);
                    }
                }
            });
        };
        for (group, &map) in more.pairs.iter().enumerate() {
            pairs(map, group * 64);
        }
        let tail = self.fixed_bytes as usize / 8;
        if more.tail_pairs != 0 && words.end > tail {
            let stride = self.tail_stride as usize / 8;
            let elements = (words.start.saturating_sub(tail) / stride)..(words.end - tail).div_ceil(stride).min(len());
            elements.for_each(|element| pairs(more.tail_pairs, tail + element * stride));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::object::{Kind, Num, Plain, Trace};
    use crate::slot::{Array, Bytes, SlotArray};
    use crate::slot::{Ephemeron, Slot, Tagged, WeakSlot};

    #[derive(Trace)]
    #[trace(tail = Note)]
    struct Notes {
        numbers: [u64; 61],
        pairs: [Ephemeron<Pair, Tagged>; 3],
        last: Slot<Tagged>,
    }

    #[derive(Trace)]
    struct Note {
        number: u64,
        about: Ephemeron<Pair, Notes>,
    }

    #[derive(Trace)]
    #[trace(tail = Pair)]
    struct Wide {
        numbers: [u64; 70],
        slots: [Slot<Tagged>; 70],
        count: Num<u32>,
        weak: WeakSlot<Wide>,
    }

    #[derive(Trace)]
    struct Pair {
        number: Plain<(u64, u64)>,
        left: Slot<Option<Pair>>,
        right: WeakSlot<Pair>,
    }

    fn slots(kind: &Kind, len: usize, words: std::ops::Range<usize>) -> Vec<usize> {
        let mut found = Vec::new();
        kind.each_slot(words, || len, |word| found.push(word));
        found
    }

    /// What a range gives is what the whole object gives, cut to the range.
    #[test]
    fn a_part_has_the_slots_of_the_whole_that_lie_in_it() {
        for (kind, len) in [
            (Wide::KIND, 9),
            (Wide::KIND, 0),
            (Pair::KIND, 0),
            (<SlotArray<Tagged>>::KIND, 300),
            (<Array<WeakSlot<Pair>>>::KIND, 100),
            (Bytes::KIND, 500),
        ] {
            let words = kind.size_of(len as u64) / 8;
            let whole = slots(kind, len, 0..words);
            assert_eq!(whole.is_empty(), !kind.has_slots());
            for start in 0..words {
                for end in [start, start + 1, start + 3, start + 64, start + 65, start + 512, words] {
                    let part = start..end.clamp(start, words);
                    let expected: Vec<_> = whole.iter().copied().filter(|word| part.contains(word)).collect();
                    assert_eq!(slots(kind, len, part.clone()), expected, "{} {part:?}", kind.name());
                }
            }
        }
    }

    #[test]
    fn a_part_has_the_halves_of_the_pairs_that_lie_in_it() {
        use std::mem::offset_of;
        let (kind, len) = (Notes::KIND, 40);
        let pairs = |words: std::ops::Range<usize>| {
            let mut found = Vec::new();
            kind.each_pair(words, || len, |word, is_value| found.push((word, is_value)));
            found
        };
        let words = kind.size_of(len as u64) / 8;
        let first = 2 + offset_of!(Notes, pairs) / 8;
        let tail = kind.fixed_bytes as usize / 8 + offset_of!(Note, about) / 8;
        let keys = (0..3).map(|pair| first + pair * 2).chain((0..len).map(|element| tail + element * 3));
        let whole: Vec<_> = keys.flat_map(|key| [(key, false), (key + 1, true)]).collect();
        assert_eq!(pairs(0..words), whole);
        for start in 0..words {
            for end in start..=words {
                let expected: Vec<_> = whole.iter().copied().filter(|pair| (start..end).contains(&pair.0)).collect();
                assert_eq!(pairs(start..end), expected);
            }
        }
        assert_eq!(slots(kind, len, 0..words), [2 + offset_of!(Notes, last) / 8]);
        assert!(kind.has_slots() && !kind.tail_has_slots());
    }

    #[test]
    fn a_part_has_the_weak_slots_of_the_whole_that_lie_in_it() {
        use std::mem::offset_of;
        let (kind, len) = (Wide::KIND, 9);
        let weak = |words: std::ops::Range<usize>| {
            let mut found = Vec::new();
            kind.each_weak(words, || len, |word| found.push(word));
            found
        };
        let words = kind.size_of(len as u64) / 8;
        let (stride, tail) = (kind.tail_stride as usize / 8, kind.fixed_bytes as usize / 8);
        let elements = (0..len).map(|element| tail + element * stride + offset_of!(Pair, right) / 8);
        let whole: Vec<_> = [2 + offset_of!(Wide, weak) / 8].into_iter().chain(elements).collect();
        assert_eq!(weak(0..words), whole);
        for start in 0..words {
            for end in start..=words {
                let expected: Vec<_> = whole.iter().copied().filter(|word| (start..end).contains(word)).collect();
                assert_eq!(weak(start..end), expected);
            }
        }
    }

    #[test]
    fn the_whole_has_every_slot() {
        assert_eq!(slots(<SlotArray<Tagged>>::KIND, 5, 0..7), [2, 3, 4, 5, 6]);
        let wide = slots(Wide::KIND, 2, 0..Wide::KIND.size_of(2) / 8);
        assert_eq!(wide.len(), 70 + 1 + 2 * 2);
    }
}
