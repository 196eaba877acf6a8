//! An old raw reference in an initialiser or a tail; a new one out of a callback.
use gc_heap::{Gc, Mutator, AllocSize, SlotArray};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn old_in_an_initialiser(m: &mut Mutator<'_>) {
    let old = m.place(NodeInit { next: None, key: 1 });
    m.alloc::<Node>(|_| NodeInit { next: Some(old), key: 2 }).ok();
}

fn old_in_a_tail(m: &mut Mutator<'_>) {
    let old = m.place(NodeInit { next: None, key: 1 });
    let m = m.reserve(AllocSize::tail::<SlotArray<Node>>(1)).unwrap();
    m.place_tail::<SlotArray<Node>, _>((), [old]);
}

fn out_of_an_initialiser(m: &mut Mutator<'_>) {
    let mut out: Option<Gc<'_, Node>> = None;
    m.alloc::<Node>(|m| {
        out = Some(m.place(NodeInit { next: None, key: 1 }));
        NodeInit { next: None, key: 2 }
    })
    .ok();
    drop(out);
}

fn out_of_a_scope(m: &mut Mutator<'_>) {
    let mut out: Option<Gc<'_, Node>> = None;
    m.scope_local::<Node, ()>(|m| {
        let gc = m.place(NodeInit { next: None, key: 1 });
        out = Some(gc);
        Ok(gc)
    })
    .ok();
    drop(out);
}

fn out_of_build(m: &mut Mutator<'_>) {
    let mut out: Option<Gc<'_, Node>> = None;
    m.build::<Node>(AllocSize::of::<Node>(), |m| {
        let gc = m.place(NodeInit { next: None, key: 1 });
        out = Some(gc);
        gc
    })
    .ok();
    drop(out);
}

fn main() {}
