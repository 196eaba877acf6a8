//! Cycles without a flip: what survives stays young until its promotion pays, and where no young
//! cycle is in prospect nothing is remembered.

use super::tests::{Node, granule, is_old, node, root};
use super::young_tests::young;
use crate::events::CycleKind;
use crate::{AllocSize, Heap, Local, MIN_HEAP_BYTES, Mutator, Slot, SlotArray, Trace};
use gc_core::remembered::Sort;

type Nodes = SlotArray<Option<Node>>;

fn heap(max_bytes: usize) -> Heap {
    Heap::builder().max_bytes(max_bytes).generations(true).verify(true).build().unwrap()
}

/// An array of so many objects.
fn nodes<'s>(m: &mut Mutator<'s>, len: usize) -> Local<'s, Nodes> {
    let nodes = m.build::<Nodes>(AllocSize::tail::<Nodes>(len), |m| m.place_array((), len, None)).unwrap();
    for index in 0..len {
        let m = m.reserve(AllocSize::of::<Node>()).unwrap();
        nodes.get(m).tail()[index].set(m, Some(node(m)));
    }
    nodes
}

/// A flip would make every reference stale for nothing: what dies soon, and what has just survived
/// for the first time, stays young.
#[test]
fn what_has_just_survived_stays_young_and_nothing_becomes_stale() {
    let heap = heap(MIN_HEAP_BYTES);
    heap.enter(|m| {
        let nodes = nodes(m, 100);
        for cycle in 0..2 {
            if cycle == 0 {
                m.collect()
            } else {
                young(m, &heap)
            }
            assert_eq!(heap.stats().relocations, 0);
            assert!(!is_old(&heap, nodes.get(m).tail()[7].get(m).unwrap()));
        }
        let stats = heap.stats();
        assert_eq!(stats.healed, 0);
    })
    .unwrap();
}

/// What lives on is promoted when marking it again and again has cost as much as a flip does; and
/// then it is marked no more.
#[test]
fn what_lives_on_is_promoted_once_it_has_paid_for_the_flip() {
    let heap = heap(MIN_HEAP_BYTES);
    heap.enter(|m| {
        let nodes = nodes(m, 1000);
        let mut cycles = 0;
        while heap.stats().relocations == 0 {
            young(m, &heap);
            cycles += 1;
            assert!(cycles < 20, "never promoted");
        }
        assert!(cycles >= 5, "after {cycles} cycles");
        assert!((0..1000).all(|index| is_old(&heap, nodes.get(m).tail()[index].get(m).unwrap())));
        let marked = heap.stats().marked_objects;
        young(m, &heap);
        let stats = heap.stats();
        assert_eq!(stats.relocations, 1);
        assert!(stats.marked_objects < marked + 100, "old objects are marked: {}", stats.marked_objects - marked);
    })
    .unwrap();
}

/// Without a flip the slots that were remembered before mark start are remembered for the next
/// cycle.
#[test]
fn a_young_cycle_without_a_flip_keeps_what_is_remembered() {
    let heap = heap(MIN_HEAP_BYTES);
    heap.enter(|m| {
        let nodes = nodes(m, 1000);
        while heap.stats().relocations == 0 {
            young(m, &heap);
        }
        let slots = {
            let mut frame = m.frame();
            let m = &mut *frame;
            let (kept, overwritten) = (root(m), root(m));
            let nodes = nodes.get(m);
            nodes.tail()[3].set(m, Some(kept.get(m)));
            nodes.tail()[4].set(m, Some(overwritten.get(m)));
            nodes.tail()[4].set(m, Some(nodes.tail()[5].get(m).unwrap()));
            [3, 4].map(|index| granule(&heap, &nodes.tail()[index]))
        };
        let set = &heap.inner().memory.generations.as_ref().unwrap().remembered;
        assert!(slots.iter().all(|&slot| set.contains(slot, Sort::Strong)));
        for _ in 0..3 {
            young(m, &heap);
            assert_eq!(heap.stats().relocations, 1);
            assert_eq!(slots.map(|slot| set.contains(slot, Sort::Strong)), [true, false], "as their words say");
            assert!(!is_old(&heap, nodes.get(m).tail()[3].get(m).unwrap()));
        }
    })
    .unwrap();
}

#[derive(Trace)]
struct Record {
    next: Slot<Option<Record>>,
    number: crate::Num<u64>,
}

/// Records that die at random: no young cycle is run, and none is possible, because no store is
/// remembered. When most of what is allocated dies at once, young cycles come, and find all that
/// old objects lead to.
#[test]
fn a_program_whose_objects_die_at_random_remembers_nothing() {
    type Table = SlotArray<Option<Record>>;
    const LEN: usize = 60_000;
    let heap = heap(8 << 20);
    let inner = heap.inner();
    heap.enter(|m| {
        let table = m.build::<Table>(AllocSize::tail::<Table>(LEN), |m| m.place_array((), LEN, None)).unwrap();
        let mut random = 1_u64;
        let mut replace = |m: &mut Mutator<'_>, number: u64, one_in: u64| {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let m = m.reserve(AllocSize::of::<Record>()).unwrap();
            let record = m.place(RecordInit { next: None, number });
            if number.is_multiple_of(one_in) {
                table.get(m).tail()[(random >> 33) as usize % LEN].set(m, Some(record));
            }
        };
        let cycles = |count: u64| heap.stats().cycles < count;
        let mut number = 0;
        while cycles(40) {
            replace(m, number, 1);
            number += 1;
        }
        let before = heap.stats();
        while cycles(50) {
            replace(m, number, 1);
            number += 1;
        }
        let stats = heap.stats();
        assert!(stats.relocations > before.relocations, "nothing is old");
        assert_eq!(stats.young_cycles, before.young_cycles);
        assert!(!inner.may_collect_young() && !inner.world.phase.is_remembering());
        // A request for a young cycle is answered by a whole one.
        inner.schedule.requests.set_next(CycleKind::Young);
        inner.schedule.requests.request_next();
        while cycles(stats.cycles + 1) {
            m.safepoint();
            inner.check_collector();
        }
        assert_eq!(heap.stats().young_cycles, stats.young_cycles);
        let mut round = 0;
        while heap.stats().young_cycles < stats.young_cycles + 3 {
            replace(m, number, 1000);
            number += 1;
            round += 1;
            assert!(round < 50_000_000, "no young cycle comes: {:?}", heap.stats());
        }
        let held = table.get(m).tail().iter().filter_map(|slot| slot.get(m));
        held.for_each(|record| assert!(record.next.get(m).is_none() && record.number.get() <= number));
    })
    .unwrap();
}
