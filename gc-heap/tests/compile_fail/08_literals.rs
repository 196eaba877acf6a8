//! Traps 3 and 8: no literal of a slot, a raw reference, a value, a local, a mutator or a frame.
use gc_heap::{AnyGc, Frame, Gc, Local, Mutator, Num, ReturnSlot, Plain, RootSlot, Slot, Tagged, Value, WeakSlot};

#[path = "../common/node.rs"]
mod node;
use node::Node;

fn slot() -> Slot<Node> {
    Slot {}
}

fn weak_slot() -> WeakSlot<Node> {
    WeakSlot {}
}

fn root_slot() -> RootSlot<Tagged> {
    RootSlot {}
}

fn raw_reference<'g>() -> Gc<'g, Node> {
    Gc {}
}

fn any_raw_reference<'g>() -> AnyGc<'g> {
    AnyGc {}
}

fn value<'g>() -> Value<'g> {
    Value {}
}

fn local<'s>() -> Local<'s, Node> {
    Local {}
}

fn mutator<'s>() -> Mutator<'s> {
    Mutator {}
}

fn frame<'a>() -> Frame<'a> {
    Frame {}
}

fn out<'s>() -> ReturnSlot<'s, Node> {
    ReturnSlot {}
}

fn number() -> Num<u64> {
    Num(1)
}

fn plain() -> Plain<u64> {
    Plain(1)
}

fn main() {}
