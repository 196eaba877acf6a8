//! Slots and the values loaded from them: references, tagged values and weak references.
//!
//! # Words
//!
//! Every slot holds one 64-bit word, and a word says by itself whether it is a reference: then its
//! upper 16 bits are 0 and it is not 0. A typed slot holds 0 (null) or a reference. A tagged slot
//! holds a reference, or a number, or another immediate, all of which have upper bits set
//! ([`value`]). So the collector reads root slots and fields of every sort alike.
//!
//! # Invariants
//!
//! 1. A slot only ever holds words that were good when they were stored; words travel by load,
//!    heal, store and by no other way, so a failed heal always means that another thread stored or
//!    healed a good word.
//! 2. Slots are loaded Acquire and stored Release: an object's header and fields are written before
//!    a reference to it.
//! 3. A raw reference (`Gc`, `Value`, `AnyGc`) is good, borrows the mutator, and so ends at the
//!    next safepoint.

pub(crate) mod address;
pub(crate) mod any_object;
pub(crate) mod builtin;
pub(crate) mod ephemeron;
pub(crate) mod gc;
pub(crate) mod types;
pub(crate) mod value;
pub(crate) mod weak;
pub(crate) mod words;

pub use address::Address;
pub use any_object::WeakKey;
pub use builtin::{Array, Bytes, GrowableArray, GrowableElement, SlotArray};
pub use gc::{AnyGc, Gc};
pub use types::Rootable;
pub use value::{Unpacked, Value};
pub use weak::Weak;
pub use words::{AnyObject, Ephemeron, Referent, Slot, SlotType, Tagged, WeakSlot};

pub(crate) use crate::object::word::is_reference;
