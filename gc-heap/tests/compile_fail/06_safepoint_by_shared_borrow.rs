//! Trap 6: whatever can be a safepoint takes `&mut Mutator`.
use gc_heap::{Mutator, AllocSize};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn safepoint(m: &Mutator<'_>) {
    m.safepoint();
}

fn reserve(m: &Mutator<'_>) {
    m.reserve(AllocSize::of::<Node>()).ok();
}

fn collect(m: &Mutator<'_>) {
    m.collect();
}

fn alloc(m: &Mutator<'_>) {
    m.alloc::<Node>(|_| NodeInit { next: None, key: 1 }).ok();
}

fn blocking(m: &Mutator<'_>) {
    m.blocking(|| ());
}

fn frame(m: &Mutator<'_>) {
    m.frame();
}

fn reserve_after_reserve(m: &mut Mutator<'_>) {
    let m = m.reserve(AllocSize::of::<Node>()).unwrap();
    m.reserve(AllocSize::of::<Node>()).ok();
}

fn main() {}
