//! What an object is: its header, the map of its slots, and the traits that `#[derive(Trace)]`
//! implements.
//!
//! The collector runs no code of the embedder. It traces an object by its [`Kind`], a table of
//! words that the derive computes at compile time: which words of the fixed part are slots, and
//! which words of each tail element.
//!
//! - [`map`]: the compile-time maps and how they compose.
//! - [`names`]: what fields are called.
//! - [`kind`]: the table that marking and repair read.
//! - [`header`]: the first word of every object.
//! - [`slots`]: the slots of one object, or of a part of it.
//! - [`field`]: what may stand in an object.
//! - [`trace`]: what an object and its initialiser are.
//! - [`builtin`]: `Bytes` and arrays.
//! - [`derived`]: the rules that make derived code sound.
//!
//! # Invariants
//!
//! The unsafe code of this module, of the derive, and of every user of a [`Kind`] relies on these:
//!
//! 1. **Exact maps.** Bit `i` of a map is set if and only if word `i` is a slot of that sort. Maps
//!    come from [`Field::MAP`] and where the compiler put the fields, and both traits are unsafe.
//! 2. **Slots only in the heap.** No safe code makes a slot, so no safe code makes a struct that
//!    holds one. It comes into being by [`Field::write`], called by the allocator alone.
//! 3. **Nothing to drop.** An object's memory is reused without notice, so no object and no element
//!    needs drop; [`Kind::of`] refuses them at compile time.
//! 4. **Shared by threads.** A field is immutable, or atomic.

pub(crate) mod derived;
pub(crate) mod derived_token;
pub(crate) mod field;
pub(crate) mod header;
pub(crate) mod kind;
mod kind_of;
pub(crate) mod map;
pub(crate) mod names;
#[cfg(feature = "census")]
pub(crate) mod slot_name;
pub(crate) mod slots;
pub(crate) mod trace;
pub(crate) mod word;

pub use field::{Num, Number, Plain};
pub use kind::Kind;
pub use map::{SlotKind, WordMap};
pub use names::FieldName;
// The derive macro and the trait share their name.
pub use gc_heap_derive::Trace;
pub use trace::{Byte, Empty, Field, IdentityHash, Init, NoTail, Tail, TailElement, Trace};

/// What derived code names. Not part of the API: any release may change it.
#[doc(hidden)]
pub mod __private {
    pub use super::kind::Kind;
    pub use super::map::WordMap;
    pub use super::names::FieldName;
    pub use super::trace::Field;
    pub use super::trace::{HashWord, IdentityHash, Init, NoHashWord, NoTail, Trace};
}
