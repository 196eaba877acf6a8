//! Objects that every embedder needs.

use core::marker::PhantomData;

use super::Trace;
use super::field::Field;
use crate::slot::Slot;

/// A run of bytes: strings, buffers. It has no fields, so it is made from `()`: `m.place_bytes::<Bytes>((), payload)`.
#[derive(Trace)]
#[trace(tail = u8)]
pub struct Bytes;

/// An array of `E`, with its length fixed when it is made; it has no fields, so it is made from `()`.
///
/// `Array<f64>` holds numbers that never change, `Array<Num<f64>>` numbers that do, `Array<Slot<S>>` references
/// ([`SlotArray`]), and an array of a struct that derives `Trace` holds structs side by side.
#[derive(Trace)]
#[trace(tail = E)]
pub struct Array<E: Field>(PhantomData<fn() -> E>);

/// An array of references or values: `SlotArray<Tagged>`, `SlotArray<Option<Node>>`.
pub type SlotArray<S> = Array<Slot<S>>;
