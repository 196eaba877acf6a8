//! The table by which the collector knows a type.

use core::any::TypeId;

use super::map::{GROUPS, MAX_WORDS, WordMap};
use super::names::FieldName;
use super::trace::{Tail, Trace, fields_at};

/// What the collector knows of a type: how large its objects are and which of their words are slots.
///
/// One exists for each type that derives [`Trace`]; every object's header points to one. What marking and repair read
/// stands first, in one cache line.
#[repr(C, align(64))]
pub struct Kind {
    /// Bit `i`: word `i` of the object (word 0 is the header) is a typed slot. The first 64 words; the rest is in `more`.
    pub(crate) strong: u64,
    /// The same for tagged slots.
    pub(crate) tagged: u64,
    /// The same for weak slots.
    pub(crate) weak: u64,
    /// Bytes of header, length word when there is a tail, and fields; a multiple of 8. The tail starts here.
    pub(crate) fixed_bytes: u32,
    /// Bytes of a tail element; 0 when there is no tail. A multiple of 8 when an element has slots.
    pub(crate) tail_stride: u32,
    /// Bit `i`: word `i` of each tail element is a typed slot.
    pub(crate) tail_strong: u64,
    /// The same for tagged slots.
    pub(crate) tail_tagged: u64,
    /// The same for weak slots.
    pub(crate) tail_weak: u64,
    /// The slots in words 64 and up of the fixed part and all ephemerons, when there are any.
    pub(crate) more: Option<&'static MoreMap>,

    /// Byte of the hidden word for the identity hash; 0 when there is none.
    pub(crate) hash_at: u32,

    pub(crate) fields: &'static [FieldName],
    pub(crate) tail_fields: &'static [FieldName],
    type_id: TypeId,
    name: fn() -> &'static str,
    generic: bool,
}

/// The slots in words 64 to 511 of a fixed part (group `g`, bit `i` stands for word `64 * (g + 1) + i`), and ephemerons.
#[derive(Debug)]
pub(crate) struct MoreMap {
    pub(crate) strong: [u64; GROUPS - 1],
    pub(crate) tagged: [u64; GROUPS - 1],
    pub(crate) weak: [u64; GROUPS - 1],
    /// Group `g`, bit `i`: word `64 * g + i` is an ephemeron's key, and the next word its value.
    pub(crate) pairs: [u64; GROUPS],
    /// The same for each tail element.
    pub(crate) tail_pairs: u64,
}

impl MoreMap {
    const fn of(map: WordMap, tail: WordMap) -> Self {
        let mut more = Self {
            strong: [0; GROUPS - 1],
            tagged: [0; GROUPS - 1],
            weak: [0; GROUPS - 1],
            pairs: map.pairs,
            tail_pairs: tail.pairs[0],
        };
        let mut group = 1;
        while group < GROUPS {
            more.strong[group - 1] = map.strong[group];
            more.tagged[group - 1] = map.tagged[group];
            more.weak[group - 1] = map.weak[group];
            group += 1;
        }
        more
    }

    const fn any(&self) -> bool {
        let mut group = 0;
        while group < GROUPS - 1 {
            if self.strong[group] | self.tagged[group] | self.weak[group] | self.pairs[group] != 0 {
                return true;
            }
            group += 1;
        }
        self.pairs[GROUPS - 1] | self.tail_pairs != 0
    }
}

/// The map of an object of type `T`, header included.
const fn object_map<T: Trace>() -> WordMap {
    WordMap::empty(1).merge(T::MAP, fields_at::<T>() / 8)
}

/// A const fn has nowhere to put a `&'static MoreMap`, an associated constant has.
struct More<T>(T);

impl<T: Trace> More<T> {
    const MAP: &'static MoreMap = &{
        // Too long: `Kind::of` reports it, and with the place of the type, which this constant does not know.
        let fits = T::MAP.words + fields_at::<T>() / 8 <= MAX_WORDS;
        MoreMap::of(if fits { object_map::<T>() } else { WordMap::empty(0) }, <T::Tail as Tail>::MAP)
    };
}

impl Kind {
    /// The kind of `T`. `generic` says that the kind is a promoted constant, which has no one address; otherwise it is a
    /// static, and its address is the type's identity.
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
            more: if More::<T>::MAP.any() { Some(More::<T>::MAP) } else { None },
            hash_at: if T::IDENTITY_HASH { fields_end } else { 0 },
            fields: <T as Trace>::FIELDS,
            tail_fields: <T::Tail as Tail>::FIELDS,
            type_id: TypeId::of::<T>(),
            name: core::any::type_name::<T>,
            generic,
        }
    }

    /// The type's name, for people: not unique, and it may differ between compilers.
    pub fn name(&self) -> &'static str {
        (self.name)()
    }

    /// The type's identity.
    pub fn type_id(&self) -> TypeId {
        self.type_id
    }

    /// Whether this is the kind of `T`.
    #[inline(always)]
    pub fn is<T: Trace>(&self) -> bool {
        // A plain type's kind is a static, so its address decides. Of a generic type's kind several copies may exist, one
        // for each codegen unit; two types never share one, since their `TypeId`s differ.
        core::ptr::eq(self, T::KIND) || (const { T::KIND.generic } && self.type_id == TypeId::of::<T>())
    }

    /// Whether objects have a hidden word for an identity hash.
    pub const fn has_identity_hash(&self) -> bool {
        self.hash_at != 0
    }

    /// Whether objects have a tail.
    #[inline]
    pub(crate) const fn has_tail(&self) -> bool {
        self.tail_stride != 0
    }

    /// Whether a tail element has a slot that is no part of an ephemeron.
    #[inline]
    pub(crate) const fn tail_has_slots(&self) -> bool {
        self.tail_strong | self.tail_tagged | self.tail_weak != 0
    }

    /// Whether an element of the tail has a slot of any sort, ephemerons included.
    #[inline]
    pub(crate) const fn tail_may_have_slots(&self) -> bool {
        let pairs = match self.more {
            Some(more) => more.tail_pairs != 0,
            None => false,
        };
        self.tail_has_slots() || pairs
    }

    /// Whether an object can have a slot: if not, marking only sets its bit.
    #[inline]
    pub(crate) const fn has_slots(&self) -> bool {
        self.strong | self.tagged | self.weak != 0 || self.tail_has_slots() || self.more.is_some()
    }

    /// Bytes of an object with a tail of `len` elements (0 without a tail), a multiple of 8. For objects that exist: a
    /// length that does not fit wraps.
    #[inline]
    pub(crate) const fn size_of(&self, len: u64) -> usize {
        let tail = (len as usize).wrapping_mul(self.tail_stride as usize);
        (self.fixed_bytes as usize).wrapping_add(tail).wrapping_add(7) & !7
    }

    /// As `size_of`, for a length that someone asks for: `None` when it fits no address space.
    #[inline]
    pub(crate) const fn checked_size_of(&self, len: usize) -> Option<usize> {
        let Some(tail) = len.checked_mul(self.tail_stride as usize) else {
            return None;
        };
        match tail.checked_add(self.fixed_bytes as usize + 7) {
            Some(bytes) if bytes <= isize::MAX as usize => Some(bytes & !7),
            _ => None,
        }
    }
}

impl core::fmt::Debug for Kind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Kind")
            .field("name", &self.name())
            .field("fixed_bytes", &self.fixed_bytes)
            .field("tail_stride", &self.tail_stride)
            .field("has_slots", &self.has_slots())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Array, Bytes, NoTail, Num, Plain, SlotArray, Trace, WordMap};
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
