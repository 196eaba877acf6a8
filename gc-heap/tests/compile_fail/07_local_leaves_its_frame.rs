//! Trap 7: a local that is left over after its frame keeps the parent borrowed.
use gc_heap::{Local, Mutator};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn used_after_the_frame(m: &mut Mutator<'_>) {
    let frame = m.frame();
    let local = frame.local(frame.place(NodeInit { next: None, key: 1 }));
    drop(frame);
    drop(local.get(m).key);
}

fn used_after_a_forgotten_frame(m: &mut Mutator<'_>) {
    let frame = m.frame();
    let local = frame.local(frame.place(NodeInit { next: None, key: 1 }));
    std::mem::forget(frame);
    drop(local.get(m).key);
}

fn returned<'s>(m: &mut Mutator<'s>) -> Local<'s, Node> {
    let frame = m.frame();
    frame.local(frame.place(NodeInit { next: None, key: 1 }))
}

fn given_to_the_parent<'s>(m: &mut Mutator<'s>, kept: &mut Vec<Local<'s, Node>>) {
    let frame = m.frame();
    kept.push(frame.local(frame.place(NodeInit { next: None, key: 1 })));
}

fn parent_used_beside_the_frame(m: &mut Mutator<'_>) {
    let frame = m.frame();
    let local = m.local(m.place(NodeInit { next: None, key: 1 }));
    drop(frame);
    drop(local.get(m).key);
}

fn frame_returned<'a>(mut m: Mutator<'a>) -> gc_heap::Frame<'a> {
    m.frame()
}

fn main() {}
