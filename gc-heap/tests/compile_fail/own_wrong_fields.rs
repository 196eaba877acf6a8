//! A field too few, too many, or of the wrong type in an initialiser.
use gc_heap::Mutator;

#[path = "../common/node.rs"]
mod node;
use node::NodeInit;

fn missing(m: &Mutator<'_>) {
    m.place(NodeInit { next: None });
}

fn unknown(m: &Mutator<'_>) {
    m.place(NodeInit { next: None, key: 1, other: 2 });
}

fn wrong_type(m: &Mutator<'_>) {
    m.place(NodeInit { next: 0, key: 1 });
}

fn main() {}
