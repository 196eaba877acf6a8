//! Tagged values: a number, an integer, a boolean, nil, a constant of the embedder's, or a
//! reference in one 64-bit word.
//!
//! | upper 16 bits | meaning |
//! | --- | --- |
//! | `0000` | a reference: the address |
//! | `0001` to `fff9` | a double: its bits plus 2^48 |
//! | `fffa` | nil, false, true, special constants |
//! | `fffb` | an integer of 48 bits, two's complement |
//!
//! Doubles are moved up so that a reference is an address as it stands, and one compare tells
//! references from all else. Every NaN is stored as the quiet NaN of its sign, `7ff8...` or
//! `fff8...`: another payload could look like a tag, or forge a reference.

use super::gc::{AnyGc, DOUBLE_OFFSET, Gc, HeldWord};
use crate::object::Trace;
use gc_core::word::{GoodWord, Word};
use std::fmt;

const IMMEDIATE: u64 = 0xfffa << 48;
const INT: u64 = 0xfffb << 48;
/// What an integer has of the word.
const PAYLOAD: u64 = (1 << 48) - 1;
/// Among the immediates, above the others.
const SPECIAL: u64 = IMMEDIATE | 1 << 32;

/// A value of a dynamically typed language; one word, `Copy`, good until the next safepoint.
///
/// ```
/// use gc_heap::{Bytes, Heap, AllocSize, Value};
///
/// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let m = m.reserve(AllocSize::tail::<Bytes>(2).times(2))?;
///     let [a, b]: [Value<'_>; 2] = [b"hi", b"hi"].map(|text| m.place_bytes::<Bytes>((), text).into());
///     assert_eq!(a.downcast::<Bytes>().map(|bytes| bytes.tail()), Some(&b"hi"[..]));
///     // Identity is no language's `==`: it compares objects, not what is in them, and words, not what they mean.
///     assert!(a.is_identical(a) && !a.is_identical(b));
///     let nan = Value::num(f64::NAN);
///     assert!(nan.is_identical(nan) && nan.as_num() != nan.as_num());
///     // An integer is not a double, and no accessor makes one of the other.
///     assert_eq!((Value::int(1).as_num(), Value::num(1.0).as_int()), (None, None));
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Value<'g> {
    word: HeldWord<'g>,
}

/// What a [`Value`] is, to match on.
#[derive(Clone, Copy, Debug)]
pub enum Unpacked<'g> {
    /// Nil.
    Nil,
    /// A boolean.
    Bool(bool),
    /// An integer of at most 48 bits.
    Int(i64),
    /// A constant of the embedder's.
    Special(u32),
    /// A double.
    Num(f64),
    /// A reference.
    Ref(AnyGc<'g>),
}

impl<'g> Value<'g> {
    /// Nil.
    pub const NIL: Value<'static> = Value::immediate::<IMMEDIATE>(0);
    /// False.
    pub const FALSE: Value<'static> = Value::immediate::<IMMEDIATE>(2);
    /// True.
    pub const TRUE: Value<'static> = Value::immediate::<IMMEDIATE>(3);

    const fn immediate<const TAG: u64>(payload: u64) -> Value<'g> {
        Value { word: HeldWord::immediate::<TAG>(payload) }
    }

    #[inline(always)]
    pub(super) const fn of(word: HeldWord<'g>) -> Value<'g> {
        Value { word }
    }

    #[inline(always)]
    pub(crate) const fn word(self) -> GoodWord {
        self.word.get()
    }

    #[inline(always)]
    const fn bits(self) -> u64 {
        self.word().bits()
    }

    /// A double. Every NaN becomes the canonical one of its sign.
    #[inline(always)]
    #[must_use]
    pub const fn num(x: f64) -> Value<'g> {
        Value { word: HeldWord::num(x) }
    }

    /// An integer.
    #[inline(always)]
    #[must_use]
    pub const fn int(x: i32) -> Value<'g> {
        Value::immediate::<INT>(x as i64 as u64 & PAYLOAD)
    }

    /// The greatest integer that a value holds: 2^47 - 1.
    pub const INT48_MAX: i64 = (1 << 47) - 1;
    /// The least: -2^47.
    pub const INT48_MIN: i64 = -(1 << 47);

    /// An integer of 48 bits; `None` for one that does not fit. A number has one word, whether it
    /// is made here or by [`int`](Self::int).
    ///
    /// ```
    /// use gc_heap::Value;
    ///
    /// /// A sum, or what a language has for more.
    /// fn add(a: Value<'_>, b: Value<'_>) -> Option<Value<'static>> {
    ///     // Two of 48 bits never overflow 64.
    ///     Value::int48(a.as_int48()? + b.as_int48()?)
    /// }
    ///
    /// let big = Value::int48(1 << 40).unwrap();
    /// assert_eq!(add(big, Value::int(-1)).and_then(Value::as_int48), Some((1 << 40) - 1));
    /// assert!(big.as_int().is_none(), "more than 32 bits");
    /// assert!(Value::int48(-7).is_some_and(|seven| seven.is_identical(Value::int(-7))));
    /// assert!(add(Value::int48(Value::INT48_MAX).unwrap(), Value::int(1)).is_none());
    /// ```
    #[inline(always)]
    #[must_use]
    pub const fn int48(x: i64) -> Option<Value<'g>> {
        if x << 16 >> 16 == x { Some(Value::immediate::<INT>(x as u64 & PAYLOAD)) } else { None }
    }

    /// A constant of the embedder's own, different from every other value: what is not there yet, a
    /// hole in a table, a character, a symbol by its number.
    ///
    /// ```
    /// use gc_heap::{Unpacked, Value};
    ///
    /// /// What a variable holds before its definition has run.
    /// const UNDEFINED: Value<'static> = Value::special(0);
    /// const HOLE: Value<'static> = Value::special(1);
    ///
    /// assert!(!UNDEFINED.is_nil() && !UNDEFINED.is_identical(HOLE));
    /// assert_eq!((HOLE.as_special(), HOLE.as_int(), Value::NIL.as_special()), (Some(1), None, None));
    /// assert!(matches!(HOLE.unpack(), Unpacked::Special(1)));
    /// ```
    #[inline(always)]
    #[must_use]
    pub const fn special(constant: u32) -> Value<'g> {
        Value::immediate::<SPECIAL>(constant as u64)
    }

    /// A boolean.
    #[inline(always)]
    #[must_use]
    pub const fn bool(x: bool) -> Value<'g> {
        Value::immediate::<IMMEDIATE>(2 | x as u64)
    }

    /// The double, if it is one.
    #[inline(always)]
    #[must_use]
    pub const fn as_num(self) -> Option<f64> {
        word_as_num(self.word().word())
    }

    /// The integer, if it is one of 32 bits: as [`as_int48`](Self::as_int48), and a test more.
    #[inline(always)]
    #[must_use]
    pub const fn as_int(self) -> Option<i32> {
        match self.as_int48() {
            Some(x) if x as i32 as i64 == x => Some(x as i32),
            _ => None,
        }
    }

    /// The integer, if it is one.
    #[inline(always)]
    #[must_use]
    pub const fn as_int48(self) -> Option<i64> {
        if self.bits() & !PAYLOAD == INT { Some((self.bits() as i64) << 16 >> 16) } else { None }
    }

    /// The boolean, if it is one.
    #[inline(always)]
    #[must_use]
    pub const fn as_bool(self) -> Option<bool> {
        if self.bits() & !1 == IMMEDIATE | 2 { Some(self.bits() & 1 == 1) } else { None }
    }

    /// The embedder's constant, if it is one.
    #[inline(always)]
    #[must_use]
    pub const fn as_special(self) -> Option<u32> {
        if self.bits() >> 32 == SPECIAL >> 32 { Some(self.bits() as u32) } else { None }
    }

    /// Whether this is nil.
    #[inline(always)]
    #[must_use]
    pub const fn is_nil(self) -> bool {
        self.bits() == IMMEDIATE
    }

    /// The reference, if it is one.
    #[inline(always)]
    #[must_use]
    pub fn as_any(self) -> Option<AnyGc<'g>> {
        self.word.reference()
    }

    /// The reference to a `T`, if it is one.
    #[inline(always)]
    #[must_use]
    pub fn downcast<T: Trace>(self) -> Option<Gc<'g, T>> {
        self.as_any()?.downcast()
    }

    /// What it is, to match on.
    #[inline]
    #[must_use]
    pub fn unpack(self) -> Unpacked<'g> {
        if let Some(any) = self.as_any() {
            Unpacked::Ref(any)
        } else if let Some(x) = self.as_num() {
            Unpacked::Num(x)
        } else if let Some(x) = self.as_int48() {
            Unpacked::Int(x)
        } else if let Some(x) = self.as_bool() {
            Unpacked::Bool(x)
        } else if let Some(constant) = self.as_special() {
            Unpacked::Special(constant)
        } else {
            Unpacked::Nil
        }
    }

    /// Whether both are the same word: equal immediates, the same object. A NaN is identical to
    /// itself.
    #[inline(always)]
    #[must_use]
    pub const fn is_identical(self, other: Value<'_>) -> bool {
        self.bits() == other.bits()
    }
}

/// The double that a word holds, if it does; needs no barrier.
#[inline(always)]
pub(crate) const fn word_as_num(word: Word) -> Option<f64> {
    if word.bits().wrapping_sub(DOUBLE_OFFSET) < IMMEDIATE - DOUBLE_OFFSET {
        Some(f64::from_bits(word.bits() - DOUBLE_OFFSET))
    } else {
        None
    }
}

impl<'g, T: Trace> From<Gc<'g, T>> for Value<'g> {
    #[inline(always)]
    fn from(gc: Gc<'g, T>) -> Value<'g> {
        gc.any().into()
    }
}

impl<'g> From<AnyGc<'g>> for Value<'g> {
    #[inline(always)]
    fn from(gc: AnyGc<'g>) -> Value<'g> {
        Value { word: gc.into() }
    }
}

impl From<f64> for Value<'_> {
    fn from(x: f64) -> Self {
        Value::num(x)
    }
}

impl From<i32> for Value<'_> {
    fn from(x: i32) -> Self {
        Value::int(x)
    }
}

impl From<bool> for Value<'_> {
    fn from(x: bool) -> Self {
        Value::bool(x)
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unpack().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn immediates_come_back() {
        for x in [0.0, -0.0, 1.5, f64::MIN, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::from_bits(1)] {
            assert_eq!(Value::num(x).as_num().unwrap().to_bits(), x.to_bits());
        }
        for x in [0, 1, -1, i32::MIN, i32::MAX] {
            assert_eq!(Value::int(x).as_int(), Some(x));
            assert_eq!(Value::int(x).as_num(), None);
        }
        for x in [0, 1, -1, 1 << 31, -(1 << 31) - 1, 1 << 40, Value::INT48_MAX, Value::INT48_MIN] {
            let value = Value::int48(x).unwrap();
            assert_eq!((value.as_int48(), value.as_int()), (Some(x), i32::try_from(x).ok()));
            assert!(value.as_any().is_none() && value.as_num().is_none() && value.as_special().is_none());
            assert!(value.as_bool().is_none() && !value.is_nil());
            assert!(matches!(value.unpack(), Unpacked::Int(found) if found == x));
            if let Ok(small) = i32::try_from(x) {
                assert!(value.is_identical(Value::int(small)));
            }
        }
        for x in [Value::INT48_MAX + 1, Value::INT48_MIN - 1, i64::MAX, i64::MIN, 1 << 48, -1 << 48] {
            assert!(Value::int48(x).is_none());
        }
        for constant in [0, 1, u32::MAX] {
            let special = Value::special(constant);
            assert_eq!(special.as_special(), Some(constant));
            assert!(special.as_any().is_none() && special.as_num().is_none() && special.as_int().is_none());
            assert!(special.as_bool().is_none() && !special.is_nil());
            assert!(matches!(special.unpack(), Unpacked::Special(found) if found == constant));
        }
        for other in
            [Value::NIL, Value::TRUE, Value::FALSE, Value::int(-1), Value::num(f64::NAN), Value::num(-f64::NAN)]
        {
            assert_eq!(other.as_special(), None);
        }
        assert_eq!(Value::bool(true).as_bool(), Some(true));
        assert_eq!(Value::bool(false).as_bool(), Some(false));
        assert!(Value::NIL.is_nil() && Value::NIL.as_bool().is_none() && Value::NIL.as_num().is_none());
    }

    #[test]
    fn no_double_is_taken_for_a_reference_or_a_tag() {
        for bits in [0x7ff8_0000_0000_0001, 0xfff8 << 48, u64::MAX, 0xffff_0000_dead_beef, 1, 0x7fff_ffff_ffff_ffff] {
            let value = Value::num(f64::from_bits(bits));
            assert!(value.as_num().is_some() && value.as_any().is_none() && value.as_int().is_none());
            assert!(value.as_bool().is_none() && !value.is_nil());
        }
    }

    #[test]
    fn a_nan_keeps_its_sign_and_nothing_else() {
        for bits in [0x7ff8_0000_0000_0001, 0xfff8 << 48, u64::MAX, 0xfff0_0000_0000_0001] {
            let nan = Value::num(f64::from_bits(bits)).as_num().unwrap();
            assert_eq!(nan.to_bits(), 0x7ff8 << 48 | bits & 1 << 63);
        }
    }
}
