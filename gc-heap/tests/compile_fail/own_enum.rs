//! Enums and unions are no objects.
use gc_heap::{Slot, Trace};

#[derive(Trace)]
enum Either {
    Node(Slot<Either>),
    Number(u64),
}

#[derive(Trace)]
union Both {
    number: u64,
}

fn main() {}
