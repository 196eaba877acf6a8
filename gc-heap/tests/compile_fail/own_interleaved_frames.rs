//! Frames end in the order of a stack.
use gc_heap::Mutator;

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn parent_first(m: &mut Mutator<'_>) {
    let mut outer = m.frame();
    let inner = outer.frame();
    drop(outer);
    drop(inner);
}

fn two_beside_each_other(m: &mut Mutator<'_>) {
    let first = m.frame();
    let second = m.frame();
    drop(first);
    drop(second);
}

fn result_by_the_parent_while_the_frame_is_open(m: &mut Mutator<'_>) {
    let (frame, out) = m.frame_for::<Node>();
    out.put(m, m.place(NodeInit { next: None, key: 1 }));
    drop(frame);
}

fn result_twice(m: &mut Mutator<'_>) {
    let (frame, out) = m.frame_for::<Node>();
    let gc = frame.place(NodeInit { next: None, key: 1 });
    out.put(&frame, gc);
    out.put(&frame, gc);
}

fn main() {}
