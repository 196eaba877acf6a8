//! Data that stands in an object: constants and numbers that change.

use core::fmt;
use core::ops::Deref;
use core::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    AtomicUsize, Ordering::Relaxed,
};

/// Data that never changes: any `T` that is `Copy`, `Send`, `Sync` and `'static`. Made from the `T`
/// itself.
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
pub struct Plain<T>(pub(super) T);

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
/// `get` and then `set` is two steps, between which another thread may come. What is to be one step
/// is asked of the [atomic](Num::as_atomic) below, which integers and `bool` have (a float can be
/// kept in a `Num<u64>`, by its bits):
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
pub struct Num<N: Number>(pub(super) N::Cell);

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
            /// The atomic that holds the number, for what [`get`](Self::get) and [`set`](Self::set)
            /// do not do: exchange, addition, and orderings, by which what one thread wrote before
            /// is seen by another after.
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

/// A number that fits an atomic word: integers up to 64 bits, floats, `bool` and `char`.
///
/// Sealed: the cell is at most 8 bytes, aligned to at most 8, shared by threads without a lock, and
/// holds only what was stored.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be in a `Num`",
    label = "not a number that fits an atomic word",
    note = "a `Num` holds an integer of up to 64 bits, a float, a `bool` or a `char`"
)]
pub trait Number: sealed::Sealed + Copy + Send + Sync + 'static {
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

mod sealed {
    pub trait Sealed {}
}

macro_rules! numbers {
    ($($number:ty, $atomic:ty, $in:expr, $out:expr;)*) => {$(
        impl sealed::Sealed for $number {}

        // A lock-free atomic of the number's own size; what is loaded was stored by `$in`.
        impl Number for $number {
            type Cell = $atomic;
            // An atomic lies as the integer does; a float as its bits, a `bool` as 0 or 1, a `char`
            // as its code.
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
    // Only chars are stored, so the fallback is never taken; it costs a compare and saves an unsafe
    // block.
    char, AtomicU32, u32::from, |code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
}
