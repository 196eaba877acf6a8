//! Weak references: gone exactly when their object is, never before, and never to something else.

use crate::common::{Random, backing, checked, factor, sorts, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Array, Barrier, Bytes, Gc, Heap, Mutator, Root, Slot, SlotArray, Stress, Trace, Weak, WeakSlot,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[derive(Trace)]
struct Item {
    id: u64,
    check: u64,
    other: WeakSlot<Item>,
}

#[derive(Trace)]
struct Holder<T: Trace> {
    before: u64,
    weak: WeakSlot<T>,
    strong: Slot<Option<T>>,
}

fn place<'g>(m: &'g Mutator<'_>, id: u64) -> Gc<'g, Item> {
    m.place(ItemInit { id, check: !id, other: None })
}

fn check(item: Gc<'_, Item>) -> u64 {
    assert_eq!(item.check, !item.id, "a weak reference gave something else");
    item.id
}

fn heaps(barrier: Barrier) -> impl Iterator<Item = Heap> {
    sorts().map(move |(mirror, workers)| {
        checked(barrier, 8 << 20).mirror(mirror).workers(workers).stress(stress(7)).build().unwrap()
    })
}

pub(crate) fn a_weak_slot_is_empty_exactly_when_its_object_is_gone(barrier: Barrier) {
    for heap in heaps(barrier) {
        heap.enter(|m| {
            let room = AllocSize::of::<Holder<Item>>() + AllocSize::of::<Item>();
            let holder = m.build::<Holder<Item>>(room, |m| {
                let item = place(m, 1);
                m.place(HolderInit { before: 7, weak: Some(item), strong: Some(item) })
            });
            let holder = holder.unwrap();
            for _ in 0..5 {
                m.collect();
                assert_eq!(holder.get(m).weak.get(m).map(check), Some(1));
            }
            // A local holds it as well as a slot does.
            let local = m.local(holder.get(m).strong.swap(m, None));
            m.collect();
            assert_eq!(holder.get(m).weak.get(m).map(check), Some(1));
            local.set(m, None);
            m.collect();
            assert!(holder.get(m).weak.get(m).is_none());
            assert_eq!(holder.get(m).before, 7);
        })
        .unwrap();
    }
}

/// Arrays of weak slots of every size, every other target alive.
pub(crate) fn arrays_of_weak_slots(barrier: Barrier) {
    for heap in heaps(barrier) {
        for len in [3, 700, 6000] {
            heap.enter(|m| {
                let alive = m.build::<SlotArray<Option<Item>>>(AllocSize::tail::<SlotArray<Option<Item>>>(len), |m| {
                    m.place_array((), len, None)
                });
                let weak = m.build::<Array<WeakSlot<Item>>>(AllocSize::tail::<Array<WeakSlot<Item>>>(len), |m| {
                    m.place_array((), len, None)
                });
                let (alive, weak) = (alive.unwrap(), weak.unwrap());
                for index in 0..len {
                    let m = m.reserve(AllocSize::of::<Item>()).unwrap();
                    let item = place(m, index as u64);
                    weak.get(m).tail()[index].set(m, Some(item));
                    alive.get(m).tail()[index].set(m, Some(item));
                }
                m.collect();
                let all = weak.get(m).tail().iter().enumerate();
                all.for_each(|(index, slot)| assert_eq!(slot.get(m).map(check), Some(index as u64)));
                alive.get(m).tail().iter().step_by(2).for_each(|slot| slot.set(m, None));
                m.collect();
                for (index, slot) in weak.get(m).tail().iter().enumerate() {
                    assert_eq!(slot.get(m).map(check), (index % 2 == 1).then_some(index as u64));
                }
            })
            .unwrap();
        }
    }
}

pub(crate) fn weak_references_to_large_objects(barrier: Barrier) {
    for heap in heaps(barrier) {
        heap.enter(|m| {
            let bytes = vec![0x5a; 3 << 20];
            let large =
                m.build::<Option<Bytes>>(AllocSize::tail::<Bytes>(bytes.len()), |m| Some(m.place_bytes((), &bytes)));
            let large = large.unwrap();
            let weak = Weak::new(m, large.get(m).unwrap());
            let holder = m.build::<Holder<Bytes>>(AllocSize::of::<Holder<Bytes>>(), |m| {
                m.place(HolderInit { before: 0, weak: None, strong: None })
            });
            let holder = holder.unwrap();
            holder.get(m).weak.set(m, large.get(m));
            m.collect();
            assert!(weak.get(m).unwrap().tail() == bytes && holder.get(m).weak.get(m).unwrap().tail() == bytes);
            large.set(m, None);
            m.collect();
            assert!(weak.get(m).is_none() && holder.get(m).weak.get(m).is_none());
            // Its memory is there for the next.
            let again = m.build::<Bytes>(AllocSize::tail::<Bytes>(bytes.len()), |m| m.place_bytes((), &bytes));
            assert!(again.unwrap().get(m).tail() == bytes);
            assert!(weak.get(m).is_none() && holder.get(m).weak.get(m).is_none());
        })
        .unwrap();
    }
}

/// Two that only know each other weakly, and a ring that knows itself strongly.
pub(crate) fn cycles_of_references_do_not_hold_themselves(barrier: Barrier) {
    for heap in heaps(barrier) {
        heap.enter(|m| {
            let m2 = m.reserve(AllocSize::of::<Item>().times(2)).unwrap();
            let (a, b) = (place(m2, 1), place(m2, 2));
            a.other.set(m2, Some(b));
            b.other.set(m2, Some(a));
            let (weak_a, weak_b) = (Weak::new(m2, a), Weak::new(m2, b));
            let local = m2.local(Some(a));
            m.collect();
            assert_eq!(weak_a.get(m).map(check), Some(1));
            assert!(weak_b.get(m).is_none() && local.get(m).unwrap().other.get(m).is_none());
            local.set(m, None);
            m.collect();
            assert!(weak_a.get(m).is_none());
        })
        .unwrap();
    }
}

/// What a weak reference gave is held by a local alone, through the end of a marking.
pub(crate) fn an_upgraded_reference_is_strong(barrier: Barrier) {
    for heap in heaps(barrier) {
        let strong = heap.enter(|m| {
            let mut strong = 0;
            for id in 0..200 {
                let m = &mut *m.frame();
                let weak = {
                    let m = m.reserve(AllocSize::of::<Item>()).unwrap();
                    Weak::new(m, place(m, id))
                };
                m.safepoint();
                let held = m.local(weak.get(m));
                m.safepoint();
                assert_eq!(held.get(m).map(check), weak.get(m).map(check));
                m.collect();
                assert_eq!(held.get(m).is_some(), weak.get(m).is_some());
                assert!(held.get(m).is_none_or(|item| check(item) == id));
                strong += u32::from(held.get(m).is_some());
            }
            strong
        });
        assert!(strong.unwrap() > 100, "{strong:?} of 200 were there to be held");
    }
}

/// Threads that upgrade, drop and renew the objects of one array of weak slots while cycles run.
/// A thread that has upgraded one finds it unchanged as long as it holds it.
pub(crate) fn upgrades_race_with_the_end_of_marking(barrier: Barrier) {
    const SLOTS: usize = 300;
    for (verify, workers) in [(true, 1), (false, 2)] {
        let heap = checked(barrier, 8 << 20).verify(verify).workers(workers).stress(stress(9)).build().unwrap();
        let room = AllocSize::tail::<Array<WeakSlot<Item>>>(SLOTS);
        let table = heap.enter(|m| {
            let m = m.reserve(room).unwrap();
            Root::<Array<WeakSlot<Item>>>::new(m, m.place_array((), SLOTS, None))
        });
        let table = table.unwrap();
        let renewed = AtomicUsize::new(0);
        while_collecting(&heap, Duration::ZERO, || {
            std::thread::scope(|scope| {
                let (heap, table, renewed) = (&heap, &table, &renewed);
                for seed in 0..3 {
                    scope.spawn(move || heap.enter(|m| upgrade(m, table, renewed, Random::new(seed))).unwrap());
                }
            });
        });
    }
}

/// Goes on until objects have died, however seldom cycles come about.
fn upgrade(m: &mut Mutator<'_>, table: &Root<Array<WeakSlot<Item>>>, renewed: &AtomicUsize, mut random: Random) {
    let enough = 2 * table.get(m).tail_len();
    let mut rounds = 0;
    while rounds < 1500 * factor() || renewed.load(Ordering::Relaxed) < enough {
        rounds += 1;
        let m = &mut *m.frame();
        let held: Vec<_> = (0..4)
            .map(|_| {
                let index = random.below(table.get(m).tail_len());
                let m = m.reserve(AllocSize::of::<Item>()).unwrap();
                let slot = &table.get(m).tail()[index];
                let item = slot.get(m).unwrap_or_else(|| {
                    renewed.fetch_add(1, Ordering::Relaxed);
                    let item = place(m, index as u64);
                    slot.set(m, Some(item));
                    item
                });
                assert_eq!(check(item), index as u64);
                (index as u64, m.local(item))
            })
            .collect();
        (0..random.below(3)).for_each(|_| m.safepoint());
        held.iter().for_each(|(id, local)| assert_eq!(check(local.get(m)), *id));
    }
}

/// Weak slots that lead to where their objects were before the last relocation are loaded while
/// they are resolved: a load may have the word in hand when its slot is healed, and look it up when
/// the collector is through. All objects are alive. Fails, in the first cycles, where the old
/// forwarding is dropped before the handshake that waits for such loads.
pub(crate) fn stale_words_in_hand_while_weak_slots_are_resolved(barrier: Barrier) {
    const ITEMS: usize = 1000;
    let stress = Stress { cycle_every: 0, delay_one_in: 4, seed: 5 };
    let heap = checked(barrier, 8 << 20).verify(false).stress(stress).build().unwrap();
    let tables = heap.enter(|m| {
        let room = AllocSize::tail::<Array<WeakSlot<Item>>>(ITEMS) + AllocSize::tail::<SlotArray<Option<Item>>>(ITEMS);
        let m2 = m.reserve(room).unwrap();
        let weak = Root::<Array<WeakSlot<Item>>>::new(m2, m2.place_array((), ITEMS, None));
        let strong = Root::<SlotArray<Option<Item>>>::new(m2, m2.place_array((), ITEMS, None));
        for index in 0..ITEMS {
            let m = m.reserve(AllocSize::of::<Item>()).unwrap();
            let item = place(m, index as u64);
            weak.get(m).tail()[index].set(m, Some(item));
            strong.get(m).tail()[index].set(m, Some(item));
        }
        (weak, strong)
    });
    let (weak, strong) = tables.unwrap();
    let wanted = heap.stats().cycles + 30 * u64::from(factor());
    while_collecting(&heap, Duration::ZERO, || {
        std::thread::scope(|scope| {
            for seed in 0..2 {
                let (heap, weak, strong) = (&heap, &weak, &strong);
                let load = move |m: &mut Mutator<'_>| {
                    let mut random = Random::new(seed);
                    while heap.stats().cycles < wanted {
                        // Few, so that most are as the relocation left them.
                        let index = random.below(ITEMS);
                        let loaded = weak.get(m).tail()[index].get(m).expect("it is alive");
                        assert!(loaded.ptr_eq(strong.get(m).tail()[index].get(m).unwrap()));
                        assert_eq!(check(loaded), index as u64);
                        m.safepoint();
                    }
                };
                scope.spawn(move || heap.enter(load).unwrap());
            }
        });
    });
}

/// That their places are used again is tested in `handles::root`.
pub(crate) fn weak_roots_come_and_go(barrier: Barrier) {
    let heap = checked(barrier, 8 << 20).stress(stress(11)).build().unwrap();
    heap.enter(|m| {
        let item = m.build::<Item>(AllocSize::of::<Item>(), |m| place(m, 1)).unwrap();
        let kept = Weak::new(m, item.get(m));
        for _ in 0..50 {
            let many: Vec<_> = (0..2000).map(|_| Weak::new(m, item.get(m))).collect();
            m.safepoint();
            assert!(many.iter().all(|weak| weak.get(m).map(check) == Some(1)));
        }
        m.collect();
        assert_eq!(kept.get(m).map(check), Some(1));
    })
    .unwrap();
}

/// More weak slots than the marker's list has room for, in small objects and in a large one. A
/// marker that lists them all has a list of an eighth of the live memory.
pub(crate) fn many_weak_slots_are_resolved_without_a_list_of_them(barrier: Barrier) {
    const ITEMS: usize = 100_000;
    for workers in [1, 3] {
        let heap =
            Heap::builder().max_bytes(32 << 20).barrier(barrier).backing(backing()).workers(workers).build().unwrap();
        heap.enter(|m| {
            let room =
                AllocSize::tail::<SlotArray<Option<Item>>>(ITEMS) + AllocSize::tail::<Array<WeakSlot<Item>>>(ITEMS);
            let m2 = m.reserve(room).unwrap();
            let holders = Root::<SlotArray<Option<Item>>>::new(m2, m2.place_array((), ITEMS, None));
            let weak = Root::<Array<WeakSlot<Item>>>::new(m2, m2.place_array((), ITEMS, None));
            for id in 0..ITEMS {
                let m = m.reserve(AllocSize::of::<Item>().times(2)).unwrap();
                let target = place(m, id as u64);
                // One that refers to it, and that lives.
                let holder = m.place(ItemInit { id: id as u64, check: !(id as u64), other: Some(target) });
                holders.get(m).tail()[id].set(m, Some(holder));
                weak.get(m).tail()[id].set(m, Some(if id % 3 == 0 { holder } else { target }));
            }
            for _ in 0..2 {
                m.collect();
                for id in 0..ITEMS {
                    let holder = holders.get(m).tail()[id].get(m).unwrap();
                    assert_eq!(check(holder), id as u64);
                    assert!(holder.other.get(m).is_none(), "{id}: its target is dead");
                    let found = weak.get(m).tail()[id].get(m).map(check);
                    assert_eq!(found, (id % 3 == 0).then_some(id as u64));
                }
            }
        })
        .unwrap();
        let stats = heap.stats();
        let bound = stats.committed_peak_bytes as u64 / 64 + 16 * 4096;
        assert!(stats.mark_lists_peak_bytes <= bound, "{} of at most {bound}", stats.mark_lists_peak_bytes);
    }
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        a_weak_slot_is_empty_exactly_when_its_object_is_gone,
        arrays_of_weak_slots,
        weak_references_to_large_objects,
        cycles_of_references_do_not_hold_themselves,
        many_weak_slots_are_resolved_without_a_list_of_them,
        an_upgraded_reference_is_strong
    ],
    concurrent: tests![
        upgrades_race_with_the_end_of_marking,
        stale_words_in_hand_while_weak_slots_are_resolved,
        weak_roots_come_and_go
    ],
    ..Tests::NONE
};
