//! What was written with the names of before 0.1.0 goes on to compile, and means the same.
#![expect(deprecated, reason = "these names are what is tested")]

use gc_heap::{Bytes, Gc, Heap, LEAST_HEAP_BYTES, MIN_HEAP_BYTES, Out, Room, Slot, SlotKind, Sort, Trace, Word};

#[derive(Trace)]
struct Node {
    next: Slot<Option<Node>>,
}

fn is_word<'g, W: Word<'g>>(_: W) -> bool {
    true
}

/// Only compiled: a slot for a result is made by a frame.
#[expect(dead_code, reason = "only compiled")]
fn returned(_: Out<'_, Node>) {}

#[test]
fn the_names_of_before_mean_the_same() {
    assert_eq!(LEAST_HEAP_BYTES, MIN_HEAP_BYTES);
    assert_eq!(Sort::Weak, SlotKind::Weak);
    let heap = Heap::builder().max_bytes(LEAST_HEAP_BYTES).build().unwrap();
    heap.enter(|m| {
        let m = m.reserve(Room::tail::<Bytes>(3) + Room::of::<Node>()).unwrap();
        let bytes: Gc<'_, Bytes> = m.place_bytes((), b"abc");
        assert_eq!(m.lend(bytes), b"abc");
        assert_eq!(m.safepoint_wanted(), m.collector_is_waiting());
        let node = m.place(NodeInit { next: None });
        assert!(is_word(Some(node)) && node.next.get(m).is_none());
    })
    .unwrap();
}
