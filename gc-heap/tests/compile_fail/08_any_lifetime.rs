//! Trap 8: the lifetime of a raw reference is the borrow, not one that the caller likes.
use gc_heap::{Gc, Mutator, Root, Value};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn any<'any>(m: &Mutator<'_>) -> Gc<'any, Node> {
    m.place(NodeInit { next: None, key: 1 })
}

fn of_the_scope<'s>(m: &Mutator<'s>) -> Gc<'s, Node> {
    m.place(NodeInit { next: None, key: 1 })
}

fn forever(m: &Mutator<'_>) -> Gc<'static, Node> {
    m.place(NodeInit { next: None, key: 1 })
}

fn of_a_root<'r>(m: &Mutator<'_>, root: &'r Root<Node>) -> Gc<'r, Node> {
    root.get(m)
}

fn of_a_slot<'x>(m: &Mutator<'_>, gc: &'x Gc<'x, Node>) -> Option<Gc<'x, Node>> {
    gc.next.get(m)
}

fn lengthened<'short, 'long: 'short>(gc: Gc<'short, Node>) -> Gc<'long, Node> {
    gc
}

fn object_outlives_its_reference<'short, 'long: 'short>(gc: Gc<'short, Node>) -> &'long Node {
    gc.as_ref()
}

fn value_forever(m: &Mutator<'_>) -> Value<'static> {
    m.place(NodeInit { next: None, key: 1 }).into()
}

fn main() {}
