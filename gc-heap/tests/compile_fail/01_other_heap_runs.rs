//! Trap 1: a raw reference is used, or written through, while another heap runs.
use gc_heap::{Heap, Mutator, Root};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn used<'s>(m: &mut Mutator<'s>, other: &Heap) {
    let gc = m.place(NodeInit { next: None, key: 1 });
    m.blocking(|| other.enter(|theirs| gc.next.get(theirs).is_some()).ok());
}

fn written<'s>(m: &mut Mutator<'s>, other: &Heap, root: &Root<Node>) {
    let slot = &m.place(NodeInit { next: None, key: 1 }).as_ref().next;
    m.blocking(|| other.enter(|theirs| slot.set(theirs, Some(root.get(theirs)))).ok());
}

fn carried_over<'s>(m: &mut Mutator<'s>, other: &Heap) {
    let gc = m.place(NodeInit { next: None, key: 1 });
    m.blocking(|| other.enter(|theirs| Root::<Node>::new(theirs, gc)).ok());
}

fn main() {}
