//! Trap 5: a field that owns memory elsewhere.
use gc_heap::Trace;

#[derive(Trace)]
struct Name {
    text: String,
}

fn main() {}
