//! Trap 3: a store needs the mutator, and null only fits a slot that can be null.
use gc_heap::{Gc, Mutator, Slot, Trace};

#[path = "../common/node.rs"]
mod node;
use node::Node;

#[derive(Trace)]
struct Pair {
    first: Slot<Node>,
}

fn without_mutator(a: Gc<'_, Node>) {
    a.next.set(None);
}

fn null_in_a_slot_that_has_none(m: &Mutator<'_>, pair: Gc<'_, Pair>) {
    pair.first.set(m, None);
}

fn null_at_birth() -> PairInit<'static> {
    PairInit { first: None }
}

fn of_another_type(m: &Mutator<'_>, a: Gc<'_, Node>, pair: Gc<'_, Pair>) {
    a.next.set(m, Some(pair));
}

fn main() {}
