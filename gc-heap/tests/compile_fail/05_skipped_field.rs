//! Trap 5: no field can be skipped.
use gc_heap::Trace;

#[derive(Trace)]
struct Name {
    #[trace(skip)]
    text: &'static str,
}

fn main() {}
