//! A tail of what is no field.
use gc_heap::Trace;

#[derive(Trace)]
#[trace(tail = String)]
struct Names;

fn main() {}
