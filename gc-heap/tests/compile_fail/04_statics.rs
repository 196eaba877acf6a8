//! Trap 4: raw references and locals in thread-locals and statics.
use gc_heap::{Gc, Local, Mutator};
use std::cell::Cell;

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

thread_local! {
    static GC: Cell<Option<Gc<'static, Node>>> = const { Cell::new(None) };
    static LOCAL: Cell<Option<Local<'static, Node>>> = const { Cell::new(None) };
}

fn raw_reference(m: &Mutator<'_>) {
    GC.set(Some(m.place(NodeInit { next: None, key: 1 })));
}

fn local(m: &Mutator<'_>) {
    LOCAL.set(Some(m.local(m.place(NodeInit { next: None, key: 1 }))));
}

fn local_of_a_frame(m: &mut Mutator<'_>) {
    let frame = m.frame();
    LOCAL.set(Some(frame.local(frame.place(NodeInit { next: None, key: 1 }))));
}

fn main() {}
