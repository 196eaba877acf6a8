//! Ephemerons are made by the allocator, and what they give ends at the next safepoint.
use gc_heap::{Ephemeron, Gc, Mutator, Trace};
use std::sync::atomic::AtomicU64;

#[derive(Trace)]
struct Node {
    pair: Ephemeron<Node, Node>,
}

fn made_by_hand() -> Ephemeron<Node, Node> {
    Ephemeron { key: AtomicU64::new(0), value: AtomicU64::new(0) }
}

fn taken_out(node: Gc<'_, Node>) -> Ephemeron<Node, Node> {
    node.pair
}

fn over_a_safepoint(m: &mut Mutator<'_>, node: gc_heap::Local<'_, Node>) {
    let pair = node.get(m).pair.get(m);
    m.safepoint();
    drop(pair);
}

fn value_of_another_type<'g>(m: &'g Mutator<'_>, node: Gc<'g, Node>, key: Gc<'g, gc_heap::Bytes>) {
    node.pair.set(m, Some((node, key)));
}

fn main() {}
