//! Without any attribute: this crate stands in for the one that the derive names.
#![forbid(unsafe_code)]
extern crate gc_heap as real;
extern crate self as gc_heap;

pub mod __private {
    pub use real::__private::{FieldName, HashWord, IdentityHash, Init, Kind, NoHashWord, NoTail, Trace, WordMap};

    pub mod core {
        pub use ::core::{marker, ptr};
        pub mod mem {
            macro_rules! offset_of { ($($t:tt)*) => { 0 } }
            pub(crate) use offset_of;
        }
    }

    pub trait Field {
        type Init<'g>;
        const MAP: WordMap = WordMap::empty(1);
        const FIELDS: &'static [FieldName] = &[];
        const OF: () = ();
    }
    impl<S> Field for real::Slot<S> {
        type Init<'g> = u64;
    }
}

#[derive(real::Trace)]
#[trace(tail = u8)]
struct Liar {
    slot: real::Slot<Option<Liar>>,
}

fn main() {}
