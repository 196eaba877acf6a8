//! Raw references: plain pointers that the borrow checker ends at the next safepoint.

use crate::inner::mutator::Mutator;
use crate::object::header::Header;
use crate::object::trace::fields_at;
use crate::object::word::is_reference;
use crate::object::{IdentityHash, Kind, Tail, TailElement, Trace};
use gc_core::length;
use gc_core::word::{GoodWord, Word};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// A reference to an object of type `T`: one word, `Copy`, good until the next safepoint.
///
/// It borrows the [`Mutator`] (`'g`), so whatever can be a safepoint ends it: those functions take
/// `&mut Mutator`.
#[repr(transparent)]
pub struct Gc<'g, T> {
    start: NonNull<u64>,
    /// Neither `Send` nor `Sync`: another thread may be at a safepoint. Invariant in `T`: of two
    /// types of which one is a subtype of the other (`for<'a> fn(&'a u8)`, `fn(&'static u8)`) the
    /// objects may have different tails.
    _borrows: PhantomData<(&'g Mutator<'static>, *mut T)>,
}

impl<T> Clone for Gc<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Gc<'_, T> {}

impl<'g, T: Trace> Gc<'g, T> {
    /// # Safety
    /// `word` is a good reference to an object of type `T`, and the mutator stays borrowed for
    /// `'g`.
    #[inline(always)]
    pub(crate) unsafe fn from_word(word: GoodWord) -> Gc<'g, T> {
        let start = std::ptr::with_exposed_provenance_mut(word.bits() as usize);
        // SAFETY: a reference is not 0.
        Gc { start: unsafe { NonNull::new_unchecked(start) }, _borrows: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn word(self) -> GoodWord {
        GoodWord::of_bits(self.start.as_ptr() as u64)
    }

    /// The object, for as long as the mutator is borrowed (`*gc` and `gc.field` do for shorter
    /// uses).
    #[inline(always)]
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "`AsRef` would shorten the lifetime to that of the `Gc`")]
    pub fn as_ref(self) -> &'g T {
        // SAFETY: a raw reference is good, so the address is mapped in the view that is current for
        // this mutator; the fields begin at `fields_at`; objects do not move and are not reused
        // while the mutator is borrowed.
        unsafe { self.start.byte_add(fields_at::<T>()).cast().as_ref() }
    }

    /// Elements of the tail; 0 for a type without one.
    #[inline(always)]
    #[must_use]
    pub fn tail_len(self) -> usize {
        if <T::Tail as Tail>::STRIDE == 0 {
            return 0;
        }
        if T::GROWS {
            return length::read(self.length_word());
        }
        // SAFETY: as in `as_ref`; a tailed object has its length in word 1, and where the type does
        // not grow it never changes.
        unsafe { self.start.add(1).read() as usize }
    }

    /// The length of an array that grows: every thread accesses it atomically.
    #[inline(always)]
    pub(crate) fn length_word(self) -> &'g AtomicU64 {
        debug_assert!(T::GROWS && <T::Tail as Tail>::STRIDE != 0);
        // SAFETY: as in `as_ref`; a tailed object has its length in word 1, and no thread accesses
        // it otherwise once the object is published, since the type grows.
        unsafe { self.start.add(1).cast().as_ref() }
    }

    /// The tail.
    #[inline(always)]
    #[must_use]
    pub fn tail(self) -> &'g [T::Tail]
    where
        T::Tail: TailElement,
    {
        let first = self.start.as_ptr().wrapping_byte_add(T::KIND.fixed_bytes as usize).cast::<T::Tail>();
        // SAFETY: as in `as_ref`; the allocator initialised `tail_len` elements at the end of the
        // fixed part, or the thread that grew the array did before it stored the length.
        unsafe { std::slice::from_raw_parts(first, self.tail_len()) }
    }

    /// The reference without its type.
    #[inline(always)]
    #[must_use]
    pub fn any(self) -> AnyGc<'g> {
        AnyGc { start: self.start, _borrows: PhantomData }
    }

    /// Whether both refer to the same object. Two good references are equal exactly when their
    /// objects are.
    #[inline(always)]
    #[must_use]
    pub fn ptr_eq(self, other: Gc<'_, T>) -> bool {
        self.start == other.start
    }
}

impl<T: IdentityHash> Gc<'_, T> {
    /// A number that this object has and no other object of the heap, never 0, the same wherever
    /// the object moves. Made at the first call, by any thread. Never blocks, never a safepoint.
    ///
    /// The types that have one say so, and pay a word an object for it: no object grows when it
    /// moves.
    ///
    /// ```
    /// use gc_heap::{Heap, Trace};
    ///
    /// #[derive(Trace)]
    /// #[trace(identity_hash)]
    /// struct Symbol { length: u32 }
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let a = m.alloc::<Symbol>(|_| SymbolInit { length: 1 })?;
    ///     let b = m.alloc::<Symbol>(|_| SymbolInit { length: 1 })?;
    ///     let before = a.get(m).identity_hash(m);
    ///     m.collect();
    ///     assert_eq!(a.get(m).identity_hash(m), before);
    ///     assert_ne!(b.get(m).identity_hash(m), before);
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn identity_hash(self, m: &Mutator<'_>) -> u64 {
        // SAFETY: the type has the hidden word.
        unsafe { identity_hash(self.start, T::KIND, m) }
    }
}

/// The identity hash of an object, made where it has none.
///
/// The word changes once, from 0, and is copied with the object like a field: a raw reference
/// refers to the object's only published place, so no copy from there is in progress.
///
/// # Safety
/// `start` is a good reference to an object of this kind, which has the hidden word.
#[inline]
unsafe fn identity_hash(start: NonNull<u64>, kind: &Kind, m: &Mutator<'_>) -> u64 {
    // SAFETY: the caller's: the word lies within the object, which does not move while the mutator
    // is borrowed, and it is read and written atomically once the object is published.
    let word = unsafe { start.byte_add(kind.hash_at as usize).cast::<AtomicU64>().as_ref() };
    // Relaxed: the number orders nothing else, and it never changes again.
    match word.load(Ordering::Relaxed) {
        0 => {
            let new = m.new_identity_hash();
            word.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|other| other, |_| new)
        }
        hash => hash,
    }
}

impl<T: Trace> Deref for Gc<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.as_ref()
    }
}

impl<T: Trace> fmt::Debug for Gc<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gc<{}>({:p})", T::KIND.name(), self.start)
    }
}

/// What [`Value`](super::Value) adds to the bits of a double.
pub(super) const DOUBLE_OFFSET: u64 = 1 << 48;

const CANONICAL_NAN: u64 = 0x7ff8 << 48;
const SIGN: u64 = 1 << 63;

/// A good word with how long it stays good, `'g`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct HeldWord<'g> {
    word: GoodWord,
    /// Neither `Send` nor `Sync`, as [`Gc`].
    _borrows: PhantomData<(&'g Mutator<'static>, *const ())>,
}

impl<'g> HeldWord<'g> {
    /// # Safety
    /// The word is an immediate or a good reference, and the mutator stays borrowed for `'g`.
    #[inline(always)]
    pub(super) const unsafe fn new(word: GoodWord) -> HeldWord<'g> {
        HeldWord { word, _borrows: PhantomData }
    }

    /// A tag has upper bits, so this is no reference, whatever the payload.
    #[inline(always)]
    pub(super) const fn immediate<const TAG: u64>(payload: u64) -> HeldWord<'g> {
        const { assert!(!is_reference(Word::new(TAG)) && TAG >> 48 != 0) }
        HeldWord { word: GoodWord::of_bits(TAG | payload), _borrows: PhantomData }
    }

    /// The bits of a double, moved up: with only two NaNs they do not wrap around.
    #[inline(always)]
    pub(super) const fn num(x: f64) -> HeldWord<'g> {
        let bits = if x.is_nan() { CANONICAL_NAN | x.to_bits() & SIGN } else { x.to_bits() };
        HeldWord { word: GoodWord::of_bits(bits + DOUBLE_OFFSET), _borrows: PhantomData }
    }

    #[inline(always)]
    pub(super) const fn get(self) -> GoodWord {
        self.word
    }

    /// The object, if it is a reference.
    #[inline(always)]
    pub(super) fn reference(self) -> Option<AnyGc<'g>> {
        // SAFETY: a reference, so a good one.
        is_reference(self.word.word()).then(|| unsafe { AnyGc::from_word(self.word) })
    }
}

impl<'g> From<AnyGc<'g>> for HeldWord<'g> {
    #[inline(always)]
    fn from(gc: AnyGc<'g>) -> HeldWord<'g> {
        HeldWord { word: gc.word(), _borrows: PhantomData }
    }
}

/// A reference to an object of any type.
///
/// ```
/// use gc_heap::{AnyGc, Heap, Trace};
///
/// #[derive(Trace)]
/// struct Circle { radius: f64 }
///
/// #[derive(Trace)]
/// struct Square { side: f64 }
///
/// #[derive(Trace)]
/// struct Triangle { height: f64 }
///
/// fn area(shape: AnyGc<'_>) -> Result<f64, &'static str> {
///     if let Some(circle) = shape.downcast::<Circle>() {
///         Ok(3.0 * circle.radius * circle.radius)
///     } else if let Some(square) = shape.downcast::<Square>() {
///         Ok(square.side * square.side)
///     } else {
///         Err(shape.kind().name()) // what nobody thought of: its type's whole name, for the message
///     }
/// }
///
/// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let square = m.alloc::<Square>(|_| SquareInit { side: 2.0 })?;
///     let triangle = m.alloc::<Triangle>(|_| TriangleInit { height: 2.0 })?;
///     assert_eq!(area(square.get(m).any()), Ok(4.0));
///     assert!(area(triangle.get(m).any()).is_err_and(|name| name.ends_with("::Triangle")));
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AnyGc<'g> {
    start: NonNull<u64>,
    _borrows: PhantomData<(&'g Mutator<'static>, *const ())>,
}

impl<'g> AnyGc<'g> {
    /// # Safety
    /// `word` is a good reference, and the mutator stays borrowed for `'g`.
    #[inline(always)]
    pub(crate) unsafe fn from_word(word: GoodWord) -> AnyGc<'g> {
        let start = std::ptr::with_exposed_provenance_mut(word.bits() as usize);
        // SAFETY: a reference is not 0.
        AnyGc { start: unsafe { NonNull::new_unchecked(start) }, _borrows: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn word(self) -> GoodWord {
        GoodWord::of_bits(self.start.as_ptr() as u64)
    }

    /// What the object is.
    #[inline(always)]
    #[must_use]
    pub fn kind(self) -> &'static Kind {
        // SAFETY: a raw reference is good, so this is the header of an object, whose kind bits
        // never change.
        unsafe { Header(self.start.read()).kind() }
    }

    /// The object's identity hash, if its type has one: see [`Gc::identity_hash`].
    #[inline]
    #[must_use]
    pub fn identity_hash(self, m: &Mutator<'_>) -> Option<u64> {
        let kind = self.kind();
        // SAFETY: a raw reference is good, and the object's own kind says that it has the word.
        kind.has_identity_hash().then(|| unsafe { identity_hash(self.start, kind, m) })
    }

    /// The reference with its type, if the object is a `T`.
    #[inline(always)]
    #[must_use]
    pub fn downcast<T: Trace>(self) -> Option<Gc<'g, T>> {
        self.kind().is::<T>().then_some(Gc { start: self.start, _borrows: PhantomData })
    }
}

impl fmt::Debug for AnyGc<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnyGc<{}>({:p})", self.kind().name(), self.start)
    }
}
