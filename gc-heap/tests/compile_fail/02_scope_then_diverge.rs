//! Trap 2: a scope's lifetime unifies with another's when the scope never ends.
use gc_heap::{Local, Mutator};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn before_loop<'s>(m: &mut Mutator<'s>, outer: &mut Vec<Local<'s, Node>>) {
    let _ = m.scope_local::<Node, ()>(|inner| {
        outer.push(inner.local(inner.place(NodeInit { next: None, key: 1 })));
        loop {}
    });
}

fn before_panic<'s>(m: &mut Mutator<'s>, outer: &mut Vec<Local<'s, Node>>) {
    let _ = m.scope_local::<Node, ()>(|inner| {
        outer.push(inner.local(inner.place(NodeInit { next: None, key: 1 })));
        panic!()
    });
}

fn two_enters_before_loop(m: &mut gc_heap::HeapThread, n: &mut gc_heap::HeapThread) {
    m.enter(|m| {
        let local = m.local(m.place(NodeInit { next: None, key: 1 }));
        n.enter(|n| {
            let _both = [local, n.local(n.place(NodeInit { next: None, key: 1 }))];
            loop {}
        })
        .ok();
    })
    .ok();
}

fn main() {}
