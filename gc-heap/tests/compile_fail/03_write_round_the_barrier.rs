//! Trap 3: a slot is written or taken by projection, auto-deref or the usual traits.
use gc_heap::{Gc, Slot};

#[path = "../common/node.rs"]
mod node;
use node::Node;

fn assigned(a: Gc<'_, Node>, b: Gc<'_, Node>) {
    a.next = b.next;
}

fn assigned_through(a: &Slot<Option<Node>>, b: Slot<Option<Node>>) {
    *a = b;
}

fn moved_out(a: Gc<'_, Node>) -> Slot<Option<Node>> {
    a.next
}

fn swapped(a: Gc<'_, Node>, b: Gc<'_, Node>) {
    std::mem::swap(&mut a.next, &mut b.next);
}

fn taken_mutably<'g>(a: Gc<'g, Node>) -> &'g mut Node {
    &mut *a
}

fn main() {}
