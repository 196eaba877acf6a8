//! What an object is and what it is made from; what a field is.

use core::marker::PhantomData;

use super::derived_token::{Derived, Of};
use super::field::{Num, Number, Plain};
use super::kind::Kind;
use super::map::WordMap;
use super::names::FieldName;
use super::word::{HEADER_BYTES, TAILED_HEADER_BYTES};
use crate::lock::Mutex;

/// A type that may be a field of a heap object, or an element of its tail: numbers, `bool`, `char`,
/// [`Num`], [`Plain`], `Slot<S>`, `WeakSlot<T>`, `PhantomData<T>`, arrays of these, and structs
/// that derive `Trace` and have no tail.
///
/// # Safety
///
/// [`Field::MAP`] is exact and [`Field::write`] initialises the whole value. The type does not need
/// drop, is aligned to at most 8 bytes, and is immutable or atomic through `&self`: threads share
/// objects. What it holds never refers into the heap except by the slots that the map names.
/// [`Field::Init`] is plain data: a copy of its bytes is another initialiser for the same, and it
/// needs no drop; where `COPIES` is true, it is as large as the field and its bytes are the
/// field's.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a field of a heap object",
    label = "not a field of a heap object",
    note = "use `Slot` or `WeakSlot` for references, `Num` for a number that changes, `Plain` for data that is `Copy`, `Send`, \
            `Sync` and `'static`, or a struct that derives `Trace`"
)]
pub unsafe trait Field: Sized + 'static {
    /// What the field is made from: the number itself, `Gc<'g, T>` for a `Slot<T>`, `NodeInit<'g>`
    /// for a `Node`.
    type Init<'g>;

    /// Which of its words are slots.
    #[doc(hidden)]
    const MAP: WordMap;

    /// The names of its fields, if it is a struct; of its elements', if it is an array of structs.
    #[doc(hidden)]
    const FIELDS: &'static [FieldName] = &[];

    /// Bytes of an element of an array; else all.
    #[doc(hidden)]
    const ELEMENT_BYTES: usize = size_of::<Self>();

    /// All that a struct with such a field is to know of it; not to be given.
    #[doc(hidden)]
    const OF: Of<Self> = Of::NEW;

    /// What the derived impl is made with; not to be given.
    #[doc(hidden)]
    const DERIVED: Derived = Derived::NEW;

    /// Whether an initialiser's bytes are the field's, so that many are copied at once.
    #[doc(hidden)]
    const COPIES: bool = false;

    /// Writes the field.
    ///
    /// # Safety
    ///
    /// `dst` is valid for writing a `Self`, aligned, in the heap, and not yet reachable from any
    /// slot. `init` was made under the borrow of the mutator that still holds.
    #[doc(hidden)]
    unsafe fn write<'g>(init: Self::Init<'g>, dst: *mut Self);
}

macro_rules! plain_fields {
    ($($number:ty)*) => {$(
        // SAFETY: plain data of at most 8 bytes, no slot in it, written whole.
        unsafe impl Field for $number {
            type Init<'g> = $number;
            const MAP: WordMap = WordMap::empty_for::<Self>();
            const COPIES: bool = true;

            #[inline(always)]
            unsafe fn write<'g>(init: Self::Init<'g>, dst: *mut Self) {
                // SAFETY: the caller's.
                unsafe { dst.write(init) }
            }
        }
    )*};
}

plain_fields! { u8 u16 u32 u64 usize i8 i16 i32 i64 isize f32 f64 bool char }

// SAFETY: the elements' map side by side; each is written by its own `write`.
unsafe impl<F: Field, const N: usize> Field for [F; N] {
    type Init<'g> = [F::Init<'g>; N];
    const MAP: WordMap = WordMap::array::<F>(F::MAP, N);
    const FIELDS: &'static [FieldName] = F::FIELDS;
    const ELEMENT_BYTES: usize = size_of::<F>();

    #[inline(always)]
    unsafe fn write<'g>(init: Self::Init<'g>, dst: *mut Self) {
        let first = dst.cast::<F>();
        for (i, element) in init.into_iter().enumerate() {
            // SAFETY: `i < N`, so this is an element of the array that the caller vouches for.
            unsafe { F::write(element, first.add(i)) }
        }
    }
}

// Where a field is wanted, this is no advice.
#[diagnostic::do_not_recommend]
// SAFETY: nothing at all, of any type: no slot in it, no drop, nothing that changes.
unsafe impl<T: ?Sized + 'static> Field for PhantomData<T> {
    type Init<'g> = PhantomData<T>;
    const MAP: WordMap = WordMap::empty(0);

    #[inline(always)]
    unsafe fn write<'g>(init: PhantomData<T>, dst: *mut Self) {
        // SAFETY: the caller's.
        unsafe { dst.write(init) }
    }
}

// SAFETY: a word and a byte, no slot in them, written whole; no drop, as asserted. The standard
// library's lock is a word in the memory of the object and nothing else, so it moves with it: no
// thread holds it, or sleeps until it is free, when its object moves, since no thread keeps it over
// a safepoint.
unsafe impl Field for Mutex<()> {
    type Init<'g> = ();
    const MAP: WordMap = {
        assert!(!core::mem::needs_drop::<Self>() && size_of::<Self>() <= 8);
        WordMap::empty_for::<Self>()
    };

    unsafe fn write<'g>((): (), dst: *mut Self) {
        // SAFETY: the caller's.
        unsafe { dst.write(Mutex::new(())) }
    }
}

// SAFETY: `Copy` has no drop and no interior mutability that is not atomic behind a reference
// (`Sync`); `'static` keeps references into the heap out, and slots are not `Copy`. Written whole.
// Alignment is checked where the kind is made.
unsafe impl<T: Copy + Send + Sync + 'static> Field for Plain<T> {
    type Init<'g> = T;
    const MAP: WordMap = WordMap::empty_for::<Self>();
    // Transparent.
    const COPIES: bool = true;

    #[inline(always)]
    unsafe fn write<'g>(init: T, dst: *mut Self) {
        // SAFETY: the caller's.
        unsafe { dst.write(Plain(init)) }
    }
}

// SAFETY: an atomic of at most 8 bytes, no slot in it, written whole.
unsafe impl<N: Number> Field for Num<N> {
    type Init<'g> = N;
    const MAP: WordMap = WordMap::empty_for::<Self>();
    const COPIES: bool = N::COPIES;

    #[inline(always)]
    unsafe fn write<'g>(init: N, dst: *mut Self) {
        // SAFETY: the caller's.
        unsafe { dst.write(Num(N::cell(init))) }
    }
}

/// A type whose objects live in the heap. Implemented by `#[derive(Trace)]`, and by nothing else.
///
/// The derive makes an initialiser beside the struct, `BindingInit` for `Binding`; what an object
/// ends in is its tail:
///
/// ```
/// use gc_heap::{Bytes, Heap, AllocSize, Slot, Tagged, Trace};
///
/// #[derive(Trace)]
/// struct Binding { name: Slot<Bytes>, value: Slot<Tagged> }
///
/// #[derive(Trace)]
/// #[trace(tail = Binding, identity_hash)]
/// struct Scope { outer: Slot<Option<Scope>> }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let m = m.reserve(AllocSize::tail::<Scope>(1) + AllocSize::tail::<Bytes>(1))?;
///     let x = BindingInit { name: m.place_bytes((), b"x"), value: 1.5.into() };
///     let scope = m.place_tail::<Scope, _>(ScopeInit { outer: None }, [x]);
///     assert_eq!(scope.tail()[0].value.get(m).as_num(), Some(1.5));
///     assert_ne!(scope.identity_hash(m), 0);
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The fixed part may take up to 4096 bytes, arrays of slots included; such objects move like
/// smaller ones:
///
/// ```
/// use gc_heap::{Heap, AllocSize, Slot, Trace};
///
/// /// 648 bytes: a node of a wide tree. The initialiser of an array of slots is an array of references.
/// #[derive(Trace)]
/// struct Node { number: u64, children: [Slot<Option<Node>>; 80] }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let root = m.alloc::<Node>(|_| NodeInit { number: 0, children: [None; 80] })?;
///     for number in 1..=80 {
///         let (m, child) = m.alloc_raw::<Node>(|_| NodeInit { number, children: [None; 80] })?;
///         root.get(m).children[number as usize - 1].set(m, Some(child));
///     }
///     m.collect();
///     let root = root.get(m);
///     let numbers = root.children.iter().map(|child| child.get(m).map_or(0, |child| child.number));
///     assert!(numbers.eq(1..=80));
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Safety
///
/// [`Trace::MAP`] is exact, [`Trace::KIND`] is made for this very type, and [`Trace::write`]
/// initialises every field.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a heap object",
    label = "not a heap object",
    note = "write `#[derive(Trace)]` on a struct whose fields are numbers, `Slot`, `WeakSlot`, `Num` or `Plain`"
)]
pub unsafe trait Trace: Sized + 'static {
    /// What a new object is made from: the struct `NodeInit<'g>` that the derive puts beside
    /// `Node`, with one field for each of its fields; `()` when it has none.
    type Init<'g>;

    /// The element type of the tail, or [`NoTail`].
    type Tail: Tail;

    /// Whether a hidden word stands behind the fields, for the identity hash: [`HashWord`] or
    /// [`NoHashWord`].
    #[doc(hidden)]
    type Hash: MaybeHashWord;

    /// Which words of the fields are slots; word 0 is the first of the fields, not the header.
    #[doc(hidden)]
    const MAP: WordMap;

    /// The names of its fields.
    #[doc(hidden)]
    const FIELDS: &'static [FieldName] = &[];

    /// What the collector knows of the type.
    #[doc(hidden)]
    const KIND: &'static Kind;

    /// As [`Trace::Hash`] says; not to be given.
    #[doc(hidden)]
    const IDENTITY_HASH: bool = <Self::Hash as MaybeHashWord>::IS;

    /// Whether objects grow where they are, so that their length may change while it is read.
    #[doc(hidden)]
    const GROWS: bool = false;

    /// What the derived impl is made with; not to be given.
    #[doc(hidden)]
    const DERIVED: Derived = Derived::NEW;

    /// Writes the fields.
    ///
    /// # Safety
    ///
    /// `dst` is valid for writing a `Self`, aligned to 8, in the heap, and not yet reachable from
    /// any slot. `init` was made under the borrow of the mutator that still holds.
    #[doc(hidden)]
    unsafe fn write<'g>(init: Self::Init<'g>, dst: *mut Self);
}

/// A type whose objects have an identity hash: `#[trace(identity_hash)]` beside `#[derive(Trace)]`.
///
/// It costs eight bytes an object and one store when the object is made. See
/// [`Gc::identity_hash`](crate::Gc::identity_hash).
///
/// # Safety
///
/// None: the compiler compares [`Trace::Hash`]. Implemented by the derive, and by nothing else.
#[diagnostic::on_unimplemented(
    message = "objects of type `{Self}` have no identity hash",
    label = "no identity hash",
    note = "write `#[trace(identity_hash)]` beside its `#[derive(Trace)]`: it costs eight bytes an object"
)]
pub unsafe trait IdentityHash: Trace<Hash = HashWord> {
    /// Has to be given, so that derived code implements no other unsafe trait by this one's name.
    #[doc(hidden)]
    const HAS_IDENTITY_HASH: ();
}

/// An object's hidden word for the identity hash.
#[derive(Clone, Copy, Debug)]
pub struct HashWord;

/// No such word.
#[derive(Clone, Copy, Debug)]
pub struct NoHashWord;

/// [`HashWord`] or [`NoHashWord`].
pub trait MaybeHashWord: sealed::Sealed {
    /// Whether it is there.
    const IS: bool;
}

impl MaybeHashWord for HashWord {
    const IS: bool = true;
}

impl MaybeHashWord for NoHashWord {
    const IS: bool = false;
}

/// What an object without a tail is made from: `place` tells the type of the object from it.
///
/// The derive implements it for the struct `NodeInit` that it makes; [`Empty`] stands in for types
/// without fields. With a tail it is not implemented: how many elements there are is not the
/// initialiser's to say.
///
/// # Safety
///
/// [`Init::write`] initialises every field of the object.
#[diagnostic::on_unimplemented(
    message = "no heap object is made from `{Self}`",
    label = "not an initialiser",
    note = "an object without a tail is placed by its initialiser: `place(NodeInit {{ .. }})` makes a `Node`; one with a \
            tail by `place_tail`, `place_array` or `place_bytes`"
)]
pub unsafe trait Init<'g>: Sized {
    /// The type of the object.
    type Object: Trace<Tail = NoTail>;

    /// As [`Trace::DERIVED`].
    #[doc(hidden)]
    const DERIVED: Derived = Derived::NEW;

    /// Writes the fields.
    ///
    /// # Safety
    ///
    /// As [`Trace::write`].
    #[doc(hidden)]
    unsafe fn write(self, dst: *mut Self::Object);
}

/// Makes an object that has no fields: `m.place(Empty::<Marker>::new())`.
pub struct Empty<T>(PhantomData<fn() -> T>);

impl<T> Empty<T> {
    /// The initialiser.
    #[inline]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Empty<T> {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: `()` is all that `T` is made from, and its own `write` initialises it.
unsafe impl<'g, T: Trace<Init<'g> = (), Tail = NoTail>> Init<'g> for Empty<T> {
    type Object = T;

    #[inline(always)]
    unsafe fn write(self, dst: *mut T) {
        // SAFETY: passed on.
        unsafe { T::write((), dst) }
    }
}

/// The tail of an object that has none.
#[derive(Clone, Copy, Debug)]
pub struct NoTail;

/// What an object may end in: [`NoTail`], or a run of elements.
///
/// # Safety
///
/// [`Tail::STRIDE`] is the size of an element and [`Tail::MAP`] its map; both are 0 for no tail.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a tail element of a heap object",
    label = "not a tail element",
    note = "a tail is made of numbers, `Slot`, `WeakSlot`, `Num`, `Plain`, arrays of these, or structs that derive `Trace` \
            and have no tail themselves"
)]
pub unsafe trait Tail: Sized + 'static {
    /// Whether there is a tail.
    #[doc(hidden)]
    const IS_SOME: bool;

    /// Bytes of an element; 0 when there is no tail. An element of 0 bytes is refused where the
    /// kind is made.
    #[doc(hidden)]
    const STRIDE: usize;

    /// Which words of an element are slots.
    #[doc(hidden)]
    const MAP: WordMap;

    /// The names of an element's fields.
    #[doc(hidden)]
    const FIELDS: &'static [FieldName];
}

// SAFETY: no tail, no elements.
unsafe impl Tail for NoTail {
    const IS_SOME: bool = false;
    const STRIDE: usize = 0;
    const MAP: WordMap = WordMap::empty(0);
    const FIELDS: &'static [FieldName] = &[];
}

// SAFETY: a field's size and its own exact map.
unsafe impl<E: Field> Tail for E {
    const IS_SOME: bool = true;
    const STRIDE: usize = size_of::<E>();
    const MAP: WordMap = E::MAP;
    const FIELDS: &'static [FieldName] = E::FIELDS;
}

/// What a tail is made of: every [`Field`].
#[diagnostic::on_unimplemented(
    message = "the object has no tail of such elements",
    label = "`{Self}` is not a tail element",
    note = "give the type a tail: `#[trace(tail = Element)]`"
)]
pub trait TailElement: Tail + Field {}

impl<E: Field> TailElement for E {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for super::HashWord {}
    impl Sealed for super::NoHashWord {}
    impl Sealed for crate::object::Num<u8> {}
}

/// A byte of a tail: `u8`, which stays as it is once the object is seen, or `Num<u8>`, which
/// changes.
///
/// ```
/// use gc_heap::{Array, Bytes, Heap, Num, AllocSize};
///
/// /// What a language calls a byte array: one that a program writes to.
/// type ByteArray = Array<Num<u8>>;
///
/// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let m = m.reserve(AllocSize::tail::<ByteArray>(5) + AllocSize::tail::<Bytes>(5))?;
///     let bytes = m.place_bytes::<ByteArray>((), b"hello");
///     bytes.tail()[0].set(b'j');
///     let now: Vec<u8> = bytes.tail().iter().map(Num::get).collect();
///     assert_eq!(m.place_bytes::<Bytes>((), &now).tail(), b"jello");
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "the object's tail is not made of bytes",
    label = "`{Self}` is not a byte",
    note = "`Bytes` has a tail of `u8`, which never change, `Array<Num<u8>>` one of bytes that do; a type of your own has one with \
            `#[trace(tail = u8)]` or `#[trace(tail = Num<u8>)]`"
)]
pub trait Byte: TailElement + for<'g> Field<Init<'g> = u8> + sealed::Sealed {}

impl Byte for u8 {}
impl Byte for super::Num<u8> {}

/// Bytes from an object's start to its fields.
#[inline(always)]
pub(crate) const fn fields_at<T: Trace>() -> usize {
    if <T::Tail as Tail>::STRIDE == 0 { HEADER_BYTES } else { TAILED_HEADER_BYTES }
}
