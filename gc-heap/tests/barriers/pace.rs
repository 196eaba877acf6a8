//! When cycles begin, and when they do not.

use crate::common::backing;
use crate::harness::{Tests, tests};
use gc_heap::{Barrier, Heap, HeapBuilder, OutOfMemory, Room, Slot, Trace};

#[derive(Trace)]
struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

fn heap(barrier: Barrier, max_bytes: usize) -> HeapBuilder {
    Heap::builder().max_bytes(max_bytes).barrier(barrier).backing(backing())
}

/// A list of three thousand built at once takes two blocks, of which an empty heap has some.
pub(crate) fn a_reservation_of_several_blocks_takes_free_ones(barrier: Barrier) {
    const NODES: usize = 8000;
    let heap = heap(barrier, 64 << 20).build().unwrap();
    let build = heap.enter(|m| -> Result<(), OutOfMemory> {
        for round in 0..50 {
            let m = m.reserve(Room::of::<Node>().times(NODES))?;
            let mut list = None;
            for id in 0..NODES as u64 {
                list = Some(m.place(NodeInit { id: round + id, next: list }));
            }
            assert_eq!(list.map(|node| node.id), Some(round + NODES as u64 - 1));
        }
        Ok(())
    });
    build.unwrap().unwrap();
    let stats = heap.stats();
    assert!(stats.allocated_bytes < 32 << 20, "half of the heap is left: {stats:?}");
    assert_eq!((stats.cycles, stats.stalls), (0, 0));
}

pub(crate) const TESTS: Tests = Tests { every: tests![a_reservation_of_several_blocks_takes_free_ones], ..Tests::NONE };
