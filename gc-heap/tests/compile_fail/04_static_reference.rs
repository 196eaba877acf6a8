//! Trap 4: `&'static T` or a thing that asks for `'static` holds a raw reference.
use gc_heap::{Gc, Mutator};
use std::any::Any;

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn object_as_static(m: &Mutator<'_>) -> &'static Node {
    m.place(NodeInit { next: None, key: 1 }).as_ref()
}

fn raw_reference_as_any(m: &Mutator<'_>) -> Box<dyn Any> {
    Box::new(m.place(NodeInit { next: None, key: 1 }))
}

fn borrowed_as_any<'g>(gc: &'g Gc<'g, Node>) -> &'g dyn Any {
    gc
}

fn boxed_object(gc: Gc<'_, Node>) -> Box<dyn std::fmt::Debug + 'static> {
    Box::new(gc)
}

fn tail_as_static(m: &Mutator<'_>) -> &'static [u8] {
    m.place_bytes::<gc_heap::Bytes>((), b"text").tail()
}

fn main() {}
