//! Trap 3: what the allocator calls to fill fields is unsafe, so no safe code puts a slot outside the heap.
use gc_heap::{Field, Init, Slot, SlotType, Trace};
use std::mem::MaybeUninit;

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn object(init: NodeInit<'_>) {
    let mut node = MaybeUninit::<Node>::uninit();
    <Node as Trace>::write(init, node.as_mut_ptr());
}

fn initialiser(init: NodeInit<'_>) {
    let mut node = MaybeUninit::<Node>::uninit();
    init.write(node.as_mut_ptr());
}

fn field() {
    let mut slot = MaybeUninit::<Slot<Option<Node>>>::uninit();
    <Slot<Option<Node>> as Field>::write(None, slot.as_mut_ptr());
}

fn word() {
    <Node as SlotType>::from_word(gc_core::word::GoodWord::of_bits(4096));
}

fn main() {}
