//! Trap 1: a raw reference leaves the closure it was made in.
use gc_heap::{Gc, Heap, Mutator};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn returned(heap: &Heap) {
    heap.enter(|m| m.place(NodeInit { next: None, key: 1 })).ok();
}

fn stored_outside(heap: &Heap) {
    let mut kept: Option<Gc<'_, Node>> = None;
    heap.enter(|m| kept = Some(m.place(NodeInit { next: None, key: 1 }))).ok();
    drop(kept);
}

fn object_returned(heap: &Heap) {
    heap.enter(|m| m.place(NodeInit { next: None, key: 1 }).as_ref()).ok();
}

fn stored_in_a_vec_of_a_callee(m: &mut Mutator<'_>, into: &mut Vec<Gc<'_, Node>>) {
    into.push(m.place(NodeInit { next: None, key: 1 }));
}

fn main() {}
