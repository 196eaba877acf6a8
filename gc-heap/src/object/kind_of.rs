//! The kind of a type, computed at compile time.

use core::any::TypeId;

use super::kind::{Kind, MoreMap};
use super::map::{GROUPS, MAX_WORDS, WordMap};
use super::trace::{Tail, Trace, fields_at};

/// The map of an object of type `T`, header included.
const fn object_map<T: Trace>() -> WordMap {
    WordMap::empty(1).merge(T::MAP, fields_at::<T>() / 8)
}

/// A const fn has nowhere to put a `&'static MoreMap`, an associated constant has.
struct More<T>(T);

impl<T: Trace> More<T> {
    const MAP: &'static MoreMap = &{
        // Too long: `Kind::of` reports it, and with the place of the type, which this constant does
        // not know.
        let fits = T::MAP.words + fields_at::<T>() / 8 <= MAX_WORDS;
        MoreMap::of(if fits { object_map::<T>() } else { WordMap::empty(0) }, <T::Tail as Tail>::MAP)
    };
}

impl Kind {
    /// The kind of `T`. `generic` says that the kind is a promoted constant, which has no one
    /// address; otherwise it is a static, and its address is the type's identity.
    ///
    /// # Panics
    ///
    /// At compile time, when `T` cannot live in the heap; the text says why.
    pub(crate) const fn of<T: Trace>(generic: bool) -> Self {
        assert!(
            !core::mem::needs_drop::<T>(),
            "a heap object cannot implement `Drop` or hold what does: the collector reuses its memory without a call; keep the \
             value in a `ResourceQueue`"
        );
        assert!(!core::mem::needs_drop::<T::Tail>(), "a tail element cannot implement `Drop` or hold what does");
        assert!(
            !core::mem::needs_drop::<T::Init<'static>>(),
            "what a heap object is made from cannot implement `Drop`: its fields are copied into the object"
        );
        assert!(align_of::<T>() <= 8, "a heap object cannot be aligned to more than 8 bytes");
        assert!(align_of::<T::Tail>() <= 8, "a tail element cannot be aligned to more than 8 bytes");
        let stride = <T::Tail as Tail>::STRIDE;
        assert!(stride != 0 || !<T::Tail as Tail>::IS_SOME, "a tail element cannot be empty");
        assert!(stride <= u32::MAX as usize, "a tail element is too large");
        let (map, tail) = (object_map::<T>(), <T::Tail as Tail>::MAP);
        let mut group = 1;
        while group < GROUPS {
            assert!(
                tail.strong[group] | tail.tagged[group] | tail.weak[group] | tail.pairs[group] == 0,
                "slots of a tail element must stand in its first 64 words"
            );
            group += 1;
        }
        assert!(!tail.has_slots() || stride.is_multiple_of(8), "a slot is not aligned to a word");
        let fields_end = (fields_at::<T>() + size_of::<T>().next_multiple_of(8)) as u32;
        Self {
            strong: map.strong[0],
            tagged: map.tagged[0],
            weak: map.weak[0],
            fixed_bytes: if T::IDENTITY_HASH { fields_end + 8 } else { fields_end },
            tail_stride: stride as u32,
            tail_strong: tail.strong[0],
            tail_tagged: tail.tagged[0],
            tail_weak: tail.weak[0],
            more: if More::<T>::MAP.has_slots() { Some(More::<T>::MAP) } else { None },
            hash_at: if T::IDENTITY_HASH { fields_end } else { 0 },
            fields: <T as Trace>::FIELDS,
            tail_fields: <T::Tail as Tail>::FIELDS,
            type_id: TypeId::of::<T>(),
            name: core::any::type_name::<T>,
            generic,
        }
    }

    /// Whether this is the kind of `T`.
    #[inline(always)]
    pub fn is<T: Trace>(&self) -> bool {
        // A plain type's kind is a static, so its address decides. Of a generic type's kind several
        // copies may exist, one for each codegen unit; two types never share one, since their
        // `TypeId`s differ.
        core::ptr::eq(self, T::KIND) || (const { T::KIND.generic } && self.type_id == TypeId::of::<T>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{NoTail, Num, Plain, Trace, WordMap};
    use crate::slot::{Array, Bytes, SlotArray};
    use crate::slot::{Slot, Tagged, WeakSlot};
    use core::mem::offset_of;

    #[derive(Trace)]
    struct Empty;

    #[derive(Trace)]
    struct Node {
        flag: bool,
        left: Slot<Option<Node>>,
        count: Num<u32>,
        value: Slot<Tagged>,
        owner: WeakSlot<Node>,
    }

    #[derive(Trace)]
    #[trace(tail = Node)]
    struct Forest(Plain<(u8, u64)>, Slot<Node>, u8);

    #[derive(Trace)]
    struct Long {
        numbers: [u64; 100],
        slots: [Slot<Tagged>; 30],
    }

    #[derive(Trace)]
    #[trace(tail = [u8; 3])]
    struct Odd(u8);

    #[derive(Trace)]
    struct Generic<T: 'static> {
        held: T,
    }

    /// The bit of the word at byte `offset` of the fields, which start at byte `at`.
    fn bit(at: usize, offset: usize) -> u64 {
        assert_eq!(offset % 8, 0);
        1 << ((at + offset) / 8)
    }

    #[test]
    fn marking_reads_one_cache_line() {
        assert_eq!(align_of::<Kind>(), 64);
        assert!(offset_of!(Kind, more) + size_of::<Option<&MoreMap>>() <= 64);
        assert!(offset_of!(Kind, type_id) >= 64);
    }

    #[test]
    fn slots_are_where_the_compiler_put_the_fields() {
        let kind = Node::KIND;
        assert_eq!(kind.strong, bit(8, offset_of!(Node, left)));
        assert_eq!(kind.tagged, bit(8, offset_of!(Node, value)));
        assert_eq!(kind.weak, bit(8, offset_of!(Node, owner)));
        assert_eq!((kind.fixed_bytes as usize, kind.tail_stride), (8 + size_of::<Node>(), 0));
        assert!(kind.has_slots() && !kind.has_tail() && kind.more.is_none());
    }

    #[test]
    fn a_tail_moves_the_fields_behind_the_length() {
        let kind = Forest::KIND;
        assert_eq!(kind.strong, bit(16, offset_of!(Forest, 1)));
        assert_eq!((kind.tagged, kind.weak), (0, 0));
        assert_eq!(kind.fixed_bytes as usize, 16 + size_of::<Forest>());
        assert_eq!(kind.tail_stride as usize, size_of::<Node>());
        // An element's map is the object's without the header.
        let node = Node::KIND;
        assert_eq!(
            (kind.tail_strong, kind.tail_tagged, kind.tail_weak),
            (node.strong >> 1, node.tagged >> 1, node.weak >> 1)
        );
        assert!(kind.has_tail() && kind.tail_has_slots());
    }

    #[test]
    fn words_past_the_first_64_are_in_the_second_map() {
        let kind = Long::KIND;
        let more = kind.more.expect("slots past word 64");
        let first = (8 + offset_of!(Long, slots)) / 8;
        for word in 0..512 {
            let tagged = match word / 64 {
                0 => kind.tagged,
                group => more.tagged[group - 1],
            };
            assert_eq!(tagged >> (word % 64) & 1 == 1, (first..first + 30).contains(&word), "word {word}");
        }
        assert_eq!((more.strong, more.weak), ([0; 7], [0; 7]));
        assert!(kind.has_slots());
    }

    #[test]
    fn sizes_are_rounded_to_granules() {
        assert_eq!(Empty::KIND.size_of(0), 8);
        assert_eq!(
            (0..10).map(|len| Bytes::KIND.size_of(len)).collect::<Vec<_>>(),
            [16, 24, 24, 24, 24, 24, 24, 24, 24, 32]
        );
        assert_eq!((Odd::KIND.fixed_bytes, Odd::KIND.size_of(3)), (24, 40));
        for len in [0, 1, 2, 1000] {
            for kind in [Bytes::KIND, Odd::KIND, Forest::KIND, <Array<u16>>::KIND] {
                assert_eq!(kind.checked_size_of(len), Some(kind.size_of(len as u64)));
            }
        }
    }

    #[test]
    fn a_length_that_fits_no_address_space_has_no_size() {
        for len in [usize::MAX, usize::MAX / 8, usize::MAX / 8 - 1, usize::MAX / 16 + 1, isize::MAX as usize] {
            assert_eq!(<Array<u64>>::KIND.checked_size_of(len), None, "{len}");
        }
        for len in [usize::MAX, usize::MAX - 16, usize::MAX - 23, isize::MAX as usize] {
            assert_eq!(Bytes::KIND.checked_size_of(len), None, "{len}");
        }
    }

    #[test]
    fn objects_without_slots_say_so() {
        assert!(!Bytes::KIND.has_slots() && !<Array<Num<f64>>>::KIND.has_slots() && !Empty::KIND.has_slots());
        assert!(<SlotArray<Tagged>>::KIND.has_slots() && <Array<WeakSlot<Node>>>::KIND.has_slots());
        assert_eq!(<NoTail as Tail>::MAP, WordMap::empty(0));
    }

    #[test]
    fn a_kind_is_its_own_type_and_no_other() {
        assert!(Node::KIND.is::<Node>() && !Node::KIND.is::<Forest>() && !Node::KIND.is::<Generic<u8>>());
        // These two have equal maps.
        assert!(<Generic<u8>>::KIND.is::<Generic<u8>>() && !<Generic<u8>>::KIND.is::<Generic<i8>>());
        // A copy, as another codegen unit has: only the `TypeId` tells.
        let copy = Kind::of::<Generic<u8>>(true);
        assert!(copy.is::<Generic<u8>>() && !copy.is::<Generic<i8>>() && !copy.is::<Node>());
        assert_eq!(copy.type_id(), TypeId::of::<Generic<u8>>());
    }
}
