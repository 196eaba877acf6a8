//! What was reachable when marking began is kept, by whichever way its reference moves while
//! marking runs.
//!
//! One mutator roots a long list and a hub, and sleeps. The marker comes to the hub first and is
//! then busy with the list. Another mutator meanwhile moves items between the hub, which is scanned
//! already, and a place that is not yet: its own roots, or an array that only a process-wide root
//! holds. Each test has one way of taking them out of there. A way that is not logged loses them,
//! which the verification after marking tells.

use crate::common::{Random, factor, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Gc, Heap, Local, Mutator, Root, RootStack, Slot, SlotArray, Trace, Weak};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

#[derive(Trace)]
struct Item {
    id: u64,
    check: u64,
}

#[derive(Trace)]
struct Link {
    next: Slot<Option<Link>>,
}

type Hub = SlotArray<Option<Item>>;

const ITEMS: usize = 64;
const MOVED: usize = 16;
const LINKS: usize = 100_000;
const CYCLES: u64 = 12;

fn check(item: Gc<'_, Item>) -> u64 {
    assert_eq!(item.check, !item.id, "an item was overwritten");
    item.id
}

fn place<'g>(m: &'g Mutator<'_>, id: u64) -> Gc<'g, Item> {
    m.place(ItemInit { id, check: !id })
}

/// What the moving mutator has beside the hub.
struct Hands {
    random: Random,
    stack: RootStack<Option<Item>>,
    /// As many places as the hub, held by a process-wide root: those are scanned last.
    cellar: Root<Hub>,
    /// Waits parked rather than at safepoints.
    parked: bool,
    heap: Heap,
}

impl Hands {
    /// Some places of the hub.
    fn choose(&mut self) -> impl Iterator<Item = usize> + Clone + use<> {
        let first = self.random.below(ITEMS);
        (first..first + MOVED).map(|index| index % ITEMS)
    }

    /// Waits for a marking to begin and to come past the hub, or does not.
    fn linger(&mut self, m: &mut Mutator<'_>) {
        let time = Duration::from_micros(self.random.below(1500) as u64);
        if self.parked {
            return m.blocking(|| std::thread::sleep(time));
        }
        let begun = Instant::now();
        while begun.elapsed() < time {
            m.safepoint();
            std::hint::spin_loop();
        }
    }
}

fn take<'g>(m: &'g Mutator<'_>, hub: Local<'_, Hub>, index: usize) -> Gc<'g, Item> {
    let slot = &hub.get(m).tail()[index];
    let item = slot.get(m).expect("an item in its place");
    check(item);
    slot.set(m, None);
    item
}

fn put<'g>(m: &'g Mutator<'_>, hub: Local<'_, Hub>, index: usize, item: Gc<'g, Item>) {
    check(item);
    hub.get(m).tail()[index].set(m, Some(item));
}

/// Takes items from the hub, keeps them one way over a safepoint, and puts them back.
type Way = fn(&mut Mutator<'_>, Local<'_, Hub>, &mut Hands);

fn moved(barrier: Barrier, way: Way) {
    moved_while(barrier, way, false);
    moved_while(barrier, way, true);
}

fn moved_while(barrier: Barrier, way: Way, parked: bool) {
    for workers in [1, 2] {
        let heap = crate::common::checked(barrier, 16 << 20).single_view(false).workers(workers).build().unwrap();
        let (sender, receiver) = channel();
        let (over, is_over) = channel::<()>();
        std::thread::scope(|scope| {
            // Dropped last, also on unwinding, before the scope waits for its threads.
            let _over = over;
            // Attached first, scanned first.
            scope.spawn(|| heap.enter(|m| hold(m, sender, is_over)).unwrap());
            let (hub, cellar) = receiver.recv().unwrap();
            let stack = RootStack::with_capacity(&heap, 1024).unwrap();
            let mut hands = Hands { random: Random::new(3), stack, cellar, parked, heap: heap.clone() };
            let wanted = heap.stats().cycles + CYCLES * u64::from(factor());
            let mut thread = heap.thread().unwrap();
            while_collecting(&heap, Duration::from_micros(500), || {
                while heap.stats().cycles < wanted {
                    let steps = |m: &mut Mutator<'_>| {
                        let hub = m.local(hub.get(m));
                        (0..4).for_each(|_| way(m, hub, &mut hands));
                    };
                    thread.enter(steps).unwrap();
                }
            });
            let ids = thread.enter(|m| {
                let mut ids: Vec<u64> = hub.get(m).tail().iter().map(|slot| check(slot.get(m).unwrap())).collect();
                ids.sort_unstable();
                ids
            });
            assert!(ids.unwrap().into_iter().eq(0..ITEMS as u64));
        });
    }
}

/// Holds hub and list in locals until told to leave.
fn hold(
    m: &mut Mutator<'_>,
    sender: std::sync::mpsc::Sender<(Root<Hub>, Root<Hub>)>,
    over: std::sync::mpsc::Receiver<()>,
) {
    let list = m.build::<Option<Link>>(AllocSize::NONE, |_| None).unwrap();
    for _ in 0..LINKS / 100 {
        let m = m.reserve(AllocSize::of::<Link>().times(100)).unwrap();
        (0..100).for_each(|_| list.set(m, Some(m.place(LinkInit { next: list.get(m) }))));
    }
    let room = AllocSize::tail::<Hub>(ITEMS).times(2) + AllocSize::of::<Item>().times(ITEMS);
    let hub = m.build::<Hub>(room, |m| m.place_tail((), (0..ITEMS).map(|id| Some(place(m, id as u64)))));
    let hub = hub.unwrap();
    let cellar = m.build::<Hub>(AllocSize::tail::<Hub>(ITEMS), |m| m.place_array((), ITEMS, None)).unwrap();
    sender.send((Root::new(m, hub.get(m)), Root::new(m, cellar.get(m)))).unwrap();
    cellar.set(m, hub.get(m));
    // The other side only ever drops its end.
    m.blocking(|| over.recv()).unwrap_err();
}

pub(crate) fn locals_that_end(barrier: Barrier) {
    moved(barrier, |m, hub, hands| {
        let places = hands.choose();
        let m = &mut *m.frame();
        let locals: Vec<Local<'_, Item>> = places.clone().map(|index| m.local(take(m, hub, index))).collect();
        hands.linger(m);
        places.zip(locals).for_each(|(index, local)| put(m, hub, index, local.get(m)));
    });
}

pub(crate) fn locals_that_end_with_their_scope(barrier: Barrier) {
    moved(barrier, |m, hub, hands| {
        let (place, random) = (hands.random.below(ITEMS), hands.random.below(2));
        let result = m.scope_local::<Item, ()>(|m| {
            let item = m.local(take(m, hub, place));
            hands.linger(m);
            put(m, hub, place, item.get(m));
            if random == 0 { Err(()) } else { Ok(item.get(m)) }
        });
        assert_eq!(result.is_err(), random == 0);
    });
}

pub(crate) fn locals_that_are_overwritten(barrier: Barrier) {
    moved(barrier, |m, hub, hands| {
        let places = hands.choose();
        let m = &mut *m.frame();
        let locals: Vec<Local<'_, Option<Item>>> =
            places.clone().map(|index| m.local(Some(take(m, hub, index)))).collect();
        hands.linger(m);
        for (index, local) in places.zip(&locals) {
            put(m, hub, index, local.get(m).unwrap());
            local.set(m, None);
        }
        hands.linger(m);
        // They end empty.
        assert!(locals.iter().all(|local| local.get(m).is_none()));
    });
}

pub(crate) fn root_stacks_that_are_popped(barrier: Barrier) {
    moved(barrier, |m, hub, hands| {
        let places = hands.choose();
        places.clone().for_each(|index| hands.stack.push(m, Some(take(m, hub, index))));
        hands.linger(m);
        places.for_each(|index| put(m, hub, index, hands.stack.pop(m).unwrap().unwrap()));
    });
}

pub(crate) fn root_stacks_that_are_cut(barrier: Barrier) {
    moved(barrier, |m, hub, hands| {
        let places = hands.choose();
        places.clone().for_each(|index| hands.stack.push(m, Some(take(m, hub, index))));
        hands.linger(m);
        places.enumerate().for_each(|(depth, index)| put(m, hub, index, hands.stack.peek(m, depth).unwrap()));
        match hands.random.below(3) {
            0 => hands.stack.truncate(m, 0),
            1 => hands.stack.drop_top(m, MOVED),
            _ => hands.stack.resize(m, 0, None),
        }
    });
}

pub(crate) fn root_stacks_that_are_overwritten(barrier: Barrier) {
    moved(barrier, |m, hub, hands| {
        let places = hands.choose();
        places.clone().for_each(|index| hands.stack.push(m, Some(take(m, hub, index))));
        hands.linger(m);
        for (depth, index) in places.enumerate() {
            put(m, hub, index, hands.stack.peek(m, depth).unwrap());
            hands.stack.poke(m, depth, None);
        }
        hands.linger(m);
        hands.stack.drop_top(m, MOVED);
    });
}

pub(crate) fn slots_of_root_stacks_that_are_overwritten(barrier: Barrier) {
    moved(barrier, |m, hub, hands| {
        let places = hands.choose();
        places.clone().for_each(|index| hands.stack.push(m, Some(take(m, hub, index))));
        hands.linger(m);
        for (index, slot) in places.zip(hands.stack.last::<MOVED>(m)) {
            put(m, hub, index, slot.get(m).unwrap());
            slot.set(m, None);
        }
        hands.linger(m);
        hands.stack.drop_top(m, MOVED);
    });
}

pub(crate) fn root_stacks_that_are_dropped(barrier: Barrier) {
    moved(barrier, |m, hub, hands| {
        let places = hands.choose();
        let stack = RootStack::<Option<Item>>::with_capacity(&hands.heap, MOVED).unwrap();
        places.clone().for_each(|index| stack.push(m, Some(take(m, hub, index))));
        hands.linger(m);
        (0..MOVED).zip(places).for_each(|(at, index)| put(m, hub, index, stack.get(m, at).unwrap()));
        if hands.random.one_in(2) {
            drop(stack);
        } else {
            // Popped first: what is below the top when it is dropped is not all there ever was.
            while stack.pop(m).is_some() {}
        }
    });
}

pub(crate) fn roots_that_are_overwritten(barrier: Barrier) {
    moved(barrier, |m, hub, hands| {
        let places = hands.choose();
        let roots: Vec<_> =
            places.clone().map(|index| Root::<Option<Item>>::new(m, Some(take(m, hub, index)))).collect();
        hands.linger(m);
        for (index, root) in places.zip(&roots) {
            put(m, hub, index, root.get(m).unwrap());
            root.set(m, None);
        }
        hands.linger(m);
    });
}

pub(crate) fn roots_that_are_dropped(barrier: Barrier) {
    moved(barrier, |m, hub, hands| {
        let places = hands.choose();
        let roots: Vec<_> = places.clone().map(|index| Root::<Item>::new(m, take(m, hub, index))).collect();
        hands.linger(m);
        places.zip(&roots).for_each(|(index, root)| put(m, hub, index, root.get(m)));
        drop(roots);
        // Their places are taken by others at once.
        let others: Vec<_> = (0..MOVED).map(|_| Root::<Option<Item>>::new(m, None)).collect();
        hands.linger(m);
        assert!(others.iter().all(|other| other.get(m).is_none()));
    });
}

/// From the cellar to the hub, each place emptied by `empty`.
fn from_cellar(
    m: &mut Mutator<'_>,
    hub: Local<'_, Hub>,
    hands: &mut Hands,
    empty: for<'g> fn(&'g Mutator<'_>, &Slot<Option<Item>>) -> Gc<'g, Item>,
) {
    let places = hands.choose();
    for index in places.clone() {
        hands.cellar.get(m).tail()[index].set(m, Some(take(m, hub, index)));
    }
    hands.linger(m);
    for index in places {
        let item = empty(m, &hands.cellar.get(m).tail()[index]);
        put(m, hub, index, item);
    }
}

pub(crate) fn slots_that_are_stored_to(barrier: Barrier) {
    moved(barrier, |m, hub, hands| {
        from_cellar(m, hub, hands, |m, slot| {
            let item = slot.get(m).unwrap();
            slot.set(m, None);
            item
        });
    });
}

pub(crate) fn slots_that_are_swapped(barrier: Barrier) {
    moved(barrier, |m, hub, hands| from_cellar(m, hub, hands, |m, slot| slot.swap(m, None).unwrap()));
}

pub(crate) fn slots_that_are_exchanged(barrier: Barrier) {
    moved(barrier, |m, hub, hands| {
        from_cellar(m, hub, hands, |m, slot| {
            let item = slot.get(m);
            assert!(slot.compare_exchange(m, None, None).is_err());
            slot.compare_exchange(m, item, None).ok().flatten().expect("nobody else stores here")
        });
    });
}

/// Nothing but a weak reference holds the items when marking begins.
pub(crate) fn weak_references_that_are_upgraded(barrier: Barrier) {
    moved(barrier, |m, hub, hands| {
        let places = hands.choose();
        let weak: Vec<(u64, Weak<Item>)> = places
            .clone()
            .map(|index| {
                let item = take(m, hub, index);
                (item.id, Weak::new(m, item))
            })
            .collect();
        hands.linger(m);
        for (index, (id, weak)) in places.zip(weak) {
            let m = m.reserve(AllocSize::of::<Item>()).unwrap();
            // Gone or not, both are right; an object that is given must stay.
            let item = weak.get(m).unwrap_or_else(|| place(m, id));
            assert_eq!(item.id, id);
            put(m, hub, index, item);
        }
    });
}

pub(crate) const TESTS: Tests = Tests {
    concurrent: tests![
        locals_that_end,
        locals_that_end_with_their_scope,
        locals_that_are_overwritten,
        root_stacks_that_are_popped,
        root_stacks_that_are_cut,
        root_stacks_that_are_overwritten,
        slots_of_root_stacks_that_are_overwritten,
        root_stacks_that_are_dropped,
        roots_that_are_overwritten,
        roots_that_are_dropped,
        slots_that_are_stored_to,
        slots_that_are_swapped,
        slots_that_are_exchanged,
        weak_references_that_are_upgraded
    ],
    ..Tests::NONE
};
