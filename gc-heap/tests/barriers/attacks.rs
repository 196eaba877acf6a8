//! Attacks from safe code that only run time can answer: each ends as the documentation says, and
//! the heap goes on. Those that must not compile are in `tests/compile_fail`; docs/trust.md has the
//! table of both.

use crate::common::{catch_unwind, checked, deadline_after, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, AnyObject, Barrier, Bytes, FinalizerQueue, Heap, HeapThread, Plain, ResourceQueue, Root, RootStack,
    Slot, SlotArray, Tagged, Trace, Value, Weak, WeakMap,
};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

#[derive(Trace)]
#[trace(identity_hash)]
pub(crate) struct Item {
    pub(crate) id: u64,
    pub(crate) other: Slot<Option<Item>>,
}

pub(crate) type Table = SlotArray<Option<Item>>;

struct Token<F: FnMut()>(F);

impl<F: FnMut()> Drop for Token<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

pub(crate) fn heap(barrier: Barrier) -> Heap {
    checked(barrier, 4 << 20).build().unwrap()
}

pub(crate) fn item(heap: &Heap, id: u64) -> Root<Item> {
    heap.enter(|m| {
        let m = m.reserve(AllocSize::of::<Item>()).unwrap();
        Root::new(m, m.place(ItemInit { id, other: None }))
    })
    .unwrap()
}

/// What every attack must leave behind: a heap that allocates, collects, and has what it had.
pub(crate) fn goes_on(heap: &Heap, root: &Root<Item>, id: u64) {
    heap.collect();
    heap.enter(|m| {
        for _ in 0..2000 {
            let m = m.reserve(AllocSize::of::<Item>()).unwrap();
            root.get(m).other.set(m, Some(m.place(ItemInit { id: id + 1, other: None })));
        }
        m.collect();
        assert_eq!((root.get(m).id, root.get(m).other.get(m).unwrap().id), (id, id + 1));
    })
    .unwrap();
}

/// A visitor that looks into, empties and visits the map that it visits, and one that panics there.
pub(crate) fn visitors_of_a_map_use_the_map(barrier: Barrier) {
    let heap = heap(barrier);
    let root = item(&heap, 1);
    heap.enter(|m| {
        let map = WeakMap::<Item, Tagged>::new(m).unwrap();
        let held = m.build::<Table>(AllocSize::tail::<Table>(100), |m| m.place_array((), 100, None)).unwrap();
        for id in 0..100 {
            let key = m.alloc::<Item>(|_| ItemInit { id, other: None }).unwrap();
            held.get(m).tail()[id as usize].set(m, Some(key.get(m)));
            let value = m.local(Value::int(id as i32));
            WeakMap::insert(map, m, key, value).unwrap();
        }
        let (mut visits, mut nested) = (0, 0);
        let now = map.get(m);
        now.for_each(m, |key, value| {
            assert_eq!(now.get(m, key).is_some_and(|found| found.as_int() == value.as_int()), visits == 0);
            now.for_each(m, |_, _| nested += 1);
            assert_eq!((now.len(m), now.vanished(m)), (100 * usize::from(visits == 0), 0));
            now.clear(m);
            assert!(now.remove(m, key).is_none());
            visits += 1;
        });
        assert_eq!((visits, nested), (100, 100));
        let key = m.local(held.get(m).tail()[7].get(m).unwrap());
        let value = m.local(Value::int(7));
        WeakMap::insert(map, m, key, value).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| map.get(m).for_each(m, |_, _| resume_unwind(Box::new(())))));
        assert!(panicked.is_err());
        assert_eq!(map.get(m).get(m, key.get(m)).unwrap().as_int(), Some(7));
    })
    .unwrap();
    goes_on(&heap, &root, 1);
}

/// An iterator for a tail that itself places objects, pins, pushes, drops roots, and places another
/// tail by such an iterator.
pub(crate) fn iterators_that_use_the_heap(barrier: Barrier) {
    let heap = checked(barrier, 4 << 20).stress(stress(3)).build().unwrap();
    let root = item(&heap, 1);
    let stack: RootStack<Item> = RootStack::new(&heap).unwrap();
    for round in 0..60_u64 {
        let last = Cell::new(Some(item(&heap, 5)));
        heap.enter(|m| {
            let outer = m
                .build::<Table>(
                    AllocSize::tail::<Table>(8)
                        + AllocSize::tail::<Table>(4).times(8)
                        + AllocSize::of::<Item>().times(40),
                    |m| {
                        m.place_tail::<Table, _>(
                            (),
                            (0..8_usize).map(|i| {
                                drop(last.take());
                                let inner = m.place_tail::<Table, _>(
                                    (),
                                    (0..4_usize).map(|j| {
                                        Some(m.place(ItemInit { id: round * 100 + (i * 10 + j) as u64, other: None }))
                                    }),
                                );
                                let item = inner.tail()[3].get(m).unwrap();
                                stack.push(m, item);
                                drop(m.pin(item));
                                Some(item)
                            }),
                        )
                    },
                )
                .unwrap();
            m.collect();
            for (i, slot) in outer.get(m).tail().iter().enumerate() {
                let here = slot.get(m).unwrap();
                assert_eq!(here.id, round * 100 + i as u64 * 10 + 3);
                assert!(here.ptr_eq(stack.get(m, stack.len() - 8 + i)));
            }
            stack.truncate(m, stack.len() - 8);
        })
        .unwrap();
    }
    goes_on(&heap, &root, 1);
}

/// Slots of a stack in hand, while the stack is popped, filled anew and grown: each has some object
/// of its type.
pub(crate) fn slots_of_a_stack_that_is_popped_meanwhile(barrier: Barrier) {
    let heap = checked(barrier, 8 << 20).stress(stress(5)).build().unwrap();
    let root = item(&heap, 1);
    let stack: RootStack<Item> = RootStack::with_capacity(&heap, 200_000).unwrap();
    while_collecting(&heap, Duration::from_millis(1), || {
        heap.enter(|m| {
            for round in 0..12_u64 {
                for id in 0..3000 {
                    let m = m.reserve(AllocSize::of::<Item>()).unwrap();
                    stack.push(m, m.place(ItemInit { id: round * 10_000 + id, other: None }));
                }
                // Much above, so that what is popped is worth giving back.
                stack.resize(m, 150_000, stack.get(m, 0));
                let slots = stack.slots(m);
                let last = stack.last::<4>(m);
                stack.truncate(m, 0);
                let _ = heap.stats();
                for slot in slots[..3000].iter().chain(last) {
                    assert_eq!(slot.get(m).id / 10_000, round);
                }
                stack.resize(m, 10, root.get(m));
                for slot in slots.iter().take(20_000).chain(last) {
                    assert!(slot.get(m).id == 1 || slot.get(m).id / 10_000 == round);
                    slot.set(m, root.get(m));
                }
                m.safepoint();
                assert_eq!(stack.len(), 10);
                (0..10).for_each(|at| assert_eq!(stack.get(m, at).id, 1));
                stack.truncate(m, 0);
                m.collect();
            }
        })
        .unwrap();
    });
    goes_on(&heap, &root, 1);
}

/// Values of a queue whose end uses the heap: enters it, allocates, collects, makes a root; and one
/// whose end panics.
pub(crate) fn values_that_use_the_heap_when_they_end(barrier: Barrier) {
    let heap = heap(barrier);
    let root = item(&heap, 1);
    let ended = Arc::new(AtomicUsize::new(0));
    let queue = ResourceQueue::new(&heap);
    heap.enter(|m| {
        for id in 0..50 {
            let (of, count) = (heap.clone(), Arc::clone(&ended));
            let object = m.alloc::<Item>(|_| ItemInit { id, other: None }).unwrap();
            let token = Token(move || {
                of.collect();
                drop(item(&of, id));
                if count.fetch_add(1, Ordering::SeqCst) % 10 == 9 {
                    resume_unwind(Box::new("a value's end"));
                }
            });
            queue.attach(m, object.get(m), token);
        }
    })
    .unwrap();
    heap.collect();
    heap.collect();
    assert_eq!(queue.ready(), 50);
    let mut panics = 0;
    while queue.ready() > 0 {
        panics += usize::from(catch_unwind(AssertUnwindSafe(|| drop(queue.take()))).is_err());
    }
    assert_eq!((panics, ended.load(Ordering::SeqCst), queue.kept()), (5, 50, 0));
    goes_on(&heap, &root, 1);
}

/// Two heaps whose listeners each want a cycle of the other: each is told that it cannot have one
/// there.
pub(crate) fn listeners_that_collect_each_others_heap(barrier: Barrier) {
    let (one, two): (Arc<OnceLock<Heap>>, Arc<OnceLock<Heap>>) = Default::default();
    let refused = Arc::new(AtomicUsize::new(0));
    let listener = |other: &Arc<OnceLock<Heap>>| {
        let (other, refused) = (Arc::clone(other), Arc::clone(&refused));
        move |_: &gc_heap::Event| {
            if let Some(other) = other.get()
                && catch_unwind(AssertUnwindSafe(|| other.collect())).is_err()
            {
                refused.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let build = |other| checked(barrier, 4 << 20).on_event(listener(other)).build().unwrap();
    let (a, b) = (build(&two), build(&one));
    one.set(a.clone()).unwrap();
    two.set(b.clone()).unwrap();
    let (in_a, in_b) = (item(&a, 1), item(&b, 2));
    std::thread::scope(|scope| {
        scope.spawn(|| (0..10).for_each(|_| a.collect()));
        scope.spawn(|| (0..10).for_each(|_| b.collect()));
    });
    assert!(refused.load(Ordering::SeqCst) > 0);
    goes_on(&a, &in_a, 1);
    goes_on(&b, &in_b, 2);
}

mod here {
    use super::Trace;
    #[derive(Trace)]
    pub(super) struct Same {
        pub(super) id: u64,
    }
}

mod there {
    use super::Trace;
    #[derive(Trace)]
    pub(super) struct Same {
        pub(super) id: i64,
    }
}

#[derive(Trace)]
struct Marked<P: Copy + Send + Sync + 'static> {
    of: Plain<[P; 0]>,
    id: u64,
}

/// Types of one name, one layout, one instance of a generic: none passes for another, however large
/// the crowd.
pub(crate) fn types_that_look_the_same(barrier: Barrier) {
    let heap = checked(barrier, 4 << 20).stress(stress(9)).build().unwrap();
    let root = item(&heap, 1);
    let stack: RootStack<AnyObject> = RootStack::new(&heap).unwrap();
    heap.enter(|m| {
        for id in 0..200_u64 {
            let room = AllocSize::of::<here::Same>()
                + AllocSize::of::<there::Same>()
                + AllocSize::of::<Marked<u8>>()
                + AllocSize::of::<Marked<i8>>();
            let m = m.reserve(room).unwrap();
            stack.push(m, m.place(here::SameInit { id }).any());
            stack.push(m, m.place(there::SameInit { id: -1 }).any());
            stack.push(m, m.place(MarkedInit::<u8> { of: [], id }).any());
            stack.push(m, m.place(MarkedInit::<i8> { of: [], id }).any());
        }
        m.collect();
        for at in 0..stack.len() {
            let any = stack.get(m, at);
            let is = [
                any.downcast::<here::Same>().is_some(),
                any.downcast::<there::Same>().is_some(),
                any.downcast::<Marked<u8>>().is_some(),
                any.downcast::<Marked<i8>>().is_some(),
            ];
            assert_eq!(is, std::array::from_fn(|kind| kind == at % 4), "object {at}");
        }
    })
    .unwrap();
    drop(stack);
    goes_on(&heap, &root, 1);
}

/// Scopes that never end as scopes do: frames that are forgotten, again and again, and a frame that
/// ends by a panic meanwhile.
pub(crate) fn frames_that_are_forgotten(barrier: Barrier) {
    let heap = checked(barrier, 4 << 20).stress(stress(11)).build().unwrap();
    let root = item(&heap, 1);
    heap.enter(|m| {
        let outer = m.local(root.get(m));
        for round in 0..200_u64 {
            let mut frame = m.frame();
            let inner = frame.alloc::<Item>(|_| ItemInit { id: round, other: None }).unwrap();
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let mut deeper = frame.frame();
                let _lost = deeper.alloc::<Item>(|_| ItemInit { id: round, other: None }).unwrap();
                std::mem::forget(deeper.frame());
                resume_unwind(Box::new(()));
            }));
            assert!(panicked.is_err());
            frame.collect();
            assert_eq!((inner.get(&frame).id, outer.get(&frame).id), (round, 1));
            std::mem::forget(frame);
        }
        let after = m.alloc::<Item>(|_| ItemInit { id: 77, other: None }).unwrap();
        m.collect();
        assert_eq!((outer.get(m).id, after.get(m).id), (1, 77));
    })
    .unwrap();
    goes_on(&heap, &root, 1);
}

/// A thread inside a heap a hundred times over, each time from `blocking`, which unwinds from the
/// innermost.
pub(crate) fn entered_a_hundred_times_over(barrier: Barrier) {
    fn deeper(heap: &Heap, root: &Root<Item>, depth: u64) {
        heap.enter(|m| {
            let local = m.local(root.get(m));
            if depth == 0 {
                m.collect();
                resume_unwind(Box::new(()));
            }
            let unwound = catch_unwind(AssertUnwindSafe(|| m.blocking(|| deeper(heap, root, depth - 1))));
            assert_eq!(local.get(m).id, 1);
            m.safepoint();
            resume_unwind(unwound.expect_err("the innermost panicked"));
        })
        .unwrap();
    }
    let heap = checked(barrier, 4 << 20).stress(stress(13)).build().unwrap();
    let root = item(&heap, 1);
    while_collecting(&heap, Duration::from_millis(1), || {
        for _ in 0..3 {
            assert!(catch_unwind(AssertUnwindSafe(|| deeper(&heap, &root, 100))).is_err());
        }
    });
    goes_on(&heap, &root, 1);
}

/// The last handle of a heap ends in the strangest places: in a listener, in a value's end, in
/// `blocking`, in a thread's last breath.
pub(crate) fn the_last_handle_ends_anywhere(barrier: Barrier) {
    thread_local! {
        static LAST: RefCell<Option<(Heap, HeapThread, Root<Item>)>> = const { RefCell::new(None) };
    }
    let ended = Arc::new(AtomicUsize::new(0));
    let with_value = |heap: &Heap| {
        let count = Arc::clone(&ended);
        let queue = ResourceQueue::new(heap);
        heap.enter(|m| {
            let object = m.alloc::<Item>(|_| ItemInit { id: 1, other: None }).unwrap();
            queue.attach(
                m,
                object.get(m),
                Token(move || {
                    count.fetch_add(1, Ordering::SeqCst);
                }),
            );
        })
        .unwrap();
    };
    for round in 1..=5 {
        // In a listener.
        let slot: Arc<Mutex<Option<Heap>>> = Arc::default();
        let in_listener = Arc::clone(&slot);
        let last =
            checked(barrier, 4 << 20).on_event(move |_| drop(in_listener.lock().unwrap().take())).build().unwrap();
        with_value(&last);
        let thread = last.thread().unwrap();
        *slot.lock().unwrap() = Some(last);
        drop(thread);
        if let Some(last) = { slot.lock().unwrap().clone() } {
            let collected = last.clone();
            drop(last);
            let starts = std::thread::spawn(move || collected.collect());
            starts.join().unwrap();
        }
        // In `blocking`, with the mutator going on after it.
        let (heap, cell) = (heap(barrier), Rc::new(RefCell::new(None)));
        with_value(&heap);
        let mut thread = heap.thread().unwrap();
        *cell.borrow_mut() = Some(heap);
        thread
            .enter(|m| {
                let local = m.alloc::<Item>(|_| ItemInit { id: 3, other: None }).unwrap();
                m.blocking(|| drop(cell.borrow_mut().take()));
                m.collect();
                assert_eq!(local.get(m).id, 3);
            })
            .unwrap();
        drop(thread);
        // As a thread ends.
        let own = self::heap(barrier);
        with_value(&own);
        std::thread::spawn(move || {
            let root = item(&own, 1);
            LAST.with(|last| *last.borrow_mut() = Some((own.clone(), own.thread().unwrap(), root)));
        })
        .join()
        .unwrap();
        // In the end of a value of another heap.
        let (outer, inner) = (self::heap(barrier), self::heap(barrier));
        with_value(&inner);
        let queue = ResourceQueue::new(&outer);
        outer
            .enter(|m| {
                let object = m.alloc::<Item>(|_| ItemInit { id: 1, other: None }).unwrap();
                queue.attach(m, object.get(m), inner);
            })
            .unwrap();
        drop(queue);
        drop(outer);
        // The heap whose last handle a listener dropped may end a little later, on a thread of its
        // own.
        let _deadline = deadline_after("the end of the heaps", Duration::from_secs(30));
        while ended.load(Ordering::SeqCst) < 4 * round {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A listener that ends what belongs to its heap: roots, weak references, stacks, pins, places of
/// threads.
pub(crate) fn listeners_that_end_what_is_their_heaps(barrier: Barrier) {
    type Things = (Root<Item>, Weak<Item>, RootStack<Item>, gc_heap::Pinned<Bytes>, HeapThread, FinalizerQueue<Item>);
    let things: Arc<Mutex<Vec<Things>>> = Arc::default();
    let ends = Arc::clone(&things);
    let heap = checked(barrier, 4 << 20).on_event(move |_| drop(ends.lock().unwrap().pop())).build().unwrap();
    let root = item(&heap, 1);
    for round in 0..10_u64 {
        for id in 0..20 {
            let thread = heap.thread().unwrap();
            let things_now = heap
                .enter(|m| {
                    let m = m.reserve(AllocSize::of::<Item>() + AllocSize::tail::<Bytes>(100)).unwrap();
                    let item = m.place(ItemInit { id: round * 100 + id, other: None });
                    let stack = RootStack::new(&heap).unwrap();
                    stack.push(m, item);
                    let queue = FinalizerQueue::new(&heap);
                    queue.register(m, item);
                    let pin = m.pin(m.place_bytes::<Bytes>((), &[id as u8; 100]));
                    (Root::new(m, item), Weak::new(m, item), stack, pin, thread, queue)
                })
                .unwrap();
            things.lock().unwrap().push(things_now);
        }
        while !things.lock().unwrap().is_empty() {
            heap.collect();
        }
    }
    goes_on(&heap, &root, 1);
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        visitors_of_a_map_use_the_map,
        iterators_that_use_the_heap,
        slots_of_a_stack_that_is_popped_meanwhile,
        values_that_use_the_heap_when_they_end,
        listeners_that_collect_each_others_heap,
        types_that_look_the_same,
        frames_that_are_forgotten,
        entered_a_hundred_times_over,
        the_last_handle_ends_anywhere,
        listeners_that_end_what_is_their_heaps,
    ],
    ..Tests::NONE
};
