//! A barrier that records every store and every end of a slot, for tests.

use super::Place;
use gc_core::word::{GoodWord, Word};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// What [`on_store`](super::access::on_store) is told of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Store {
    /// Address of the slot.
    pub(super) slot: usize,
    pub(super) at: Place,
    pub(super) old: u64,
    pub(super) new: u64,
}

thread_local! {
    /// The stores of this thread since [`begin`]; `None`: none are recorded.
    static STORES: RefCell<Option<Vec<Store>>> = const { RefCell::new(None) };
}

/// What [`on_end`](super::access::on_end) is told of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Address of the slot.
    pub(super) slot: usize,
    pub(super) at: Place,
    pub(super) last: u64,
}

thread_local! {
    /// As [`STORES`], for ends.
    static ENDS: RefCell<Option<Vec<End>>> = const { RefCell::new(None) };
}

pub(super) fn record_ends<'a, I: Iterator<Item = &'a AtomicU64>>(at: Place, slots: impl FnOnce() -> I) {
    ENDS.with_borrow_mut(|ends| {
        if let Some(ends) = ends {
            let end = |slot: &AtomicU64| End {
                slot: std::ptr::from_ref(slot).addr(),
                at,
                last: slot.load(Ordering::Relaxed),
            };
            ends.extend(slots().map(end));
        }
    });
}

/// The slots of this thread that end while `f` runs.
pub(super) fn ended_during<R>(f: impl FnOnce() -> R) -> (R, Vec<End>) {
    ENDS.set(Some(Vec::new()));
    let result = f();
    (result, ENDS.take().expect("recording began above"))
}

pub(super) fn record(slot: usize, at: Place, old: Word, new: GoodWord) {
    STORES.with_borrow_mut(|stores| {
        if let Some(stores) = stores {
            stores.push(Store { slot, at, old: old.bits(), new: new.bits() });
        }
    });
}

/// The stores of this thread while `f` runs.
pub(super) fn during<R>(f: impl FnOnce() -> R) -> (R, Vec<Store>) {
    STORES.set(Some(Vec::new()));
    let result = f();
    (result, STORES.take().expect("recording began above"))
}

mod tests {
    use super::*;
    use crate::{
        AllocSize, Ephemeron, FinalizerQueue, Gc, Heap, MIN_HEAP_BYTES, Mutator, Root, RootStack, Slot, SlotArray,
        Tagged, Trace, Value, Weak, WeakSlot,
    };

    #[derive(Trace)]
    struct Node {
        strong: Slot<Option<Node>>,
        tagged: Slot<Tagged>,
        weak: WeakSlot<Node>,
        pair: Ephemeron<Node, Option<Node>>,
    }

    /// A node that holds nothing.
    fn node<'g>(m: &'g Mutator<'_>) -> Gc<'g, Node> {
        m.place(NodeInit { strong: None, tagged: Value::NIL, weak: None, pair: None })
    }

    fn address<T>(slot: &T) -> usize {
        std::ptr::from_ref(slot).addr()
    }

    const NIL: u64 = Value::NIL.word().bits();

    /// Runs `f`, and compares what it stored with what is expected: of each slot the address, the
    /// place, the old word and the new one.
    #[track_caller]
    fn expect<R>(f: impl FnOnce() -> R, expected: &[(usize, Place, u64, u64)]) -> R {
        let (result, stores) = during(f);
        let expected: Vec<Store> = expected.iter().map(|&(slot, at, old, new)| Store { slot, at, old, new }).collect();
        assert_eq!(stores, expected);
        result
    }

    fn with_mutator(f: impl for<'s> FnOnce(&mut Mutator<'s>, &Heap)) {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        heap.enter(|m| f(m, &heap)).unwrap();
    }

    #[test]
    fn each_store_to_a_field_is_recorded_once() {
        with_mutator(|m, _| {
            let m = m.reserve(AllocSize::of::<Node>().times(3)).unwrap();
            let (holder, a, b) = (node(m), node(m), node(m));
            let (a_word, b_word) = (a.word().bits(), b.word().bits());
            let strong = address(&holder.strong);
            expect(|| holder.strong.set(m, Some(a)), &[(strong, Place::Field, 0, a_word)]);
            expect(|| holder.strong.swap(m, Some(b)), &[(strong, Place::Field, a_word, b_word)]);
            let exchange = |from, to| holder.strong.compare_exchange(m, from, to).is_ok();
            assert!(expect(|| exchange(Some(b), Some(a)), &[(strong, Place::Field, b_word, a_word)]));
            assert!(!expect(|| exchange(Some(b), None), &[]), "an exchange that fails stores nothing");
            let tagged = address(&holder.tagged);
            expect(|| holder.tagged.set(m, Value::TRUE), &[(tagged, Place::Field, NIL, Value::TRUE.word().bits())]);
            expect(|| holder.tagged.swap(m, a.into()), &[(tagged, Place::Field, Value::TRUE.word().bits(), a_word)]);
            let weak = address(&holder.weak);
            expect(|| holder.weak.set(m, Some(a)), &[(weak, Place::WeakField, 0, a_word)]);
            expect(|| holder.weak.set(m, None), &[(weak, Place::WeakField, a_word, 0)]);
            let (key, value) = (address(&holder.pair), address(&holder.pair) + 8);
            let set = |pair| holder.pair.set(m, pair);
            expect(
                || set(Some((a, Some(b)))),
                &[(key, Place::Key, 0, a_word), (value, Place::EphemeronValue, 0, b_word)],
            );
            expect(
                || set(Some((b, None))),
                &[(key, Place::Key, a_word, b_word), (value, Place::EphemeronValue, b_word, 0)],
            );
            expect(|| set(None), &[(key, Place::Key, b_word, 0)]);
            expect(|| (holder.strong.get(m), holder.weak.get(m), holder.pair.get(m)), &[]);
        });
    }

    #[test]
    fn each_first_word_of_an_object_is_recorded_once() {
        with_mutator(|m, _| {
            let arrays = AllocSize::tail::<SlotArray<Option<Node>>>(3).times(3);
            let m = m.reserve(AllocSize::of::<Node>().times(3) + arrays).unwrap();
            let target = node(m);
            let word = target.word().bits();
            let init = NodeInit {
                strong: Some(target),
                tagged: Value::TRUE,
                weak: Some(target),
                pair: Some((target, Some(target))),
            };
            let (placed, stores) = during(|| m.place(init));
            let of = |at: usize, place, new| Store { slot: at, at: place, old: 0, new };
            let expected = [
                of(address(&placed.strong), Place::Field, word),
                of(address(&placed.tagged), Place::Field, Value::TRUE.word().bits()),
                of(address(&placed.weak), Place::WeakField, word),
                of(address(&placed.pair), Place::Key, word),
                of(address(&placed.pair) + 8, Place::EphemeronValue, word),
            ];
            assert_eq!(stores, expected);

            type Nodes = SlotArray<Option<Node>>;
            let same = |(array, stores): (Gc<'_, Nodes>, Vec<Store>), words: [u64; 3]| {
                let slots = array.tail();
                let expected: Vec<Store> = (0..3).map(|i| of(address(&slots[i]), Place::Field, words[i])).collect();
                assert_eq!(stores, expected);
            };
            same(during(|| m.place_array::<Nodes>((), 3, Some(target))), [word; 3]);
            same(during(|| m.place_copy::<Nodes>((), &[None, Some(target), None])), [0, word, 0]);
            same(during(|| m.place_tail::<Nodes, _>((), [Some(target), None, Some(target)])), [word, 0, word]);
        });
    }

    /// Of one store of a root, stack slot or local, whose address nothing public tells: that its
    /// slot lies outside the heap is checked where it is recorded.
    #[track_caller]
    fn expect_one<R>(f: impl FnOnce() -> R, at: Place, old: u64, new: u64) -> (usize, R) {
        let (result, stores) = during(f);
        let [store] = stores[..] else { panic!("one store, and not {stores:x?}") };
        assert_eq!((store.at, store.old, store.new), (at, old, new));
        (store.slot, result)
    }

    #[test]
    fn each_store_to_a_root_or_local_is_recorded_once() {
        with_mutator(|m, heap| {
            let m = m.reserve(AllocSize::of::<Node>()).unwrap();
            let (target, queue) = (node(m), FinalizerQueue::<Node>::new(heap));
            let word = target.word().bits();
            let (slot, root) = expect_one(|| Root::<Option<Node>>::new(m, Some(target)), Place::Root, 0, word);
            assert_eq!(expect_one(|| root.set(m, None), Place::Root, word, 0).0, slot);
            expect_one(|| Weak::<Node>::new(m, target), Place::WeakRoot, 0, word);
            expect_one(|| m.pin(target), Place::Root, 0, word);
            expect_one(|| queue.register(m, target), Place::WeakRoot, 0, word);

            let (slot, local) = expect_one(|| m.local(Some(target)), Place::Local, 0, word);
            assert_eq!(expect_one(|| local.set(m, None), Place::Local, word, 0).0, slot);
            let (kept_at, kept) = expect_one(|| m.keep([target]), Place::Local, 0, word);
            assert_eq!(kept_at, slot + 8);
            expect(|| kept.take(m), &[]);
            expect(|| (root.get(m), local.get(m)), &[]);
        });
        with_mutator(|m, _| {
            let (mut frame, out) = expect_one(|| m.frame_for::<Option<Node>>(), Place::Local, 0, 0).1;
            let m = frame.reserve(AllocSize::of::<Node>()).unwrap();
            let target = node(m);
            expect_one(|| out.put(m, Some(target)), Place::Local, 0, target.word().bits());
        });
    }

    /// Runs `f`, and compares the slots that end in it with what is expected: their place, and
    /// their last words.
    #[track_caller]
    fn expect_ends<R>(f: impl FnOnce() -> R, at: Place, last: &[u64]) -> (R, Vec<usize>) {
        let (result, ends) = ended_during(f);
        assert!(ends.iter().all(|end| end.at == at), "{ends:x?}");
        assert_eq!(ends.iter().map(|end| end.last).collect::<Vec<_>>(), last);
        (result, ends.iter().map(|end| end.slot).collect())
    }

    #[test]
    fn each_end_of_a_root_local_or_stack_slot_is_recorded_once() {
        with_mutator(|m, heap| {
            let m = m.reserve(AllocSize::of::<Node>()).unwrap();
            let target = node(m);
            let word = target.word().bits();
            let (slot, root) = expect_one(|| Root::<Option<Node>>::new(m, Some(target)), Place::Root, 0, word);
            assert_eq!(expect_ends(|| drop(root), Place::Root, &[word]).1, [slot]);
            let weak = Weak::<Node>::new(m, target);
            expect_ends(|| drop(weak), Place::WeakRoot, &[word]);
            let pin = m.pin(target);
            expect_ends(|| drop(pin), Place::Root, &[word]);

            let (one, two) = (Value::int(1), Value::int(2));
            let stack = &mut RootStack::<Tagged>::new(heap).unwrap();
            [one, two, one, target.into()].into_iter().for_each(|value| stack.push(m, value));
            expect_ends(|| stack.pop(m), Place::Stack, &[word]);
            expect_ends(|| stack.truncate(m, 1), Place::Stack, &[two.word().bits(), one.word().bits()]);
            let mut bound = stack.bind(m);
            expect_ends(|| bound.pop(), Place::Stack, &[one.word().bits()]);
        });
        with_mutator(|m, _| {
            let words = |m: &mut Mutator<'_>| {
                let mut frame = m.frame();
                let m = frame.reserve(AllocSize::of::<Node>()).unwrap();
                let target = node(m);
                let (_first, _second) = (m.local(Some(target)), m.local(None::<Gc<'_, Node>>));
                target.word().bits()
            };
            let (word, ends) = ended_during(|| words(m));
            assert_eq!(
                ends.iter().map(|end| (end.at, end.last)).collect::<Vec<_>>(),
                [(Place::Local, word), (Place::Local, 0)]
            );
        });
    }

    #[test]
    fn the_holder_of_a_slot_is_found_by_its_block() {
        type Nodes = SlotArray<Option<Node>>;
        const LEN: usize = 40_000;
        with_mutator(|m, heap| {
            let m = m.reserve(AllocSize::of::<Node>() + AllocSize::tail::<Nodes>(LEN)).unwrap();
            let (small, large) = (node(m), m.place_array::<Nodes>((), LEN, None));
            let space = &heap.inner().memory.space;
            let blocks = [small.word().bits(), large.word().bits()].map(|word| space.offset(word).block());
            let block = |slot: &Slot<Option<Node>>, at: Place| at.holder_block(slot.raw(), m);
            assert_eq!(block(&small.strong, Place::Field), Some(blocks[0]));
            for index in [0, LEN / 2, LEN - 1] {
                assert_eq!(block(&large.tail()[index], Place::Field), Some(blocks[1]), "of slot {index}");
            }
            assert_eq!(block(&small.strong, Place::Root), None, "a root has no holder");
        });
    }

    #[test]
    fn each_store_to_a_stack_is_recorded_once() {
        with_mutator(|m, heap| {
            let m = m.reserve(AllocSize::of::<Node>()).unwrap();
            let target = Value::from(node(m));
            let mut stack = RootStack::<Tagged>::new(heap).unwrap();
            let (one, two, word) = (Value::int(1), Value::int(2), target.word().bits());
            let (first, ()) = expect_one(|| stack.push(m, target), Place::Stack, 0, word);
            let push = expect_one(|| stack.push(m, one), Place::Stack, 0, one.word().bits());
            assert_eq!(push.0, first + 8);
            let at = |index: usize, old: Value<'_>, new: Value<'_>| {
                [(first + 8 * index, Place::Stack, if index < 2 { old.word().bits() } else { 0 }, new.word().bits())]
            };
            expect(|| stack.set(m, 0, two), &at(0, target, two));
            expect(|| stack.poke(m, 0, target), &at(1, one, target));
            expect(|| stack.slots(m)[0].set(m, one), &at(0, two, one));
            expect(|| stack.last::<1>(m)[0].set_num(m, 1.5), &at(1, target, Value::num(1.5)));
            expect(|| stack.resize(m, 4, two), &[at(2, two, two), at(3, two, two)].concat());
            expect(|| (stack.pop(m), stack.truncate(m, 2)), &[]);
            let mut bound = stack.bind(m);
            expect(|| bound.push(one), &at(2, one, one));
            expect(|| bound.set(0, target), &at(0, one, target));
            expect(|| bound.poke(1, two), &at(1, Value::num(1.5), two));
            expect(|| bound.resize(4, one), &at(3, one, one));
            expect(|| (bound.pop(), bound.truncate(2)), &[]);
            expect(|| _ = bound.window(2, 1, two), &at(2, two, two));
            let mut full = RootStack::<Tagged>::with_capacity(heap, 1 << 14).unwrap();
            while full.room() > 0 {
                expect_one(|| full.push(m, one), Place::Stack, 0, one.word().bits());
            }
            full.truncate(m, 0);
            let mut bound = full.bind(m);
            while bound.room() > 0 {
                expect_one(|| bound.push(two), Place::Stack, 0, two.word().bits());
            }
        });
    }
}
