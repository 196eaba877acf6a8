//! A tail on a type that has none, none on a type that has one, elements of another type.
use gc_heap::{Mutator, Slot, SlotArray, Tagged, Trace};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

#[derive(Trace)]
#[trace(tail = Slot<Node>)]
struct Children {
    count: u64,
}

fn none_where_there_is_one(m: &Mutator<'_>) {
    m.place(ChildrenInit { count: 1 });
}

fn one_where_there_is_none(m: &Mutator<'_>) {
    m.place_tail::<Node, _>(NodeInit { next: None, key: 1 }, [1]);
}

fn bytes_where_there_are_slots(m: &Mutator<'_>) {
    m.place_bytes::<SlotArray<Tagged>>((), b"forged!!");
}

fn wrong_elements(m: &Mutator<'_>) {
    m.place_tail::<Children, _>(ChildrenInit { count: 1 }, [1_u64]);
}

fn null_elements(m: &Mutator<'_>) {
    m.place_array::<Children>(ChildrenInit { count: 1 }, 3, None);
}

fn tail_of_none(m: &Mutator<'_>) {
    m.place(NodeInit { next: None, key: 1 }).tail();
}

fn main() {}
