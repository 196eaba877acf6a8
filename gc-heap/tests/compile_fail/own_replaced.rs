//! An attribute below the derive makes another struct of it, after the derive has read it.
#![forbid(unsafe_code)]
use gc_heap::{Slot, Trace};
use gc_heap_test_replace::replace;
use std::cell::Cell;

#[derive(Trace)]
#[replace(struct Longer { key: u64, next: Slot<Option<Longer>> })]
struct Longer {
    key: u64,
}

#[derive(Trace)]
#[replace(struct Shorter { key: u64 })]
struct Shorter {
    key: u64,
    next: Slot<Option<Shorter>>,
}

#[derive(Trace)]
#[replace(#[repr(packed)] struct Packed { key: u64, flag: u8 })]
struct Packed {
    key: u64,
    flag: u8,
}

#[derive(Trace)]
#[replace(union Union { key: u64, cell: std::mem::ManuallyDrop<Slot<Option<Node>>> })]
struct Union {
    key: u64,
}

#[derive(Trace)]
#[replace(enum Enum { Key(u64), Next(Slot<Option<Node>>) })]
struct Enum {
    key: u64,
}

#[derive(Trace)]
#[replace(struct Celled { key: Cell<u64> })]
struct Celled {
    key: u64,
}

#[derive(Trace)]
#[replace(struct Swapped { key: Slot<Option<Node>>, next: u64 })]
struct Swapped {
    key: u64,
    next: Slot<Option<Node>>,
}

/// The derive has read a struct that says something else of the same name, and that is gone.
mod decoy {
    use super::*;

    #[derive(Trace)]
    struct Node {
        key: u64,
    }

    mod fake {
        pub mod __private {
            pub use gc_heap::__private::{FieldName, HashWord, IdentityHash, Kind, WordMap};

            pub trait Trace: gc_heap::Trace {
                type Init<'g>;
                type Tail;
                type Hash;
                const MAP: WordMap;
                const FIELDS: &'static [FieldName];
                const KIND: &'static Kind;
            }
        }
    }

    #[derive(Trace)]
    #[trace(crate = fake, identity_hash, tail = u8)]
    #[replace()]
    struct Node;
}

#[derive(Trace)]
struct Node {
    key: u64,
}

fn main() {}
