//! Roots as an embedder uses them, with cycles in between.

use crate::common::{catch_unwind, checked, panic_of, panics, plain, sorts, stress};
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

/// Stacks that come one after the other, each longer than those before: what they had joins and is
/// used again.
pub(crate) fn addresses_of_dropped_stacks_join(barrier: Barrier) {
    let heap = plain(barrier, 4 << 20).build().unwrap();
    for i in 1..=6000 {
        let stack = RootStack::<Tagged>::with_capacity(&heap, i * 512).unwrap_or_else(|error| panic!("{i}: {error}"));
        heap.enter(|m| stack.push(m, Value::NIL)).unwrap();
        drop(stack);
        if i % 50 == 0 {
            heap.collect();
        }
    }
}

/// Outside the heap nobody has to ask for a cycle: 64 stacks of 1 GiB each, one alive at a time.
pub(crate) fn who_wants_a_stack_waits_for_the_addresses_of_dropped_ones(barrier: Barrier) {
    let heap = plain(barrier, 4 << 20).build().unwrap();
    for i in 0..64 {
        let stack = RootStack::<Tagged>::with_capacity(&heap, 1 << 27).unwrap_or_else(|error| panic!("{i}: {error}"));
        heap.enter(|m| stack.push(m, Value::NIL)).unwrap();
    }
}

/// As many stacks as there are addresses for with the page barrier, and as many threads as a server
/// has: neither keeps the other out, and both are scanned.
pub(crate) fn stacks_and_threads_leave_each_other_room(barrier: Barrier) {
    let heap = checked(barrier, 64 << 20).build().unwrap();
    let stacks: Vec<RootStack> =
        std::iter::from_fn(|| RootStack::with_capacity(&heap, 1 << 24).ok()).take(200).collect();
    // The last addresses too.
    let more = std::iter::from_fn(|| RootStack::<Tagged>::with_capacity(&heap, 1 << 16).ok()).take(300);
    let more: Vec<_> = more.collect();
    assert!(stacks.len() >= 100 && (barrier != Barrier::Page || more.len() < 300), "{} {}", stacks.len(), more.len());
    let mut threads: Vec<_> = (0..5000).map(|i| heap.thread().unwrap_or_else(|e| panic!("{i}: {e}"))).collect();
    let mut nodes = Vec::new();
    for (i, stack) in stacks.iter().enumerate() {
        let made = threads[i * 20].enter(|m| {
            let m = &mut *m.frame();
            // Past what a frame has at first, with cycles before and after.
            let locals: Vec<_> = (0..10).map(|id| node(m, id)).collect();
            (0..9_000).for_each(|_| _ = m.local(Value::TRUE));
            let last = node(m, i as u64);
            if i % 16 == 0 {
                m.collect();
            }
            assert!(locals.iter().zip(0..).all(|(local, id)| local.get(m).id == id));
            stack_push(stack, m, last);
            last.get(m).id
        });
        nodes.push(made.unwrap());
    }
    let roots = threads[0].enter(|m| (0..5000).map(|_| Root::<Tagged>::new(m, Value::TRUE)).collect::<Vec<_>>());
    assert_eq!(roots.unwrap().len(), 5000);
    heap.collect();
    let check = |m: &mut Mutator<'_>| {
        for (stack, id) in stacks.iter().zip(&nodes) {
            assert_eq!(stack.peek_as::<Node>(m, 0).unwrap().id, *id);
        }
    };
    threads[4999].enter(check).unwrap();
}

fn stack_push(stack: &RootStack, m: &Mutator<'_>, node: Local<'_, Node>) {
    stack.push(m, node.get(m).into());
}

/// A frame grows while cycles run, over and over: what is in it is found where it was.
pub(crate) fn locals_without_end_are_all_scanned(barrier: Barrier) {
    for heap in heaps(barrier) {
        heap.enter(|m| {
            let m = &mut *m.frame();
            let mut locals = Vec::new();
            for id in 0..40_000_u64 {
                locals.push(if id % 64 == 0 { node(m, id) } else { m.local(locals_at(&locals, id).get(m)) });
                if id % 6_000 == 0 {
                    m.collect();
                }
            }
            m.collect();
            assert!(locals.iter().zip(0..).all(|(local, id): (&Local<'_, Node>, u64)| local.get(m).id == id / 64 * 64));
        })
        .unwrap();
    }
}

fn locals_at<'s>(locals: &[Local<'s, Node>], id: u64) -> Local<'s, Node> {
    locals[(id / 64 * 64) as usize]
}

/// The kernel allows a process 65530 mappings, and threads need some of them.
pub(crate) fn many_stacks_are_few_mappings(barrier: Barrier) {
    fn mappings() -> usize {
        std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
    }
    let heap = plain(barrier, 4 << 20).build().unwrap();
    let before = mappings();
    let mut stacks: Vec<RootStack> = (0..8000).map(|_| RootStack::new(&heap).unwrap()).collect();
    heap.enter(|m| stacks.iter().for_each(|stack| stack.push(m, Value::NIL))).unwrap();
    let mut index = 0;
    stacks.retain(|_| {
        index += 1;
        index % 2 == 0
    });
    heap.collect();
    // Other tests have mappings too.
    assert!(mappings() < before + 2000, "{before} mappings, then {}", mappings());
    let more: Vec<RootStack> = (0..4000).map(|_| RootStack::new(&heap).unwrap()).collect();
    heap.enter(|m| more.iter().for_each(|stack| stack.push(m, Value::TRUE))).unwrap();
    assert!(mappings() < before + 2000, "{before} mappings, then {}", mappings());
}

/// What is wrong, and where: the line of the program, not one of this crate.
pub(crate) fn panics_of_stacks_say_line_index_and_length(barrier: Barrier) {
    let heap = plain(barrier, 4 << 20).build().unwrap();
    let stack: RootStack = RootStack::with_capacity(&heap, 512).unwrap();
    heap.enter(|m| {
        (0..3).for_each(|_| stack.push(m, Value::NIL));
        let first = line!() + 2;
        let said = [
            panic_of(|| _ = stack.get(m, 3)),
            panic_of(|| stack.set(m, 7, Value::NIL)),
            panic_of(|| _ = stack.peek(m, 5)),
            panic_of(|| stack.poke(m, 6, Value::NIL)),
            panic_of(|| _ = stack.last::<4>(m)),
            panic_of(|| stack.resize(m, 513, Value::NIL)),
            panic_of(|| (0..600).for_each(|_| stack.push(m, Value::NIL))),
        ];
        let numbers = [(3, 3), (7, 3), (5, 3), (6, 3), (4, 3), (513, 512), (513, 512)];
        for ((line, (text, file, at)), (index, len)) in (first..).zip(said).zip(numbers) {
            let whole = text.contains(&format!(" {index}")) && text.contains(&format!(" {len} "));
            assert!(whole && at == line && file.ends_with("roots.rs"), "line {line}: {file}:{at}: {text}");
        }
    })
    .unwrap();
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
    let heap = plain(barrier, 4 << 20).build().unwrap();
    heap.enter(|m| {
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                m.local(Value::TRUE);
            }
        }));
        let text = *result.unwrap_err().downcast::<String>().unwrap();
        // A thread alone has all of it, with every barrier.
        assert!(text.contains("too many locals: 33554432 of"), "{text}");
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

/// References are equal exactly when their objects are, before and after a move, whatever they came
/// from.
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
        locals_without_end_are_all_scanned,
        one_object_has_one_address
    ],
    concurrent: tests![
        values_of_a_root_stack_are_seen_without_a_barrier,
        a_root_stack_too_large_is_an_error,
        addresses_of_dropped_stacks_join,
        who_wants_a_stack_waits_for_the_addresses_of_dropped_ones,
        stacks_and_threads_leave_each_other_room,
        many_stacks_are_few_mappings,
        panics_of_stacks_say_line_index_and_length,
        too_many_locals_panic,
        roots_outlive_their_heap
    ],
    ..Tests::NONE
};
