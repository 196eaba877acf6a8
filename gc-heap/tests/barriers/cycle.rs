//! The cycle end to end: objects survive, garbage goes, everything verified after each phase.

use crate::common::{Random, checked, factor, plain, sorts, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Gc, Heap, Local, Mutator, OutOfMemory, Slot, SlotArray, Trace};
use std::time::Duration;

#[derive(Trace)]
struct Tree {
    left: Slot<Option<Tree>>,
    right: Slot<Option<Tree>>,
}

fn small<'g>(m: &'g Mutator<'_>, depth: u32) -> Gc<'g, Tree> {
    let (left, right) = if depth == 0 { (None, None) } else { (Some(small(m, depth - 1)), Some(small(m, depth - 1))) };
    m.place(TreeInit { left, right })
}

fn build<'s>(m: &mut Mutator<'s>, depth: u32) -> Result<Local<'s, Tree>, OutOfMemory> {
    m.scope_local(|m| {
        if depth <= 4 {
            let m = m.reserve(AllocSize::of::<Tree>().times((2 << depth) - 1))?;
            return Ok(small(m, depth));
        }
        let (left, right) = (build(m, depth - 1)?, build(m, depth - 1)?);
        let m = m.reserve(AllocSize::of::<Tree>())?;
        Ok(m.place(TreeInit { left: Some(left.get(m)), right: Some(right.get(m)) }))
    })
}

/// A tree between garbage, so that a cycle evacuates the blocks that it lies in.
fn scatter<'s>(m: &mut Mutator<'s>, depth: u32) -> Result<Local<'s, Tree>, OutOfMemory> {
    m.scope_local(|m| {
        let (left, right) =
            if depth > 2 { (Some(scatter(m, depth - 1)?), Some(scatter(m, depth - 1)?)) } else { (None, None) };
        let m = m.reserve(AllocSize::of::<Tree>().times(4))?;
        small(m, 1);
        Ok(m.place(TreeInit { left: left.map(|tree| tree.get(m)), right: right.map(|tree| tree.get(m)) }))
    })
}

fn count(m: &Mutator<'_>, tree: Gc<'_, Tree>) -> u64 {
    1 + tree.left.get(m).map_or(0, |t| count(m, t)) + tree.right.get(m).map_or(0, |t| count(m, t))
}

fn heaps(barrier: Barrier) -> impl Iterator<Item = Heap> {
    sorts().map(move |(mirror, workers)| checked(barrier, 4 << 20).mirror(mirror).workers(workers).build().unwrap())
}

pub(crate) fn trees_survive_while_garbage_goes(barrier: Barrier) {
    for heap in heaps(barrier) {
        heap.enter(|m| {
            for _ in 0..6 {
                let m = &mut *m.frame();
                let kept = scatter(m, 15).unwrap();
                for _ in 0..10 {
                    let m = &mut *m.frame();
                    let tree = build(m, 12).unwrap();
                    assert_eq!(count(m, tree.get(m)), (2 << 12) - 1);
                    assert_eq!(count(m, kept.get(m)), (1 << 14) - 1);
                }
            }
        })
        .unwrap();
        let stats = heap.stats();
        assert!(stats.cycles > 0 && stats.verified_slots > 0, "{stats:?}");
        // What a pause may do at any time it does when memory is short.
        assert!(stats.relocations > 0 || barrier == Barrier::StopTheWorld, "{stats:?}");
    }
}

pub(crate) fn scattered_survivors_are_compacted(barrier: Barrier) {
    for heap in heaps(barrier) {
        heap.enter(|m| {
            let m2 = m.reserve(AllocSize::tail::<SlotArray<Option<Tree>>>(10_000)).unwrap();
            let table = m2.place_array::<SlotArray<Option<Tree>>>((), 10_000, None);
            let table = m2.local(table);
            for round in 0..40_u32 {
                for index in 0..10_000 {
                    let m = m.reserve(AllocSize::of::<Tree>().times(4)).unwrap();
                    let tree = small(m, 1);
                    // One in eight stays, at places that differ from round to round.
                    if (index as u32).wrapping_mul(2_654_435_761) >> 16 & 7 == round & 7 {
                        table.get(m).tail()[index].set(m, Some(tree));
                    }
                }
            }
            m.collect();
            m.collect();
            let table = table.get(m);
            let alive = table.tail().iter().filter_map(|slot| slot.get(m)).map(|tree| count(m, tree)).sum::<u64>();
            let places = table.tail().iter().filter(|slot| slot.get(m).is_some()).count() as u64;
            assert_eq!(alive, places * 3);
        })
        .unwrap();
        assert!(heap.stats().relocations > 0, "{:?}", heap.stats());
    }
}

pub(crate) fn attaching_and_detaching_inside_a_heap_do_not_wait_for_a_stop(barrier: Barrier) {
    use gc_heap::EnterError::AlreadyEntered;
    let heap = plain(barrier, 4 << 20).build().unwrap();
    let other = heap.thread().unwrap();
    while_collecting(&heap, Duration::ZERO, || {
        heap.enter(|m| {
            for _ in 0..20_000 {
                assert!(matches!(heap.thread(), Err(AlreadyEntered)));
                assert!(matches!(heap.enter(|_| ()), Err(AlreadyEntered)));
                m.safepoint();
            }
            drop(other);
            m.blocking(|| drop(heap.thread().unwrap()));
        })
        .unwrap();
    });
}

pub(crate) fn compare_exchange_compares_objects_not_addresses(barrier: Barrier) {
    use gc_heap::Stress;
    // Stress mode evacuates whatever can be, so that every slot is stale after a cycle.
    let stress = Stress { cycle_every: u32::MAX, ..Stress::default() };
    let heap = plain(barrier, 4 << 20).stress(stress).verify(true).single_view(true).build().unwrap();
    heap.enter(|m| {
        const PAIRS: usize = 1000;
        type Table = SlotArray<Option<Tree>>;
        let table =
            m.build::<Table>(AllocSize::tail::<Table>(2 * PAIRS), |m| m.place_array((), 2 * PAIRS, None)).unwrap();
        for pair in 0..PAIRS {
            let m = m.reserve(AllocSize::of::<Tree>()).unwrap();
            let tree = Some(small(m, 0));
            table.get(m).tail()[2 * pair].set(m, tree);
            table.get(m).tail()[2 * pair + 1].set(m, tree);
        }
        for _ in 0..4 {
            m.collect();
            let slots = table.get(m).tail();
            for pair in slots.chunks_exact(2) {
                // The first slot is healed by the load; the second is as the relocation left it.
                let tree = pair[0].get(m);
                let other = pair[1].compare_exchange(m, None, None).unwrap_err();
                assert!(other.unwrap().ptr_eq(tree.unwrap()));
            }
            m.collect();
            for pair in table.get(m).tail().chunks_exact(2) {
                let tree = pair[0].get(m);
                assert!(pair[1].compare_exchange(m, tree, tree).is_ok(), "a stale word compared as another object");
            }
        }
    })
    .unwrap();
    assert!(heap.stats().relocations > 0, "{:?}", heap.stats());
}

/// Marking ends although a mutator overwrites references all the time.
pub(crate) fn marking_ends_beside_a_mutator_that_only_writes(barrier: Barrier) {
    let heap = checked(barrier, 32 << 20).verify(false).build().unwrap();
    while_collecting(&heap, Duration::ZERO, || {
        heap.enter(|m| {
            type Table = SlotArray<Option<Tree>>;
            let table =
                m.build::<Table>(AllocSize::tail::<Table>(20_000), |m| m.place_array((), 20_000, None)).unwrap();
            for index in 0..20_000 {
                let m = m.reserve(AllocSize::of::<Tree>()).unwrap();
                table.get(m).tail()[index].set(m, Some(small(m, 0)));
            }
            let mut random = Random::new(1);
            while heap.stats().cycles < 20 * u64::from(factor()) {
                for _ in 0..1000 {
                    let slots = table.get(m).tail();
                    let (a, b) = (random.below(slots.len()), random.below(slots.len()));
                    let old = slots[a].swap(m, slots[b].get(m));
                    slots[b].set(m, old);
                }
                m.safepoint();
            }
        })
        .unwrap();
    });
    let stats = heap.stats();
    assert!(stats.mark_end_retries <= 3 * stats.cycles, "marking does not come to its end: {stats:?}");
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![trees_survive_while_garbage_goes, scattered_survivors_are_compacted],
    concurrent: tests![
        attaching_and_detaching_inside_a_heap_do_not_wait_for_a_stop,
        compare_exchange_compares_objects_not_addresses,
        marking_ends_beside_a_mutator_that_only_writes
    ],
    ..Tests::NONE
};
