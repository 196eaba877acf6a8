//! What an interpreter asks that keeps raw references: whether there is room, whether a safepoint
//! is due, and for what.

use crate::common::{checked, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Gc, Heap, Mutator, Slot, Trace};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Trace)]
struct Node {
    number: u64,
    next: Slot<Option<Node>>,
}

/// Nodes as long as there is room, on raw references alone; gives the last.
fn nodes<'g>(m: &'g Mutator<'_>) -> Option<Gc<'g, Node>> {
    let mut last: Option<Gc<'_, Node>> = None;
    while m.has_room(AllocSize::of::<Node>()) {
        last = Some(m.place(NodeInit { number: last.map_or(0, |node| node.number) + 1, next: last }));
    }
    last
}

fn check(m: &Mutator<'_>, last: Option<Gc<'_, Node>>) -> u64 {
    let count = last.map_or(0, |node| node.number);
    let (mut node, mut expected) = (last, count);
    while let Some(n) = node {
        assert_eq!(n.number, expected);
        (node, expected) = (n.next.get(m), expected - 1);
    }
    assert_eq!(expected, 0, "the list is not whole");
    count
}

/// While a thread asks only whether there is room, nothing moves, however often others want to
/// collect.
pub(crate) fn what_is_placed_while_there_is_room_stays_where_it_is(barrier: Barrier) {
    let heap = checked(barrier, 8 << 20).build().unwrap();
    while_collecting(&heap, Duration::ZERO, || {
        heap.enter(|m| {
            let mut placed = 0;
            for _ in 0..300 {
                m.reserve(AllocSize::of::<Node>()).unwrap();
                placed += check(m, nodes(m));
            }
            assert!(placed >= 300, "{placed} nodes: hardly ever was there room");
        })
        .unwrap();
    });
    assert!(heap.stats().cycles > 0);
}

/// What was reserved is there, more than a block is not, and under stress there never is room
/// without a safepoint.
pub(crate) fn room_is_what_reserve_would_give_at_once(barrier: Barrier) {
    let heap = checked(barrier, 8 << 20).build().unwrap();
    heap.enter(|m| {
        assert!(!m.has_room(AllocSize::of::<Node>()), "a thread begins without a block");
        m.reserve(AllocSize::of::<Node>()).unwrap();
        assert!(m.has_room(AllocSize::of::<Node>()) && m.has_room(AllocSize::NONE));
        assert!(!m.has_room(AllocSize::of::<Node>().times(10_000)));
        assert!(!m.has_room(AllocSize::tail::<gc_heap::Bytes>(40_000)), "a large object is never there at once");
        assert!(!m.has_room(AllocSize::tail::<gc_heap::Bytes>(usize::MAX)));
    })
    .unwrap();
    let heap = checked(barrier, 8 << 20).stress(stress(31)).build().unwrap();
    heap.enter(|m| {
        m.reserve(AllocSize::of::<Node>()).unwrap();
        assert!(!m.has_room(AllocSize::of::<Node>()) && m.safepoint_due());
    })
    .unwrap();
}

/// Runs `inside` in the heap while another thread asks for a cycle, which waits for this one.
fn while_one_waits(heap: &Heap, inside: impl FnOnce(&mut Mutator<'_>, &AtomicBool)) {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        heap.enter(|m| {
            m.collect();
            m.safepoint();
            assert!(!m.safepoint_due() && !m.collector_is_waiting(), "nobody wants anything, also of who has no block");
            m.reserve(AllocSize::of::<Node>()).unwrap();
            m.safepoint();
            scope.spawn(|| {
                heap.collect();
                ended.store(true, Ordering::SeqCst);
            });
            inside(m, &ended);
        })
        .unwrap();
    });
}

/// A loop that polls lets the cycle come to its end; and what was due is due no more after a
/// safepoint.
pub(crate) fn a_thread_hears_that_it_is_waited_for(barrier: Barrier) {
    for _ in 0..20 {
        let heap = checked(barrier, 4 << 20).build().unwrap();
        while_one_waits(&heap, |m, ended| {
            while !m.safepoint_due() {
                std::hint::spin_loop();
            }
            // Nothing was placed, so it is due because the collector wants it, which waits as long
            // as this does nothing.
            assert!(m.collector_is_waiting() && !ended.load(Ordering::SeqCst));
            assert!(!m.has_room(AllocSize::of::<Node>()), "room would keep this thread from its safepoint");
            let mut answered = 0;
            while !ended.load(Ordering::SeqCst) {
                if m.safepoint_due() {
                    m.safepoint();
                    answered += 1;
                }
                std::thread::yield_now();
            }
            assert!(answered > 0);
            while m.collector_is_waiting() {
                m.safepoint(); // what the collector does after a cycle
            }
            // Marking has ended the thread's block, and it asks for no other.
            m.safepoint();
            assert!(!m.safepoint_due() && !m.collector_is_waiting());
        });
        assert_eq!(heap.stats().cycles, 2);
    }
}

/// `collector_is_waiting` alone is enough to know when to leave.
pub(crate) fn a_thread_hears_who_wants_its_safepoint(barrier: Barrier) {
    for _ in 0..20 {
        let heap = checked(barrier, 4 << 20).build().unwrap();
        while_one_waits(&heap, |m, ended| {
            while !ended.load(Ordering::SeqCst) {
                if m.collector_is_waiting() {
                    m.safepoint();
                }
                std::hint::spin_loop();
            }
        });
    }
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        what_is_placed_while_there_is_room_stays_where_it_is,
        room_is_what_reserve_would_give_at_once,
        a_thread_hears_that_it_is_waited_for,
        a_thread_hears_who_wants_its_safepoint
    ],
    ..Tests::NONE
};
