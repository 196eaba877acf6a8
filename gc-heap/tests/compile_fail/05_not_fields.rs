//! Traps 4, 5, 9 and 10: what cannot be a field, nor an element of a tail.
use gc_heap::{Bytes, Field, Gc, Local, Num, Root, RootStack, Slot, Tagged, Value, Weak};

#[path = "../common/node.rs"]
mod node;
use node::Node;

fn field<F: Field>() {}

fn string() {
    field::<String>();
}

fn vec_of_slots() {
    field::<Vec<Slot<Node>>>();
}

fn cell() {
    field::<std::cell::Cell<u64>>();
}

fn mutex() {
    field::<std::sync::Mutex<u64>>();
}

fn atomic() {
    field::<std::sync::atomic::AtomicU64>();
}

fn rc() {
    field::<std::rc::Rc<u64>>();
}

fn arc() {
    field::<std::sync::Arc<u64>>();
}

fn any() {
    field::<Box<dyn std::any::Any>>();
}

fn closure() {
    field::<Box<dyn Fn() + Send + Sync>>();
}

fn reference() {
    field::<&'static u64>();
}

fn pointer() {
    field::<*const Node>();
}

fn option() {
    field::<Option<Slot<Node>>>();
}

fn tuple() {
    field::<(Slot<Node>, u64)>();
}

fn not_dropped() {
    field::<std::mem::ManuallyDrop<Slot<Node>>>();
}

fn raw_reference() {
    field::<Gc<'static, Node>>();
}

fn value() {
    field::<Value<'static>>();
}

fn local() {
    field::<Local<'static, Node>>();
}

fn root() {
    field::<Root<Node>>();
}

fn weak() {
    field::<Weak<Node>>();
}

fn stack() {
    field::<RootStack>();
}

fn with_a_tail() {
    field::<Bytes>();
}

fn array() {
    field::<[String; 2]>();
}

fn slot_of_no_object() {
    field::<Slot<std::rc::Rc<u64>>>();
}

fn slot_of_slot() {
    field::<Slot<Slot<Tagged>>>();
}

fn wide_number() {
    field::<Num<u128>>();
}

fn main() {}
