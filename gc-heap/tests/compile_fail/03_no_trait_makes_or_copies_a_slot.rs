//! Trap 3: cloning, defaults, constructors.
use gc_heap::{Gc, Slot, Tagged, WeakSlot};

#[path = "../common/node.rs"]
mod node;
use node::Node;

fn cloned(a: Gc<'_, Node>) -> Slot<Option<Node>> {
    a.next.clone()
}

fn defaulted() -> Slot<Option<Node>> {
    Default::default()
}

fn made() -> Slot<Tagged> {
    Slot::new(0)
}

fn taken(a: Gc<'_, Node>) -> Slot<Option<Node>> {
    std::mem::take(&mut a.next)
}

fn converted() -> Slot<Tagged> {
    0_u64.into()
}

fn weak() -> WeakSlot<Node> {
    WeakSlot::default()
}

fn main() {}
