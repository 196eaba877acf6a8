//! Threads that come, go, wait, stall, hand themselves on and are forgotten, in every phase of a
//! cycle.

use crate::common::{Random, checked, factor, sorts, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Barrier, Bytes, EnterError, Heap, HeapThread, Local, Mutator, Root, RootStack, Slot, SlotArray, Stress,
    Tagged, Trace, Value,
};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

#[derive(Trace)]
pub(crate) struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

/// A list of so many nodes, the first of which has number `count - 1`.
pub(crate) fn list<'s>(m: &mut Mutator<'s>, count: u64) -> Local<'s, Option<Node>> {
    let head = m.build::<Option<Node>>(AllocSize::NONE, |_| None).unwrap();
    for id in 0..count {
        let m = m.reserve(AllocSize::of::<Node>()).unwrap();
        head.set(m, Some(m.place(NodeInit { id, next: head.get(m) })));
    }
    head
}

pub(crate) fn check(m: &Mutator<'_>, head: Option<gc_heap::Gc<'_, Node>>, count: u64) {
    let (mut node, mut expected) = (head, count);
    while let Some(found) = node {
        expected -= 1;
        assert_eq!(found.id, expected);
        node = found.next.get(m);
    }
    assert_eq!(expected, 0);
}

fn rooted(m: &mut Mutator<'_>, count: u64) -> Root<Option<Node>> {
    let head = list(m, count);
    Root::new(m, head.get(m))
}

fn made_and_checked(m: &mut Mutator<'_>, count: u64) {
    let head = list(m, count);
    check(m, head.get(m), count);
}

pub(crate) fn any_number_of_threads_come_and_go_between_two_cycles(barrier: Barrier) {
    for (mirror, workers) in sorts() {
        let heap = checked(barrier, 4 << 20).mirror(mirror).workers(workers).build().unwrap();
        for count in 0..1500 {
            heap.enter(|m| m.local(Value::int(count)).get(m).as_int()).unwrap();
        }
    }
}

pub(crate) fn threads_attach_and_detach_in_every_phase(barrier: Barrier) {
    for (mirror, workers) in sorts() {
        let heap = checked(barrier, 8 << 20).mirror(mirror).workers(workers).stress(stress(1)).build().unwrap();
        while_collecting(&heap, Duration::ZERO, || {
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        for round in 0..20 * u64::from(factor()) {
                            let mut thread = heap.thread().unwrap();
                            let root = thread.enter(|m| {
                                let head = list(m, round % 50);
                                check(m, head.get(m), round % 50);
                                Root::<Option<Node>>::new(m, head.get(m))
                            });
                            if round % 3 == 0 {
                                drop(heap.thread().unwrap());
                            }
                            thread.enter(|m| check(m, root.unwrap().get(m), round % 50)).unwrap();
                        }
                    });
                }
            });
        });
    }
}

/// Real threads that end, with objects in half-used blocks, while phases run.
pub(crate) fn threads_end_in_every_phase(barrier: Barrier) {
    let heap = checked(barrier, 8 << 20).stress(stress(2)).build().unwrap();
    while_collecting(&heap, Duration::ZERO, || {
        let mut roots: Vec<(Root<Option<Node>>, u64)> = Vec::new();
        for round in 0..60 * u64::from(factor()) {
            let thread =
                std::thread::scope(|scope| scope.spawn(|| heap.enter(|m| rooted(m, round % 37)).unwrap()).join());
            roots.push((thread.unwrap(), round % 37));
            if roots.len() > 20 {
                roots.swap_remove(round as usize % 20);
            }
            heap.enter(|m| roots.iter().for_each(|(root, count)| check(m, root.get(m), *count))).unwrap();
        }
    });
}

/// A thread that is parked for good delays nobody, and finds its locals as they were.
pub(crate) fn a_thread_that_blocks_for_long(barrier: Barrier) {
    for (mirror, workers) in sorts() {
        let heap = checked(barrier, 8 << 20).mirror(mirror).workers(workers).build().unwrap();
        let (wake, woken) = channel::<()>();
        let (ready, is_ready) = channel::<()>();
        std::thread::scope(|scope| {
            let heap = &heap;
            scope.spawn(move || {
                heap.enter(|m| {
                    let head = list(m, 3000);
                    let stack = RootStack::<Tagged>::new(heap).unwrap();
                    stack.push(m, head.get(m).unwrap().into());
                    m.blocking(|| {
                        ready.send(()).unwrap();
                        woken.recv().unwrap();
                    });
                    check(m, head.get(m), 3000);
                    check(m, stack.pop(m).unwrap().downcast(), 3000);
                })
                .unwrap();
            });
            is_ready.recv().unwrap();
            heap.enter(|m| {
                for _ in 0..20 {
                    let m = &mut *m.frame();
                    let head = list(m, 5000);
                    m.collect();
                    check(m, head.get(m), 5000);
                }
            })
            .unwrap();
            wake.send(()).unwrap();
        });
    }
}

/// A thread that comes to a safepoint now and then only.
pub(crate) fn a_thread_that_polls_rarely(barrier: Barrier) {
    let heap = checked(barrier, 8 << 20).build().unwrap();
    while_collecting(&heap, Duration::ZERO, || {
        heap.enter(|m| {
            let head = list(m, 1000);
            let mut polls = 0;
            // Cycles go on from poll to poll. How many of them a cycle takes depends on who else
            // has the processors.
            while polls < 30 || heap.stats().cycles <= 5 {
                polls += 1;
                let begun = std::time::Instant::now();
                while begun.elapsed() < Duration::from_millis(10) {
                    check(m, head.get(m), 1000);
                }
                m.safepoint();
            }
        })
        .unwrap();
    });
}

pub(crate) fn a_place_in_the_heap_moves_between_threads(barrier: Barrier) {
    let heap = checked(barrier, 8 << 20).stress(stress(3)).build().unwrap();
    while_collecting(&heap, Duration::ZERO, || {
        let mut thread = heap.thread().unwrap();
        let mut stack = RootStack::<Tagged>::new(&heap).unwrap();
        for round in 0..100_u64 {
            (thread, stack) = std::thread::scope(|scope| {
                let moved = scope.spawn(move || {
                    thread
                        .enter(|m| {
                            let head = list(m, 10 + round % 5);
                            if stack.len() > 20 {
                                stack.truncate(m, 3);
                            }
                            stack.push(m, head.get(m).unwrap().into());
                            let last = stack.peek_as::<Node>(m, 0);
                            check(m, last, 10 + round % 5);
                        })
                        .unwrap();
                    (thread, stack)
                });
                moved.join().unwrap()
            });
        }
    });
}

/// The place keeps the heap, whoever drops the handle.
pub(crate) fn a_heap_dropped_before_a_threads_place_in_it(barrier: Barrier) {
    let mut kept = Vec::new();
    for count in 0..10_u64 {
        let heap = checked(barrier, 4 << 20).build().unwrap();
        let mut thread = heap.thread().unwrap();
        let root = thread.enter(|m| rooted(m, count)).unwrap();
        drop(heap);
        thread
            .enter(|m| {
                m.collect();
                check(m, root.get(m), count);
            })
            .unwrap();
        kept.push((thread, root, count));
    }
    for (mut thread, root, count) in kept {
        thread.enter(|m| check(m, root.get(m), count)).unwrap();
        drop(thread);
        // The heap is gone now; the root is dropped without it.
        drop(root);
    }
}

pub(crate) fn the_last_handle_dropped_inside(barrier: Barrier) {
    let heap = checked(barrier, 4 << 20).build().unwrap();
    let mut thread = heap.thread().unwrap();
    thread
        .enter(|m| {
            let head = list(m, 100);
            drop(heap);
            m.collect();
            check(m, head.get(m), 100);
        })
        .unwrap();
}

/// Everything that can be forgotten is.
pub(crate) fn what_is_forgotten_costs_memory_and_nothing_else(barrier: Barrier) {
    for (mirror, workers) in sorts() {
        let heap = checked(barrier, 8 << 20).mirror(mirror).workers(workers).stress(stress(4)).build().unwrap();
        let mut thread = heap.thread().unwrap();
        for round in 0..10_u64 {
            thread
                .enter(|m| {
                    let head = list(m, 50);
                    std::mem::forget(Root::<Option<Node>>::new(m, head.get(m)));
                    let stack = RootStack::<Option<Node>>::with_capacity(&heap, 100).unwrap();
                    stack.push(m, head.get(m));
                    std::mem::forget(stack);
                    let mut frame = m.frame();
                    let inner = list(&mut frame, 20);
                    frame.safepoint();
                    check(&frame, inner.get(&frame), 20);
                    std::mem::forget(frame);
                })
                .unwrap();
            thread.enter(|m| made_and_checked(m, round)).unwrap();
        }
        std::mem::forget(heap.thread().unwrap());
        heap.collect();
        std::mem::forget(thread);
        heap.enter(|m| {
            for _ in 0..20 {
                made_and_checked(&mut m.frame(), 300);
            }
        })
        .unwrap();
    }
}

/// More threads than the heap has room for, were those that wait for memory to keep their blocks.
pub(crate) fn sixty_four_threads_in_a_small_heap(barrier: Barrier) {
    let heap = Heap::builder().max_bytes(8 << 20).barrier(barrier).backing(crate::common::backing()).build().unwrap();
    std::thread::scope(|scope| {
        for seed in 0..64 {
            let heap = &heap;
            scope.spawn(move || {
                let mut random = Random::new(seed);
                heap.enter(|m| {
                    for step in 0..500 {
                        let m = &mut *m.frame();
                        let head = list(m, 5);
                        let len = random.below(3000);
                        m.reserve(AllocSize::tail::<Bytes>(len))
                            .map(|m| assert_eq!(m.place_bytes::<Bytes>((), &vec![1; len]).tail_len(), len))
                            .unwrap_or_else(|error| panic!("step {step}: {error}"));
                        check(m, head.get(m), 5);
                        if random.one_in(50) {
                            m.blocking(|| std::thread::sleep(Duration::from_micros(100)));
                        }
                    }
                })
                .unwrap();
            });
        }
    });
}

/// A thread puts new objects into a slot, and another reads what is in them. Under ThreadSanitizer,
/// which sees the missing order and not only what this machine makes of it, it fails where the
/// store that publishes is Relaxed.
pub(crate) fn what_one_thread_puts_up_another_finds_whole(barrier: Barrier) {
    #[derive(Trace)]
    struct Holder {
        item: Slot<Option<Item>>,
    }
    #[derive(Trace)]
    struct Item {
        id: u64,
        square: u64,
    }
    const LAST: u64 = 20_000;
    for heap in crate::common::every_heap(barrier, 4 << 20, 31) {
        let holder = heap
            .enter(|m| {
                let m = m.reserve(AllocSize::of::<Holder>()).unwrap();
                Root::<Holder>::new(m, m.place(HolderInit { item: None }))
            })
            .unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                heap.enter(|m| {
                    for id in 1..=LAST {
                        let m = m.reserve(AllocSize::of::<Item>()).unwrap();
                        holder.get(m).item.set(m, Some(m.place(ItemInit { id, square: id * id })));
                    }
                })
                .unwrap();
            });
            scope.spawn(|| {
                heap.enter(|m| {
                    let mut seen = 0;
                    while seen < LAST {
                        if let Some(item) = holder.get(m).item.get(m) {
                            assert!(item.id >= seen && item.square == item.id * item.id, "{} after {seen}", item.id);
                            seen = item.id;
                        }
                        m.safepoint();
                    }
                })
                .unwrap();
            });
        });
    }
}

pub(crate) fn a_thread_is_inside_one_heap_at_a_time(barrier: Barrier) {
    let (one, two) = (checked(barrier, 4 << 20).build().unwrap(), checked(barrier, 4 << 20).build().unwrap());
    let mut other = two.thread().unwrap();
    // While stops come and go: a thread that runs must not wait for one.
    while_collecting(&one, Duration::ZERO, || {
        for _ in 0..300 {
            one.enter(|m| {
                assert_eq!(one.enter(|_| ()), Err(EnterError::AlreadyEntered));
                assert_eq!(two.enter(|_| ()), Err(EnterError::AlreadyEntered));
                assert_eq!(other.enter(|_| ()), Err(EnterError::AlreadyEntered));
                assert_eq!(one.thread().err(), Some(EnterError::AlreadyEntered));
                assert_eq!(two.thread().err(), Some(EnterError::AlreadyEntered));
                let inner = m.blocking(|| {
                    let inner = other.enter(|m| {
                        assert_eq!(one.enter(|_| ()), Err(EnterError::AlreadyEntered));
                        m.safepoint();
                        m.blocking(|| one.enter(|m| list(m, 10).get(m).unwrap().id))
                    });
                    (inner.unwrap().unwrap(), one.enter(|_| 7).unwrap())
                });
                assert_eq!(inner, (9, 7));
                assert_eq!(one.enter(|_| ()), Err(EnterError::AlreadyEntered));
            })
            .unwrap();
        }
    });
}

/// Two heaps, two threads each inside both in turn: neither waits for the other's stop.
pub(crate) fn two_heaps_do_not_deadlock(barrier: Barrier) {
    let heaps = [
        checked(barrier, 4 << 20).stress(stress(5)).build().unwrap(),
        checked(barrier, 4 << 20).stress(stress(6)).build().unwrap(),
    ];
    let rounds = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for number in 0..2 {
            let (heaps, rounds) = (&heaps, &rounds);
            scope.spawn(move || {
                for _ in 0..100 {
                    let spare = heaps[1 - number].thread().unwrap();
                    heaps[number]
                        .enter(|m| {
                            let head = list(m, 100);
                            m.blocking(|| {
                                heaps[1 - number].enter(|m| {
                                    let head = list(m, 50);
                                    m.collect();
                                    check(m, head.get(m), 50);
                                })
                            })
                            .unwrap();
                            // Detached from within the one heap while the other may be stopped.
                            drop(spare);
                            m.collect();
                            check(m, head.get(m), 100);
                        })
                        .unwrap();
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(rounds.into_inner(), 200);
}

/// Thread-locals that end after everything else of their thread: a place in the heap, a root, a
/// stack, a handle.
pub(crate) fn what_thread_locals_hold_ends_with_their_thread(barrier: Barrier) {
    struct Kept {
        thread: HeapThread,
        root: Root<Option<Node>>,
        stack: RootStack<Tagged>,
        heap: Heap,
        count: u64,
        ended: Arc<AtomicU64>,
    }
    impl Drop for Kept {
        fn drop(&mut self) {
            // In the destructor of a thread-local the heap can still be entered.
            let inside = self.thread.enter(|m| {
                m.collect();
                check(m, self.root.get(m), self.count);
                check(m, self.stack.peek_as(m, 0), self.count);
            });
            assert_eq!(inside, Ok(()));
            assert_eq!(self.heap.enter(|_| 3), Ok(3));
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
    }
    thread_local! {
        static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
    }
    let ended = Arc::new(AtomicU64::new(0));
    for keep_heap in [true, false] {
        let mut outer = Some(checked(barrier, 4 << 20).stress(stress(8)).build().unwrap());
        for count in 1..20 {
            let heap = outer.clone().unwrap_or_else(|| checked(barrier, 4 << 20).build().unwrap());
            if !keep_heap {
                // The thread-local holds the last handles from the second round on.
                outer = None;
            }
            let ended = Arc::clone(&ended);
            let thread = std::thread::spawn(move || {
                let mut thread = heap.thread().unwrap();
                let stack = RootStack::new(&heap).unwrap();
                let root = thread.enter(|m| {
                    let head = list(m, count);
                    stack.push(m, head.get(m).unwrap().into());
                    Root::new(m, head.get(m))
                });
                let kept = Kept { thread, root: root.unwrap(), stack, heap, count, ended };
                KEPT.with(|place| place.replace(Some(kept)));
            });
            thread.join().unwrap();
        }
    }
    assert_eq!(ended.load(Ordering::Relaxed), 38);
}

/// More threads than the heap has blocks, all of them parked for good: each allocated a little
/// first, and was let be.
pub(crate) fn parked_threads_keep_no_blocks(barrier: Barrier) {
    const HEAP: usize = 8 << 20;
    const THREADS: u64 = 200; // and 128 blocks
    let heap = checked(barrier, HEAP).build().unwrap();
    let mut threads: Vec<HeapThread> = Vec::new();
    let mut kept = Vec::new();
    for id in 0..THREADS {
        let mut thread = heap.thread().unwrap();
        kept.push(thread.enter(|m| rooted(m, id % 3)).unwrap());
        threads.push(thread);
    }
    heap.enter(|m| {
        for _ in 0..3 {
            m.reserve(AllocSize::tail::<Bytes>(HEAP / 4)).unwrap();
            kept.iter().zip(0..).for_each(|(list, id)| check(m, list.get(m), id % 3));
        }
    })
    .unwrap();
    // They go on, in new blocks.
    for (thread, id) in threads.iter_mut().zip(0..) {
        thread.enter(|m| made_and_checked(m, 100 + id % 3)).unwrap();
    }
    drop(threads);
    heap.enter(|m| kept.iter().zip(0..).for_each(|(list, id)| check(m, list.get(m), id % 3))).unwrap();
}

/// Threads that park and leave all the time, while cycles close what parked ones have put down.
pub(crate) fn parking_races_with_cycles(barrier: Barrier) {
    let heap = checked(barrier, 8 << 20).stress(stress(31)).build().unwrap();
    while_collecting(&heap, Duration::from_micros(200), || {
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let heap = &heap;
                scope.spawn(move || {
                    heap.enter(|m| {
                        let mut random = Random::new(thread + 1);
                        let kept = list(m, 20);
                        for round in 0..2000 * factor() as u64 {
                            made_and_checked(&mut m.frame(), round % 7);
                            m.blocking(|| {
                                if random.one_in(8) {
                                    std::thread::yield_now();
                                }
                            });
                            check(m, kept.get(m), 20);
                        }
                    })
                    .unwrap();
                });
            }
        });
    });
}

/// Two slots lead to each object, and two threads load them the other way round while objects move:
/// the thread that loses the race to copy one takes the winner's. Fails where each copies for
/// itself, in the first cycles: by the delay between a copy and its publication.
pub(crate) fn an_object_that_two_threads_copy_is_one(barrier: Barrier) {
    const OBJECTS: usize = 300;
    type Table = SlotArray<Option<Node>>;
    let stress = Stress { cycle_every: 0, delay_one_in: 2, seed: 7 };
    let heap = checked(barrier, 4 << 20).verify(false).stress(stress).build().unwrap();
    let tables = heap.enter(|m| {
        let tables = [0; 2].map(|_| {
            let m = m.reserve(AllocSize::tail::<Table>(OBJECTS)).unwrap();
            Root::<Table>::new(m, m.place_array((), OBJECTS, None))
        });
        for index in 0..OBJECTS {
            let m = m.reserve(AllocSize::of::<Node>()).unwrap();
            let node = m.place(NodeInit { id: index as u64, next: None });
            tables.iter().for_each(|table| table.get(m).tail()[index].set(m, Some(node)));
        }
        tables
    });
    let tables = tables.unwrap();
    let before = heap.stats().cycles;
    while_collecting(&heap, Duration::ZERO, || {
        std::thread::scope(|scope| {
            for first in 0..2 {
                let (heap, tables) = (&heap, &tables);
                let work = move |m: &mut Mutator<'_>| {
                    while heap.stats().cycles < before + 20 * u64::from(factor()) {
                        for index in 0..OBJECTS {
                            let loaded = [first, 1 - first].map(|t| tables[t].get(m).tail()[index].get(m).unwrap());
                            assert!(loaded[0].ptr_eq(loaded[1]), "object {index} is in two places");
                            assert_eq!(loaded[0].id, index as u64);
                        }
                        m.safepoint();
                    }
                };
                scope.spawn(move || heap.enter(work).unwrap());
            }
        });
    });
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        any_number_of_threads_come_and_go_between_two_cycles,
        threads_attach_and_detach_in_every_phase,
        a_thread_that_blocks_for_long,
        what_is_forgotten_costs_memory_and_nothing_else,
        sixty_four_threads_in_a_small_heap,
        parked_threads_keep_no_blocks,
        what_one_thread_puts_up_another_finds_whole
    ],
    concurrent: tests![
        threads_end_in_every_phase,
        parking_races_with_cycles,
        a_thread_that_polls_rarely,
        a_place_in_the_heap_moves_between_threads,
        a_heap_dropped_before_a_threads_place_in_it,
        the_last_handle_dropped_inside,
        a_thread_is_inside_one_heap_at_a_time,
        two_heaps_do_not_deadlock,
        an_object_that_two_threads_copy_is_one,
        what_thread_locals_hold_ends_with_their_thread
    ],
    ..Tests::NONE
};
