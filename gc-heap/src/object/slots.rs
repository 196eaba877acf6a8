//! The slots of an object, or of a part of it: a page may hold the middle of one. Marking alone has
//! a walk of its own.

use super::kind::Kind;
use std::ops::Range;

/// The kind of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotRole {
    /// A typed or a tagged slot.
    Strong,
    Weak,
    /// An ephemeron's key. Its value is in the next word.
    Key,
    /// An ephemeron's value: undefined where the key is 0.
    Value,
}

/// The slots in 64 words of an object, of which `first` is the first: bit `i` is word `first + i`.
#[derive(Clone, Copy)]
pub(crate) struct SlotGroup {
    pub(crate) first: usize,
    /// Typed and tagged slots.
    pub(crate) strong: u64,
    pub(crate) weak: u64,
    pub(crate) keys: u64,
    pub(crate) values: u64,
}

/// The numbers of the bits that are set.
#[inline(always)]
pub(crate) fn bits(mut map: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (map != 0).then(|| map.trailing_zeros() as usize)?;
        map &= map - 1;
        Some(bit)
    })
}

impl SlotGroup {
    /// Without the slots outside a range of words.
    #[inline(always)]
    fn within(self, words: &Range<usize>) -> SlotGroup {
        let low = words.start.saturating_sub(self.first);
        let high = words.end.saturating_sub(self.first);
        let below_high = if high >= 64 { u64::MAX } else { (1 << high) - 1 };
        let within = if low >= 64 { 0 } else { below_high & (u64::MAX << low) };
        let SlotGroup { first, strong, weak, keys, values } = self;
        SlotGroup { first, strong: strong & within, weak: weak & within, keys: keys & within, values: values & within }
    }

    fn role(&self, bit: usize) -> SlotRole {
        let is_in = |map: u64| map >> bit & 1 != 0;
        match () {
            () if is_in(self.strong) => SlotRole::Strong,
            () if is_in(self.weak) => SlotRole::Weak,
            () if is_in(self.keys) => SlotRole::Key,
            () => SlotRole::Value,
        }
    }
}

impl Kind {
    /// The slots of an object with a tail of `len` elements (0 without a tail): the word of the
    /// object, from its header on, and what it is.
    pub(crate) fn slots(&self, len: usize) -> impl Iterator<Item = (usize, SlotRole)> {
        let groups = self.slots_in(0..usize::MAX, len);
        groups.flat_map(|group| {
            let all = group.strong | group.weak | group.keys | group.values;
            bits(all).map(move |bit| (group.first + bit, group.role(bit)))
        })
    }

    /// The slots in a range of words, in groups.
    #[inline(always)]
    pub(crate) fn slots_in(&self, words: Range<usize>, len: usize) -> impl Iterator<Item = SlotGroup> {
        let keys = self.more.map_or(0, |more| more.pairs[0]);
        let fixed = SlotGroup { first: 0, strong: self.strong | self.tagged, weak: self.weak, keys, values: keys << 1 };
        let more = self.more.into_iter().flat_map(|more| {
            (0..more.strong.len()).map(move |group| SlotGroup {
                first: (group + 1) * 64,
                strong: more.strong[group] | more.tagged[group],
                weak: more.weak[group],
                keys: more.pairs[group + 1],
                // The value of the last word's key is in the next group.
                values: more.pairs[group + 1] << 1 | more.pairs[group] >> 63,
            })
        });
        let (tail, stride) = (self.fixed_bytes as usize / 8, self.tail_stride as usize / 8);
        let elements = if self.tail_may_have_slots() && words.end > tail {
            (words.start.saturating_sub(tail) / stride)..(words.end - tail).div_ceil(stride).min(len)
        } else {
            0..0
        };
        let (strong, weak) = (self.tail_strong | self.tail_tagged, self.tail_weak);
        let keys = self.more.map_or(0, |more| more.tail_pairs);
        let carried = if keys >> 63 != 0 { elements.clone() } else { 0..0 };
        let elements = elements.map(move |element| {
            let first = tail + element * stride;
            SlotGroup { first, strong, weak, keys, values: keys << 1 }
        });
        let carried = carried.map(move |element| {
            let first = tail + element * stride + 64;
            SlotGroup { first, strong: 0, weak: 0, keys: 0, values: 1 }
        });
        std::iter::once(fixed).chain(more).chain(elements).chain(carried).map(move |group| group.within(&words))
    }
}

#[cfg(test)]
mod tests {
    use super::SlotRole::{Key, Strong, Value, Weak};
    use super::*;
    use crate::object::{Num, Plain, Trace, WordMap};
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
        let groups = kind.slots_in(words, len);
        groups.flat_map(|group| bits(group.strong | group.weak).map(move |bit| group.first + bit)).collect()
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
        let pairs = |words: std::ops::Range<usize>| -> Vec<_> {
            let halves = |group: SlotGroup| {
                bits(group.keys | group.values).map(move |bit| (group.first + bit, group.role(bit) == SlotRole::Value))
            };
            kind.slots_in(words, len).flat_map(halves).collect()
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
        let weak = |words: std::ops::Range<usize>| -> Vec<usize> {
            let groups = kind.slots_in(words, len);
            groups.flat_map(|group| bits(group.weak).map(move |bit| group.first + bit)).collect()
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

    #[derive(Trace)]
    struct Mixed {
        number: u64,
        value: Slot<Tagged>,
        pair: Ephemeron<Mixed, Tagged>,
        weak: WeakSlot<Mixed>,
    }

    #[derive(Trace)]
    #[trace(tail = Mixed, identity_hash)]
    struct Many {
        numbers: [u64; 62],
        pairs: [Ephemeron<Many, Option<Mixed>>; 40],
        last: Slot<Many>,
    }

    fn roles(kind: &Kind, len: usize) -> Vec<(usize, SlotRole)> {
        kind.slots(len).map(|(word, role)| (word * 8, role)).collect()
    }

    fn mixed(first: usize) -> Vec<(usize, SlotRole)> {
        use std::mem::offset_of;
        let at = |offset| first + offset;
        let mut all = vec![
            (at(offset_of!(Mixed, value)), Strong),
            (at(offset_of!(Mixed, pair)), Key),
            (at(offset_of!(Mixed, pair)) + 8, Value),
            (at(offset_of!(Mixed, weak)), Weak),
        ];
        all.sort_by_key(|slot| slot.0);
        all
    }

    #[test]
    fn slots_of_every_use_are_found_once() {
        use std::mem::offset_of;
        assert_eq!(roles(Mixed::KIND, 0), mixed(8));
        let halves =
            |i: usize| [(16 + offset_of!(Many, pairs) + i * 16, Key), (24 + offset_of!(Many, pairs) + i * 16, Value)];
        let mut expected: Vec<_> = (0..40).flat_map(halves).collect();
        expected.push((16 + offset_of!(Many, last), Strong));
        expected.sort_by_key(|slot| slot.0);
        let tail = Many::KIND.fixed_bytes as usize;
        assert_eq!(tail, 16 + size_of::<Many>() + 8, "header, length, fields, identity hash");
        expected.extend(mixed(tail));
        expected.extend(mixed(tail + size_of::<Mixed>()));
        assert_eq!(roles(Many::KIND, 2), expected);
    }

    #[test]
    fn a_pair_is_in_no_other_map() {
        let map = WordMap::pair().repeat(3);
        assert_eq!((map.words, map.strong[0] | map.tagged[0] | map.weak[0], map.pairs[0]), (6, 0, 0b010101));
        assert!(map.has_slots());
    }
}
