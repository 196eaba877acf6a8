//! Trap 5: `Drop` on a derived type.
use gc_heap::Trace;

#[derive(Trace)]
struct Handle {
    number: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {}
}

fn main() {}
