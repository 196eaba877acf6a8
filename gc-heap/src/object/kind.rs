//! The table that describes a type to the collector.

use core::any::TypeId;

use super::map::{GROUPS, WordMap};
use super::names::FieldName;

/// Describes a type to the collector: the size of its objects and which of their words are slots.
///
/// One exists for each type that derives [`Trace`](crate::Trace); every object's header points to
/// one. The fields that marking and repair read come first, in one cache line.
#[repr(C, align(64))]
pub struct Kind {
    /// Bit `i`: word `i` of the object (word 0 is the header) is a typed slot. The first 64 words;
    /// the rest is in `more`.
    pub(crate) strong: u64,
    /// The same for tagged slots.
    pub(crate) tagged: u64,
    /// The same for weak slots.
    pub(crate) weak: u64,
    /// Bytes of header, length word when there is a tail, and fields; a multiple of 8. The tail
    /// starts here.
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
    pub(super) type_id: TypeId,
    pub(super) name: fn() -> &'static str,
    pub(super) generic: bool,
}

/// The slots in words 64 to 511 of a fixed part (group `g`, bit `i` stands for word
/// `64 * (g + 1) + i`), and ephemerons.
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
    pub(super) const fn of(map: WordMap, tail: WordMap) -> Self {
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

    pub(super) const fn has_slots(&self) -> bool {
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

impl Kind {
    /// The type's name, for people: not unique, and it may differ between compilers.
    pub fn name(&self) -> &'static str {
        (self.name)()
    }

    /// The type's identity.
    pub fn type_id(&self) -> TypeId {
        self.type_id
    }

    /// The object's fields.
    #[must_use]
    pub const fn fields(&self) -> &'static [FieldName] {
        self.fields
    }

    /// The fields of a tail element; empty where it is no struct, or where there is no tail.
    #[must_use]
    pub const fn tail_fields(&self) -> &'static [FieldName] {
        self.tail_fields
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

    /// Bytes of an object with a tail of `len` elements (0 without a tail), a multiple of 8. For
    /// objects that exist: a length that does not fit wraps.
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
