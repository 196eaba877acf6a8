//! The figures of one reading fit together, whatever other threads do meanwhile.

use crate::common::{Random, backing, factor};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Array, Barrier, Bytes, Durations, Heap, HeapStats, HugePages, LossKind, Slot, SlotArray, Stress, Trace,
    WeakSlot,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Trace)]
struct Pair {
    first: Slot<Option<Bytes>>,
    next: Slot<Option<Pair>>,
}

type Table = SlotArray<Option<Pair>>;

fn heap(barrier: Barrier, max_bytes: usize, stress: Stress) -> Heap {
    let builder = Heap::builder().max_bytes(max_bytes).barrier(barrier).backing(backing());
    // Of calm heaps the committed bytes only fall where nothing is allocated.
    let huge = if stress == Stress::default() { HugePages::Never } else { HugePages::Background };
    builder.stress(stress).huge_pages(huge).build().unwrap()
}

/// What one reading says by itself, and beside the one before.
fn check(now: &HeapStats, before: &HeapStats) {
    assert!(now.huge_bytes <= now.committed_bytes, "{now:?}");
    let ascending = [
        now.live_bytes,
        now.used_bytes as u64,
        now.committed_bytes as u64,
        now.committed_peak_bytes as u64,
        now.max_bytes as u64,
    ];
    assert!(ascending.is_sorted(), "live, used, committed, peak, max: {ascending:?}");
    assert!(now.used_bytes as u64 <= now.allocated_bytes, "{now:?}");
    assert!(now.relocations <= now.cycles && now.compactions <= now.cycles, "{now:?}");
    assert!(now.pages_repaired_by_mutators <= now.pages_repaired, "{now:?}");
    let counts = |stats: &HeapStats| {
        [
            stats.committed_peak_bytes as u64,
            stats.allocated_bytes,
            stats.cycles,
            stats.relocations,
            stats.compactions,
            stats.marked_objects,
            stats.collector_copies,
            stats.mutator_copies,
            stats.healed,
            stats.logged,
            stats.stalls,
            stats.pages_repaired,
            stats.pages_repaired_by_mutators,
        ]
    };
    for kind in LossKind::ALL {
        let (now, before) = (now.losses.kind(kind), before.losses.kind(kind));
        assert!(now.total_ns <= now.count * now.max_ns, "{kind}: {now:?}");
        assert!(before.count <= now.count && before.max_ns <= now.max_ns, "{kind}: {before:?} then {now:?}");
    }
    assert!(before.losses.fault_kernel_ns <= now.losses.fault_kernel_ns);
    assert!(counts(before).iter().zip(counts(now)).all(|(before, now)| *before <= now), "{before:?} then {now:?}");
}

fn check_durations(durations: &Durations) {
    let counted: u64 = durations.buckets.iter().map(|(_, count)| count).sum();
    assert_eq!(counted, durations.count);
    assert!(durations.sum_ns <= durations.count * durations.max_ns, "{durations:?}");
    let longest = durations.buckets.last().map_or(0, |&(ns, _)| ns);
    // The bucket of the longest is an eighth of a doubling wide.
    assert!(durations.max_ns >= longest / 9 * 8, "{durations:?}");
}

/// Reads while `work` runs; at least once.
fn polled(heap: &Heap, work: impl FnOnce() + Send) {
    let done = AtomicBool::new(false);
    let mut before = heap.stats();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            work();
            done.store(true, Ordering::Relaxed);
        });
        let mut last = false;
        while !last {
            last = done.load(Ordering::Relaxed);
            let now = heap.stats();
            check(&now, &before);
            before = now;
            check_durations(&heap.faults());
            let slow = heap.slow_paths();
            assert!(slow.timed.count <= slow.count, "{slow:?}");
            check_durations(&slow.timed);
        }
    });
}

pub(crate) fn the_figures_of_a_reading_fit_together(barrier: Barrier) {
    // Moves what can be moved: faults, slow paths and copies of mutators beside those of the
    // collector.
    let stress = Stress { cycle_every: 2000, ..Stress::default() };
    for stress in [Stress::default(), stress] {
        let heap = heap(barrier, 16 << 20, stress);
        polled(&heap, || {
            let work = heap.enter(|m| {
                let table = m.build::<Table>(AllocSize::tail::<Table>(200), |m| m.place_array((), 200, None)).unwrap();
                let mut random = Random::new(5);
                for round in 0..12_000 / factor() {
                    let len = [40, 500, 9000, 70_000][random.below(4)];
                    let room = AllocSize::of::<Pair>() + AllocSize::tail::<Bytes>(len);
                    let Ok(m2) = m.reserve(room) else {
                        table.get(m).tail().iter().for_each(|slot| slot.set(m, None));
                        continue;
                    };
                    let bytes = m2.place_buffer::<Bytes>((), len).finish(m2);
                    let slot = &table.get(m2).tail()[random.below(200)];
                    let next = if random.below(4) == 0 { slot.get(m2) } else { None };
                    slot.set(m2, Some(m2.place(PairInit { first: Some(bytes), next })));
                    if round % 500 == 0 {
                        m.blocking(|| heap.release_memory());
                    }
                    if round % 1000 == 0 {
                        m.collect();
                    }
                }
            });
            work.unwrap();
        });
    }
}

/// Nothing is allocated, so it may only fall.
pub(crate) fn memory_that_is_given_back_is_not_used_meanwhile(barrier: Barrier) {
    let heap = heap(barrier, 64 << 20, Stress::default());
    for _ in 0..4 {
        let fill = heap.enter(|m| {
            for _ in 0..20_000 {
                m.reserve(AllocSize::tail::<Bytes>(2000)).unwrap().place_bytes::<Bytes>((), &[1; 2000]);
            }
        });
        fill.unwrap();
        heap.collect();
        let before = heap.stats();
        let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let freed = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut last = before;
                while !done.load(Ordering::Relaxed) {
                    let now = heap.stats();
                    assert!(now.used_bytes <= before.used_bytes, "{} of {}", now.used_bytes, before.used_bytes);
                    assert!(now.committed_bytes <= last.committed_bytes);
                    check(&now, &last);
                    last = now;
                    begun.store(true, Ordering::Relaxed);
                }
            });
            while !begun.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(100));
            }
            let freed = heap.release_memory();
            done.store(true, Ordering::Relaxed);
            freed
        });
        let after = heap.stats();
        assert!(freed > 16 << 20, "{freed}");
        assert_eq!(before.committed_bytes - freed, after.committed_bytes);
    }
}

/// What marking and relocation take beside the heap.
pub(crate) fn the_memory_of_marking_and_relocation_is_counted(barrier: Barrier) {
    const SLOTS: usize = 50_000;
    type Row = SlotArray<Option<Bytes>>;
    type Weaks = Array<WeakSlot<Bytes>>;
    let stress = Stress { cycle_every: u32::MAX, ..Stress::default() };
    let heap = heap(barrier, 32 << 20, stress);
    let work = heap.enter(|m| {
        let row = m.build::<Row>(AllocSize::tail::<Row>(SLOTS), |m| m.place_array((), SLOTS, None)).unwrap();
        for index in 0..SLOTS {
            let m = m.reserve(AllocSize::tail::<Bytes>(16)).unwrap();
            row.get(m).tail()[index].set(m, Some(m.place_bytes((), &[1; 16])));
        }
        m.collect();
        let before = heap.stats();
        let weaks = m.build::<Weaks>(AllocSize::tail::<Weaks>(SLOTS), |m| m.place_array((), SLOTS, None)).unwrap();
        for index in 0..SLOTS {
            weaks.get(m).tail()[index].set(m, row.get(m).tail()[index].get(m));
        }
        // The first finds what the stress mode moves in the second.
        (0..2).for_each(|_| m.collect());
        let after = heap.stats();
        // None without a weak slot; with many as much as the list may have, and two of it while it
        // grows.
        assert_eq!(before.mark_lists_peak_bytes, 0, "{before:?}");
        let (lists, bound) = (after.mark_lists_peak_bytes, after.committed_peak_bytes as u64 / 64);
        assert!((4096..=bound).contains(&lists) && bound < 8 * SLOTS as u64, "{lists} bytes, of at most {bound}");
        let forwarding = after.forwarding_peak_bytes;
        assert!(after.relocations > 0 && forwarding > 2048, "{after:?}");
        assert!(forwarding <= (after.max_bytes / 2 + after.max_bytes / 32) as u64, "{forwarding} bytes");
    });
    work.unwrap();
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        the_memory_of_marking_and_relocation_is_counted,
        the_figures_of_a_reading_fit_together,
        memory_that_is_given_back_is_not_used_meanwhile
    ],
    ..Tests::NONE
};
