//! Attacks by extremes: options, capacities and waits at the ends of their ranges, writers that
//! fail, heaps without end.

use crate::attacks::{Item, ItemInit, goes_on, heap, item};
use crate::child::plays_well;
use crate::common::{catch_unwind, checked};
use crate::harness::{Tests, tests};
use gc_heap::{Barrier, FinalizerQueue, Heap, RootStack, Stress, Tagged, Value};
use gc_heap_tools::{EventTrace, write_v8_snapshot};
use std::io;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Options at the ends of their ranges: a heap that works, or an error that says what is possible.
pub(crate) fn options_at_the_ends_of_their_ranges(barrier: Barrier) {
    let base = || checked(barrier, 4 << 20);
    for max_bytes in [0, 1, usize::MAX, usize::MAX / 2 + 1, 1 << 47] {
        assert!(!base().max_bytes(max_bytes).build().unwrap_err().to_string().is_empty());
    }
    for workers in [0, 65, usize::MAX] {
        assert!(base().workers(workers).build().unwrap_err().to_string().contains("64"));
    }
    for pages in [0, 3, 128, usize::MAX] {
        let built = base().fault_cluster(pages).build();
        assert!(built.is_err() || barrier != Barrier::Page, "{pages}");
    }
    for name in ["", "\0", "a\nb", &"x".repeat(249), &"x".repeat(250)] {
        let built = base().name(name).build();
        assert_eq!(built.is_err(), name.contains('\0') || name.len() > 249, "{name:?}");
    }
    let stress = |cycle_every, delay_one_in| Stress { cycle_every, delay_one_in, seed: 0 };
    let odd = [
        base().stress(stress(0, 0)),
        base().stress(stress(1, u32::MAX)),
        base().stress(stress(u32::MAX, 1)),
        base().uncommit_delay(Some(Duration::ZERO)),
        base().uncommit_delay(Some(Duration::from_nanos(1))),
        base().uncommit_delay(Some(Duration::MAX)),
        base().external_step(0),
        base().external_step(usize::MAX),
    ];
    for builder in odd {
        let heap = builder.build().unwrap();
        let root = item(&heap, 1);
        let outside = [usize::MAX, usize::MAX, 1].map(|bytes| heap.add_external(bytes));
        heap.enter(|m| {
            (0..300).for_each(|id| {
                let _ = m.alloc::<Item>(|_| ItemInit { id, other: None });
            })
        })
        .unwrap();
        drop(outside);
        assert_eq!(heap.external_bytes(), 0);
        goes_on(&heap, &root, 1);
    }
}

/// Lengths and places that no stack has: a panic that says so, or an error, and the stack as it
/// was.
pub(crate) fn stacks_at_the_ends_of_their_ranges(barrier: Barrier) {
    let heap = heap(barrier);
    let root = item(&heap, 1);
    for slots in [usize::MAX, usize::MAX / 8, usize::MAX / 8 + 1, isize::MAX as usize] {
        assert!(RootStack::<Item>::with_capacity(&heap, slots).is_err(), "{slots}");
    }
    let none: RootStack<Tagged> = RootStack::with_capacity(&heap, 0).unwrap();
    let stack: RootStack<Item> = RootStack::with_capacity(&heap, 10).unwrap();
    heap.enter(|m| {
        let refused = |f: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
        (0..none.room()).for_each(|_| none.push(m, Value::NIL));
        refused(&|| none.push(m, Value::NIL));
        stack.push(m, root.get(m));
        for far in [1, 2, usize::MAX - 1, usize::MAX, usize::MAX / 8, 1 << 61] {
            refused(&|| assert!(stack.get(m, far).id > 0));
            refused(&|| assert!(stack.peek(m, far).id > 0));
            refused(&|| stack.set(m, far, root.get(m)));
            refused(&|| stack.poke(m, far, root.get(m)));
        }
        for far in [usize::MAX, usize::MAX / 8 + 2, 1 << 61] {
            refused(&|| stack.resize(m, far, root.get(m)));
        }
        refused(&|| assert!(stack.last::<2>(m)[0].get(m).id > 0));
        stack.truncate(m, usize::MAX);
        assert_eq!((stack.len(), stack.get(m, 0).id), (1, 1));
        assert!(stack.pop(m).is_some() && stack.pop(m).is_none());
    })
    .unwrap();
    goes_on(&heap, &root, 1);
}

/// Snapshots and traces to a writer that fails, or panics, at each place.
pub(crate) fn writers_that_fail(barrier: Barrier) {
    struct Fails(usize, bool);
    impl io::Write for Fails {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 < bytes.len() {
                if self.1 {
                    resume_unwind(Box::new("a writer's panic"));
                }
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0 -= bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let heap = heap(barrier);
    let root = item(&heap, 1);
    heap.collect();
    let (events, _) = heap.take_events();
    for panics in [false, true] {
        for room in [0, 1, 20, 100, 300] {
            let wrote = catch_unwind(AssertUnwindSafe(|| {
                let mut trace = EventTrace::new(Fails(room, panics), "a \"name\"\n")?;
                events.iter().try_for_each(|event| trace.add(event))?;
                trace.finish().map(drop)
            }));
            assert!(!matches!(wrote, Ok(Ok(()))), "{room}");
            let wrote =
                catch_unwind(AssertUnwindSafe(|| write_v8_snapshot(&heap.heap_snapshot(), &mut Fails(room, panics))));
            assert!(!matches!(wrote, Ok(Ok(()))), "{room}");
        }
    }
    goes_on(&heap, &root, 1);
}

/// A queue waited at for as long as a `Duration` can say, by several threads, and ended by the end
/// of the heap.
pub(crate) fn waits_without_end_end(barrier: Barrier) {
    let heap = heap(barrier);
    let queue: Arc<FinalizerQueue<Item>> = Arc::new(FinalizerQueue::new(&heap));
    let waiting: Vec<_> = [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(i64::MAX as u64)]
        .into_iter()
        .map(|time| {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || queue.wait(time).is_some())
        })
        .collect();
    heap.enter(|m| {
        let object = m.alloc::<Item>(|_| ItemInit { id: 1, other: None }).unwrap();
        queue.register(m, object.get(m));
    })
    .unwrap();
    heap.collect();
    heap.collect();
    while waiting.iter().filter(|thread| thread.is_finished()).count() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(heap);
    let got: usize = waiting.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum();
    assert_eq!(got, 1);
}

/// Heaps built until the system or a table of ours is full, each alive: an error in the end, and
/// room again after it. In a child, because what is used up are the addresses of the process: other
/// trials beside it would be refused theirs.
pub(crate) fn heaps_without_end(barrier: Barrier) {
    plays_well(match barrier {
        Barrier::Load => "heaps-without-end-load",
        Barrier::StopTheWorld => "heaps-without-end-stw",
        Barrier::Page => "heaps-without-end-page",
        other => panic!("no scene for {other:?}"),
    });
}

pub(crate) const SCENES: &[(&str, fn())] = &[
    ("heaps-without-end-load", || fill_with_heaps(Barrier::Load)),
    ("heaps-without-end-stw", || fill_with_heaps(Barrier::StopTheWorld)),
    ("heaps-without-end-page", || fill_with_heaps(Barrier::Page)),
];

fn fill_with_heaps(barrier: Barrier) {
    let build = || Heap::builder().max_bytes(4 << 20).barrier(barrier).backing(crate::common::backing()).build();
    let (mut heaps, mut error) = (Vec::new(), None);
    while heaps.len() < 1100 && error.is_none() {
        match build() {
            Ok(heap) => heaps.push(heap),
            Err(why) => error = Some(why.to_string()),
        }
    }
    let is_told = error.as_ref().is_none_or(|text| !text.is_empty());
    assert!(is_told && heaps.len() > 50, "{} heaps, then {error:?}", heaps.len());
    let kept = heaps.swap_remove(heaps.len() / 2);
    drop(heaps);
    let (heap, root) = (build().unwrap(), item(&kept, 1));
    goes_on(&heap, &item(&heap, 3), 3);
    goes_on(&kept, &root, 1);
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        options_at_the_ends_of_their_ranges,
        stacks_at_the_ends_of_their_ranges,
        writers_that_fail,
        waits_without_end_end,
        heaps_without_end
    ],
    ..Tests::NONE
};
