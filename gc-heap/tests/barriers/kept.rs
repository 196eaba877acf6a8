//! Raw references over safepoints: given in and given back.

use crate::common::{Random, checked, sorts, stress};
use crate::harness::{Tests, tests};
use gc_heap::{Address, AllocSize, Barrier, Gc, Heap, Local, Mutator, OutOfMemory, Slot, Trace, Value, yield_with};
use std::collections::HashMap;

#[derive(Trace)]
struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

#[derive(Trace)]
struct Leaf {
    number: u64,
}

fn heaps(barrier: Barrier) -> impl Iterator<Item = Heap> {
    sorts().map(move |(mirror, workers)| {
        checked(barrier, 8 << 20).mirror(mirror).workers(workers).stress(stress(5)).build().unwrap()
    })
}

/// `0..len`, the first of them first.
fn list<'s>(m: &mut Mutator<'s>, len: u64) -> Local<'s, Option<Node>> {
    let list = m.local_of::<Option<Node>>(None);
    for id in (0..len).rev() {
        let (m, node) = m.alloc_raw::<Node>(|m| NodeInit { id, next: list.get(m) }).unwrap();
        list.set(m, Some(node));
    }
    list
}

/// Mixed types, moved between any two steps; no frame is opened, and no local is left over.
pub(crate) fn references_come_back_to_the_same_objects(barrier: Barrier) {
    for heap in heaps(barrier) {
        heap.enter(|m| {
            let list = list(m, 300);
            let leaf = m.alloc::<Leaf>(|_| LeafInit { number: 7 }).unwrap();
            let before = format!("{:?}", m.local_of::<Option<Node>>(None));
            for round in 0..4 {
                let mut node = list.get(m);
                let (mut leaf, mut value) = (leaf.get(m), Value::from(leaf.get(m)));
                let mut null = None::<Gc<'_, Leaf>>;
                let mut number = Value::num(f64::from(round));
                for id in 0..300 {
                    let found = node.unwrap();
                    assert_eq!((found.id, leaf.number, null.is_none()), (id, 7, true));
                    assert!(value.downcast::<Leaf>().is_some_and(|same| same.ptr_eq(leaf)));
                    assert_eq!(number.as_num(), Some(f64::from(round)));
                    node = found.next.get(m);
                    if id.is_multiple_of(50) {
                        let kept = m.keep((node, leaf, value, null, number));
                        m.collect();
                        (node, leaf, value, null, number) = kept.take(m);
                    } else {
                        (node, leaf, value, null, number) = yield_with!(m, (node, leaf, value, null, number));
                    }
                }
                assert!(node.is_none());
            }
            let slots = |text: &str| {
                u64::from_str_radix(text.trim_matches(|c: char| !c.is_ascii_hexdigit()).trim_start_matches("0x"), 16)
            };
            let after = format!("{:?}", m.local_of::<Option<Node>>(None));
            let [before, after] = [before, after].map(|text| slots(text.split_once("0x").unwrap().1).unwrap());
            assert_eq!(after - before, 8, "kept references have left locals behind");
        })
        .unwrap();
    }
}

/// Generic code may keep as many references as it has, none among them.
pub(crate) fn no_references_are_kept_and_taken_at_any_time(barrier: Barrier) {
    for heap in heaps(barrier) {
        heap.enter(|m| -> Result<(), OutOfMemory> {
            let leaf = m.alloc::<Leaf>(|_| LeafInit { number: 7 })?;
            let one = m.keep([leaf.get(m)]);
            let none = m.keep::<[Gc<'_, Leaf>; 0]>([]);
            let m = m.reserve(AllocSize::of::<Leaf>())?;
            assert_eq!(one.take(m)[0].number, 7);
            assert!(none.take(m).is_empty());
            Ok(())
        })
        .unwrap()
        .unwrap();
    }
}

/// What was kept in another order than it is taken, beside locals and frames, some of it never.
pub(crate) fn kept_references_are_taken_in_any_order(barrier: Barrier) {
    for heap in heaps(barrier) {
        heap.enter(|m| -> Result<(), OutOfMemory> {
            let mut random = Random::new(17);
            for _ in 0..30 {
                let m = &mut *m.frame();
                let mut kept = Vec::new();
                for turn in 0..40 {
                    match random.below(5) {
                        0 | 1 => {
                            let kept_leaf = {
                                let room = m.reserve(AllocSize::of::<Leaf>().times(2))?;
                                let pair = [2 * turn, 2 * turn + 1].map(|number| room.place(LeafInit { number }));
                                room.keep(pair)
                            };
                            kept.push((turn, kept_leaf));
                        }
                        2 if !kept.is_empty() => {
                            let (turn, taken) = kept.swap_remove(random.below(kept.len()));
                            assert_eq!(taken.take(m).map(|leaf| leaf.number), [2 * turn, 2 * turn + 1]);
                        }
                        3 if !kept.is_empty() && random.one_in(4) => drop(kept.pop()),
                        _ => _ = m.alloc::<Leaf>(|_| LeafInit { number: 0 })?,
                    }
                    if random.one_in(10) {
                        m.collect();
                    }
                }
                for (turn, taken) in kept {
                    assert_eq!(taken.take(m).map(|leaf| leaf.number), [2 * turn, 2 * turn + 1]);
                }
            }
            Ok(())
        })
        .unwrap()
        .unwrap();
    }
}

/// A table of addresses between two safepoints, made anew after each: the same objects, wherever
/// they are.
pub(crate) fn addresses_tell_objects_apart(barrier: Barrier) {
    for heap in heaps(barrier) {
        heap.enter(|m| {
            let list = list(m, 500);
            for _ in 0..5 {
                let mut table: HashMap<Address<'_>, u64> = HashMap::new();
                let mut node = list.get(m);
                while let Some(found) = node {
                    assert_eq!(table.insert(found.address(), found.id), None);
                    node = found.next.get(m);
                }
                let mut node = list.get(m);
                while let Some(found) = node {
                    assert_eq!(table.get(&found.any().address()), Some(&found.id));
                    node = found.next.get(m);
                }
                assert_eq!(table.len(), 500);
                let mut sorted: Vec<Address<'_>> = table.keys().copied().collect();
                sorted.sort_unstable();
                assert!(sorted.is_sorted_by(|a, b| a < b));
                m.collect();
            }
        })
        .unwrap();
    }
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        references_come_back_to_the_same_objects,
        no_references_are_kept_and_taken_at_any_time,
        kept_references_are_taken_in_any_order,
        addresses_tell_objects_apart
    ],
    ..Tests::NONE
};
