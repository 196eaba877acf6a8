//! Code in a type is no part of the derive's `unsafe` blocks.
use gc_heap::Trace;

const unsafe fn any() -> usize {
    3
}

#[derive(Trace)]
struct Array {
    numbers: [u64; any()],
}

#[derive(Trace)]
#[trace(tail = [u64; any()])]
struct Tailed;

fn main() {}
