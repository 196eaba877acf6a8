//! A `Field` that is not the crate's: what it says of the fields is not believed.
#![forbid(unsafe_code)]
use gc_heap::{Plain, Slot, Trace};

/// Says that a slot is a number, and leaves it as the memory was.
mod a_slot_is_a_number {
    pub mod __private {
        pub use gc_heap::__private::{FieldName, Kind, NoHashWord, Trace, WordMap};

        pub trait Field {
            type Init<'g>;
            const MAP: WordMap = WordMap::empty(1);
            const OF: u64 = 0;
        }
        impl<S> Field for gc_heap::Slot<S> {
            type Init<'g> = ();
        }
    }
}

#[derive(Trace)]
#[trace(crate = a_slot_is_a_number, tail = u8)]
struct Number {
    slot: Slot<Option<Node>>,
}

/// Where a shared reference is wanted gives a unique one, of which an array's elements would be copies.
mod unique {
    pub mod __private {
        pub use gc_heap::__private::{FieldName, Kind, NoHashWord, Trace, WordMap};

        pub trait Field: gc_heap::Field {
            type Init<'g>;
            const OF: u64 = 0;
        }
        impl Field for gc_heap::Plain<&'static u64> {
            type Init<'g> = &'static mut u64;
        }
    }
}

#[derive(Trace)]
#[trace(crate = unique, tail = u8)]
struct Unique {
    number: Plain<&'static u64>,
}

#[derive(Trace)]
struct Node {
    key: u64,
}

fn main() {}
