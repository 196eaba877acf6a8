//! How much of a heap may live before memory cannot be gained by flips.

use crate::common::{Random, backing};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Bytes, Heap, HeapStats, Mutator, SlotArray};

type Table = SlotArray<Option<Bytes>>;

/// Objects of `len` bytes, so many that with their slots they are `percent` of the heap, are
/// replaced at random: no block ever dies as a whole, and the dead are everywhere.
fn replaced_at_random(max_bytes: usize, percent: usize, len: usize) -> HeapStats {
    let heap = Heap::builder().max_bytes(max_bytes).barrier(Barrier::Page).backing(backing()).build().unwrap();
    let objects = max_bytes / 100 * percent / (len + 24);
    heap.enter(|m| {
        let table = m.build::<Table>(AllocSize::tail::<Table>(objects), |m| m.place_array((), objects, None)).unwrap();
        let replace = |m: &mut Mutator<'_>, index: usize| {
            let m = m
                .reserve(AllocSize::tail::<Bytes>(len))
                .unwrap_or_else(|error| panic!("{percent} %, {len} bytes: {error}"));
            let mut bytes = vec![1; len];
            bytes[0] = index as u8;
            table.get(m).tail()[index].set(m, Some(m.place_bytes((), &bytes)));
        };
        (0..objects).for_each(|index| replace(m, index));
        let mut random = Random::new(11);
        // Four times the heap, after what is allocated while it is new.
        for _ in 0..4 * max_bytes / (len + 16) {
            replace(m, random.below(objects));
        }
        let slots = table.get(m).tail().iter().enumerate();
        slots.for_each(|(index, slot)| assert_eq!(slot.get(m).unwrap().tail()[0], index as u8));
    })
    .unwrap();
    heap.stats()
}

fn gained_by_flips(max_bytes: usize, shares: &[usize], lens: &[usize]) {
    let mut stopped = Vec::new();
    for &len in lens {
        for &percent in shares {
            let stats = replaced_at_random(max_bytes, percent, len);
            let cell = format!(
                "{} MiB, {percent} % live, {len} bytes: {} cycles, {} relocations, {} compactions, {} stalls",
                max_bytes >> 20,
                stats.cycles,
                stats.relocations,
                stats.compactions,
                stats.stalls
            );
            assert!(stats.cycles > 0, "nothing to see: {cell}");
            if stats.compactions > 0 {
                stopped.push(cell);
            }
        }
    }
    assert!(stopped.is_empty(), "compacted in a stop:\n{}", stopped.join("\n"));
}

/// What the documentation promises of heaps that are 60 % live at most.
pub(crate) fn a_small_heap_is_not_compacted_in_a_stop() {
    gained_by_flips(8 << 20, &[30, 50, 60], &[200, 2_000, 10_000]);
}

pub(crate) fn a_heap_is_not_compacted_in_a_stop() {
    gained_by_flips(32 << 20, &[20, 40, 60], &[16, 200, 2_000, 10_000]);
}

pub(crate) fn a_larger_heap_is_not_compacted_in_a_stop() {
    gained_by_flips(128 << 20, &[50, 60], &[200]);
}

pub(crate) const TESTS: Tests = Tests {
    page: tests![
        a_small_heap_is_not_compacted_in_a_stop,
        a_heap_is_not_compacted_in_a_stop,
        a_larger_heap_is_not_compacted_in_a_stop
    ],
    ..Tests::NONE
};
