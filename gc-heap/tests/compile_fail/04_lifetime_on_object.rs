//! Trap 4: an object type with a lifetime.
use gc_heap::{Gc, Plain, Trace};

#[path = "../common/node.rs"]
mod node;
use node::Node;

#[derive(Trace)]
struct Holder<'g> {
    held: Plain<Gc<'g, Node>>,
}

fn main() {}
