//! A tail of elements without size.
use gc_heap::Trace;

#[derive(Trace)]
#[trace(tail = [u64; 0])]
struct Nothing;

fn main() {}
