//! What the lifetimes must allow: raw references get shorter, live side by side, and go through
//! callees.
use gc_heap::{AnyGc, Gc, Heap, Mutator, AllocSize, Slot, Trace, Value};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn shorter<'short, 'long: 'short>(gc: Gc<'long, Node>) -> Gc<'short, Node> {
    gc
}

fn shorter_value<'short, 'long: 'short>(value: Value<'long>) -> Value<'short> {
    value
}

fn shorter_any<'short, 'long: 'short>(any: AnyGc<'long>) -> AnyGc<'short> {
    any
}

/// An initialiser is invariant, its type being a projection, but what goes into it is shortened
/// there.
fn init<'a, 'b: 'a, 'c: 'a>(m: &'a Mutator<'_>, b: Gc<'b, Node>, c: Gc<'c, Pair>) -> Gc<'a, Pair> {
    m.place(PairInit { node: b, pair: Some(c) })
}

#[derive(Trace)]
struct Pair {
    node: Slot<Node>,
    pair: Slot<Option<Pair>>,
}

fn last<'g>(m: &'g Mutator<'_>, mut gc: Gc<'g, Node>) -> Gc<'g, Node> {
    while let Some(next) = gc.next.get(m) {
        gc = next;
    }
    gc
}

/// Two borrows of different length meet in one function.
fn either<'g>(first: bool, a: Gc<'g, Node>, b: Gc<'g, Node>) -> Gc<'g, Node> {
    if first { a } else { b }
}

/// A pointer to a slot walks a list, as for removal in place.
fn remove(m: &Mutator<'_>, head: &Slot<Option<Node>>, key: u64) {
    let mut slot = head;
    while let Some(node) = slot.get(m) {
        if node.key == key {
            slot.set(m, node.next.get(m));
            return;
        }
        slot = &node.as_ref().next;
    }
}

/// Elided lifetimes are enough to read.
fn length(m: &Mutator, node: Gc<Node>) -> u32 {
    1 + node.next.get(m).map_or(0, |next| length(m, next))
}

fn main() {
    let heap = Heap::builder().max_bytes(16 << 20).build().unwrap();
    heap.enter(|m| {
        let m = m.reserve(AllocSize::of::<Node>().times(4) + AllocSize::of::<Pair>().times(2)).unwrap();
        let a = m.place(NodeInit { next: None, key: 1 });
        let b = m.place(NodeInit { next: Some(a), key: 2 });
        let root = m.place(NodeInit { next: Some(b), key: 3 });
        assert_eq!(last(m, root).key, 1);
        assert_eq!(either(true, shorter(a), root).key, 1);
        assert_eq!(length(m, root), 3);
        remove(m, &root.next, 2);
        assert_eq!(length(m, root), 2);
        assert!(shorter_value(a.into()).downcast::<Node>().is_some());
        assert!(shorter_any(a.any()).downcast::<Pair>().is_none());
        let pair = m.place(PairInit { node: a, pair: None });
        let pair = init(m, b, pair);
        assert_eq!(pair.pair.get(m).unwrap().node.get(m).key, 1);
        assert_eq!(pair.node.get(m).key, 2);
        let other: Gc<'_, Node> = {
            let m: &Mutator<'_> = m;
            m.place(NodeInit { next: Some(shorter(a)), key: 4 })
        };
        assert!(other.next.get(m).unwrap().ptr_eq(a));
    })
    .unwrap();
}
