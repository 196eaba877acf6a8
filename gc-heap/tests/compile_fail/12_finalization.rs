//! Trap 12: what is given cannot be had on the wrong thread, kept past a safepoint, or be of another type.
use gc_heap::{FinalizerQueue, Gc, Local, Mutator, Resource, ResourceQueue, Trace};
use std::cell::Cell;
use std::rc::Rc;

#[derive(Trace)]
struct Node {
    id: u64,
}

#[derive(Trace)]
struct Other {
    id: u64,
}

fn not_send(queue: &ResourceQueue<Rc<u8>>, m: &Mutator<'_>, node: Gc<'_, Node>) {
    queue.attach(m, node, Rc::new(1));
}

fn not_sync(queue: &ResourceQueue<Cell<u8>>, m: &Mutator<'_>) {
    queue.place(m, Cell::new(1));
}

fn raw_reference_kept(queue: &ResourceQueue<Gc<'static, Node>>, m: &'static Mutator<'static>, node: Gc<'static, Node>) {
    queue.attach(m, node, node);
}

fn another_type(queue: &FinalizerQueue<Node>, m: &Mutator<'_>, other: Gc<'_, Other>) {
    queue.register(m, other);
}

fn value_over_a_safepoint(m: &mut Mutator<'_>, resource: Local<'_, Resource<String>>) {
    let text: &String = resource.get(m).as_ref().get();
    m.safepoint();
    drop(text.len());
}

fn value_moved_out(m: &Mutator<'_>, resource: Local<'_, Resource<String>>) -> String {
    *resource.get(m).get()
}

fn main() {}
