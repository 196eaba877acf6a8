//! Trap 5: `Drop` on a struct that stands inside an object or its tail.
use gc_heap::Trace;

#[derive(Trace)]
struct Part<T: gc_heap::Field> {
    number: T,
}

impl<T: gc_heap::Field> Drop for Part<T> {
    fn drop(&mut self) {}
}

#[derive(Trace)]
struct Whole {
    part: Part<u8>,
}

#[derive(Trace)]
#[trace(tail = Part<u8>)]
struct Parts;

fn main() {}
