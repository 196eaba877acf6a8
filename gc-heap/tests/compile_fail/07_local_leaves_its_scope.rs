//! Trap 7: a local leaves the scope, the frame or the `enter` that it belongs to.
use gc_heap::{Heap, Local, Mutator};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn leaves_scope<'s>(m: &mut Mutator<'s>) {
    let mut kept = None;
    m.scope_local::<Node, ()>(|m| {
        let gc = m.place(NodeInit { next: None, key: 1 });
        kept = Some(m.local(gc));
        Ok(gc)
    })
    .ok();
    drop(kept);
}

fn leaves_enter(heap: &Heap) {
    heap.enter(|m| m.local(m.place(NodeInit { next: None, key: 1 }))).ok();
}

fn error_leaves_scope<'s>(m: &mut Mutator<'s>) {
    m.scope_local::<Node, _>(|m| Err(m.local(m.place(NodeInit { next: None, key: 1 })))).ok();
}

fn into_an_outer_vec(heap: &Heap) {
    let mut kept: Vec<Local<'_, Node>> = Vec::new();
    heap.enter(|m| kept.push(m.local(m.place(NodeInit { next: None, key: 1 })))).ok();
}

fn main() {}
