//! Trap 6: each function that can be a safepoint ends raw references.
use gc_heap::{Mutator, AllocSize};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn over_alloc(m: &mut Mutator<'_>) {
    let gc = m.place(NodeInit { next: None, key: 1 });
    m.alloc::<Node>(|_| NodeInit { next: None, key: 2 }).ok();
    drop(gc.key);
}

fn over_build(m: &mut Mutator<'_>) {
    let gc = m.place(NodeInit { next: None, key: 1 });
    m.build::<Node>(AllocSize::of::<Node>(), |m| m.place(NodeInit { next: None, key: 2 })).ok();
    drop(gc.key);
}

fn over_reserve(m: &mut Mutator<'_>) {
    let gc = m.place(NodeInit { next: None, key: 1 });
    let m = m.reserve(AllocSize::of::<Node>()).unwrap();
    m.place(NodeInit { next: Some(gc), key: 2 });
}

fn over_scope(m: &mut Mutator<'_>) {
    let gc = m.place(NodeInit { next: None, key: 1 });
    m.scope_local::<Node, ()>(|m| Ok(m.place(NodeInit { next: None, key: 2 }))).ok();
    drop(gc.key);
}

fn over_frame(m: &mut Mutator<'_>) {
    let gc = m.place(NodeInit { next: None, key: 1 });
    let mut frame = m.frame();
    frame.safepoint();
    drop(gc.key);
}

fn over_frame_for(m: &mut Mutator<'_>) {
    let gc = m.place(NodeInit { next: None, key: 1 });
    let (frame, out) = m.frame_for::<Node>();
    out.put(&frame, gc);
}

fn over_blocking(m: &mut Mutator<'_>) {
    let gc = m.place(NodeInit { next: None, key: 1 });
    m.blocking(|| ());
    drop(gc.key);
}

fn over_collect(m: &mut Mutator<'_>) {
    let gc = m.place(NodeInit { next: None, key: 1 });
    m.collect();
    drop(gc.key);
}

fn over_callee(m: &mut Mutator<'_>) {
    fn callee(_: &mut Mutator<'_>) {}
    let gc = m.place(NodeInit { next: None, key: 1 });
    callee(m);
    drop(gc.key);
}

fn over_safepoint_in_a_frame(m: &mut Mutator<'_>) {
    let mut frame = m.frame();
    let gc = frame.place(NodeInit { next: None, key: 1 });
    frame.safepoint();
    drop(gc.key);
}

fn main() {}
