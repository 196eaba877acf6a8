//! The outer mutator is unavailable inside a scope or a blocking section.
use gc_heap::Mutator;

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn in_a_scope(m: &mut Mutator<'_>) {
    m.scope_local::<Node, ()>(|_| {
        m.safepoint();
        Ok(m.place(NodeInit { next: None, key: 1 }))
    })
    .ok();
}

fn in_a_blocking_section(m: &mut Mutator<'_>) {
    m.blocking(|| m.safepoint());
}

fn in_an_initialiser(m: &mut Mutator<'_>) {
    m.alloc::<Node>(|_| {
        m.safepoint();
        NodeInit { next: None, key: 1 }
    })
    .ok();
}

fn into_a_blocking_section(m: &mut Mutator<'_>) {
    let gc = m.place(NodeInit { next: None, key: 1 });
    m.blocking(|| drop(gc.key));
}

fn out_of_a_blocking_section(m: &mut Mutator<'_>, other: &gc_heap::Heap) {
    let gc = m.blocking(|| other.enter(|m| m.place(NodeInit { next: None, key: 1 })).unwrap());
    drop(gc.key);
}

fn main() {}
