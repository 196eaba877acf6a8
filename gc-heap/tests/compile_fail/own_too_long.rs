//! The fixed part is bounded, and the error names the remedy.
use gc_heap::{Slot, Tagged, Trace};

#[derive(Trace)]
struct Long {
    slots: [Slot<Tagged>; 512],
}

fn main() {}
