//! Traps 4, 5 and 10: what cannot be in a `Plain`. (Raw references and values: `tests/not_implemented.rs`.)
use gc_heap::{Field, Local, Plain, Slot, Tagged};
use std::cell::Cell;

#[path = "../common/node.rs"]
mod node;
use node::Node;

fn field<F: Field>() {}

fn local() {
    field::<Plain<Local<'static, Tagged>>>();
}

fn object() {
    field::<Plain<&'static Node>>();
}

fn slot() {
    field::<Plain<Slot<Node>>>();
}

fn string() {
    field::<Plain<String>>();
}

fn not_shared() {
    field::<Plain<&'static Cell<u64>>>();
}

fn pointer() {
    field::<Plain<*const u8>>();
}

fn main() {}
