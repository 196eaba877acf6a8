//! A raw reference over an `await`, at which another future may get the mutator.
use gc_heap::Mutator;

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

async fn over_await(m: &mut Mutator<'_>) -> u64 {
    let gc = m.place(NodeInit { next: None, key: 1 });
    other(m).await;
    gc.key
}

async fn other(m: &mut Mutator<'_>) {
    m.safepoint();
}

async fn both_at_once(m: &mut Mutator<'_>) {
    let first = other(m);
    let second = other(m);
    first.await;
    second.await;
}

fn future_leaves_enter(heap: &gc_heap::Heap) {
    heap.enter(|m| over_await(m)).ok();
}

fn main() {
    let _: Option<Node> = None;
}
