//! Objects are aligned to 8 bytes.
use gc_heap::{Plain, Trace};

#[derive(Trace)]
#[repr(align(16))]
struct Wide {
    number: u64,
}

#[derive(Trace)]
struct Inner {
    number: Plain<u128>,
}

fn main() {}
