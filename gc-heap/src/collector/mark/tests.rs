//! What a marker makes of the store log.

use super::*;
use crate::collector::roots::Roots;
use crate::slot::SlotType;
use crate::{AllocSize, Gc, Heap, Local, MIN_HEAP_BYTES, Slot, Stress, Trace};
use gc_core::word::Word;

#[derive(Trace)]
struct Node {
    next: Slot<Option<Node>>,
}

#[test]
fn the_store_log_is_taken_while_marking_runs_and_a_part_at_a_time() {
    const WORDS: usize = 1024;
    const BUFFERS: usize = 60;
    let nodes = 5 * LOOK_EVERY;
    let heap = Heap::builder().max_bytes(16 << 20).build().unwrap();
    heap.enter(|m| {
        let room = AllocSize::of::<Node>();
        let list: Local<'_, Option<Node>> = m.local(None);
        for _ in 0..nodes {
            let m = m.reserve(room).unwrap();
            list.set(m, Some(m.place(NodeInit { next: list.get(m) })));
        }
        let first = <Option<Node> as SlotType>::to_word(list.get(m)).word();
        // No cycle runs: half of the heap is free. The objects are older than the marking.
        let inner = heap.inner();
        inner.world.phase.next_epoch();
        // Like a thread that overwrites one reference repeatedly.
        let log = |buffers: usize| (0..buffers).for_each(|_| inner.world.log.push(vec![first; WORDS]));
        let shared = SharedMarkQueue::new(inner, 1, Roots::default());
        let mut marker = Marker::<false>::new(inner, &shared);

        log(BUFFERS_AT_ONCE + 1);
        assert!(marker.take_logs());
        assert_eq!(inner.world.log.len(), 1);
        // Marking drains the rest of the log automatically.
        log(BUFFERS);
        marker.drain();
        assert_eq!((inner.world.log.len(), marker.objects), (0, nodes));
        assert!(shared.peak_bytes() <= 4 * BUFFERS_AT_ONCE * WORDS * 8, "{}", shared.peak_bytes());
        assert!(!marker.take_logs());
    })
    .unwrap();
}

/// A thread that overwrites a slot without having loaded it logs the word that it finds there.
#[test]
fn a_logged_word_from_before_the_last_relocation_is_followed_to_where_its_object_is() {
    // Moves what can be moved in every cycle.
    let stress = Stress { cycle_every: u32::MAX, ..Stress::default() };
    let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).stress(stress).build().unwrap();
    heap.enter(|m| {
        let list = m
            .build::<Node>(AllocSize::of::<Node>().times(2), |m| {
                let last = m.place(NodeInit { next: None });
                m.place(NodeInit { next: Some(last) })
            })
            .unwrap();
        m.collect();
        // A block that a thread may still allocate in does not move: the first cycle has closed
        // it.
        m.collect();
        let inner = heap.inner();
        let offset_of = |node: Gc<'_, Node>| inner.memory.space.offset(<Node as SlotType>::to_word(node).bits());
        let first = list.get(m);
        let slot = inner.memory.word(offset_of(first).word(1));
        let stale = Word::of(slot, std::sync::atomic::Ordering::Relaxed);
        assert!(!inner.is_good(stale));
        let now = offset_of(first.next.get(m).unwrap());
        assert_ne!(now, inner.memory.space.offset(stale.bits()));
        inner.world.log.push(vec![stale]);
        let shared = SharedMarkQueue::new(inner, 1, Roots::default());
        let mut marker = Marker::<false>::new(inner, &shared);
        assert!(marker.take_logs());
        assert_eq!(marker.stack, [now]);
    })
    .unwrap();
}
