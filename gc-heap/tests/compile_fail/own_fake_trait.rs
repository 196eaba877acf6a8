//! Other traits in the places of the crate's.
#![forbid(unsafe_code)]
use gc_heap::Trace;

/// A trait of one's own is implemented, and not the heap's: nothing of this type gets in.
mod own {
    pub mod __private {
        pub use gc_heap::__private::{Field, FieldName, HashWord, IdentityHash, Init, Kind, NoHashWord, NoTail, WordMap};

        pub struct Derived;

        pub trait Trace: Sized {
            type Init<'g>;
            type Tail;
            type Hash;
            const MAP: WordMap;
            const FIELDS: &'static [FieldName];
            const KIND: &'static Kind;
            const DERIVED: Derived = Derived;
            unsafe fn write<'g>(init: Self::Init<'g>, dst: *mut Self);
        }
    }
}

#[derive(Trace)]
#[trace(crate = own)]
struct Own;

/// Two of the crate's, in each other's place.
mod swapped {
    pub mod __private {
        pub use gc_heap::__private::{Field as Trace, FieldName, HashWord, IdentityHash, Init, Kind, NoHashWord, NoTail};
        pub use gc_heap::__private::{Trace as Field, WordMap};
    }
}

#[derive(Trace)]
#[trace(crate = swapped)]
struct Swapped;

/// An unsafe trait without functions.
mod marker {
    pub mod __private {
        pub use core::marker::Send as IdentityHash;
        pub use gc_heap::__private::{Field, FieldName, HashWord, Init, Kind, NoHashWord, NoTail, Trace, WordMap};
    }
}

#[derive(Trace)]
#[trace(crate = marker, identity_hash)]
struct Marked;

/// Objects without the word that the trait stands for.
mod no_word {
    pub mod __private {
        pub use gc_heap::__private::{Field, FieldName, IdentityHash, Init, Kind, NoHashWord, NoHashWord as HashWord};
        pub use gc_heap::__private::{NoTail, Trace, WordMap};
    }
}

#[derive(Trace)]
#[trace(crate = no_word, identity_hash)]
struct NoWord;

fn main() {}
