//! An initialiser is no safepoint, takes nothing older than the safepoint before it, and lets nothing out.
use gc_heap::Mutator;

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn safepoint_in_it(m: &mut Mutator<'_>) {
    m.alloc::<Node>(|m| {
        m.safepoint();
        NodeInit { next: None, key: 1 }
    })
    .ok();
}

fn alloc_in_it(m: &mut Mutator<'_>) {
    m.alloc::<Node>(|m| {
        m.alloc::<Node>(|_| NodeInit { next: None, key: 1 }).ok();
        NodeInit { next: None, key: 1 }
    })
    .ok();
}

fn main() {}
