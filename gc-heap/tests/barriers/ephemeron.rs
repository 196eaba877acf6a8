//! Ephemerons and weak maps: a value lives exactly as long as its key, in chains and rings, while
//! cycles run.

use crate::common::{Random, checked, every_heap, factor, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Array, Barrier, Ephemeron, Gc, Heap, Local, Mutator, Root, Slot, SlotArray, Tagged, Trace, Value,
};
use std::time::Duration;

#[derive(Trace)]
#[trace(identity_hash)]
pub(crate) struct Item {
    pub(crate) id: u64,
    pub(crate) check: u64,
    pub(crate) other: Slot<Option<Item>>,
}

pub(crate) fn place<'g>(m: &'g Mutator<'_>, id: u64) -> Gc<'g, Item> {
    m.place(ItemInit { id, check: !id, other: None })
}

pub(crate) fn check(item: Gc<'_, Item>) -> u64 {
    assert_eq!(item.check, !item.id, "an ephemeron gave something else");
    item.id
}

type Pairs = Array<Ephemeron<Item, Option<Item>>>;
pub(crate) type Items = SlotArray<Option<Item>>;

fn pairs<'s>(m: &mut Mutator<'s>, len: usize) -> Local<'s, Pairs> {
    m.build::<Pairs>(AllocSize::tail::<Pairs>(len), |m| m.place_array((), len, None)).unwrap()
}

/// Pairs `(i, i + 1)` of `len + 1` items, in an order that makes each pass of a naive marker find
/// one pair only. Only the first item is held, by the local that is given.
fn chain<'s>(m: &mut Mutator<'s>, len: usize) -> (Local<'s, Pairs>, Local<'s, Option<Item>>) {
    chain_in(m, len, Order::Down)
}

/// The order of a chain's pairs in their table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Up,
    Down,
    Random,
}

fn chain_in<'s>(m: &mut Mutator<'s>, len: usize, order: Order) -> (Local<'s, Pairs>, Local<'s, Option<Item>>) {
    let mut places: Vec<usize> = (0..len).collect();
    match order {
        Order::Up => {}
        Order::Down => places.reverse(),
        Order::Random => {
            let mut random = 0x9e37_79b9_7f4a_7c15_u64;
            for left in (1..len).rev() {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                places.swap(left, (random >> 16) as usize % (left + 1));
            }
        }
    }
    let table = pairs(m, len);
    let first = m.build::<Option<Item>>(AllocSize::of::<Item>(), |m| Some(place(m, 0))).unwrap();
    let m = &mut *m.frame();
    let last = m.local(first.get(m));
    for (index, &at) in places.iter().enumerate() {
        let m = m.reserve(AllocSize::of::<Item>()).unwrap();
        let next = place(m, index as u64 + 1);
        table.get(m).tail()[at].set(m, last.get(m).map(|key| (key, Some(next))));
        last.set(m, Some(next));
    }
    (table, first)
}

pub(crate) fn a_chain_lives_as_long_as_its_first_key(barrier: Barrier) {
    for heap in every_heap(barrier, 8 << 20, 1) {
        for len in [1, 2, 1000, 5000] {
            heap.enter(|m| {
                let (table, first) = chain(m, len);
                for _ in 0..3 {
                    m.collect();
                    let mut key = first.get(m).unwrap();
                    for pair in table.get(m).tail().iter().rev() {
                        let next = pair.value_of(m, key).expect("a pair of a live key").unwrap();
                        assert_eq!(check(next), check(key) + 1);
                        key = next;
                    }
                    assert_eq!(check(key), len as u64);
                }
                // Cut in the middle: what comes after is dead, what comes before is not.
                let cut = len / 2;
                table.get(m).tail()[len - 1 - cut].set(m, None);
                m.collect();
                m.collect();
                let table_now = table.get(m).tail();
                assert!(table_now.iter().rev().take(cut).all(|pair| pair.get(m).is_some()));
                assert!(table_now.iter().rev().skip(cut).all(|pair| pair.get(m).is_none() && pair.is_empty(m)));
                first.set(m, None);
                m.collect();
                m.collect();
                assert!(table.get(m).tail().iter().all(|pair| pair.is_empty(m)));
            })
            .unwrap();
        }
        let stats = heap.stats();
        assert!(stats.ephemerons_cleared > 0 && stats.ephemeron_passes > 0, "{stats:?}");
    }
}

/// One pass is enough for a chain whose pairs may all wait: the marker looks by key. One that is
/// longer takes three if it is in order, up or down, and some more in a random order, and the lists
/// keep to their part of the memory in the first case.
pub(crate) fn a_long_chain_takes_few_passes(barrier: Barrier) {
    for (order, len, passes) in
        [(Order::Down, 500, 1), (Order::Down, 100_000, 3), (Order::Up, 100_000, 3), (Order::Random, 100_000, 40)]
    {
        let heap = checked(barrier, 32 << 20).verify(false).workers(1).build().unwrap();
        heap.enter(|m| {
            let (_table, first) = chain_in(m, len, order);
            let before = heap.stats();
            m.collect();
            let after = heap.stats();
            let (made, cycles) = (after.ephemeron_passes - before.ephemeron_passes, after.cycles - before.cycles);
            assert!((1..=passes * cycles).contains(&made), "{order:?}, {len}: {made} passes in {cycles} cycles");
            assert!(first.get(m).is_some() && after.ephemerons_cleared == before.ephemerons_cleared);
            let (lists, used) = (after.mark_lists_peak_bytes, after.committed_peak_bytes as u64);
            assert!(order == Order::Random || lists <= used / 10 + (64 << 10), "{order:?}, {len}: {lists} of {used}");
        })
        .unwrap();
    }
}

/// Far more pairs with dead keys than may wait, and some with live ones among them.
pub(crate) fn pairs_that_may_not_wait_are_kept_or_emptied_all_the_same(barrier: Barrier) {
    for workers in [1, 3] {
        let heap = checked(barrier, 32 << 20).workers(workers).build().unwrap();
        heap.enter(|m| {
            const LEN: usize = 100_000;
            let table = pairs(m, LEN);
            let keys = m.build::<Items>(AllocSize::tail::<Items>(LEN / 100), |m| m.place_array((), LEN / 100, None));
            let keys = keys.unwrap();
            for index in 0..LEN {
                let m = m.reserve(AllocSize::of::<Item>().times(2)).unwrap();
                let key = place(m, index as u64);
                table.get(m).tail()[index].set(m, Some((key, Some(place(m, index as u64 + 1)))));
                if index.is_multiple_of(100) {
                    keys.get(m).tail()[index / 100].set(m, Some(key));
                }
            }
            m.collect();
            m.collect();
            for (index, pair) in table.get(m).tail().iter().enumerate() {
                match pair.get(m) {
                    Some((key, value)) => {
                        assert!(index.is_multiple_of(100) && check(value.unwrap()) == check(key) + 1, "{index}");
                    }
                    None => assert!(!index.is_multiple_of(100) && pair.is_empty(m), "{index} was emptied"),
                }
            }
            let stats = heap.stats();
            assert_eq!(stats.ephemerons_cleared, (LEN - LEN / 100) as u64);
            let (lists, used) = (stats.mark_lists_peak_bytes, stats.committed_peak_bytes as u64);
            assert!(lists <= used / 10 + (64 << 10), "{lists} of {used}");
        })
        .unwrap();
    }
}

/// Values that refer to their own keys, pairs in a ring, a key that is its own value: none holds
/// itself.
pub(crate) fn rings_do_not_hold_themselves(barrier: Barrier) {
    for heap in every_heap(barrier, 4 << 20, 2) {
        heap.enter(|m| {
            let table = pairs(m, 4);
            let held = m.build::<Option<Item>>(AllocSize::of::<Item>().times(4), |m| {
                let [a, b, c, d] = [1, 2, 3, 4].map(|id| place(m, id));
                let tail = table.get(m).tail();
                tail[0].set(m, Some((a, Some(b))));
                tail[1].set(m, Some((b, Some(a))));
                c.other.set(m, Some(c));
                tail[2].set(m, Some((c, Some(c))));
                d.other.set(m, Some(d));
                tail[3].set(m, Some((d, Some(a))));
                Some(b)
            });
            let held = held.unwrap();
            m.collect();
            let ids = |m: &Mutator<'_>| {
                let tail = table.get(m).tail();
                tail.iter()
                    .map(|pair| pair.get(m).map(|(key, value)| (check(key), check(value.unwrap()))))
                    .collect::<Vec<_>>()
            };
            assert_eq!(ids(m), [Some((1, 2)), Some((2, 1)), None, None]);
            held.set(m, None);
            m.collect();
            assert_eq!(ids(m), [None; 4]);
        })
        .unwrap();
    }
}

/// A pair whose key is alive is there although its value's type changes, and numbers are values
/// too.
pub(crate) fn values_of_any_sort(barrier: Barrier) {
    #[derive(Trace)]
    struct Two {
        any: Ephemeron<Item, Tagged>,
        count: u64,
        item: Ephemeron<Item, Item>,
    }
    for heap in every_heap(barrier, 4 << 20, 3) {
        heap.enter(|m| {
            let key = m.build::<Option<Item>>(AllocSize::of::<Item>(), |m| Some(place(m, 1))).unwrap();
            let two = m.build::<Two>(AllocSize::of::<Two>() + AllocSize::of::<Item>(), |m| {
                let key = key.get(m).unwrap();
                m.place(TwoInit { any: Some((key, Value::num(1.5))), count: 7, item: Some((key, place(m, 2))) })
            });
            let two = two.unwrap();
            m.collect();
            let at = |m: &Mutator<'_>| two.get(m).any.value_of(m, key.get(m).unwrap()).and_then(|value| value.as_num());
            assert_eq!(at(m), Some(1.5));
            {
                let m = m.reserve(AllocSize::of::<Item>()).unwrap();
                let value = place(m, 3);
                two.get(m).any.set(m, Some((key.get(m).unwrap(), value.into())));
            }
            m.collect();
            let value = two.get(m).any.value_of(m, key.get(m).unwrap()).unwrap();
            assert_eq!(value.downcast::<Item>().map(check), Some(3));
            assert_eq!(two.get(m).item.get(m).map(|(key, value)| (check(key), check(value))), Some((1, 2)));
            // To look for another key keeps nothing alive.
            let other = m.build::<Item>(AllocSize::of::<Item>(), |m| place(m, 9)).unwrap();
            key.set(m, None);
            assert!(two.get(m).item.value_of(m, other.get(m)).is_none());
            m.collect();
            assert!(two.get(m).any.get(m).is_none() && two.get(m).item.get(m).is_none());
            assert_eq!(two.get(m).count, 7);
        })
        .unwrap();
    }
}

/// Pairs are read, upgraded and replaced by several threads without a lock while marking ends.
pub(crate) fn pairs_race_with_the_end_of_marking(barrier: Barrier) {
    const LEN: usize = 200;
    for (verify, workers) in [(true, 1), (false, 2)] {
        let heap = checked(barrier, 8 << 20).verify(verify).workers(workers).stress(stress(10)).build().unwrap();
        let table = heap.enter(|m| {
            let table = pairs(m, LEN);
            Root::<Pairs>::new(m, table.get(m))
        });
        let table = table.unwrap();
        while_collecting(&heap, Duration::ZERO, || {
            std::thread::scope(|scope| {
                for thread in 0..3 {
                    let (heap, table) = (&heap, &table);
                    scope.spawn(move || heap.enter(|m| race(heap, m, table, thread)).unwrap());
                }
            });
        });
    }
}

/// A value is taken out of a pair whose key is held, while the marker is busy elsewhere and has not
/// come to the pair. From then on a local alone has it.
pub(crate) fn a_value_taken_out_of_its_pair_is_strong(barrier: Barrier) {
    const LEN: usize = 64;
    let heap = checked(barrier, 16 << 20).build().unwrap();
    let work = while_collecting(&heap, Duration::from_millis(1), || {
        heap.enter(|m| {
            // Locals are marked first: this keeps the marker from the table, which only a
            // process-wide root has.
            let list = m.build::<Option<Item>>(AllocSize::NONE, |_| None).unwrap();
            for id in 0..100_000 {
                let m = m.reserve(AllocSize::of::<Item>()).unwrap();
                list.set(m, Some(m.place(ItemInit { id, check: !id, other: list.get(m) })));
            }
            let (table, keys) = {
                let m = &mut *m.frame();
                let table = pairs(m, LEN);
                let keys = m.build::<Items>(AllocSize::tail::<Items>(LEN), |m| m.place_array((), LEN, None)).unwrap();
                for index in 0..LEN {
                    let m = m.reserve(AllocSize::of::<Item>()).unwrap();
                    let key = place(m, index as u64);
                    keys.get(m).tail()[index].set(m, Some(key));
                }
                (Root::<Pairs>::new(m, table.get(m)), Root::<Items>::new(m, keys.get(m)))
            };
            for round in 0..40 * u64::from(factor()) {
                let m = &mut *m.frame();
                for index in 0..LEN {
                    let m = m.reserve(AllocSize::of::<Item>()).unwrap();
                    let (key, value) = (keys.get(m).tail()[index].get(m).unwrap(), place(m, round));
                    table.get(m).tail()[index].set(m, Some((key, Some(value))));
                }
                let held: Vec<_> = (0..LEN)
                    .map(|index| {
                        // A cycle begins while one of these sleeps.
                        m.blocking(|| std::thread::sleep(Duration::from_micros(50)));
                        let key = keys.get(m).tail()[index].get(m).unwrap();
                        let pair = &table.get(m).tail()[index];
                        let value = pair.value_of(m, key).expect("a pair of a held key").unwrap();
                        pair.set(m, None);
                        m.local(value)
                    })
                    .collect();
                m.collect();
                // What was freed is used again.
                (0..5000).for_each(|id| drop(m.reserve(AllocSize::of::<Item>()).map(|m| place(m, id + 1000).id)));
                held.iter().for_each(|value| assert_eq!(check(value.get(m)), round));
            }
        })
    });
    work.unwrap();
}

/// Each thread changes the pairs `thread`, `thread + 3`, ... and reads all.
/// Until a cycle has emptied a pair, however seldom the collector gets a processor.
fn race(heap: &Heap, m: &mut Mutator<'_>, table: &Root<Pairs>, thread: usize) {
    let mut random = Random::new(thread as u64);
    let rounds = 4000 * u64::from(factor());
    for round in (0..).take_while(|&round| round < rounds || heap.stats().ephemerons_cleared == 0) {
        let m = &mut *m.frame();
        let own = random.below(LEN_OF_ONE) * 3 + thread;
        let seen = table.get(m).tail()[random.below(LEN_OF_ONE * 3)].get(m);
        let (key, value) = (m.local(seen.map(|pair| pair.0)), m.local(seen.and_then(|pair| pair.1)));
        (0..random.below(3)).for_each(|_| m.safepoint());
        key.get(m).map(check);
        value.get(m).map(check);
        let room = m.reserve(AllocSize::of::<Item>().times(2)).unwrap();
        match random.below(4) {
            0 => table.get(room).tail()[own].set(room, None),
            // The key is held by nobody.
            1 => table.get(room).tail()[own].set(room, Some((place(room, round), Some(place(room, round + 1))))),
            // The key is held until the end of this round.
            2 => {
                let (key, value) = (place(room, round), place(room, round + 7));
                table.get(room).tail()[own].set(room, Some((key, Some(value))));
                let key = room.local(key);
                m.safepoint();
                let value = table.get(m).tail()[own].value_of(m, key.get(m)).expect("a pair of a held key");
                assert_eq!(value.map(check), Some(round + 7));
            }
            _ => {}
        }
    }
}

const LEN_OF_ONE: usize = 200 / 3;

pub(crate) const TESTS: Tests = Tests {
    every: tests![a_chain_lives_as_long_as_its_first_key, rings_do_not_hold_themselves, values_of_any_sort,],
    concurrent: tests![
        a_long_chain_takes_few_passes,
        pairs_that_may_not_wait_are_kept_or_emptied_all_the_same,
        pairs_race_with_the_end_of_marking,
        a_value_taken_out_of_its_pair_is_strong
    ],
    ..Tests::NONE
};
