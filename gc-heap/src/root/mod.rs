//! Roots: slots outside the heap that keep objects alive.
//!
//! | root | lives in | owner |
//! | --- | --- | --- |
//! | [`Local`](crate::Local) | the mutator's frame region ([`frame`](crate::mutator)) | one scope of one thread |
//! | [`Root`] | a table of the heap ([`table`]) | whoever holds it, on any thread |
//! | [`RootStack`] | a region of its own ([`stack`], [`bound`]) | whoever holds it, one thread at a time |
//!
//! No pause visits any of them: they are scanned and repaired while the mutators run.

pub(crate) mod area;
pub(crate) mod bound;
pub(crate) mod buffer;
mod extents;
mod frames;
pub(crate) mod memory;
pub(crate) mod pin;
mod pool;
pub(crate) mod stack;
pub(crate) mod table;

pub use bound::{BoundStack, RootSlot};
pub use buffer::Buffer;
pub use pin::Pinned;
pub use stack::RootStack;
pub use table::Root;
