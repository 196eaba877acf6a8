//! Objects that every embedder needs.

use core::marker::PhantomData;

use super::value::Value;
use super::words::{AnyObject, Tagged};
use crate::inner::mutator::Mutator;
use crate::object::{Field, Num, Number, Trace};
use crate::slot::Slot;

/// A run of bytes: strings, buffers. It has no fields, so it is made from `()`:
/// `m.place_bytes::<Bytes>((), payload)`.
///
/// Of any length, empty too. One of more than 32 KiB is a large object: no cycle copies it.
///
/// ```
/// use gc_heap::{Bytes, Heap, AllocSize};
///
/// let heap = Heap::builder().max_bytes(64 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     for text in ["", "short", &"long ".repeat(1 << 20)] {
///         let string = m.build::<Bytes>(AllocSize::tail::<Bytes>(text.len()), |m| m.place_bytes((), text.as_bytes()))?;
///         m.collect();
///         assert_eq!(string.get(m).tail(), text.as_bytes());
///     }
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Trace)]
#[trace(tail = u8)]
pub struct Bytes;

/// An array of `E`, with its length fixed when it is made; it has no fields, so it is made from
/// `()`.
///
/// `Array<f64>` holds numbers that never change, `Array<Num<f64>>` numbers that do,
/// `Array<Slot<S>>` references ([`SlotArray`]), and an array of a struct that derives `Trace` holds
/// structs side by side.
///
/// ```
/// use gc_heap::{Array, Heap, Num, AllocSize, Trace};
///
/// #[derive(Trace)]
/// struct Point { x: f64, y: f64 }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let m = m.reserve(AllocSize::tail::<Array<Point>>(3) + AllocSize::tail::<Array<Num<u32>>>(100_000))?;
///     let points = m.place_tail::<Array<Point>, _>((), [0.0, 0.5, 1.0].map(|x| PointInit { x, y: x * x }));
///     assert_eq!((points.tail_len(), points.tail()[1].y), (3, 0.25));
///     let counts = m.place_array::<Array<Num<u32>>>((), 100_000, 0);
///     counts.tail()[99_999].set(7);
///     assert_eq!(counts.tail().iter().map(Num::get).sum::<u32>(), 7);
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Trace)]
#[trace(tail = E)]
pub struct Array<E: Field>(PhantomData<fn() -> E>);

/// An array of references or values: `SlotArray<Tagged>`, `SlotArray<Option<Node>>`.
///
/// ```
/// use gc_heap::{Heap, AllocSize, SlotArray, Tagged, Value};
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     type Vector = SlotArray<Tagged>;
///     let vector = m.build::<Vector>(AllocSize::tail::<Vector>(1000), |m| m.place_array((), 1000, Value::NIL))?;
///     vector.get(m).tail()[0].set(m, Value::num(1.5));
///     vector.get(m).tail()[1].set(m, vector.get(m).into()); // itself
///     m.collect();
///     let [first, second, ..] = vector.get(m).tail() else { unreachable!() };
///     assert_eq!(first.get(m).as_num(), Some(1.5));
///     assert!(second.get(m).downcast::<Vector>().is_some_and(|found| found.ptr_eq(vector.get(m))));
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type SlotArray<S> = Array<Slot<S>>;

/// An array that can become longer where it is, by [`Mutator::grow`]: what a vector of a language
/// keeps its elements in. It has no fields, so it is made from `()`.
///
/// Elements are `Slot<Option<T>>`, `Slot<Tagged>` or `Num<N>`: what grows is empty (`None`, nil, 0)
/// until it is stored to. `GrowableArray<Slot<Node>>`, whose slots are never null, is no type.
///
/// Its length is read Acquire, because another thread may grow it at the same time. That of an
/// [`Array`] never changes, so the compiler may read it once for a whole loop.
///
/// ```
/// use gc_heap::{AllocSize, GrowableArray, Growth, Heap, Num, OutOfMemory, Slot, Tagged, Trace, Value};
///
/// type Elements = GrowableArray<Slot<Tagged>>;
///
/// #[derive(Trace)]
/// struct Vector { elements: Slot<Elements>, used: Num<usize> }
///
/// // With more addresses than memory a large array has free ones behind it.
/// let heap = Heap::builder().max_bytes(32 << 20).address_factor(4).build()?;
/// heap.enter(|m| -> Result<(), OutOfMemory> {
///     let elements = m.build::<Elements>(AllocSize::tail::<Elements>(8), |m| m.place_array((), 8, Value::NIL))?;
///     let vector = m.alloc::<Vector>(|m| VectorInit { elements: elements.get(m), used: 0 })?;
///     let mut copies = 0;
///     for number in 0..1_000_000 {
///         let used = vector.get(m).used.get();
///         elements.set(m, vector.get(m).elements.get(m));
///         if used == elements.get(m).tail_len() {
///             // A few elements are copied; an array of more than a block grows where it is.
///             let longer = used + used / 2;
///             copies += u32::from(m.grow(elements, longer)? == Growth::Copied);
///             vector.get(m).elements.set(m, elements.get(m)); // the same array, or the copy
///         }
///         elements.get(m).tail()[used].set(m, Value::int(number));
///         vector.get(m).used.set(used + 1);
///         m.safepoint();
///     }
///     assert!(vector.get(m).elements.get(m).tail()[999_999].get(m).as_int() == Some(999_999));
///     assert!(copies < 22, "{copies} of 29 growths were copies");
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0277
/// use gc_heap::{Bytes, GrowableArray, Local, Mutator, Slot};
///
/// // Such a slot is never null, and there is nothing to put into those that come.
/// fn grow(m: &mut Mutator<'_>, array: Local<'_, GrowableArray<Slot<Bytes>>>) {
///     m.grow(array, 10).unwrap();
/// }
/// ```
#[derive(Trace)]
#[trace(crate = crate, tail = E, grows)]
pub struct GrowableArray<E: GrowableElement>(PhantomData<fn() -> E>);

/// An element of a [`GrowableArray`]: `Slot<Option<T>>`, `Slot<Tagged>`, `Num<N>`. Sealed.
#[diagnostic::on_unimplemented(
    message = "an array of `{Self}` cannot grow",
    label = "there is no empty element of this type",
    note = "elements of a `GrowableArray` are `Slot<Option<T>>`, `Slot<Tagged>` or `Num<N>`"
)]
pub trait GrowableElement: Field + sealed::Sealed {
    /// What each word of empty elements holds.
    #[doc(hidden)]
    const EMPTY: u64;

    /// Stores what this element holds to another.
    #[doc(hidden)]
    fn copy_to(&self, to: &Self, m: &Mutator<'_>);

    /// Makes an element empty that is zero.
    #[doc(hidden)]
    fn make_empty(&self, m: &Mutator<'_>);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! growable_elements {
    ($([$($generics:tt)*] $element:ty, $empty:expr, $copy:expr, $make:expr;)*) => {$(
        impl<$($generics)*> sealed::Sealed for $element {}

        impl<$($generics)*> GrowableElement for $element {
            const EMPTY: u64 = $empty;

            #[inline(always)]
            fn copy_to(&self, to: &Self, m: &Mutator<'_>) {
                $copy(self, to, m);
            }

            #[inline(always)]
            fn make_empty(&self, m: &Mutator<'_>) {
                $make(self, m);
            }
        }
    )*};
}

growable_elements! {
    [T: Trace] Slot<Option<T>>, 0, |from: &Self, to: &Self, m| to.set(m, from.get(m)), |_, _| ();
    [] Slot<Option<AnyObject>>, 0, |from: &Self, to: &Self, m| to.set(m, from.get(m)), |_, _| ();
    [] Slot<Tagged>, Value::NIL.word().bits(),
        |from: &Self, to: &Self, m| to.set(m, from.get(m)), |slot: &Self, m| slot.set(m, Value::NIL);
    [N: Number] Num<N>, 0, |from: &Self, to: &Self, _| to.set(from.get()), |_, _| ();
}
