//! The heap's memory: too little of it, several heaps, huge pages, holes.

use super::{Chunk, check, chunk, fill, lone, moving, table};
use crate::common::{Random, backing, checked, set_backing, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Bytes, Event, Heap, HugePages, Mutator, PauseKind};
use std::time::Duration;

const PAGE: usize = 4096;

/// Five sixths of the heap live: too little is free to copy to, and a stop compacts, which is
/// counted and told.
pub(crate) fn a_heap_nearly_full_is_compacted_in_a_stop() {
    for workers in [1, 2] {
        let heap = checked(Barrier::Page, 10 << 20).workers(workers).verify(false).build().unwrap();
        heap.enter(|m| {
            const OBJECTS: usize = 8000;
            let table = table(m, OBJECTS);
            let mut random = Random::new(2);
            let mut place = |m: &mut Mutator<'_>, index: usize| {
                let len = 60 + random.below(140);
                let m = m.reserve(AllocSize::tail::<Chunk>(len)).unwrap_or_else(|error| panic!("{index}: {error}"));
                table.get(m).tail()[index].set(m, Some(chunk(m, index as u64, len, None)));
            };
            (0..OBJECTS).for_each(|index| place(m, index));
            // Those that live longest are everywhere.
            for step in 0..60_000_usize {
                place(m, step.wrapping_mul(2_654_435_761) % OBJECTS);
            }
            let slots = table.get(m).tail().iter().enumerate();
            slots.for_each(|(index, slot)| assert_eq!(slot.get(m).unwrap().id, index as u64));
        })
        .unwrap();
        let (stats, (events, _)) = (heap.stats(), heap.take_events());
        let told = events.iter().any(|e| matches!(e, Event::Pause(pause) if pause.kind == PauseKind::Compaction));
        assert!(stats.compactions > 0 && told, "no compaction: {stats:?}");
    }
}

/// Page heaps beside each other and beside a load heap, used in turn and at once, some dropped in
/// between.
pub(crate) fn several_heaps() {
    let load = Heap::builder().max_bytes(8 << 20).verify(true).single_view(true).stress(stress(1)).build().unwrap();
    let pages: Vec<Heap> = (0..3).map(|seed| moving(8 << 20).stress(stress(seed)).build().unwrap()).collect();
    let work = |heap: &Heap, len: usize| {
        heap.enter(|m| {
            let table = table(m, 100 + len);
            fill(m, table, |index| index % 70);
            m.collect();
            check(m, table);
        })
        .unwrap();
    };
    std::thread::scope(|scope| {
        for thread in 0..3_usize {
            let (load, pages, work, of_all) = (&load, &pages, &work, backing());
            scope.spawn(move || {
                set_backing(of_all);
                for round in 0..12 {
                    work(&pages[(thread + round) % 3], round);
                    work(load, round);
                    // In another heap while this one is left for a while, and a third that ends.
                    pages[thread]
                        .enter(|m| {
                            let local = lone(m, 5);
                            m.blocking(|| {
                                work(&pages[(thread + 1) % 3], round);
                                work(&moving(4 << 20).build().unwrap(), round);
                            });
                            m.collect();
                            assert_eq!(local.get(m).id, 5);
                        })
                        .unwrap();
                }
            });
        }
    });
    assert!(pages.iter().all(|heap| heap.stats().relocations > 0));
}

/// The file has 2 MiB pages where the kernel makes them, and is pretouched.
pub(crate) fn huge_pages() {
    let huge = moving(16 << 20).pretouch(true).huge_pages(HugePages::Collapse).build();
    if let Err(error) = &huge {
        // A kernel without MADV_COLLAPSE, or a machine without so many free ones. Pages of 4 KiB
        // are tested in any case.
        let can = gc_core::probe::Capabilities::probe().collapse.support.is_yes();
        let short = ["Cannot allocate memory", "Resource temporarily unavailable"];
        assert!(!can || short.iter().any(|short| error.to_string().contains(short)), "{error}");
        println!("2 MiB pages are NOT TESTED: {error}");
    }
    let heaps = huge.into_iter().chain([moving(16 << 20).pretouch(true).build().unwrap()]);
    for heap in heaps {
        while_collecting(&heap, Duration::from_micros(100), || {
            heap.enter(|m| {
                let table = table(m, 1500);
                fill(m, table, |index| index % 300);
                for _ in 0..20 {
                    m.safepoint();
                    check(m, table);
                }
                m.collect();
                check(m, table);
            })
            .unwrap();
        });
        assert!(heap.stats().relocations > 0);
    }
}

/// Memory is taken from under free blocks while pages are gated: holes of the file are installed as
/// zeroes.
pub(crate) fn memory_is_given_back_while_pages_are_gated() {
    let heap = moving(16 << 20).verify(false).build().unwrap();
    while_collecting(&heap, Duration::ZERO, || {
        heap.enter(|m| {
            for round in 0..60 {
                let m = &mut *m.frame();
                let table = table(m, 200);
                fill(m, table, |index| (index + round) % 100);
                heap.release_memory();
                m.safepoint();
                check(m, table);
                let large =
                    m.build::<Bytes>(AllocSize::tail::<Bytes>(40 * PAGE), |m| m.place_bytes((), &[9; 40 * PAGE]));
                heap.release_memory();
                assert!(large.unwrap().get(m).tail().iter().all(|&byte| byte == 9));
            }
        })
        .unwrap();
    });
}

pub(crate) const TESTS: Tests = Tests {
    page: tests![
        a_heap_nearly_full_is_compacted_in_a_stop,
        several_heaps,
        huge_pages,
        memory_is_given_back_while_pages_are_gated,
    ],
    ..Tests::NONE
};
