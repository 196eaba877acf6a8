//! Young cycles: what they find, what they free, and what they leave to the next.

use super::tests::{Node, at_once, granule, is_old, node, old_and_young, remembered, root, with_mutator};
use crate::events::CycleKind;
use crate::slot::SlotType;
use crate::space::Granule;
use crate::{
    AllocSize, Event, FinalizerQueue, Gc, Heap, MIN_HEAP_BYTES, Mutator, Phase, PhaseSpan, Root, RootStack, Stress,
    Tagged, Weak,
};
use gc_core::remembered::Sort;
use gc_core::word::Word;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};

/// Asks for a young cycle; calls `meanwhile` between two looks, until it has ended.
fn young_while(heap: &Heap, mut meanwhile: impl FnMut()) {
    let requests = &heap.inner().schedule.requests;
    let before = heap.stats();
    requests.set_next(CycleKind::Young);
    requests.request_next();
    while heap.stats().young_cycles == before.young_cycles {
        meanwhile();
        heap.inner().check_collector();
    }
    assert_eq!(heap.stats().cycles, before.cycles + 1, "another cycle has run");
}

pub(super) fn young(m: &mut Mutator<'_>, heap: &Heap) {
    young_while(heap, || m.safepoint());
}

fn address(object: Gc<'_, Node>) -> u64 {
    <Node as SlotType>::to_word(object).bits()
}

/// Dead young objects go, and dead old ones stay until a whole cycle; what survives is old, and
/// equal to itself however it is reached.
#[test]
fn a_young_cycle_collects_young_objects_alone() {
    with_mutator(|m, heap| {
        let (kept, weak_old, used) = {
            let mut frame = m.frame();
            let m = &mut *frame;
            let old = root(m);
            m.collect();
            let weak_old = Weak::new(m, old.get(m));
            (Root::<Node>::new(m, old.get(m)), weak_old, heap.stats().used_bytes)
        };
        let kept_young = {
            let mut frame = m.frame();
            let m = &mut *frame;
            let survivor = root(m);
            let dead: Vec<_> = (0..8000)
                .map(|_| {
                    let m = &mut *m.frame();
                    let dead = root(m);
                    Weak::new(m, dead.get(m))
                })
                .collect();
            assert!(heap.stats().used_bytes >= used + (1 << 18));
            let kept_young = Root::<Node>::new(m, survivor.get(m));
            kept.get(m).weak.set(m, Some(survivor.get(m)));
            drop(kept);
            let before = address(survivor.get(m));
            young(m, heap);
            assert!(dead.iter().all(|dead| dead.get(m).is_none()), "young garbage is still there");
            let survivor = survivor.get(m);
            assert!(is_old(heap, survivor) && survivor.ptr_eq(kept_young.get(m)));
            assert_ne!(address(survivor), before, "another view");
            let old = weak_old.get(m).expect("a young cycle does not look at old objects");
            assert!(old.weak.get(m).unwrap().ptr_eq(survivor));
            kept_young
        };
        young(m, heap);
        assert!(heap.stats().used_bytes <= used + (1 << 18), "{:?}", heap.stats());
        assert!(weak_old.get(m).is_some());
        m.collect();
        assert!(weak_old.get(m).is_none(), "a whole cycle finds it");
        assert!(is_old(heap, kept_young.get(m)));
    });
}

/// The slots of old objects are roots of a young cycle, each as its sort says; afterwards they are
/// healed.
#[test]
fn remembered_slots_are_roots_of_a_young_cycle() {
    with_mutator(|m, heap| {
        let holder = root(m);
        m.collect();
        let deaths = FinalizerQueue::<Node>::new(heap);
        let dead = {
            let mut frame = m.frame();
            let m = &mut *frame;
            let (strong, tagged, key, value, weak, dead_key) = (root(m), root(m), root(m), root(m), root(m), root(m));
            // Each is found by the one before, and none by a local.
            let holder = holder.get(m);
            holder.strong.set(m, Some(strong.get(m)));
            strong.get(m).strong.set(m, Some(key.get(m)));
            holder.tagged.set(m, tagged.get(m).into());
            holder.pair.set(m, Some((key.get(m), Some(value.get(m)))));
            holder.weak.set(m, Some(weak.get(m)));
            tagged.get(m).pair.set(m, Some((dead_key.get(m), Some(value.get(m)))));
            deaths.register(m, weak.get(m));
            Weak::new(m, weak.get(m))
        };
        young(m, heap);
        assert!(dead.get(m).is_none() && holder.get(m).weak.get(m).is_none(), "kept by a weak slot");
        assert!(deaths.take().is_some(), "a young object has died");
        let good = |slot: Granule| {
            let word = heap.inner().memory.word(slot.offset()).load(Relaxed);
            assert!(
                word == 0 || heap.inner().memory.space.is_old(word) && heap.inner().is_good(Word::new(word)),
                "{word:#x}"
            );
        };
        for _ in 0..2 {
            let holder = holder.get(m);
            [granule(heap, &holder.strong), granule(heap, &holder.tagged)].into_iter().for_each(good);
            [granule(heap, &holder.pair), granule(heap, &holder.pair) + 1].into_iter().for_each(good);
            assert_eq!(remembered(heap), []);
            let (key, value) = holder.pair.get(m).expect("the key is reachable");
            assert!(is_old(heap, key) && is_old(heap, value.unwrap()));
            assert!(holder.strong.get(m).unwrap().strong.get(m).unwrap().ptr_eq(key));
            let tagged = <Tagged as SlotType>::to_word(holder.tagged.get(m)).bits();
            assert!(heap.inner().memory.space.is_old(tagged));
            young(m, heap);
        }
        holder.get(m).pair.set(m, None);
    });
}

/// A pair in an old object: its young key dies, or its old key lives on with a young value.
#[test]
fn a_young_cycle_takes_old_keys_for_live_and_empties_pairs_of_dead_ones() {
    with_mutator(|m, heap| {
        old_and_young(heap, m, |m, old, young| {
            old.pair.set(m, Some((young, None)));
            young.pair.set(m, Some((old, Some(young))));
        });
        let old = root(m);
        m.collect();
        {
            let mut frame = m.frame();
            let m = &mut *frame;
            let (key, value) = (root(m), root(m));
            old.get(m).pair.set(m, Some((key.get(m), Some(value.get(m)))));
        }
        young(m, heap);
        assert!(old.get(m).pair.get(m).is_none(), "the key is dead");
        {
            let mut frame = m.frame();
            let m = &mut *frame;
            let value = root(m);
            old.get(m).pair.set(m, Some((old.get(m), Some(value.get(m)))));
        }
        young(m, heap);
        let (key, value) = old.get(m).pair.get(m).expect("an old key is live");
        assert!(key.ptr_eq(old.get(m)) && is_old(heap, value.unwrap()));
        old.get(m).pair.set(m, None);
    });
}

/// Old objects that a whole cycle has moved: their stale words are looked up after young cycles
/// too, by threads and by the next whole marking.
#[test]
fn the_forwarding_of_old_objects_outlives_young_cycles() {
    // Moves what can be moved in every whole cycle.
    let stress = Stress { cycle_every: u32::MAX, ..Stress::default() };
    let heap =
        Heap::builder().max_bytes(MIN_HEAP_BYTES).generations(true).stress(stress).verify(true).single_view(true);
    let heap = heap.build().unwrap();
    heap.enter(|m| {
        let (first, second) = (root(m), root(m));
        first.get(m).strong.set(m, Some(second.get(m)));
        m.collect();
        m.collect();
        let before = address(first.get(m));
        m.collect();
        for _ in 0..3 {
            young(m, &heap);
            // What is written here now is not what was here before.
            for _ in 0..2000 {
                let m = &mut *m.frame();
                root(m);
            }
        }
        let found = first.get(m);
        assert!(is_old(&heap, found));
        assert_ne!(address(found) & 0xfff_ffff, before & 0xfff_ffff, "it has moved");
        assert!(found.strong.get(m).unwrap().ptr_eq(second.get(m)));
    })
    .unwrap();
}

/// A whole cycle that relocates nothing frees a young object that only a dead old one leads to. The
/// slot of the dead one, in a block that stays, is not a root of the next young cycle.
#[test]
fn a_whole_cycle_forgets_the_slots_of_dead_old_objects() {
    with_mutator(|m, heap| {
        let kept = root(m);
        let slot = {
            let mut frame = m.frame();
            let m = &mut *frame;
            let dead = root(m);
            m.collect();
            let young = root(m);
            dead.get(m).strong.set(m, Some(young.get(m)));
            assert_eq!(granule(heap, &dead.get(m).strong).block(), granule(heap, &kept.get(m).strong).block());
            granule(heap, &dead.get(m).strong)
        };
        let before = heap.stats();
        m.collect();
        assert_eq!(heap.stats().relocations, before.relocations, "nothing was to be promoted");
        assert!(is_old(heap, kept.get(m)));
        let set = &heap.inner().memory.generations.as_ref().unwrap().remembered;
        assert!(!set.contains_in_any(slot, Sort::Strong), "a slot of a dead object is remembered");
        // Where the young one was, there is something else.
        for _ in 0..2000 {
            let m = &mut *m.frame();
            root(m);
        }
        young(m, heap);
    });
}

/// Runs a young cycle, and `f` in the middle of it: after the marking, before the flip.
fn in_a_young_cycle(f: impl for<'s> Fn(&mut Mutator<'s>, &Heap, &mut dyn FnMut(&mut Mutator<'s>))) {
    let ((say, said), (go, wait)) = (channel(), channel());
    let wait = Mutex::new(wait);
    let listener = move |event: &Event| {
        if let Event::Phase(PhaseSpan { phase: Phase::Reclaim, cycle: 2, .. }) = event {
            say.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
    };
    let heap = at_once(Heap::builder().max_bytes(MIN_HEAP_BYTES).on_event(listener));
    heap.enter(|m| {
        let mut step = 0;
        let mut next = |m: &mut Mutator<'_>| {
            match step {
                0 => {
                    heap.inner().schedule.requests.set_next(CycleKind::Young);
                    heap.inner().schedule.requests.request_next();
                    while said.try_recv().is_err() {
                        m.safepoint();
                    }
                }
                _ => {
                    go.send(()).unwrap();
                    while heap.stats().young_cycles == 0 {
                        m.safepoint();
                        heap.inner().check_collector();
                    }
                }
            }
            step += 1;
        };
        f(m, &heap, &mut next);
    })
    .unwrap();
}

/// What is born in a young cycle stays young, and is found by the next one: in a slot of an object
/// that was young when it was stored there, and has been promoted since; and in one of an object
/// that was old before.
#[test]
fn slots_that_lead_to_what_a_young_cycle_leaves_young_are_remembered() {
    in_a_young_cycle(|m, heap, next| {
        let old = root(m);
        m.collect();
        let promoted = root(m);
        next(m);
        {
            let mut frame = m.frame();
            let m = &mut *frame;
            let (first, second) = (root(m), root(m));
            promoted.get(m).strong.set(m, Some(first.get(m)));
            old.get(m).strong.set(m, Some(second.get(m)));
        }
        next(m);
        let slots = [granule(heap, &old.get(m).strong), granule(heap, &promoted.get(m).strong)];
        assert!(is_old(heap, promoted.get(m)));
        let set = &heap.inner().memory.generations.as_ref().unwrap().remembered;
        assert!(slots.iter().all(|&slot| set.contains(slot, Sort::Strong)));
        young(m, heap);
        for holder in [old, promoted] {
            assert!(is_old(heap, holder.get(m).strong.get(m).expect("it was stored")));
        }
    });
}

/// A whole cycle whose plans are all refused flips nothing: what lives in young blocks stays young,
/// and the slots that lead there stay remembered.
#[test]
fn without_a_flip_what_was_remembered_stays_so() {
    let this = Arc::new(OnceLock::<Heap>::new());
    let heap = Arc::clone(&this);
    let listener = move |event: &Event| {
        if let Event::Phase(PhaseSpan { phase: Phase::Plan, cycle: 2, .. }) = event {
            heap.get().unwrap().inner().world.plan_aborted.store(true, SeqCst);
        }
    };
    let heap = this.get_or_init(|| at_once(Heap::builder().max_bytes(MIN_HEAP_BYTES).on_event(listener)));
    heap.enter(|m| {
        let holder = root(m);
        m.collect();
        {
            let mut frame = m.frame();
            let m = &mut *frame;
            let young = root(m);
            holder.get(m).strong.set(m, Some(young.get(m)));
        }
        m.collect();
        assert_eq!((heap.stats().plans_abandoned, heap.stats().relocations), (3, 1));
        assert!(!is_old(heap, holder.get(m).strong.get(m).unwrap()));
        young(m, heap);
        assert!(is_old(heap, holder.get(m).strong.get(m).expect("it was remembered")));
    })
    .unwrap();
}

/// All that holds references outside of objects leads to what was promoted, and a pinned object is
/// promoted where it stands.
#[test]
fn roots_lead_to_what_was_promoted() {
    with_mutator(|m, heap| {
        let object = root(m);
        let (strong, weak) = (Root::<Node>::new(m, object.get(m)), Weak::new(m, object.get(m)));
        let stack = RootStack::<Tagged>::new(heap).unwrap();
        stack.push(m, object.get(m).into());
        let pinned = m.pin(object.get(m));
        let place = heap.inner().memory.space.offset(address(object.get(m)));
        young(m, heap);
        assert_eq!(heap.inner().memory.space.offset(address(object.get(m))), place);
        assert!(is_old(heap, object.get(m)) && object.get(m).ptr_eq(strong.get(m)));
        assert!(weak.get(m).unwrap().ptr_eq(object.get(m)) && pinned.get(m).ptr_eq(object.get(m)));
        let top = stack.get(m, 0);
        assert_eq!(<Tagged as SlotType>::to_word(top).bits(), address(object.get(m)));
    });
}

/// More pairs in old objects than a marking has room for.
#[test]
fn remembered_pairs_for_which_there_is_no_room_are_passed_over() {
    // In stress mode markings have room for none, in turns.
    let stress = Stress { cycle_every: u32::MAX, ..Stress::default() };
    let heap = Heap::builder().max_bytes(16 << 20).generations(true).stress(stress).verify(true).build().unwrap();
    heap.enter(|m| {
        const LEN: usize = 2000;
        type Nodes = crate::SlotArray<Option<Node>>;
        let holders = m.build::<Nodes>(AllocSize::tail::<Nodes>(LEN), |m| m.place_array((), LEN, None)).unwrap();
        for index in 0..LEN {
            let m = m.reserve(AllocSize::of::<Node>()).unwrap();
            holders.get(m).tail()[index].set(m, Some(node(m)));
        }
        m.collect();
        for _ in 0..3 {
            {
                // A chain: the value of each pair is the key of the next.
                let mut frame = m.frame();
                let m = &mut *frame;
                let key = root(m);
                holders.get(m).tail()[0].get(m).unwrap().strong.set(m, Some(key.get(m)));
                for index in (0..LEN).rev() {
                    let m = &mut *m.frame();
                    let value = root(m);
                    let holder = holders.get(m).tail()[index].get(m).unwrap();
                    holder.pair.set(m, Some((key.get(m), Some(value.get(m)))));
                    key.set(m, value.get(m));
                }
            }
            young(m, &heap);
            for index in 0..LEN {
                let holder = holders.get(m).tail()[index].get(m).unwrap();
                let (key, value) = holder.pair.get(m).expect("a chain that begins at a live key");
                assert!(is_old(&heap, key) && is_old(&heap, value.unwrap()));
            }
        }
        assert!(heap.stats().ephemeron_passes > 0);
    })
    .unwrap();
}
