//! The store barrier, promotion and young cycles, slot by slot.

use crate::inner::generation::GoodWords;
use crate::slot::SlotType;
use crate::space::blocks::BlockState;
use crate::space::{BLOCK_GRANULES, Block, Granule};
use crate::{
    AllocSize, Ephemeron, Event, Gc, GrowableArray, Heap, HeapBuilder, Local, MIN_HEAP_BYTES, Mutator, Phase,
    PhaseSpan, Root, RootStack, Slot, SlotArray, Tagged, Trace, Value, WeakSlot,
};
use gc_core::remembered::Sort;
use gc_core::word::Word;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::channel;

#[derive(Trace)]
pub(super) struct Node {
    pub(super) strong: Slot<Option<Node>>,
    pub(super) tagged: Slot<Tagged>,
    pub(super) weak: WeakSlot<Node>,
    pub(super) pair: Ephemeron<Node, Option<Node>>,
}

pub(super) fn node<'g>(m: &'g Mutator<'_>) -> Gc<'g, Node> {
    m.place(NodeInit { strong: None, tagged: Value::NIL, weak: None, pair: None })
}

pub(super) fn root<'s>(m: &mut Mutator<'s>) -> Local<'s, Node> {
    m.build::<Node>(AllocSize::of::<Node>(), |m| node(m)).unwrap()
}

/// A heap of which each cycle promotes what it has marked, whether that pays or not.
pub(super) fn at_once(heap: HeapBuilder) -> Heap {
    let heap = heap.generations(true).verify(true).build().unwrap();
    heap.inner().memory.generations.as_ref().unwrap().promote_at_once();
    heap
}

pub(super) fn with_mutator(f: impl for<'s> FnOnce(&mut Mutator<'s>, &Heap)) {
    let heap = at_once(Heap::builder().max_bytes(MIN_HEAP_BYTES));
    heap.enter(|m| f(m, &heap)).unwrap();
}

pub(super) fn granule<T>(heap: &Heap, slot: &T) -> Granule {
    heap.inner().memory.space.offset(std::ptr::from_ref(slot).addr() as u64).granule()
}

pub(super) fn is_old(heap: &Heap, object: Gc<'_, Node>) -> bool {
    let memory = &heap.inner().memory;
    let (word, space) = (<Node as SlotType>::to_word(object).bits(), &memory.space);
    assert_eq!(space.is_old(word), memory.blocks.is_old(space.offset(word).block()), "G1");
    space.is_old(word)
}

/// What is remembered now, which is empty afterwards.
pub(super) fn remembered(heap: &Heap) -> Vec<(Granule, Sort)> {
    let set = &heap.inner().memory.generations.as_ref().unwrap().remembered;
    set.exchange();
    let mut taken = Vec::new();
    set.take_then(|slot, sort| taken.push((slot, sort)));
    taken
}

/// Two objects, of which the first is old.
pub(super) fn old_and_young(
    heap: &Heap,
    m: &mut Mutator<'_>,
    f: impl FnOnce(&Mutator<'_>, Gc<'_, Node>, Gc<'_, Node>),
) {
    let mut frame = m.frame();
    let m = &mut *frame;
    let old = root(m);
    assert!(!is_old(heap, old.get(m)), "all that is born is young");
    m.collect();
    let young = root(m);
    let (old, young) = (old.get(m), young.get(m));
    assert!(is_old(heap, old) && !is_old(heap, young));
    f(m, old, young);
}

#[test]
fn each_store_of_a_young_reference_into_an_old_object_is_remembered_once() {
    with_mutator(|m, heap| {
        old_and_young(heap, m, |m, old, young| {
            let at = |slot: Granule, sort| vec![(slot, sort)];
            let (strong, tagged) = (granule(heap, &old.strong), granule(heap, &old.tagged));
            let (weak, pair) = (granule(heap, &old.weak), granule(heap, &old.pair));
            assert_eq!(remembered(heap), []);
            old.strong.set(m, Some(young));
            old.strong.set(m, Some(young));
            assert_eq!(remembered(heap), at(strong, Sort::Strong));
            old.strong.swap(m, Some(young));
            assert_eq!(remembered(heap), at(strong, Sort::Strong));
            assert!(old.strong.compare_exchange(m, Some(young), Some(young)).is_ok());
            assert_eq!(remembered(heap), at(strong, Sort::Strong));
            assert!(old.strong.compare_exchange(m, None, Some(young)).is_err());
            assert_eq!(remembered(heap), [], "an exchange that fails stores nothing");
            old.tagged.set(m, young.into());
            assert_eq!(remembered(heap), at(tagged, Sort::Strong));
            old.weak.set(m, Some(young));
            assert_eq!(remembered(heap), at(weak, Sort::Weak));
            for halves in [(young, None), (old, Some(young)), (young, Some(young))] {
                old.pair.set(m, Some(halves));
                assert_eq!(remembered(heap), at(pair, Sort::Pair));
            }
            old.pair.set(m, Some((old, Some(old))));
            old.strong.set(m, Some(old));
            old.weak.set(m, None);
            old.tagged.set(m, old.into());
            young.strong.set(m, Some(young));
            young.strong.set(m, Some(old));
            young.pair.set(m, Some((young, Some(old))));
            assert_eq!(remembered(heap), [], "nothing of these leads from an old object to a young one");
            // Any bits, among them those of a young reference below those of a number.
            let word = <Node as SlotType>::to_word(young).bits();
            (0..16).for_each(|high| old.tagged.set(m, Value::num(f64::from_bits(word | high << 48))));
            assert_eq!(remembered(heap), [], "a number is no reference");
            old.pair.set(m, None);
            old.tagged.set(m, Value::NIL);
        });
    });
}

#[test]
fn slots_outside_of_objects_are_not_remembered() {
    with_mutator(|m, heap| {
        old_and_young(heap, m, |m, _, young| {
            let root = Root::<Option<Node>>::new(m, Some(young));
            root.set(m, Some(young));
            let stack = RootStack::<Tagged>::new(heap).unwrap();
            stack.push(m, young.into());
            stack.set(m, 0, young.into());
            let local = m.local(Some(young));
            local.set(m, Some(young));
            assert_eq!(remembered(heap), []);
        });
    });
}

/// All words that lead to what is promoted are healed, in every sort of slot; and what is
/// promoted is remembered no more.
#[test]
fn what_survives_is_old_and_its_slots_are_healed() {
    with_mutator(|m, heap| {
        let holder = root(m);
        m.collect();
        let target = root(m);
        {
            let (holder, target) = (holder.get(m), target.get(m));
            holder.strong.set(m, Some(target));
            holder.weak.set(m, Some(target));
            holder.tagged.set(m, target.into());
            holder.pair.set(m, Some((target, Some(target))));
        }
        m.collect();
        let (holder, target) = (holder.get(m), target.get(m));
        assert!(is_old(heap, holder) && is_old(heap, target));
        let good = <Node as SlotType>::to_word(target).bits();
        let first = granule(heap, &holder.strong);
        let words =
            [&granule(heap, &holder.tagged), &granule(heap, &holder.weak), &granule(heap, &holder.pair), &first];
        for &slot in words {
            assert_eq!(heap.inner().memory.word(slot.offset()).load(Relaxed), good);
        }
        assert_eq!(remembered(heap), []);
        let (key, value) = holder.pair.get(m).unwrap();
        assert!(key.ptr_eq(target) && value.unwrap().ptr_eq(target));
    });
}

/// A young object that is born while a cycle runs is not promoted by it: the slot of an old
/// object that leads there is healed after the flip, and remembered.
#[test]
fn what_stays_young_stays_remembered() {
    let (say, said) = channel();
    let (waited, wait) = channel();
    let wait = Mutex::new(wait);
    let listener = move |event: &Event| {
        if let Event::Phase(PhaseSpan { phase: Phase::Reclaim, cycle: 2, .. }) = event {
            say.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
    };
    let heap = at_once(Heap::builder().max_bytes(MIN_HEAP_BYTES).on_event(listener));
    heap.enter(|m| {
        let holder = root(m);
        m.collect();
        // Promoted by the cycle, which has to flip for it.
        let survivor = root(m);
        std::thread::scope(|scope| {
            let cycle = scope.spawn(|| heap.collect());
            while said.try_recv().is_err() {
                m.safepoint();
            }
            let young = root(m);
            holder.get(m).strong.set(m, Some(young.get(m)));
            waited.send(()).unwrap();
            while !cycle.is_finished() {
                m.safepoint();
            }
            cycle.join().unwrap();
            assert!(is_old(&heap, survivor.get(m)));
            let (holder, young) = (holder.get(m), young.get(m));
            assert!(is_old(&heap, holder) && !is_old(&heap, young));
            let slot = granule(&heap, &holder.strong);
            assert_eq!(
                heap.inner().memory.word(slot.offset()).load(Relaxed),
                <Node as SlotType>::to_word(young).bits()
            );
            assert_eq!(remembered(&heap), [(slot, Sort::Strong)]);
            holder.strong.set(m, None);
        });
    })
    .unwrap();
}

/// A block that was old, has been evacuated and is young now may have the forwarding of both.
#[test]
fn a_stale_word_is_looked_up_in_the_forwarding_of_its_generation() {
    let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).generations(true).build().unwrap();
    let memory = &heap.inner().memory;
    let (block, generations) = (Block::new(3), memory.generations.as_ref().unwrap());
    let offset = block.start() + 64;
    let places = [(&memory.forwarding, 5), (&generations.old_forwarding, 6)].map(|(table, place)| {
        let mut bits = [0; crate::space::BLOCK_MARK_WORDS];
        bits[0] = 1 << 8;
        table.insert(block, Box::new(gc_core::forwarding::Forwarding::new(bits).unwrap()));
        let place = Block::new(place).start();
        table.entry(offset).unwrap().publish(place.granule()).unwrap();
        place
    });
    let stale = GoodWords::new(heap.inner(), heap.inner().next_good());
    let words = [stale.view, stale.old_view];
    assert_eq!(words.map(|view| heap.inner().remap(Word::new(offset.in_view(view)))), places);
    heap.inner().drop_forwarding([block]);
}

/// Nothing else forgets them: a block that is free may be a TLAB at once.
#[test]
fn slots_of_a_block_are_forgotten_when_its_use_ends() {
    with_mutator(|_, heap| {
        let memory = &heap.inner().memory;
        let set = &memory.generations.as_ref().unwrap().remembered;
        let block = heap.inner().take_block().unwrap();
        memory.blocks.set_use(block, BlockState::Closed, true);
        let slots = [0, 64, BLOCK_GRANULES - 1].map(|granule| block.granules().start + granule);
        slots.iter().for_each(|&slot| set.add(slot, Sort::Weak));
        // Those of both parts.
        set.exchange();
        slots.iter().for_each(|&slot| set.add(slot, Sort::Strong));
        memory.end_use(block);
        for sort in [Sort::Strong, Sort::Weak] {
            assert!(slots.iter().all(|&slot| !set.contains_in_any(slot, sort)));
        }
        memory.free.free_blocks([block]);
    });
}

/// Stores a young object to slots of old ones, and asserts that each is remembered.
fn stored_and_remembered<const N: usize>(
    heap: &Heap,
    m: &Mutator<'_>,
    slots: [&Slot<Option<Node>>; N],
    young: Gc<'_, Node>,
) -> [Granule; N] {
    slots.iter().for_each(|slot| slot.set(m, Some(young)));
    let memory = &heap.inner().memory;
    let set = &memory.generations.as_ref().unwrap().remembered;
    let granules = slots.map(|slot| granule(heap, slot));
    assert!(granules.iter().all(|&slot| memory.blocks.is_old(slot.block())));
    assert!(granules.iter().all(|&slot| set.contains(slot, Sort::Strong)));
    granules
}

/// A large object is promoted with all of its blocks, and the slots of each are remembered.
#[test]
fn a_large_object_is_promoted_as_a_whole_and_forgotten_when_it_dies() {
    type Nodes = SlotArray<Option<Node>>;
    const LEN: usize = 3 * BLOCK_GRANULES;
    with_mutator(|m, heap| {
        let blocks = &heap.inner().memory.blocks;
        let before = {
            let mut frame = m.frame();
            let m = &mut *frame;
            let array = m.build::<Nodes>(AllocSize::tail::<Nodes>(LEN), |m| m.place_array((), LEN, None)).unwrap();
            m.collect();
            let young = root(m);
            let (array, young) = (array.get(m), young.get(m));
            stored_and_remembered(heap, m, [0, LEN / 2, LEN - 1].map(|index| &array.tail()[index]), young)
        };
        // Dead: freed, or nothing of it is remembered where another object may be.
        m.collect();
        m.collect();
        assert!(before.iter().all(|&slot| !blocks.is_old(slot.block())), "it is still there");
        assert_eq!(remembered(heap), []);
    });
}

/// What an array grows by is as old as the array: what is stored there is remembered, and forgotten
/// when it dies.
#[test]
fn an_old_array_grows_by_old_blocks() {
    type Nodes = GrowableArray<Slot<Option<Node>>>;
    const LEN: usize = 2 * BLOCK_GRANULES;
    let heap = at_once(Heap::builder().max_bytes(MIN_HEAP_BYTES).address_factor(4));
    heap.enter(|m| {
        let blocks = &heap.inner().memory.blocks;
        let before = {
            let mut frame = m.frame();
            let m = &mut *frame;
            let array = m.build::<Nodes>(AllocSize::tail::<Nodes>(LEN), |m| m.place_array((), LEN, None)).unwrap();
            assert!(m.grow_in_place(array, 2 * LEN).unwrap(), "while it is young");
            m.collect();
            assert!(m.grow_in_place(array, 3 * LEN).unwrap(), "when it is old");
            let young = root(m);
            let (array, young) = (array.get(m), young.get(m));
            stored_and_remembered(&heap, m, [0, LEN + LEN / 2, 3 * LEN - 1].map(|index| &array.tail()[index]), young)
        };
        m.collect();
        m.collect();
        assert!(before.iter().all(|&slot| !blocks.is_old(slot.block())), "it is still there");
        assert_eq!(remembered(&heap), []);
    })
    .unwrap();
}
