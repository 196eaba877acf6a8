//! Trap 10: what belongs to one thread goes to another. (The rest: `tests/not_implemented.rs`.)
use gc_heap::{Local, RootSlot, RootStack, Slot, Tagged, WeakSlot};

#[path = "../common/node.rs"]
mod node;
use node::Node;

fn send<T: Send>() {}
fn sync<T: Sync>() {}

fn send_object() {
    send::<&Node>();
}

fn share_slot() {
    sync::<Slot<Node>>();
}

fn share_weak_slot() {
    sync::<WeakSlot<Node>>();
}

fn send_local() {
    send::<Local<'static, Node>>();
}

fn share_local() {
    sync::<Local<'static, Node>>();
}

fn share_stack() {
    sync::<RootStack>();
}

fn send_stack_slot() {
    send::<&RootSlot<Tagged>>();
}

fn main() {}
