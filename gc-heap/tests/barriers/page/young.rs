//! What is new when the pages are taken away: TLABs, young objects, runs of blocks that are being
//! made.

use super::{Chunk, Table, busy, check, chunk, clusters, fill, moving, table};
use crate::common::{Random, checked, factor, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Bytes, Heap, Mutator, Root, Stress};
use std::sync::Barrier as Meeting;
use std::time::Duration;

/// A thread's TLAB is open and half full at each flip, while the thread runs: its fill is
/// published, what lies below it is repaired, and the rest of it is not used again.
pub(crate) fn a_tlab_half_full_of_a_thread_that_runs() {
    for heap in clusters(moving(16 << 20)) {
        while_collecting(&heap, Duration::ZERO, || {
            heap.enter(|m| {
                while busy(&heap, 10) {
                    let m = &mut *m.frame();
                    let table = table(m, 40);
                    fill(m, table, |index| index * 7 % 90);
                    (0..20).for_each(|_| m.safepoint());
                    check(m, table);
                }
            })
            .unwrap();
        });
    }
}

/// As above, with a thread that is parked during several flips.
pub(crate) fn a_tlab_half_full_of_a_thread_that_is_parked() {
    for heap in clusters(moving(16 << 20)) {
        let before = heap.enter(|m| {
            let table = table(m, 300);
            fill(m, table, |index| index % 50);
            Root::<Table>::new(m, table.get(m))
        });
        let (before, meeting) = (before.unwrap(), Meeting::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                heap.enter(|m| {
                    for round in 0..8 {
                        let m = &mut *m.frame();
                        let table = table(m, 30 + round);
                        // In the TLAB: young objects that lead to old ones, which move.
                        for index in 0..30 + round {
                            let m = m.reserve(AllocSize::tail::<Chunk>(3)).unwrap();
                            let old = before.get(m).tail()[index].get(m);
                            table.get(m).tail()[index].set(m, Some(chunk(m, index as u64 + 1, 3, old)));
                        }
                        m.blocking(|| {
                            meeting.wait();
                            meeting.wait();
                        });
                        for (index, slot) in table.get(m).tail().iter().enumerate() {
                            let young = slot.get(m).unwrap();
                            assert_eq!(young.id, index as u64 + 1);
                            assert!(young.tail().iter().all(|slot| slot.get(m).unwrap().id == index as u64));
                        }
                    }
                })
                .unwrap();
            });
            for _ in 0..8 {
                meeting.wait();
                (0..3).for_each(|_| heap.collect());
                meeting.wait();
            }
        });
        assert!(heap.stats().relocations >= 8, "{:?}", heap.stats());
    }
}

/// Objects that are new since the last marking, when the flip comes: threads allocate and link them
/// in every phase.
pub(crate) fn young_objects_between_plan_and_flip() {
    for seed in 1..=3 {
        let stress = Stress { cycle_every: 7, delay_one_in: 3, seed };
        let heap = checked(Barrier::Page, 16 << 20).stress(stress).fault_cluster(1).build().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    heap.enter(|m| {
                        for _ in 0..40 * factor() {
                            let m = &mut *m.frame();
                            let table = table(m, 60);
                            fill(m, table, |index| index * 13 % 600);
                            check(m, table);
                        }
                    })
                    .unwrap();
                });
            }
        });
        assert!(heap.stats().relocations > 0, "{:?}", heap.stats());
    }
}

/// A run of blocks is zeroed in slices, with flips between them, and filled after; large objects
/// come and go.
pub(crate) fn runs_under_construction_over_a_flip() {
    let heap = checked(Barrier::Page, 64 << 20).stress(stress(3)).build().unwrap();
    while_collecting(&heap, Duration::ZERO, || {
        heap.enter(|m| {
            let kept = table(m, 4);
            for round in 0_u64.. {
                if round >= 30 && !busy(&heap, 5) {
                    break;
                }
                let len = 200_000 + round as usize % 30 * 10_007;
                let place = |m: &mut Mutator<'_>| {
                    let m = m.reserve(AllocSize::tail::<Chunk>(len) + AllocSize::tail::<Chunk>(1)).unwrap();
                    let small = chunk(m, round, 1, None);
                    let large = chunk(m, round, len, Some(small));
                    kept.get(m).tail()[round as usize % 4].set(m, Some(large));
                };
                place(m);
                for large in kept.get(m).tail().iter().filter_map(|slot| slot.get(m)) {
                    assert!(large.tail().iter().step_by(100).all(|slot| slot.get(m).unwrap().id == large.id));
                }
            }
        })
        .unwrap();
    });
}

/// What a thread allocates after a flip is repaired by nobody: it leads to where objects are now,
/// and what is at their places in the forwarding was there before. Fails where a TLAB that was open
/// at the flip is used on: past its fill no page of it was claimed, a chunk that went back is
/// written without a fault, the thread parks and so publishes a higher fill, and then lending
/// claims such a page.
///
/// One thread allocates slowly, so that its TLAB lasts, objects that lead to what the others
/// allocate: those are quick, and soon have blocks that were sources of the same flip.
pub(crate) fn what_is_lent_after_a_flip_is_not_repaired_again() {
    const THREADS: usize = 3;
    const EACH: usize = 50;
    for heap in clusters(moving(32 << 20)) {
        let (ballast, shared) = heap
            .enter(|m| {
                // So that repair takes its time.
                let ballast = table(m, 2000);
                fill(m, ballast, |index| 200 + index % 400);
                let shared = table(m, THREADS * EACH);
                (Root::<Table>::new(m, ballast.get(m)), Root::<Table>::new(m, shared.get(m)))
            })
            .unwrap();
        let work = |heap: &Heap, thread: usize| {
            heap.enter(|m| {
                let mut random = Random::new(thread as u64);
                let (len, turns) = if thread == 0 { (150, 10) } else { (300, 1) };
                while busy(heap, 12) {
                    let m = &mut *m.frame();
                    let m2 = m.reserve(AllocSize::tail::<Chunk>(len) + AllocSize::tail::<Bytes>(24)).unwrap();
                    let slots = shared.get(m2).tail();
                    // Chains of four or so: a chunk's number is one more than that of the chunk it
                    // leads to.
                    let to = slots[random.below(slots.len())].get(m2).filter(|_| !random.one_in(4));
                    let new = chunk(m2, to.map_or(0, |to| to.id + 1), len, to);
                    slots[thread * EACH + random.below(EACH)].set(m2, Some(new));
                    let bytes = m2.local(m2.place_bytes::<Bytes>((), &[thread as u8; 24]));
                    // Parked: that publishes how far the TLAB is filled, and a repair looks no
                    // further.
                    m.blocking(std::thread::yield_now);
                    assert_eq!(m.bytes_for_syscall(bytes.get(m)), [thread as u8; 24]);
                    for _ in 0..turns {
                        m.safepoint();
                        let slots = shared.get(m).tail();
                        let Some(chunk) = slots[random.below(slots.len())].get(m) else { continue };
                        for slot in chunk.tail() {
                            assert_eq!(slot.get(m).map_or(0, |to| to.id + 1), chunk.id);
                        }
                    }
                }
            })
            .unwrap();
        };
        while_collecting(&heap, Duration::ZERO, || {
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (heap, work) = (&heap, &work);
                    scope.spawn(move || work(heap, thread));
                }
            });
        });
        heap.enter(|m| {
            let ballast = m.local(ballast.get(m));
            check(m, ballast);
        })
        .unwrap();
    }
}

pub(crate) const TESTS: Tests = Tests {
    page: tests![
        a_tlab_half_full_of_a_thread_that_runs,
        a_tlab_half_full_of_a_thread_that_is_parked,
        young_objects_between_plan_and_flip,
        runs_under_construction_over_a_flip,
        what_is_lent_after_a_flip_is_not_repaired_again,
    ],
    ..Tests::NONE
};
