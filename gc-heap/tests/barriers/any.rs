//! Weak things about objects of any type: what a dynamic language has one sort of.

use crate::common::{every_heap, panics};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, AnyGc, AnyObject, Barrier, Bytes, Ephemeron, FinalizerQueue, Local, Mutator, OutOfMemory, Root,
    RootStack, Slot, SlotArray, Tagged, Trace, Value, Weak, WeakMap, WeakSlot,
};
use std::collections::BTreeMap;

#[derive(Trace)]
#[trace(identity_hash)]
struct Pair {
    number: u64,
    other: Slot<Option<AnyObject>>,
}

#[derive(Trace)]
#[trace(identity_hash, tail = u8)]
struct Symbol {
    number: u64,
}

/// Without an identity hash.
#[derive(Trace)]
struct Plain {
    number: u64,
}

/// An object of one of three types.
fn object<'s>(m: &mut Mutator<'s>, number: u64) -> Result<Local<'s, AnyObject>, OutOfMemory> {
    let room = AllocSize::of::<Pair>() + AllocSize::tail::<Symbol>(5) + AllocSize::of::<Plain>();
    m.build::<AnyObject>(room, |m| match number % 3 {
        0 => m.place(PairInit { number, other: None }).any(),
        1 => m.place_bytes::<Symbol>(SymbolInit { number }, b"names").any(),
        _ => m.place(PlainInit { number }).any(),
    })
}

fn number(object: AnyGc<'_>) -> u64 {
    match (object.downcast::<Pair>(), object.downcast::<Symbol>(), object.downcast::<Plain>()) {
        (Some(pair), None, None) => pair.number,
        (None, Some(symbol), None) => {
            assert_eq!(symbol.tail(), b"names");
            symbol.number
        }
        (None, None, Some(plain)) => plain.number,
        _ => panic!("{object:?} is none of the three types"),
    }
}

#[derive(Trace)]
struct Cell {
    strong: Slot<Option<AnyObject>>,
    never_null: Slot<AnyObject>,
    weak: WeakSlot<AnyObject>,
    pair: Ephemeron<AnyObject, Tagged>,
}

pub(crate) fn slots_hold_objects_of_any_type(barrier: Barrier) {
    const LEN: u64 = 300;
    for heap in every_heap(barrier, 8 << 20, 41) {
        heap.enter(|m| -> Result<(), OutOfMemory> {
            let cells = m
                .build::<SlotArray<Option<Cell>>>(AllocSize::tail::<SlotArray<Option<Cell>>>(LEN as usize), |m| {
                    m.place_array((), LEN as usize, None)
                })?;
            let fixed = object(m, 1)?;
            let mut roots = Vec::new();
            let stack = RootStack::<AnyObject>::new(&heap)?;
            for id in 0..LEN {
                let m = &mut *m.frame();
                let object = object(m, id)?;
                let cell = m.alloc::<Cell>(|m| CellInit {
                    strong: id.is_multiple_of(2).then_some(object.get(m)),
                    never_null: fixed.get(m),
                    weak: Some(object.get(m)),
                    pair: Some((object.get(m), Value::int(id as i32))),
                })?;
                cells.get(m).tail()[id as usize].set(m, Some(cell.get(m)));
                match id % 5 {
                    1 => roots.push(Root::<AnyObject>::new(m, object.get(m))),
                    3 => stack.push(m, object.get(m)),
                    _ => {}
                }
            }
            m.collect();
            m.collect();
            for id in 0..LEN {
                let cell = cells.get(m).tail()[id as usize].get(m).unwrap();
                let held = id % 2 == 0 || id % 5 == 1 || id % 5 == 3;
                let found = cell.weak.get(m);
                assert_eq!(found.map(number), held.then_some(id));
                assert_eq!(cell.pair.get(m).map(|(key, value)| (number(key), value.as_int())), {
                    held.then_some((id, Some(id as i32)))
                });
                if let Some(object) = found {
                    assert!(cell.pair.has_key(m, object) && cell.strong.get(m).is_none_or(|strong| strong == object));
                }
                assert_eq!(number(cell.never_null.get(m)), 1);
            }
            assert!(roots.iter().zip((1..LEN).step_by(5)).all(|(root, id)| number(root.get(m)) == id));
            assert!((0..stack.len()).all(|index| number(stack.get(m, index)) == 5 * index as u64 + 3));
            Ok(())
        })
        .unwrap()
        .unwrap();
    }
}

pub(crate) fn a_weak_map_has_keys_of_several_types(barrier: Barrier) {
    const LEN: u64 = 600;
    for heap in every_heap(barrier, 8 << 20, 42) {
        heap.enter(|m| -> Result<(), OutOfMemory> {
            let map = WeakMap::<AnyObject, Tagged>::new(m)?;
            let mut kept = BTreeMap::new();
            for id in (0..LEN).filter(|id| id % 3 != 2) {
                let m = &mut *m.frame();
                let (key, value) = (object(m, id)?, m.local(Value::int(id as i32)));
                WeakMap::insert(map, m, key, value)?;
                if id % 4 == 0 {
                    kept.insert(id, Root::<AnyObject>::new(m, key.get(m)));
                }
            }
            m.collect();
            m.collect();
            assert_eq!(map.get(m).len(m), kept.len());
            for (&id, key) in &kept {
                assert_eq!(map.get(m).get(m, key.get(m)).and_then(Value::as_int), Some(id as i32));
            }
            map.get(m).for_each(m, |key, value| assert_eq!(Some(number(key) as i32), value.as_int()));
            let first = &kept[&0];
            assert_eq!(map.get(m).remove(m, first.get(m)).and_then(Value::as_int), Some(0));
            assert!(!map.get(m).contains(m, first.get(m)));
            // A key that has no number to be found by.
            let plain = object(m, 2)?;
            panics(|| map.get(m).contains(m, plain.get(m)));
            assert_eq!(map.get(m).len(m), kept.len() - 1, "the map is as it was, and is not locked");
            Ok(())
        })
        .unwrap()
        .unwrap();
    }
}

pub(crate) fn one_queue_gives_objects_of_several_types(barrier: Barrier) {
    const LEN: u64 = 90;
    for heap in every_heap(barrier, 8 << 20, 43) {
        let queue = FinalizerQueue::<AnyObject>::new(&heap);
        let weak = heap
            .enter(|m| -> Result<Vec<Weak<AnyObject>>, OutOfMemory> {
                let mut weak = Vec::new();
                for id in 0..LEN {
                    let m = &mut *m.frame();
                    let object = object(m, id)?;
                    queue.register(m, object.get(m));
                    weak.push(Weak::of_any(m, object.get(m)));
                    assert_eq!(weak.last().and_then(|weak| weak.get(m)).map(number), Some(id));
                }
                Ok(weak)
            })
            .unwrap()
            .unwrap();
        heap.collect();
        heap.collect();
        heap.enter(|m| {
            let mut given: Vec<_> = std::iter::from_fn(|| queue.take()).map(|root| number(root.get(m))).collect();
            given.sort_unstable();
            assert!(given.into_iter().eq(0..LEN));
            assert!(weak.iter().all(|weak| weak.get(m).is_none()));
            // Bytes are an object as well.
            let bytes = m.build::<Bytes>(AllocSize::tail::<Bytes>(3), |m| m.place_bytes((), b"abc")).unwrap();
            assert!(Weak::of_any(m, bytes.get(m).any()).get(m).is_some_and(|any| any == bytes.get(m).any()));
        })
        .unwrap();
    }
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        slots_hold_objects_of_any_type,
        a_weak_map_has_keys_of_several_types,
        one_queue_gives_objects_of_several_types
    ],
    ..Tests::NONE
};
