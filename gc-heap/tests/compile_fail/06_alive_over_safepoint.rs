//! Trap 6: everything raw ends at a safepoint.
use gc_heap::{Bytes, Gc, Mutator, AllocSize, RootStack, Value};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn raw_reference(m: &mut Mutator<'_>) {
    let gc = m.place(NodeInit { next: None, key: 1 });
    m.safepoint();
    drop(gc.key);
}

fn object(m: &mut Mutator<'_>) {
    let node: &Node = m.place(NodeInit { next: None, key: 1 }).as_ref();
    m.safepoint();
    drop(node.key);
}

fn slot(m: &mut Mutator<'_>) {
    let slot = &m.place(NodeInit { next: None, key: 1 }).as_ref().next;
    m.safepoint();
    slot.set(m, None);
}

fn bytes(m: &mut Mutator<'_>) {
    let bytes: &[u8] = m.place_bytes::<Bytes>((), b"text").tail();
    m.safepoint();
    drop(bytes[0]);
}

fn value(m: &mut Mutator<'_>) {
    let value: Value<'_> = m.place(NodeInit { next: None, key: 1 }).into();
    m.safepoint();
    drop(value.is_nil());
}

fn unpacked(m: &mut Mutator<'_>) {
    let unpacked = Value::from(m.place(NodeInit { next: None, key: 1 })).unpack();
    m.safepoint();
    drop(unpacked);
}

fn init(m: &mut Mutator<'_>) {
    let init = NodeInit { next: Some(m.place(NodeInit { next: None, key: 1 })), key: 2 };
    m.safepoint();
    m.place(init);
}

fn any(m: &mut Mutator<'_>) {
    let any = m.place(NodeInit { next: None, key: 1 }).any();
    m.safepoint();
    drop(any.downcast::<Node>());
}

fn root_slots(m: &mut Mutator<'_>, stack: &RootStack) {
    let [slot] = stack.last(m);
    m.safepoint();
    drop(slot.num());
    let slots = stack.slots(m);
    m.safepoint();
    drop(slots[0].num());
}

fn placed_after_reserve(m: &mut Mutator<'_>) {
    let gc = {
        let m = m.reserve(AllocSize::of::<Node>()).unwrap();
        m.place(NodeInit { next: None, key: 1 })
    };
    m.safepoint();
    drop(gc.key);
}

fn what_reserve_gives(m: &mut Mutator<'_>) {
    let placing = m.reserve(AllocSize::of::<Node>()).unwrap();
    m.safepoint();
    placing.place(NodeInit { next: None, key: 1 });
}

fn alloc_raw(m: &mut Mutator<'_>) {
    let (_, gc): (_, Gc<'_, Node>) = m.alloc_raw::<Node>(|_| NodeInit { next: None, key: 1 }).unwrap();
    m.safepoint();
    drop(gc.key);
}

fn main() {}
