//! Trap 3: the word of a slot, of a raw reference or of a local is private.
use gc_heap::{Gc, Local};
use std::sync::atomic::Ordering;

#[path = "../common/node.rs"]
mod node;
use node::Node;

fn stored(a: Gc<'_, Node>) {
    a.next.word.store(0, Ordering::Relaxed);
}

fn local_slot(local: Local<'_, Node>) {
    local.slot;
}

fn main() {}
