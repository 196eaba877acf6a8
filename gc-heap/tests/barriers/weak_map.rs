//! Weak maps: a value lives exactly as long as its key, and the map shrinks, while cycles run.

use crate::common::{Random, checked, every_heap, factor, while_collecting};
use crate::ephemeron::{Item, ItemInit, Items, check, place};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Heap, Local, Mutator, OutOfMemory, Root, Slot, Tagged, Trace, Value, Weak, WeakMap};
use std::time::Duration;

pub(crate) fn a_weak_map_forgets_dead_keys_and_counts_them(barrier: Barrier) {
    for heap in every_heap(barrier, 8 << 20, 6) {
        heap.enter(|m| -> Result<(), OutOfMemory> {
            const LEN: usize = 2000;
            let map = WeakMap::<Item, Item>::new(m)?;
            let keys = m.build::<Items>(AllocSize::tail::<Items>(LEN), |m| m.place_array((), LEN, None))?;
            for index in 0..LEN {
                let m = &mut *m.frame();
                let key = m.build::<Item>(AllocSize::of::<Item>(), |m| place(m, index as u64))?;
                keys.get(m).tail()[index].set(m, Some(key.get(m)));
                // A value that refers to its key, as most do.
                let value = m.build::<Item>(AllocSize::of::<Item>(), |m| {
                    m.place(ItemInit { id: index as u64 + 1, check: !(index as u64 + 1), other: Some(key.get(m)) })
                })?;
                WeakMap::insert(map, m, key, value)?;
            }
            let found = |m: &Mutator<'_>, index: usize| {
                let key = keys.get(m).tail()[index].get(m)?;
                map.get(m).get(m, key).map(check)
            };
            assert_eq!((map.get(m).len(m), map.get(m).vanished(m)), (LEN, 0));
            m.collect();
            (0..LEN).for_each(|index| assert_eq!(found(m, index), Some(index as u64 + 1)));
            keys.get(m).tail().iter().step_by(2).for_each(|slot| slot.set(m, None));
            m.collect();
            m.collect();
            assert_eq!((map.get(m).len(m), map.get(m).vanished(m)), (LEN / 2, LEN as u64 / 2));
            (0..LEN).for_each(|index| assert_eq!(found(m, index), (index % 2 == 1).then_some(index as u64 + 1)));
            // Removed, replaced, iterated.
            let one = m.local(keys.get(m).tail()[1].get(m).unwrap());
            assert_eq!(map.get(m).remove(m, one.get(m)).map(check), Some(2));
            assert!(map.get(m).remove(m, one.get(m)).is_none() && !map.get(m).contains(m, one.get(m)));
            let three = m.local(keys.get(m).tail()[3].get(m).unwrap());
            WeakMap::insert(map, m, three, one)?;
            assert_eq!(found(m, 3), Some(1));
            let mut sum = 0;
            map.get(m).for_each(m, |key, value| {
                assert!(check(value) == check(key) + 1 || check(key) == 3);
                sum += check(key);
            });
            assert_eq!(sum, (5..LEN as u64).step_by(2).sum::<u64>() + 3);
            assert_eq!((map.get(m).len(m), map.get(m).vanished(m)), (LEN / 2 - 1, LEN as u64 / 2));
            // A visitor uses the map as anybody does.
            let mut visits = 0;
            map.get(m).for_each(m, |key, value| {
                visits += 1;
                map.get(m).for_each(m, |_, _| visits += 1);
                assert!(map.get(m).remove(m, key).is_some_and(|removed| removed.ptr_eq(value)));
                assert!(!map.get(m).contains(m, key));
            });
            let before = LEN / 2 - 1;
            assert_eq!((visits, map.get(m).len(m)), (before + before * (before + 1) / 2, 0));
            map.get(m).clear(m);
            assert!(map.get(m).is_empty(m) && map.get(m).vanished(m) == LEN as u64 / 2);
            Ok(())
        })
        .unwrap()
        .unwrap();
    }
}

/// What many entries took goes back when they are gone, whether they vanished or were removed.
pub(crate) fn a_weak_map_that_was_large_becomes_small(barrier: Barrier) {
    const MANY: u64 = 20_000;
    let heap = checked(barrier, 8 << 20).build().unwrap();
    heap.enter(|m| -> Result<(), OutOfMemory> {
        let map = WeakMap::<Item, Tagged>::new(m)?;
        let insert = |m: &mut Mutator<'_>, id: u64, held: Option<Local<'_, Items>>| -> Result<(), OutOfMemory> {
            let m = &mut *m.frame();
            let key = m.build::<Item>(AllocSize::of::<Item>(), |m| place(m, id))?;
            if let Some(held) = held {
                held.get(m).tail()[id as usize].set(m, Some(key.get(m)));
            }
            let value = m.local(Value::int(id as i32));
            WeakMap::insert(map, m, key, value)
        };
        let held = m.build::<Items>(AllocSize::tail::<Items>(100), |m| m.place_array((), 100, None))?;
        let live = |m: &mut Mutator<'_>| {
            m.collect();
            m.collect();
            heap.stats().live_bytes
        };
        for clear in [false, true] {
            let before = live(m);
            {
                // Keys that live: of others the table would stay small.
                let m = &mut *m.frame();
                let len = MANY as usize;
                let all = m.build::<Items>(AllocSize::tail::<Items>(len), |m| m.place_array((), len, None))?;
                for id in 100..MANY {
                    insert(m, id, Some(all))?;
                }
            }
            assert!(live(m) > before + 16 * MANY, "the table is there");
            if clear {
                map.get(m).clear(m);
            }
            // New entries: all of them stay, and some come and go.
            for id in (0..100).chain(100..MANY / 2) {
                insert(m, id, (id < 100).then_some(held))?;
                if id % 1000 == 0 {
                    m.collect();
                }
            }
            for id in 0..100 {
                let key = held.get(m).tail()[id].get(m).unwrap();
                assert_eq!(map.get(m).get(m, key).and_then(Value::as_int), Some(id as i32));
            }
            let after = live(m);
            assert!(after < before + 200_000, "{before} bytes before, {after} after");
        }
        Ok(())
    })
    .unwrap()
    .unwrap();
}

/// A map that is reachable through its own value alone is garbage, and so is a map of maps. The
/// table grows by keys that no cycle has found dead yet, until it would be larger than the heap.
pub(crate) fn a_weak_map_of_keys_that_die_at_once_is_never_out_of_memory(barrier: Barrier) {
    for mib in [4, 8, 16] {
        let heap = Heap::builder().max_bytes(mib << 20).barrier(barrier).build().unwrap();
        heap.enter(|m| {
            let map = WeakMap::<Item, Tagged>::new(m).unwrap();
            let value = m.local(Value::int(1));
            for id in 0..1_000_000 {
                let m = &mut *m.frame();
                let key = m.build::<Item>(AllocSize::of::<Item>(), |m| place(m, id)).unwrap();
                WeakMap::insert(map, m, key, value).unwrap_or_else(|error| panic!("{mib} MiB, key {id}: {error}"));
            }
            m.collect();
            assert_eq!(map.get(m).len(m), 0);
        })
        .unwrap();
    }
}

pub(crate) fn a_map_does_not_hold_itself(barrier: Barrier) {
    #[derive(Trace)]
    #[trace(identity_hash)]
    struct Key {
        map: Slot<Option<WeakMap<Key, Tagged>>>,
    }
    for heap in every_heap(barrier, 4 << 20, 7) {
        heap.enter(|m| -> Result<(), OutOfMemory> {
            let weak = {
                let m = &mut *m.frame();
                let map = WeakMap::<Key, Tagged>::new(m)?;
                let key = m.build::<Key>(AllocSize::of::<Key>(), |m| m.place(KeyInit { map: Some(map.get(m)) }))?;
                let value = m.local(Value::from(map.get(m)));
                WeakMap::insert(map, m, key, value)?;
                m.collect();
                assert_eq!(map.get(m).len(m), 1);
                Weak::new(m, map.get(m))
            };
            m.collect();
            m.collect();
            assert!(weak.get(m).is_none());
            Ok(())
        })
        .unwrap()
        .unwrap();
    }
}

/// Threads put, find and drop entries of one map while cycles run: a held key's value is always
/// there, and the right one.
pub(crate) fn a_weak_map_is_used_by_several_threads(barrier: Barrier) {
    for heap in every_heap(barrier, 8 << 20, 8) {
        let map = heap.enter(|m| {
            let map = WeakMap::<Item, Item>::new(m).unwrap();
            Root::<WeakMap<Item, Item>>::new(m, map.get(m))
        });
        let map = map.unwrap();
        let added: u64 = while_collecting(&heap, Duration::ZERO, || {
            std::thread::scope(|scope| {
                let (heap, map) = (&heap, &map);
                let threads: Vec<_> = (0..3)
                    .map(|seed| scope.spawn(move || heap.enter(|m| churn(m, map, seed).unwrap()).unwrap()))
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            })
        });
        heap.enter(|m| {
            m.collect();
            m.collect();
            let map = map.get(m);
            assert_eq!((map.len(m), map.vanished(m)), (0, added));
        })
        .unwrap();
    }
}

fn churn(m: &mut Mutator<'_>, map: &Root<WeakMap<Item, Item>>, seed: u64) -> Result<u64, OutOfMemory> {
    const HELD: usize = 40;
    let mut random = Random::new(seed);
    let keys = m.build::<Items>(AllocSize::tail::<Items>(HELD), |m| m.place_array((), HELD, None))?;
    let mut ids = [0; HELD];
    let mut added = 0;
    for round in 0..1500 * u64::from(factor()) {
        let m = &mut *m.frame();
        let map = m.local(map.get(m));
        let index = random.below(HELD);
        if let Some(key) = keys.get(m).tail()[index].get(m) {
            let value = map.get(m).get(m, key).expect("the value of a key that is held");
            assert_eq!((check(key), check(value)), (ids[index], ids[index] * 3));
        }
        let id = seed << 32 | round;
        let key = m.build::<Item>(AllocSize::of::<Item>(), |m| place(m, id))?;
        let value = m.build::<Item>(AllocSize::of::<Item>(), |m| {
            m.place(ItemInit { id: id * 3, check: !(id * 3), other: Some(key.get(m)) })
        })?;
        WeakMap::insert(map, m, key, value)?;
        keys.get(m).tail()[index].set(m, Some(key.get(m)));
        (ids[index], added) = (id, added + 1);
    }
    Ok(added)
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        a_weak_map_forgets_dead_keys_and_counts_them,
        a_weak_map_that_was_large_becomes_small,
        a_weak_map_of_keys_that_die_at_once_is_never_out_of_memory,
        a_map_does_not_hold_itself,
        a_weak_map_is_used_by_several_threads
    ],
    ..Tests::NONE
};
