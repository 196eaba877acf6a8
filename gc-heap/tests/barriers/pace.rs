//! When cycles begin, and when they do not.

use crate::common::backing;
use crate::harness::{Tests, tests};
use gc_heap::{Backing, Barrier, Bytes, Event, Heap, HeapBuilder, OutOfMemory, Room, Slot, SlotArray, Trace};
use std::time::Duration;

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

/// Cycles that take less than a millisecond, while blocks are taken by the gigabyte a second: a margin that does not know how short a
/// cycle is takes the whole heap, and cycles follow one another.
pub(crate) fn short_cycles_do_not_follow_one_another(barrier: Barrier) {
    const KEPT: usize = 500;
    type Table = SlotArray<Option<Bytes>>;
    let cycles = |heap: HeapBuilder| {
        let heap = heap.build().unwrap();
        let junk = vec![b'!'; 100_000];
        let storm = heap.enter(|m| -> Result<(), OutOfMemory> {
            let table = m.build::<Table>(Room::tail::<Table>(KEPT), |m| m.place_array((), KEPT, None))?;
            for index in 0..KEPT {
                let m = m.reserve(Room::tail::<Bytes>(junk.len() / 2))?;
                table.get(m).tail()[index].set(m, Some(m.place_bytes::<Bytes>((), &junk[..junk.len() / 2])));
            }
            for _ in 0..40_000 {
                m.reserve(Room::tail::<Bytes>(junk.len()))?.place_bytes::<Bytes>((), &junk);
            }
            Ok(())
        });
        storm.unwrap().unwrap();
        heap.stats().cycles
    };
    let baseline = cycles(heap(Barrier::StopTheWorld, 128 << 20).backing(Backing::Memfd));
    // A few times as many are wanted; where the machine is busy with other things, cycles are long.
    let seen: Vec<_> = (0..5).map(|_| cycles(heap(barrier, 128 << 20))).collect();
    assert!(
        seen.iter().min() <= Some(&(5 * baseline)),
        "{seen:?} cycles, and {baseline} where nobody allocates meanwhile"
    );
}

/// A `collect` before anything lives finds nothing in no time. The next cycle begins when half of the heap is used all the same.
pub(crate) fn an_early_cycle_that_finds_nothing_changes_nothing(barrier: Barrier) {
    let heap = heap(barrier, 64 << 20).build().unwrap();
    let grow = heap.enter(|m| -> Result<(), OutOfMemory> {
        for _ in 0..5 {
            m.collect();
        }
        let (_, _) = heap.take_events();
        let list = m.build::<Option<Node>>(Room::NONE, |_| None)?;
        let mut id = 0;
        while heap.stats().cycles == 5 {
            // As slow as a program that computes something meanwhile: the collector gets a processor in time.
            m.blocking(|| std::thread::sleep(Duration::from_micros(50)));
            for _ in 0..5000 {
                let m = m.reserve(Room::of::<Node>())?;
                list.set(m, Some(m.place(NodeInit { id, next: list.get(m) })));
                id += 1;
            }
        }
        Ok(())
    });
    grow.unwrap().unwrap();
    let (events, _) = heap.take_events();
    let first = events.iter().find_map(|event| if let Event::Cycle(cycle) = event { Some(cycle) } else { None });
    let used = first.expect("a cycle").used_before_bytes;
    assert!(used < 45 << 20, "it began with {used} bytes used of {}", heap.max_bytes());
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![a_reservation_of_several_blocks_takes_free_ones],
    concurrent: tests![short_cycles_do_not_follow_one_another, an_early_cycle_that_finds_nothing_changes_nothing],
    ..Tests::NONE
};
