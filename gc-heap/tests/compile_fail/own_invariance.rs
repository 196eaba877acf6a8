//! A mutator's scope is neither shortened nor lengthened, nor is a local's.
use gc_heap::{Local, Mutator};

#[path = "../common/node.rs"]
mod node;
use node::Node;

fn shorter<'m, 's: 'm>(m: &'m mut Mutator<'s>) -> &'m mut Mutator<'m> {
    m
}

fn shorter_shared<'m, 's: 'm>(m: &'m Mutator<'s>) -> &'m Mutator<'m> {
    m
}

fn longer<'m, 's: 'm>(m: &'m Mutator<'m>, _: &Mutator<'s>) -> &'m Mutator<'s> {
    m
}

fn longer_local<'a, 'b: 'a>(local: Local<'a, Node>) -> Local<'b, Node> {
    local
}

fn main() {}
