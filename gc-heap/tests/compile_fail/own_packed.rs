//! A packed struct's slots would not be aligned.
use gc_heap::Trace;

#[derive(Trace)]
#[repr(C, packed)]
struct Tight {
    flag: u8,
    number: u64,
}

fn main() {}
