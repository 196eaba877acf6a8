//! Roots: slots outside the heap that keep objects alive.
//!
//! | root | lives in | owner |
//! | --- | --- | --- |
//! | [`Local`](crate::Local) | the mutator's frame region ([`local`]) | one scope of one thread |
//! | [`Root`] | a table of the heap ([`root`]) | its holder, on any thread |
//! | [`RootStack`] | a region of its own ([`root_stack`], [`bound`]) | its holder, one thread at a time |
//!
//! No pause visits any of them: they are scanned and repaired concurrently.

pub(crate) mod bound;
pub(crate) mod buffer;
pub(crate) mod local;
pub(crate) mod pinned;
pub(crate) mod root;
pub(crate) mod root_stack;

pub use bound::{BoundStack, RootSlot};
pub use buffer::{Buffer, Unfilled};
pub use pinned::Pinned;
pub use root::Root;
pub use root_stack::RootStack;
