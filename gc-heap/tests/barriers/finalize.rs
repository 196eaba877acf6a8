//! Finalization and resources: each object is given once, whole, after nothing leads to it; each
//! value comes back exactly once, whatever happens.

use crate::common::{Random, catch_unwind, checked, every_heap, factor, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Barrier, Ephemeron, Event, FinalizerQueue, Gc, Heap, Mutator, OutOfMemory, Resource, ResourceQueue,
    Root, Slot, SlotArray, Stress, Trace, Weak, WeakSlot,
};
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

#[derive(Trace)]
struct Item {
    id: u64,
    check: u64,
    other: Slot<Option<Item>>,
    weak: WeakSlot<Item>,
    pair: Ephemeron<Item, Item>,
}

fn place<'g>(m: &'g Mutator<'_>, id: u64) -> Gc<'g, Item> {
    m.place(ItemInit { id, check: !id, other: None, weak: None, pair: None })
}

fn check(item: Gc<'_, Item>) -> u64 {
    assert_eq!(item.check, !item.id, "a queue gave something else");
    item.id
}

/// Objects are large enough in number to fill blocks, so that blocks are freed, evacuated and used
/// again meanwhile.
const MANY: usize = 3000;

pub(crate) fn each_object_is_given_once_and_whole(barrier: Barrier) {
    for heap in every_heap(barrier, 8 << 20, 1) {
        let queue = FinalizerQueue::<Item>::new(&heap);
        heap.enter(|m| {
            let held = m.build::<SlotArray<Option<Item>>>(AllocSize::tail::<SlotArray<Option<Item>>>(MANY), |m| {
                m.place_array((), MANY, None)
            });
            let held = held.unwrap();
            for id in 0..MANY as u64 {
                let m = m.reserve(AllocSize::of::<Item>().times(2)).unwrap();
                let (item, child) = (place(m, id), place(m, id + 1_000_000));
                item.other.set(m, Some(child));
                child.other.set(m, Some(item)); // a ring
                queue.register(m, item);
                held.get(m).tail()[id as usize].set(m, Some(item));
            }
            m.collect();
            m.collect();
            assert!(queue.take().is_none() && queue.ready() == 0);
            held.get(m).tail().iter().step_by(2).for_each(|slot| slot.set(m, None));
            m.collect();
            m.collect();
            assert_eq!(queue.ready(), MANY / 2);
            // They stay whole for as long as nobody takes them.
            m.collect();
            let mut ids = BTreeSet::new();
            while let Some(item) = queue.take() {
                let item = item.get(m);
                assert_eq!(check(item.other.get(m).unwrap()), check(item) + 1_000_000);
                assert!(ids.insert(check(item)));
                m.safepoint();
            }
            assert_eq!(ids, (0..MANY as u64).step_by(2).collect());
            m.collect();
            m.collect();
            assert!(queue.take().is_none(), "given twice");
            assert_eq!(heap.stats().finalized, MANY as u64 / 2);
        })
        .unwrap();
    }
}

pub(crate) fn a_revived_object_lives_until_it_is_dropped_and_can_be_registered_again(barrier: Barrier) {
    for heap in every_heap(barrier, 4 << 20, 2) {
        let queue = FinalizerQueue::<Item>::new(&heap);
        heap.enter(|m| {
            let kept: Root<Option<Item>> = Root::new(m, None);
            {
                let m = m.reserve(AllocSize::of::<Item>()).unwrap();
                queue.register(m, place(m, 1));
            }
            for round in 0..4 {
                m.collect();
                let item = queue.take().expect("it has died again");
                assert_eq!(check(item.get(m)), 1, "round {round}");
                kept.set(m, Some(item.get(m)));
                drop(item);
                m.collect();
                assert!(queue.take().is_none(), "alive");
                let item = kept.get(m).unwrap();
                assert_eq!(check(item), 1);
                queue.register(m, item);
                kept.set(m, None);
            }
            m.collect();
            let weak = Weak::new(m, queue.take().unwrap().get(m));
            m.collect();
            m.collect();
            assert!(weak.get(m).is_none() && queue.take().is_none());
        })
        .unwrap();
    }
}

/// Weak references and ephemerons of the living are cleared before; those among the dead that lead
/// to what is revived stay, those to the dead do not.
pub(crate) fn weak_references_are_resolved_in_order(barrier: Barrier) {
    for heap in every_heap(barrier, 4 << 20, 3) {
        let queue = FinalizerQueue::<Item>::new(&heap);
        heap.enter(|m| {
            let living = m.build::<Item>(AllocSize::of::<Item>(), |m| place(m, 1)).unwrap();
            let outside = {
                let m = m.reserve(AllocSize::of::<Item>().times(8)).unwrap();
                let [item, child, gone, value, other, key] = [2, 3, 4, 5, 6, 7].map(|id| place(m, id));
                living.get(m).weak.set(m, Some(item));
                living.get(m).pair.set(m, Some((item, value)));
                item.other.set(m, Some(child));
                item.weak.set(m, Some(gone));
                child.weak.set(m, Some(item));
                // Found while the dead are marked: the key is revived, so the value is; this one's
                // key is not.
                child.pair.set(m, Some((item, other)));
                item.pair.set(m, Some((key, other)));
                queue.register(m, item);
                Weak::new(m, item)
            };
            m.collect();
            let item = queue.take().unwrap();
            assert!(outside.get(m).is_none(), "a weak root to what died");
            assert!(living.get(m).weak.get(m).is_none() && living.get(m).pair.get(m).is_none());
            for _ in 0..3 {
                let item = item.get(m);
                let child = item.other.get(m).unwrap();
                assert!(item.weak.get(m).is_none() && item.pair.get(m).is_none());
                assert!(child.weak.get(m).unwrap().ptr_eq(item));
                let (key, value) = child.pair.get(m).expect("its key came alive once more");
                assert!(key.ptr_eq(item) && check(value) == 6);
                m.collect();
            }
        })
        .unwrap();
    }
}

pub(crate) fn objects_that_lead_to_each_other_are_given_together(barrier: Barrier) {
    for heap in every_heap(barrier, 4 << 20, 4) {
        let queue = FinalizerQueue::<Item>::new(&heap);
        heap.enter(|m| {
            {
                let m = m.reserve(AllocSize::of::<Item>().times(3)).unwrap();
                let [a, b, c] = [1, 2, 3].map(|id| place(m, id));
                a.other.set(m, Some(b));
                b.other.set(m, Some(c));
                [a, b, c].into_iter().for_each(|item| queue.register(m, item));
            }
            m.collect();
            let ids: BTreeSet<_> = std::iter::from_fn(|| queue.take()).map(|item| check(item.get(m))).collect();
            assert_eq!(ids, BTreeSet::from([1, 2, 3]));
        })
        .unwrap();
    }
}

/// Counts how many there are, and panics if one is dropped twice.
struct Token {
    alive: Arc<AtomicUsize>,
    id: u64,
}

impl Token {
    fn new(alive: &Arc<AtomicUsize>, id: u64) -> Token {
        alive.fetch_add(1, Ordering::Relaxed);
        Token { alive: Arc::clone(alive), id }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        assert_ne!(self.alive.fetch_sub(1, Ordering::Relaxed), 0);
    }
}

#[derive(Trace)]
struct Holder {
    id: u64,
    token: Slot<Resource<Token>>,
}

fn holder<'g>(m: &'g Mutator<'_>, queue: &ResourceQueue<Token>, token: Token) -> Gc<'g, Holder> {
    m.place(HolderInit { id: token.id, token: queue.place(m, token) })
}

fn holder_room() -> AllocSize {
    AllocSize::of::<Holder>() + AllocSize::of::<Resource<Token>>()
}

pub(crate) fn each_value_comes_back_once_when_its_object_is_gone(barrier: Barrier) {
    for heap in every_heap(barrier, 8 << 20, 5) {
        let alive = Arc::default();
        let queue = ResourceQueue::new(&heap);
        heap.enter(|m| {
            let held = m.build::<SlotArray<Option<Holder>>>(AllocSize::tail::<SlotArray<Option<Holder>>>(MANY), |m| {
                m.place_array((), MANY, None)
            });
            let held = held.unwrap();
            for id in 0..MANY as u64 {
                let m = m.reserve(holder_room()).unwrap();
                let holder = holder(m, &queue, Token::new(&alive, id));
                held.get(m).tail()[id as usize].set(m, Some(holder));
            }
            m.collect();
            assert_eq!((queue.ready(), queue.kept()), (0, MANY));
            held.get(m).tail().iter().step_by(3).for_each(|slot| slot.set(m, None));
            m.collect();
            m.collect();
            let ids: BTreeSet<_> = std::iter::from_fn(|| queue.take()).map(|token| token.id).collect();
            assert_eq!(ids, (0..MANY as u64).step_by(3).collect());
            assert_eq!(alive.load(Ordering::Relaxed), MANY - ids.len());
            for (id, slot) in held.get(m).tail().iter().enumerate() {
                let Some(holder) = slot.get(m) else { continue };
                assert_eq!((holder.id, holder.token.get(m).get().id), (id as u64, id as u64));
            }
        })
        .unwrap();
        drop(heap);
        let rest = std::iter::from_fn(|| queue.wait(Duration::MAX)).count();
        assert_eq!((rest, alive.load(Ordering::Relaxed)), (MANY - MANY.div_ceil(3), 0), "what the heap's end owes");
    }
}

/// What a revived object leads to is not gone, whoever watches it.
pub(crate) fn a_value_is_not_given_while_a_revived_object_leads_to_it(barrier: Barrier) {
    for heap in every_heap(barrier, 4 << 20, 6) {
        let (finalizers, resources) = (FinalizerQueue::<Holder>::new(&heap), ResourceQueue::new(&heap));
        let alive = Arc::default();
        heap.enter(|m| {
            {
                let m = m.reserve(holder_room()).unwrap();
                let holder = holder(m, &resources, Token::new(&alive, 5));
                finalizers.register(m, holder);
                resources.attach(m, holder, Token::new(&alive, 6));
            }
            m.collect();
            let holder = finalizers.take().unwrap();
            for _ in 0..3 {
                assert!(resources.take().is_none());
                assert_eq!(holder.get(m).token.get(m).get().id, 5);
                m.collect();
            }
            drop(holder);
            m.collect();
            m.collect();
            let ids: BTreeSet<_> = std::iter::from_fn(|| resources.take()).map(|token| token.id).collect();
            assert_eq!(ids, BTreeSet::from([5, 6]));
        })
        .unwrap();
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}

pub(crate) fn what_the_end_of_a_heap_does(barrier: Barrier) {
    for heap in every_heap(barrier, 4 << 20, 7) {
        let alive = Arc::default();
        let (finalizers, kept) = (FinalizerQueue::<Item>::new(&heap), ResourceQueue::new(&heap));
        let dropped = ResourceQueue::new(&heap);
        let root = heap.enter(|m| {
            let m = m.reserve(holder_room().times(3) + AllocSize::of::<Item>()).unwrap();
            finalizers.register(m, place(m, 1));
            holder(m, &kept, Token::new(&alive, 1));
            holder(m, &dropped, Token::new(&alive, 2));
            Root::<Holder>::new(m, holder(m, &kept, Token::new(&alive, 3)))
        });
        drop(dropped);
        heap.collect();
        assert_eq!((finalizers.ready(), kept.ready(), alive.load(Ordering::Relaxed)), (1, 1, 3));
        // Nobody has the queue of the second: it goes with the heap, on this thread.
        drop(heap);
        assert_eq!(alive.load(Ordering::Relaxed), 2);
        assert!(finalizers.wait(Duration::MAX).is_none(), "objects end with their heap");
        let ids: BTreeSet<_> = std::iter::from_fn(|| kept.take()).map(|token| token.id).collect();
        assert_eq!(ids, BTreeSet::from([1, 3]));
        drop((root, kept));
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}

/// A listener may have the last handle: the collector thread, on which it runs, cannot wait for its
/// own end, and ends the heap all the same.
pub(crate) fn a_heap_that_ends_in_a_listener_gives_what_it_owes(barrier: Barrier) {
    for queue_is_kept in [true, false] {
        let alive = Arc::default();
        let (last, handles) = mpsc::channel::<Heap>();
        let (told, listener_is_through) = mpsc::channel();
        let handles = Mutex::new(handles);
        let listener = move |event: &Event| {
            // In the middle of the first cycle: later ones find no handle on its way.
            if matches!(event, Event::Phase(_))
                && let Ok(heap) = handles.lock().unwrap().recv()
            {
                drop(heap);
                told.send(()).unwrap();
            }
        };
        // A reservation asks for a cycle, and nobody waits for that.
        let stress = Stress { cycle_every: 1, ..Stress::default() };
        let heap = checked(barrier, 4 << 20).stress(stress).on_event(listener).build().unwrap();
        let queue = ResourceQueue::new(&heap);
        let root = heap.enter(|m| {
            let m = m.reserve(holder_room()).unwrap();
            Root::<Holder>::new(m, holder(m, &queue, Token::new(&alive, 1)))
        });
        let queue = queue_is_kept.then_some(queue);
        last.send(heap).unwrap();
        drop(last);
        let long = Duration::from_secs(20);
        listener_is_through.recv_timeout(long).expect("the drop of the last handle did not come back");
        if let Some(queue) = queue {
            assert_eq!(queue.wait(long).expect("what was kept is owed").id, 1);
            assert!(queue.wait(Duration::MAX).is_none(), "nothing comes after it");
        }
        let until = Instant::now() + long;
        while alive.load(Ordering::SeqCst) != 0 {
            assert!(Instant::now() < until, "nobody has dropped what nobody has a queue for");
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(root);
    }
}

pub(crate) fn a_queue_that_nobody_has_ends_when_nothing_is_watched_for_it(barrier: Barrier) {
    let heap = checked(barrier, 4 << 20).build().unwrap();
    let alive = Arc::default();
    {
        let queue = ResourceQueue::new(&heap);
        heap.enter(|m| {
            let m = m.reserve(holder_room()).unwrap();
            holder(m, &queue, Token::new(&alive, 1));
        })
        .unwrap();
    }
    let _other = FinalizerQueue::<Item>::new(&heap);
    assert_eq!(alive.load(Ordering::Relaxed), 1, "its object may be alive");
    heap.collect();
    assert_eq!(alive.load(Ordering::Relaxed), 1, "the collector drops nothing of the embedder's");
    let _another = FinalizerQueue::<Item>::new(&heap);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

/// A thread of its own drains, others make and drop; its panic is its own affair.
pub(crate) fn a_thread_of_its_own_drains(barrier: Barrier) {
    const EACH: u64 = 2000;
    for heap in every_heap(barrier, 8 << 20, 8) {
        let each = EACH * u64::from(factor());
        let alive = Arc::default();
        let (finalizers, resources) = (FinalizerQueue::<Holder>::new(&heap), ResourceQueue::new(&heap));
        let seen = while_collecting(&heap, Duration::from_micros(200), || {
            std::thread::scope(|scope| {
                let drainer = scope.spawn(|| drain(&heap, &finalizers, &resources, 2 * each as usize));
                for thread in 0..2 {
                    let (heap, finalizers, resources, alive) = (&heap, &finalizers, &resources, &alive);
                    scope.spawn(move || {
                        heap.enter(|m| make(m, finalizers, resources, alive, thread * each..(thread + 1) * each))
                            .unwrap()
                            .unwrap();
                    });
                }
                drainer.join().unwrap()
            })
        });
        assert_eq!(seen, (0..2 * each).collect());
        assert_eq!((finalizers.ready(), resources.kept(), alive.load(Ordering::Relaxed)), (0, 0, 0));
    }
}

fn make(
    m: &mut Mutator<'_>,
    finalizers: &FinalizerQueue<Holder>,
    resources: &ResourceQueue<Token>,
    alive: &Arc<AtomicUsize>,
    ids: std::ops::Range<u64>,
) -> Result<(), OutOfMemory> {
    let mut random = Random::new(ids.start);
    for id in ids {
        let m = &mut *m.frame();
        let new = m.build::<Holder>(holder_room(), |m| holder(m, resources, Token::new(alive, id)))?;
        if random.one_in(2) {
            m.safepoint();
        }
        finalizers.register(m, new.get(m));
        let weak = Weak::new(m, new.get(m));
        if random.one_in(3) {
            m.safepoint();
        }
        assert_eq!(weak.get(m).map(|holder| holder.id), Some(id));
    }
    Ok(())
}

/// Takes objects, looks at them, lets them go; takes their values; until `all` values have come.
fn drain(
    heap: &gc_heap::Heap,
    finalizers: &FinalizerQueue<Holder>,
    resources: &ResourceQueue<Token>,
    all: usize,
) -> BTreeSet<u64> {
    let (mut finalized, mut released) = (BTreeSet::new(), BTreeSet::new());
    let mut thread = heap.thread().unwrap();
    while released.len() < all {
        if let Some(token) = resources.wait(Duration::from_millis(1)) {
            assert!(finalized.contains(&token.id), "a value before its object was finalized");
            assert!(released.insert(token.id), "a value twice");
        }
        let work = thread.enter(|m| {
            while let Some(holder) = finalizers.take() {
                let holder = holder.get(m);
                assert_eq!(holder.token.get(m).get().id, holder.id);
                assert!(finalized.insert(holder.id), "an object twice");
                m.safepoint();
            }
        });
        work.unwrap();
    }
    released
}

pub(crate) fn queues_know_their_heap_and_do_not_wait_inside_one(barrier: Barrier) {
    let [a, b] = [0, 1].map(|_| checked(barrier, 4 << 20).build().unwrap());
    let (finalizers, resources) = (FinalizerQueue::<Item>::new(&a), ResourceQueue::<u64>::new(&a));
    b.enter(|m| {
        let item =
            m.build::<Item>(AllocSize::of::<Item>() + AllocSize::of::<Resource<u64>>(), |m| place(m, 1)).unwrap();
        let m = &*m;
        for wrong in [
            &(|| finalizers.register(m, item.get(m))) as &dyn Fn(),
            &|| resources.attach(m, item.get(m), 1),
            &|| _ = resources.place(m, 1),
            &|| drop(finalizers.wait(Duration::ZERO)),
            &|| _ = resources.wait(Duration::ZERO),
        ] {
            assert!(catch_unwind(AssertUnwindSafe(wrong)).is_err());
        }
    })
    .unwrap();
    assert_eq!(resources.kept(), 0);
    assert!(finalizers.wait(Duration::from_millis(1)).is_none() && resources.wait(Duration::from_millis(1)).is_none());
    b.enter(|m| assert!(m.blocking(|| resources.wait(Duration::ZERO)).is_none())).unwrap();
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        each_object_is_given_once_and_whole,
        a_revived_object_lives_until_it_is_dropped_and_can_be_registered_again,
        weak_references_are_resolved_in_order,
        objects_that_lead_to_each_other_are_given_together,
        each_value_comes_back_once_when_its_object_is_gone,
        a_value_is_not_given_while_a_revived_object_leads_to_it,
        what_the_end_of_a_heap_does,
        a_heap_that_ends_in_a_listener_gives_what_it_owes,
        a_queue_that_nobody_has_ends_when_nothing_is_watched_for_it,
        a_thread_of_its_own_drains,
        queues_know_their_heap_and_do_not_wait_inside_one
    ],
    ..Tests::NONE
};
