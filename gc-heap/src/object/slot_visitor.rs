//! Visits every slot of an object; for verification and census. Marking uses the bit maps directly.

use super::kind::Kind;

/// The kind of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotRole {
    /// A typed or a tagged slot.
    Strong,
    Weak,
    /// An ephemeron's key. Its value is in the next word, and is undefined where the key is 0.
    Key,
}

/// Visits the slots of an object with a tail of `len` elements (0 without a tail): the byte within the object, and the use.
pub(crate) fn each_slot(kind: &Kind, len: usize, mut visit: impl FnMut(usize, SlotRole)) {
    let mut group = |first: usize, strong: u64, weak: u64, pairs: u64| {
        let mut map = strong | weak | pairs;
        while map != 0 {
            let (word, bit) = (map.trailing_zeros() as usize, map & map.wrapping_neg());
            let usage = if strong & bit != 0 {
                SlotRole::Strong
            } else if weak & bit != 0 {
                SlotRole::Weak
            } else {
                SlotRole::Key
            };
            visit(first + word * 8, usage);
            map &= map - 1;
        }
    };
    group(0, kind.strong | kind.tagged, kind.weak, kind.more.map_or(0, |more| more.pairs[0]));
    if let Some(more) = kind.more {
        for index in 0..more.strong.len() {
            let strong = more.strong[index] | more.tagged[index];
            group((index + 1) * 512, strong, more.weak[index], more.pairs[index + 1]);
        }
    }
    let (strong, pairs) = (kind.tail_strong | kind.tail_tagged, kind.more.map_or(0, |more| more.tail_pairs));
    if strong | kind.tail_weak | pairs != 0 {
        for index in 0..len {
            group(kind.fixed_bytes as usize + index * kind.tail_stride as usize, strong, kind.tail_weak, pairs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SlotRole::{Key, Strong, Weak};
    use super::*;
    use crate::object::{Trace, WordMap};
    use crate::slot::{Ephemeron, Slot, Tagged, WeakSlot};

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

    fn slots(kind: &Kind, len: usize) -> Vec<(usize, SlotRole)> {
        let mut all = Vec::new();
        each_slot(kind, len, |at, usage| all.push((at, usage)));
        all.sort_by_key(|slot| slot.0);
        all
    }

    fn mixed(first: usize) -> Vec<(usize, SlotRole)> {
        use std::mem::offset_of;
        let at = |offset| first + offset;
        let mut all = vec![
            (at(offset_of!(Mixed, value)), Strong),
            (at(offset_of!(Mixed, pair)), Key),
            (at(offset_of!(Mixed, weak)), Weak),
        ];
        all.sort_by_key(|slot| slot.0);
        all
    }

    #[test]
    fn slots_of_every_use_are_found_once() {
        use std::mem::offset_of;
        assert_eq!(slots(Mixed::KIND, 0), mixed(8));
        let mut expected: Vec<_> = (0..40).map(|i| (16 + offset_of!(Many, pairs) + i * 16, Key)).collect();
        expected.push((16 + offset_of!(Many, last), Strong));
        expected.sort_by_key(|slot| slot.0);
        let tail = Many::KIND.fixed_bytes as usize;
        assert_eq!(tail, 16 + size_of::<Many>() + 8, "header, length, fields, identity hash");
        expected.extend(mixed(tail));
        expected.extend(mixed(tail + size_of::<Mixed>()));
        assert_eq!(slots(Many::KIND, 2), expected);
    }

    #[test]
    fn a_pair_is_in_no_other_map() {
        let map = WordMap::pair().repeat(3);
        assert_eq!((map.words, map.strong[0] | map.tagged[0] | map.weak[0], map.pairs[0]), (6, 0, 0b010101));
        assert!(map.has_slots());
    }
}
