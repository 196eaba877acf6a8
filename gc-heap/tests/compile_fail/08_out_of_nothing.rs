//! Trap 8: nothing safe makes a raw reference out of nothing.
use gc_heap::{AnyGc, Gc, Local, Mutator};

#[path = "../common/node.rs"]
mod node;
use node::Node;

fn default<'g>() -> Gc<'g, Node> {
    Gc::default()
}

fn default_local<'s>() -> Local<'s, Node> {
    Default::default()
}

fn default_mutator<'s>() -> Mutator<'s> {
    Default::default()
}

fn from_a_word<'g>() -> Gc<'g, Node> {
    Gc::from_word(gc_core::word::GoodWord::of_bits(4096))
}

fn any_from_a_word<'g>() -> AnyGc<'g> {
    AnyGc::from_word(gc_core::word::GoodWord::of_bits(4096))
}

fn from_a_pointer<'g>(node: &'g Node) -> Gc<'g, Node> {
    node.into()
}

fn main() {}
