//! What may stand in an object.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    AtomicUsize, Ordering::Relaxed,
};

use super::derived_token::{Derived, Of};
use super::map::WordMap;
use super::names::FieldName;
use crate::lock::Mutex;

/// A type that may be a field of a heap object, or an element of its tail: numbers, `bool`, `char`, [`Num`], [`Plain`],
/// `Slot<S>`, `WeakSlot<T>`, `PhantomData<T>`, arrays of these, and structs that derive `Trace` and have no tail.
///
/// # Safety
///
/// [`Field::MAP`] is exact and [`Field::write`] initialises the whole value. The type does not need drop, is aligned to at
/// most 8 bytes, and is immutable or atomic through `&self`: threads share objects. What it holds never refers into the
/// heap except by the slots that the map names. [`Field::Init`] is plain data: a copy of its bytes is another initialiser for
/// the same, and it needs no drop; where `COPIES` is true, it is as large as the field and its bytes are the field's.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a field of a heap object",
    label = "not a field of a heap object",
    note = "use `Slot` or `WeakSlot` for references, `Num` for a number that changes, `Plain` for data that is `Copy`, `Send`, \
            `Sync` and `'static`, or a struct that derives `Trace`"
)]
pub unsafe trait Field: Sized + 'static {
    /// What the field is made from: the number itself, `Gc<'g, T>` for a `Slot<T>`, `NodeInit<'g>` for a `Node`.
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
    /// `dst` is valid for writing a `Self`, aligned, in the heap, and not yet reachable from any slot. `init` was made under
    /// the borrow of the mutator that still holds.
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

/// Data that never changes: any `T` that is `Copy`, `Send`, `Sync` and `'static`. Made from the `T` itself.
///
/// No reference into the heap is `'static`, so none gets in.
///
/// ```
/// use gc_heap::{Heap, Plain, Slot, Trace};
/// use std::net::SocketAddrV4;
///
/// #[derive(Trace)]
/// struct Peer { address: Plain<SocketAddrV4> }
///
/// /// What changes is not the data but who refers to it.
/// #[derive(Trace)]
/// struct Session { peer: Slot<Peer> }
///
/// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let address = |port| SocketAddrV4::new([127, 0, 0, 1].into(), port);
///     let peer = m.alloc::<Peer>(|_| PeerInit { address: address(80) })?;
///     let session = m.alloc::<Session>(|m| SessionInit { peer: peer.get(m) })?;
///     let (m, moved) = m.alloc_raw::<Peer>(|_| PeerInit { address: address(81) })?;
///     session.get(m).peer.set(m, moved);
///     assert_eq!(session.get(m).peer.get(m).address.port(), 81);
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Plain<T>(T);

impl<T: Copy> Plain<T> {
    /// The value.
    #[inline(always)]
    pub fn get(&self) -> T {
        self.0
    }
}

impl<T> Deref for Plain<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// SAFETY: `Copy` has no drop and no interior mutability that is not atomic behind a reference (`Sync`); `'static` keeps
// references into the heap out, and slots are not `Copy`. Written whole. Alignment is checked where the kind is made.
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

/// A number that changes, read and written whole by any thread. Made from the number itself.
///
/// ```
/// use gc_heap::{Heap, Num, Trace};
///
/// #[derive(Trace)]
/// struct Counter { hits: Num<u64> }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let hits = heap.enter(|m| -> Result<u64, gc_heap::OutOfMemory> {
///     let counter = m.alloc::<Counter>(|_| CounterInit { hits: 1 })?;
///     counter.get(m).hits.set(2);
///     Ok(counter.get(m).hits.get())
/// })??;
/// assert_eq!(hits, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `get` and then `set` is two steps, between which another thread may come. What is to be one step is asked of the
/// [atomic](Num::as_atomic) below, which integers and `bool` have (a float can be kept in a `Num<u64>`, by its bits):
///
/// ```
/// use gc_heap::{Heap, Num, Root, Trace};
/// use std::sync::atomic::Ordering;
///
/// #[derive(Trace)]
/// struct Counter { hits: Num<u64>, closed: Num<bool> }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let counter = heap.enter(|m| -> Result<_, gc_heap::OutOfMemory> {
///     let (m, counter) = m.alloc_raw::<Counter>(|_| CounterInit { hits: 0, closed: false })?;
///     Ok(Root::<Counter>::new(m, counter))
/// })??;
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| heap.enter(|m| {
///             for _ in 0..1000 {
///                 counter.get(m).hits.as_atomic().fetch_add(1, Ordering::Relaxed);
///                 m.safepoint();
///             }
///         }));
///     }
/// });
/// heap.enter(|m| {
///     let counter = counter.get(m);
///     assert_eq!(counter.hits.get(), 2000);
///     assert!(!counter.closed.as_atomic().swap(true, Ordering::AcqRel), "closed once");
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(transparent)]
pub struct Num<N: Number>(N::Cell);

impl<N: Number> Num<N> {
    /// The number. Relaxed: it orders nothing else.
    #[inline(always)]
    pub fn get(&self) -> N {
        N::load(&self.0)
    }

    /// Overwrites the number. Relaxed: it orders nothing else.
    #[inline(always)]
    pub fn set(&self, value: N) {
        N::store(&self.0, value);
    }
}

macro_rules! atomics {
    ($($number:ty, $atomic:ty;)*) => {$(
        impl Num<$number> {
            /// The atomic that holds the number, for what [`get`](Self::get) and [`set`](Self::set) do not do: exchange,
            /// addition, and orderings, by which what one thread wrote before is seen by another after.
            #[inline(always)]
            pub fn as_atomic(&self) -> &$atomic {
                &self.0
            }
        }
    )*};
}

atomics! {
    u8, AtomicU8;
    u16, AtomicU16;
    u32, AtomicU32;
    u64, AtomicU64;
    usize, AtomicUsize;
    i8, AtomicI8;
    i16, AtomicI16;
    i32, AtomicI32;
    i64, AtomicI64;
    isize, AtomicIsize;
    bool, AtomicBool;
}

impl<N: Number + fmt::Debug> fmt::Debug for Num<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
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

/// A number that fits an atomic word: integers up to 64 bits, floats, `bool` and `char`.
///
/// # Safety
///
/// The cell is at most 8 bytes, aligned to at most 8, shared by threads without a lock, and holds only what was stored.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be in a `Num`",
    label = "not a number that fits an atomic word",
    note = "a `Num` holds an integer of up to 64 bits, a float, a `bool` or a `char`"
)]
pub unsafe trait Number: Copy + Send + Sync + 'static {
    /// The atomic that holds it.
    #[doc(hidden)]
    type Cell: Send + Sync + 'static;
    /// Whether the cell lies as the number does.
    #[doc(hidden)]
    const COPIES: bool = false;
    #[doc(hidden)]
    fn cell(self) -> Self::Cell;
    #[doc(hidden)]
    fn load(cell: &Self::Cell) -> Self;
    #[doc(hidden)]
    fn store(cell: &Self::Cell, value: Self);
}

macro_rules! numbers {
    ($($number:ty, $atomic:ty, $in:expr, $out:expr;)*) => {$(
        // SAFETY: a lock-free atomic of the number's own size; what is loaded was stored by `$in`.
        unsafe impl Number for $number {
            type Cell = $atomic;
            // An atomic lies as the integer does; a float as its bits, a `bool` as 0 or 1, a `char` as its code.
            const COPIES: bool = true;

            #[inline(always)]
            fn cell(self) -> $atomic {
                <$atomic>::new($in(self))
            }

            #[inline(always)]
            fn load(cell: &$atomic) -> Self {
                $out(cell.load(Relaxed))
            }

            #[inline(always)]
            fn store(cell: &$atomic, value: Self) {
                cell.store($in(value), Relaxed);
            }
        }
    )*};
}

use core::convert::identity;

numbers! {
    u8, AtomicU8, identity, identity;
    u16, AtomicU16, identity, identity;
    u32, AtomicU32, identity, identity;
    u64, AtomicU64, identity, identity;
    usize, AtomicUsize, identity, identity;
    i8, AtomicI8, identity, identity;
    i16, AtomicI16, identity, identity;
    i32, AtomicI32, identity, identity;
    i64, AtomicI64, identity, identity;
    isize, AtomicIsize, identity, identity;
    bool, AtomicBool, identity, identity;
    f32, AtomicU32, f32::to_bits, f32::from_bits;
    f64, AtomicU64, f64::to_bits, f64::from_bits;
    // Only chars are stored, so the fallback is never taken; it costs a compare and saves an unsafe block.
    char, AtomicU32, u32::from, |code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
}
