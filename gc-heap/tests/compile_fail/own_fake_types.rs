//! Types in the places of the crate's, which make what they like.
#![forbid(unsafe_code)]
use gc_heap::{Slot, Trace};

#[derive(Trace)]
struct Node {
    key: u64,
}

mod map {
    pub mod __private {
        pub use gc_heap::__private::{Field, FieldName, HashWord, IdentityHash, Init, Kind, NoHashWord, NoTail, Trace};

        pub struct WordMap;
    }
}

#[derive(Trace)]
#[trace(crate = map)]
struct Mapped {
    slot: Slot<Node>,
}

mod kind {
    pub mod __private {
        pub use gc_heap::__private::{Field, FieldName, HashWord, IdentityHash, Init, NoHashWord, NoTail, Trace, WordMap};

        pub struct Kind(&'static gc_heap::Kind);
        impl core::ops::Deref for Kind {
            type Target = gc_heap::Kind;
            fn deref(&self) -> &gc_heap::Kind {
                <crate::Node as gc_heap::Trace>::KIND
            }
        }
    }
}

#[derive(Trace)]
#[trace(crate = kind)]
struct OfNode {
    slot: Slot<Node>,
}

mod init {
    pub mod __private {
        pub use gc_heap::__private::{Field, FieldName, HashWord, IdentityHash, Kind, NoHashWord, NoTail, Trace, WordMap};

        pub trait Init<'g> {
            type Object;
        }
    }
}

#[derive(Trace)]
#[trace(crate = init)]
struct Made {
    slot: Slot<Node>,
}

// A tail that was not asked for: then nothing is placed without one.
mod tail {
    pub mod __private {
        pub use gc_heap::__private::{Field, FieldName, HashWord, IdentityHash, Init, Kind, NoHashWord, Trace, WordMap};

        pub type NoTail = u8;
    }
}

#[derive(Trace)]
#[trace(crate = tail)]
struct Tailed {
    slot: Slot<Node>,
}

fn main() {}
