//! An initialiser that is none, or is of another type.
use gc_heap::{Mutator, Trace};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

struct Fake;

fn not_an_initialiser(m: &Mutator<'_>) {
    m.place(Fake);
}

fn the_object_itself(m: &Mutator<'_>, node: Node) {
    m.place(node);
}

#[derive(Trace)]
struct Other {
    key: u64,
}

fn of_another_type(m: &mut Mutator<'_>) {
    m.alloc::<Other>(|_| NodeInit { next: None, key: 1 }).ok();
}

fn literal_of_the_object(m: &Mutator<'_>) {
    m.place(Node { next: None, key: 1 });
}

fn main() {}
