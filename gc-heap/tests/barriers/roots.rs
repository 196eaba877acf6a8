//! Roots as an embedder uses them, with cycles in between.

use crate::common::{catch_unwind, checked, deadline, panics, sorts, stress};
use crate::harness::{Tests, tests};
use gc_heap::{Barrier, Gc, Heap, Local, Mutator, OutOfMemory, Root, RootStack, Slot, Tagged, Trace, Value, Weak};
use std::panic::AssertUnwindSafe;

#[derive(Trace)]
struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

fn node<'s>(m: &mut Mutator<'s>, id: u64) -> Local<'s, Node> {
    m.alloc::<Node>(|_| NodeInit { id, next: None }).unwrap()
}

fn heaps(barrier: Barrier) -> impl Iterator<Item = Heap> {
    sorts().map(move |(mirror, workers)| {
        checked(barrier, 8 << 20).mirror(mirror).workers(workers).stress(stress(1)).build().unwrap()
    })
}

pub(crate) fn many_roots_hold_and_let_go(barrier: Barrier) {
    for heap in heaps(barrier) {
        heap.enter(|m| {
            let mut roots: Vec<Root<Node>> = Vec::new();
            let mut weak = Vec::new();
            for id in 0..5000 {
                let m = &mut *m.frame();
                let node = node(m, id);
                roots.push(Root::new(m, node.get(m)));
                weak.push(Weak::new(m, node.get(m)));
            }
            m.collect();
            roots.iter().zip(0..).for_each(|(root, id)| assert_eq!(root.get(m).id, id));
            // Every other is dropped, and its place soon taken by another.
            let mut index = 0;
            roots.retain(|_| {
                index += 1;
                index % 2 == 0
            });
            m.collect();
            m.collect();
            weak.iter().zip(0..).for_each(|(weak, id)| assert_eq!(weak.get(m).is_some(), id % 2 == 1, "{id}"));
            for id in 0..2500 {
                let m = &mut *m.frame();
                let node = node(m, 10_000 + id);
                roots.push(Root::new(m, node.get(m)));
            }
            m.collect();
            let expected = (0..2500).map(|i| 2 * i + 1).chain(10_000..12_500);
            assert!(roots.iter().map(|root| root.get(m).id).eq(expected));
        })
        .unwrap();
    }
}

/// Shared by threads: all set one root, all read it.
pub(crate) fn a_root_is_set_and_read_by_all(barrier: Barrier) {
    let _deadline = deadline("a shared root");
    for heap in heaps(barrier) {
        let first = heap.enter(|m| {
            let first = node(m, 0);
            Root::<Node>::new(m, first.get(m))
        });
        let root = first.unwrap();
        std::thread::scope(|scope| {
            for thread in 0..3_u64 {
                let (heap, root) = (&heap, &root);
                scope.spawn(move || {
                    heap.enter(|m| {
                        for step in 0..300 {
                            let m = &mut *m.frame();
                            let before = m.local(root.get(m));
                            let new = node(m, thread << 32 | step);
                            new.get(m).next.set(m, Some(before.get(m)));
                            before.get(m).next.set(m, None);
                            root.set(m, new.get(m));
                            let found = root.get(m);
                            assert!(found.id >> 32 < 3 && found.id as u32 <= 300);
                        }
                    })
                    .unwrap();
                });
            }
        });
    }
}

pub(crate) fn a_root_stack_is_a_stack(barrier: Barrier) {
    for heap in heaps(barrier) {
        heap.enter(|m| {
            let stack = RootStack::<Option<Node>>::with_capacity(&heap, 1).unwrap();
            let capacity = stack.room();
            assert!(capacity >= 1 && stack.is_empty() && stack.pop(m).is_none());
            for id in 0..capacity as u64 {
                let m = &mut *m.frame();
                let node = node(m, id);
                stack.push(m, Some(node.get(m)));
            }
            assert_eq!((stack.len(), stack.room()), (capacity, 0));
            panics(|| stack.push(m, None));
            panics(|| stack.peek(m, capacity));
            panics(|| stack.get(m, capacity));
            panics(|| stack.set(m, usize::MAX, None));
            panics(|| stack.poke(m, usize::MAX, None));
            m.collect();
            let ids = |stack: &RootStack<Option<Node>>, m: &Mutator<'_>| -> Vec<u64> {
                (0..stack.len()).map(|index| stack.get(m, index).unwrap().id).collect()
            };
            assert!(ids(&stack, m).into_iter().eq(0..capacity as u64));
            let [a, b, c] = stack.last::<3>(m);
            let loaded = [a, b, c].map(|slot| slot.get(m).unwrap().id);
            assert_eq!(loaded.map(|id| capacity as u64 - id), [3, 2, 1]);
            c.set(m, a.get(m));
            assert_eq!(stack.pop(m).unwrap().unwrap().id, capacity as u64 - 3);
            stack.truncate(m, usize::MAX);
            stack.truncate(m, 5);
            m.collect();
            assert_eq!(ids(&stack, m), [0, 1, 2, 3, 4]);
            panics(|| stack.last::<6>(m).len());
            assert_eq!(stack.last::<0>(m).len(), 0);
            let third = stack.get(m, 2);
            stack.resize(m, capacity, third);
            panics(|| stack.resize(m, capacity + 1, None));
            m.collect();
            let (slots, third) = (stack.slots(m), stack.get(m, 2));
            assert_eq!((slots.len(), slots[1].get(m).unwrap().id), (capacity, 1));
            assert!(slots[2..].iter().skip(3).all(|slot| slot.get(m).unwrap().ptr_eq(third.unwrap())));
            slots[7].set(m, None);
            stack.resize(m, 8, None);
            m.collect();
            assert!(stack.len() == 8 && stack.get(m, 7).is_none() && stack.get(m, 6).unwrap().id == 2);
            stack.drop_top(m, usize::MAX);
            assert!(stack.is_empty() && stack.slots(m).is_empty());
            panics(|| stack.last::<1>(m).len());
        })
        .unwrap();
    }
}

pub(crate) fn values_of_a_root_stack_are_seen_without_a_barrier(barrier: Barrier) {
    let heap = checked(barrier, 4 << 20).stress(stress(2)).build().unwrap();
    heap.enter(|m| {
        let stack = RootStack::<Tagged>::new(&heap).unwrap();
        for x in [1.5, -0.0, f64::NAN] {
            stack.push(m, Value::num(x));
            let [slot] = stack.last::<1>(m);
            assert!(slot.num().is_some_and(|found| found.to_bits() == x.to_bits()));
            slot.set_num(m, x + 1.0);
            assert!(slot.num().is_some_and(|found| found == x + 1.0 || found.is_nan()));
        }
        let held = node(m, 3);
        stack.push(m, held.get(m).into());
        m.collect();
        assert!(stack.last::<1>(m)[0].num().is_none());
        assert_eq!(stack.peek_as::<Node>(m, 0).unwrap().id, 3);
        assert!(stack.peek_as::<gc_heap::Bytes>(m, 0).is_none() && stack.peek_as::<Node>(m, 1).is_none());
    })
    .unwrap();
}

pub(crate) fn a_root_stack_too_large_is_an_error(barrier: Barrier) {
    let heap = checked(barrier, 4 << 20).build().unwrap();
    for slots in [usize::MAX, usize::MAX / 8, usize::MAX / 16, 1 << 50] {
        assert!(RootStack::<Tagged>::with_capacity(&heap, slots).is_err(), "{slots}");
    }
    assert!(RootStack::<Tagged>::with_capacity(&heap, 0).is_ok());
    // Address space only: memory comes as it is touched.
    let large: Vec<_> = (0..10).map(|_| RootStack::<Tagged>::with_capacity(&heap, 1 << 27).unwrap()).collect();
    heap.enter(|m| large.iter().for_each(|stack| stack.push(m, Value::TRUE))).unwrap();
    heap.collect();
    heap.enter(|m| assert!(large.iter().all(|stack| stack.peek(m, 0).as_bool() == Some(true)))).unwrap();
}

/// Frames within frames, each with locals, and cycles at every depth.
pub(crate) fn locals_of_many_scopes(barrier: Barrier) {
    fn nest(m: &mut Mutator<'_>, depth: u64, above: &[Local<'_, Node>]) -> u64 {
        let m = &mut *m.frame();
        let (a, b) = (node(m, 2 * depth), node(m, 2 * depth + 1));
        if depth.is_multiple_of(17) {
            m.collect();
        }
        let below = if depth == 0 { 0 } else { nest(m, depth - 1, &[a, b]) };
        assert!(above.iter().map(|local| local.get(m).id).all(|id| id / 2 == depth + 1));
        assert_eq!((a.get(m).id, b.get(m).id), (2 * depth, 2 * depth + 1));
        below + a.get(m).id
    }
    for heap in heaps(barrier) {
        heap.enter(|m| assert_eq!(nest(m, 200, &[]), (0..=200).map(|depth| 2 * depth).sum::<u64>())).unwrap();
    }
}

pub(crate) fn scopes_give_one_result(barrier: Barrier) {
    fn made<'s>(m: &mut Mutator<'s>, id: u64) -> Result<Local<'s, Node>, OutOfMemory> {
        let (mut frame, out) = m.frame_for::<Node>();
        let scratch: Vec<_> = (0..10).map(|i| node(&mut frame, i)).collect();
        let result = frame.alloc::<Node>(|_| NodeInit { id, next: None })?;
        frame.safepoint();
        assert!(scratch.iter().zip(0..).all(|(local, id)| local.get(&frame).id == id));
        let result = result.get(&frame);
        Ok(out.put(&frame, result))
    }
    for heap in heaps(barrier) {
        heap.enter(|m| {
            let all: Vec<_> = (0..200).map(|id| made(m, id).unwrap()).collect();
            m.collect();
            assert!(all.iter().zip(0..).all(|(local, id)| local.get(m).id == id));
            let scoped = m.scope_local::<Node, ()>(|m| {
                let inner = node(m, 5);
                m.safepoint();
                Ok(inner.get(m))
            });
            assert_eq!(m.scope_local::<Node, u8>(|_| Err(3)).unwrap_err(), 3);
            m.collect();
            assert_eq!(scoped.unwrap().get(m).id, 5);
        })
        .unwrap();
    }
}

/// A thread that roots without end is told so before it touches what is not its own.
pub(crate) fn too_many_locals_panic(barrier: Barrier) {
    let heap = Heap::builder().max_bytes(4 << 20).barrier(barrier).backing(crate::common::backing()).build().unwrap();
    heap.enter(|m| {
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                m.local(Value::TRUE);
            }
        }));
        let text = *result.unwrap_err().downcast::<&str>().unwrap();
        assert!(text.contains("too many locals"), "{text}");
    })
    .unwrap();
    heap.enter(|m| assert_eq!(node(m, 1).get(m).id, 1)).unwrap();
}

/// Roots that outlive their heap are dropped like any others.
pub(crate) fn roots_outlive_their_heap(barrier: Barrier) {
    let heap = checked(barrier, 4 << 20).build().unwrap();
    let (root, weak, stack) = heap
        .enter(|m| {
            let node = node(m, 1);
            let stack = RootStack::<Node>::new(&heap).unwrap();
            stack.push(m, node.get(m));
            (Root::<Node>::new(m, node.get(m)), Weak::new(m, node.get(m)), stack)
        })
        .unwrap();
    drop(heap);
    assert_eq!((stack.len(), stack.is_empty()), (1, false));
    std::thread::spawn(move || drop((root, weak, stack))).join().unwrap();
}

/// Fails where a root or a stack that was dropped is scanned by the next cycle all the same.
pub(crate) fn what_was_dropped_before_a_cycle_is_gone_after_it(barrier: Barrier) {
    let heap = checked(barrier, 4 << 20).build().unwrap();
    for id in 0..50 {
        let (root, stack, weak) = heap
            .enter(|m| {
                let stack = RootStack::<Node>::with_capacity(&heap, 2).unwrap();
                let [one, two] = [id, id + 1].map(|id| {
                    let node = m.alloc::<Node>(|_| NodeInit { id, next: None }).unwrap();
                    (node, Weak::new(m, node.get(m)))
                });
                stack.push(m, two.0.get(m));
                (Root::<Node>::new(m, one.0.get(m)), stack, [one.1, two.1])
            })
            .unwrap();
        let there = || weak.iter().map(|weak| heap.enter(|m| weak.get(m).is_some()).unwrap()).collect::<Vec<_>>();
        heap.collect();
        assert_eq!(there(), [true, true]);
        if id % 2 == 0 {
            drop(root);
            heap.collect();
            assert_eq!(there(), [false, true], "round {id}");
        } else {
            drop(stack);
            heap.collect();
            assert_eq!(there(), [true, false], "round {id}");
        }
    }
}

/// References are equal exactly when their objects are, before and after a move, whatever they came from.
pub(crate) fn one_object_has_one_address(barrier: Barrier) {
    for heap in heaps(barrier) {
        heap.enter(|m| {
            let (a, b) = (node(m, 1), node(m, 2));
            let root = Root::<Option<Node>>::new(m, Some(a.get(m)));
            let stack = RootStack::<Tagged>::new(&heap).unwrap();
            stack.push(m, a.get(m).into());
            b.get(m).next.set(m, Some(a.get(m)));
            for _ in 0..10 {
                m.collect();
                let from_slot = b.get(m).next.get(m).unwrap();
                let from_stack: Gc<'_, Node> = stack.peek_as(m, 0).unwrap();
                assert!(from_slot.ptr_eq(a.get(m)) && from_stack.ptr_eq(root.get(m).unwrap()));
                assert!(from_slot.ptr_eq(from_stack) && from_slot.any() == from_stack.any());
                assert!(!from_slot.ptr_eq(b.get(m)));
                let value = Value::from(from_slot);
                assert!(value.is_identical(stack.peek(m, 0)));
                let slot = &b.get(m).next;
                assert!(slot.compare_exchange(m, Some(a.get(m)), Some(from_stack)).is_ok());
            }
        })
        .unwrap();
    }
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        many_roots_hold_and_let_go,
        a_root_is_set_and_read_by_all,
        a_root_stack_is_a_stack,
        locals_of_many_scopes,
        scopes_give_one_result,
        what_was_dropped_before_a_cycle_is_gone_after_it,
        one_object_has_one_address
    ],
    concurrent: tests![
        values_of_a_root_stack_are_seen_without_a_barrier,
        a_root_stack_too_large_is_an_error,
        too_many_locals_panic,
        roots_outlive_their_heap
    ],
    ..Tests::NONE
};
