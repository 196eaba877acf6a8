//! Trap 2: a frame's locals go to the parent's scope because the frame never ends.
use gc_heap::{Local, Mutator};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn before_loop<'s>(m: &mut Mutator<'s>, outer: &mut Vec<Local<'s, Node>>) {
    let frame = m.frame();
    outer.push(frame.local(frame.place(NodeInit { next: None, key: 1 })));
    loop {}
}

fn before_panic<'s>(m: &mut Mutator<'s>, outer: &mut Vec<Local<'s, Node>>) {
    let frame = m.frame();
    outer.push(frame.local(frame.place(NodeInit { next: None, key: 1 })));
    panic!()
}

fn main() {}
