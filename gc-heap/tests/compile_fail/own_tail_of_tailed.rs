//! An object with a tail is of no fixed size: it is neither a field nor an element.
use gc_heap::{Bytes, Trace};

#[derive(Trace)]
#[trace(tail = Bytes)]
struct Texts;

fn main() {}
