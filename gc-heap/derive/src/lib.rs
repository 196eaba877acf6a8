//! `#[derive(Trace)]`: computes at compile time which words of an object are slots, and makes the
//! struct that new objects are made from. Use it through `gc_heap::Trace`, which documents it.

mod expand;
mod input;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct a type of heap object.
///
/// For `struct Node { left: Slot<Option<Node>>, key: u64 }` it makes, beside it and as visible as
/// it is, `struct NodeInit<'g>` with the same field names: a new `Node` is made from
/// `NodeInit { left: None, key: 1 }`. A struct literal of `Node` itself cannot be written, because
/// no safe code makes a `Slot`. The `NodeInit` of a tuple struct is a tuple struct; a struct
/// without fields (save `PhantomData`) is made from `()`.
///
/// # Attributes
///
/// - `#[trace(tail = Element)]`: objects end in a run of elements, whose number is fixed when the
///   object is made.
/// - `#[trace(identity_hash)]`: objects have an identity hash, which stays the same when they move.
///   Eight bytes each.
/// - `#[trace(crate = path)]`: where to find `gc_heap`, when it is not `::gc_heap`.
///
/// They may stand in one attribute. They belong to the struct: a field has none, for each is
/// traced.
///
/// # What is refused
///
/// Enums and unions (a slot must not change what it is), lifetimes (they would let a reference into
/// the heap in), `#[repr(packed)]`, alignment above 8, `Drop`, fields that are no `Field`, and a
/// fixed part above 4096 bytes.
///
/// A struct without a tail is a `Field` too: it may stand in others and be a tail element.
///
/// # Names
///
/// What the caller calls things is of no consequence: types, macros, modules and lifetimes of any
/// name may be in scope, and what stands in the place of `gc_heap` is not believed. Constants and
/// unit structs whose names begin with `__gc_heap_` are the exception: they may clash, in a compile
/// error.
#[proc_macro_derive(Trace, attributes(trace))]
pub fn derive_trace(tokens: TokenStream) -> TokenStream {
    let input = parse_macro_input!(tokens as DeriveInput);
    match input::Input::read(input) {
        Ok(input) => expand::expand(&input).into(),
        Err(error) => error.into_compile_error().into(),
    }
}
