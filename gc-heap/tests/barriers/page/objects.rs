//! Objects: where they lie in their pages.

use super::{Chunk, busy, check, chunk, clusters, fill, moving, table};
use crate::common::{Random, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Array, Bytes, Slot, Trace, WeakSlot};
use std::time::Duration;

/// Three words, the second of which is a slot: no page begins at a multiple of it.
#[derive(Trace)]
struct Triple {
    before: u64,
    slot: Slot<Option<Chunk>>,
    after: u64,
}

#[derive(Trace)]
#[trace(tail = Triple)]
struct Triples;

/// Objects that cross one page or several, begin and end at each place of a page, and fill blocks
/// to their last page.
pub(crate) fn objects_that_cross_pages() {
    for heap in clusters(moving(16 << 20)) {
        heap.enter(|m| {
            for scale in [20, 511, 700, 3000] {
                let m = &mut *m.frame();
                let mut random = Random::new(scale as u64);
                let table = table(m, (200_000 / scale).min(2000));
                fill(m, table, |_| scale / 2 + random.below(scale));
                for _ in 0..4 {
                    m.collect();
                    check(m, table);
                }
            }
        })
        .unwrap();
        assert!(heap.stats().relocations >= 8, "{:?}", heap.stats());
    }
}

/// As long as a block but for nothing, and for one granule: the last page of a destination is full,
/// or ends one short.
pub(crate) fn objects_that_fill_blocks_exactly() {
    let heap = moving(16 << 20).build().unwrap();
    heap.enter(|m| {
        // Header, length, identity; four to a block, and the last one granule short or not.
        for short in [0, 1] {
            let m = &mut *m.frame();
            let table = table(m, 200);
            fill(m, table, |index| (16 << 10) / 8 - 3 - if index % 4 == 3 { short } else { 0 });
            for _ in 0..2 {
                m.collect();
                check(m, table);
            }
        }
    })
    .unwrap();
    assert!(heap.stats().relocations >= 3, "{:?}", heap.stats());
}

/// A mutator that reads while the collector repairs, and all it reads was moved.
pub(crate) fn a_mutator_reads_while_pages_come_back() {
    for heap in clusters(moving(32 << 20).verify(false)) {
        let mut random = Random::new(5);
        while_collecting(&heap, Duration::from_micros(200), || {
            heap.enter(|m| {
                let table = table(m, 3000);
                fill(m, table, |index| index % 700);
                while busy(&heap, 10) || heap.stats().pages_repaired_by_mutators == 0 {
                    let index = random.below(3000);
                    let found = table.get(m).tail()[index].get(m).unwrap();
                    assert_eq!(found.id, index as u64);
                    if let Some(slot) = found.tail().last() {
                        assert_eq!(slot.get(m).map(|before| before.id), index.checked_sub(1).map(|at| at as u64));
                    }
                    m.safepoint();
                }
            })
            .unwrap();
        });
        assert!(heap.faults().count > 0, "no page was ever missed: {:?}", heap.stats());
    }
}

/// A thread that reads at random all over the heap while pages come back: where each of its faults
/// repairs one page, it hardly comes on until the collector has repaired all others.
pub(crate) fn who_touches_many_pages_repairs_several_at_once() {
    const CHUNKS: usize = 12_000;
    let heap = moving(128 << 20).verify(false).build().unwrap();
    let mut random = Random::new(7);
    while_collecting(&heap, Duration::from_millis(5), || {
        heap.enter(|m| {
            let table = table(m, CHUNKS);
            fill(m, table, |_| 500);
            while busy(&heap, 20) {
                let index = random.below(CHUNKS);
                assert_eq!(table.get(m).tail()[index].get(m).map(|found| found.id), Some(index as u64));
                m.safepoint();
            }
        })
        .unwrap();
    });
    let (faults, repaired) = (heap.faults().count, heap.stats().pages_repaired_by_mutators);
    assert!(repaired > faults + faults / 4, "{repaired} pages in {faults} faults");
}

/// Slots of large objects: one word after the other, one in three, weak ones; and an object without
/// slots beside them.
pub(crate) fn arrays_over_many_pages() {
    for heap in clusters(moving(32 << 20)) {
        heap.enter(|m| {
            const LEN: usize = 20_011;
            let small = table(m, LEN);
            for index in 0..LEN {
                let m = m.reserve(AllocSize::tail::<Chunk>(2)).unwrap();
                small.get(m).tail()[index].set(m, Some(chunk(m, index as u64, 2, None)));
            }
            let triples = m.build::<Triples>(AllocSize::tail::<Triples>(LEN), |m| {
                let slots = small.get(m).tail().iter().enumerate();
                let parts =
                    slots.map(|(at, slot)| TripleInit { before: !(at as u64), slot: slot.get(m), after: at as u64 });
                m.place_tail::<Triples, _>((), parts)
            });
            let weak = m.build::<Array<WeakSlot<Chunk>>>(AllocSize::tail::<Array<WeakSlot<Chunk>>>(LEN), |m| {
                m.place_tail((), small.get(m).tail().iter().map(|slot| slot.get(m)))
            });
            let bytes = vec![0x7f; 100_000];
            let blob = m.build::<Bytes>(AllocSize::tail::<Bytes>(bytes.len()), |m| m.place_bytes((), &bytes)).unwrap();
            let (triples, weak) = (triples.unwrap(), weak.unwrap());
            for _ in 0..4 {
                m.collect();
                for index in (0..LEN).rev() {
                    let (triple, id) = (&triples.get(m).tail()[index], index as u64);
                    let found = triple.slot.get(m).unwrap();
                    assert_eq!((triple.before, found.id, triple.after), (!id, id, id));
                    assert!(weak.get(m).tail()[index].get(m).unwrap().ptr_eq(found));
                    assert!(small.get(m).tail()[index].get(m).unwrap().ptr_eq(found));
                }
                assert!(blob.get(m).tail() == bytes);
            }
        })
        .unwrap();
        assert!(heap.stats().relocations >= 3);
    }
}

pub(crate) const TESTS: Tests = Tests {
    page: tests![
        objects_that_cross_pages,
        objects_that_fill_blocks_exactly,
        a_mutator_reads_while_pages_come_back,
        who_touches_many_pages_repairs_several_at_once,
        arrays_over_many_pages,
    ],
    ..Tests::NONE
};
