//! Objects that every embedder needs.

use core::marker::PhantomData;

use crate::object::{Field, Trace};
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
