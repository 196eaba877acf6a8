//! Trap 6: what says where an object is ends where it may move, and so does a table of it.
use gc_heap::{Address, Gc, Local, Mutator, Trace};
use std::collections::HashMap;

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn address(m: &mut Mutator<'_>, node: Local<'_, Node>) {
    let address = node.get(m).address();
    m.safepoint();
    drop(address == node.get(m).address());
}

fn of_any(m: &mut Mutator<'_>, node: Local<'_, Node>) {
    let address = node.get(m).any().address();
    m.safepoint();
    drop(format!("{address:?}"));
}

fn table(m: &mut Mutator<'_>, node: Local<'_, Node>) {
    let mut table = HashMap::new();
    table.insert(node.get(m).address(), 1);
    m.safepoint();
    table.clear();
}

fn kept_for_ever(m: &Mutator<'_>, node: Local<'_, Node>) {
    let address: Address<'static> = node.get(m).address();
    drop(address);
}

fn longer<'a, 'b, T: Trace>(gc: Gc<'a, T>) -> Address<'b> {
    gc.address()
}

fn made(m: &mut Mutator<'_>) {
    let address = m.place(NodeInit { next: None, key: 1 }).address();
    m.collect();
    drop(address.cmp(&address));
}

fn main() {}
