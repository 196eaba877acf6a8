//! Promotion: what survives a relocation becomes old, in heaps with generations.
//!
//! What is copied is old in its new block. A block of young objects that stays, and of which the
//! marking has found something alive, is promoted where it stands: the plan notes it beside the
//! forwarding of the young, and the flip puts that in force together with the colors (G8, G9).
//!
//! After the flip every word of a young object is stale. So when all objects have their places, the
//! collector visits the slots of all old objects that live (G10): a stale young word is healed, and
//! a slot that leads to what stays young is remembered. The set from before the flip names places
//! from before it, and is thrown away: this walk finds all that it could have told.

use crate::barrier::collector as slots;
use crate::inner::HeapInner;
use crate::object::Kind;
use crate::object::slots::SlotRole;
use crate::slot::is_reference;
use crate::space::blocks::BlockState;
use crate::space::memory::Generations;
use crate::space::{BLOCK_GRANULES, BLOCK_MARK_WORDS};
use gc_core::remembered::Sort;
use gc_core::units::Granule;
use std::sync::atomic::Ordering;

/// Notes the blocks that the next flip promotes where they stand: those of young objects that this
/// cycle has marked, and that are not in the evacuation set. `false`: there are none.
pub(super) fn plan(inner: &HeapInner) -> bool {
    let Some(generations) = &inner.memory.generations else { return false };
    let blocks = &inner.memory.blocks;
    let mut any = false;
    for block in 0..blocks.len() {
        // The use first, as in `reclaim::free_dead`.
        let stays = matches!(blocks.state(block), BlockState::Closed | BlockState::LargeFirst)
            && !blocks.is_old(block)
            && inner.collects(block)
            && blocks.live_bytes(block) != 0
            && !inner.memory.forwarding.contains(block);
        if stays {
            generations.set_promoted(block, true);
            any = true;
        }
    }
    any
}

/// Carries the promotions out, after the flip, when all objects of the evacuation set have their
/// places, and before the next mark start.
pub(super) fn carry_out(inner: &HeapInner, set: &[usize]) {
    let Some(generations) = &inner.memory.generations else { return };
    let blocks = &inner.memory.blocks;
    for block in generations.promoted().filter(|&block| !is_forwarded(inner, generations, block)) {
        let state = blocks.state(block);
        let run = if state == BlockState::LargeFirst { blocks.run(block) } else { 1 };
        blocks.set_use(block, state, true);
        (block + 1..block + run).for_each(|part| blocks.set_use(part, BlockState::LargeContinued, true));
    }
    generations.remembered.take_then(|_, _| ());
    let walk = Walk { inner, generations };
    for block in 0..blocks.len() {
        if blocks.is_old(block) && inner.is_marked_block(block) && !is_forwarded(inner, generations, block) {
            walk.marked(block);
        }
    }
    set.iter().for_each(|&block| walk.evacuated(block));
}

/// Whether a block is in the set of the relocation that has just been: another may be in its place.
fn is_forwarded(inner: &HeapInner, generations: &Generations, block: usize) -> bool {
    inner.memory.forwarding.contains(block) || generations.old_forwarding.contains(block)
}

/// The visit of all slots of old objects.
struct Walk<'a> {
    inner: &'a HeapInner,
    generations: &'a Generations,
}

impl Walk<'_> {
    /// The marked objects of a block that stays. Dead ones are left alone: their slots may lead to
    /// what is not there any more.
    fn marked(&self, block: usize) {
        for index in 0..BLOCK_MARK_WORDS {
            let mut bits = self.inner.memory.marks.load(block * BLOCK_MARK_WORDS + index);
            while bits != 0 {
                let offset = (block * BLOCK_GRANULES + index * 64 + bits.trailing_zeros() as usize) * 8;
                self.object(offset, self.inner.marked_object(offset).0);
                bits &= bits - 1;
            }
        }
    }

    /// The objects that were evacuated from a block, by their entries: a mutator may not have
    /// closed the block that it has copied them to. What a young block has kept stays young.
    fn evacuated(&self, block: usize) {
        let own = |granule| Granule::of_block(block, granule).offset();
        for (table, is_old) in [(&self.inner.memory.forwarding, false), (&self.generations.old_forwarding, true)] {
            for (granule, entry) in table.of_block(block).into_iter().flat_map(|forwarding| forwarding.iter()) {
                let (offset, kind) = self.inner.relocated_object(entry);
                if is_old || offset != own(granule) {
                    self.object(offset, kind);
                }
            }
        }
    }

    fn object(&self, offset: usize, kind: &'static Kind) {
        let word = |at: usize| self.inner.memory.word(offset + at * 8);
        let len = if kind.has_tail() { word(1).load(Ordering::Relaxed) as usize } else { 0 };
        kind.slots(len).for_each(|(at, role)| {
            let slot = offset + at * 8;
            match role {
                SlotRole::Strong => self.slot(slot, slot, Sort::Strong),
                SlotRole::Weak => self.slot(slot, slot, Sort::Weak),
                // Without a key the value is undefined, and may be stale for ever.
                SlotRole::Key if word(at).load(Ordering::Acquire) == 0 => {}
                SlotRole::Key => {
                    self.slot(slot, slot, Sort::Pair);
                    self.slot(slot + 8, slot, Sort::Pair);
                }
                SlotRole::Value => {} // with its key
            }
        });
    }

    /// Heals a slot that holds a stale young word. Remembers `entry` if what it leads to is young,
    /// whoever has healed or overwritten the slot meanwhile: a mutator that heals remembers
    /// nothing.
    fn slot(&self, slot: usize, entry: usize, sort: Sort) {
        let at = self.inner.memory.word(slot);
        // Acquire: the object may be a mutator's.
        let word = at.load(Ordering::Acquire);
        if !is_reference(word) {
            return;
        }
        let Some((is_old, good)) = self.inner.resolve_young(word) else { return };
        if good != word {
            slots::heal(at, word, good);
        }
        if !is_old {
            self.generations.remembered.add(entry / 8, sort);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::slot::SlotType;
    use crate::space::{BLOCK_BYTES, BLOCK_GRANULES};
    use crate::{
        AllocSize, Ephemeron, Event, Gc, Heap, Local, MIN_HEAP_BYTES, Mutator, Phase, PhaseSpan, Root, RootStack, Slot,
        SlotArray, Tagged, Trace, Value, WeakSlot,
    };
    use gc_core::remembered::Sort;
    use gc_core::units::Granule;
    use std::sync::Mutex;
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::mpsc::channel;

    #[derive(Trace)]
    struct Node {
        strong: Slot<Option<Node>>,
        tagged: Slot<Tagged>,
        weak: WeakSlot<Node>,
        pair: Ephemeron<Node, Option<Node>>,
    }

    fn node<'g>(m: &'g Mutator<'_>) -> Gc<'g, Node> {
        m.place(NodeInit { strong: None, tagged: Value::NIL, weak: None, pair: None })
    }

    fn root<'s>(m: &mut Mutator<'s>) -> Local<'s, Node> {
        m.build::<Node>(AllocSize::of::<Node>(), |m| node(m)).unwrap()
    }

    fn with_mutator(f: impl for<'s> FnOnce(&mut Mutator<'s>, &Heap)) {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).generations(true).verify(true).build().unwrap();
        heap.enter(|m| f(m, &heap)).unwrap();
    }

    fn granule<T>(heap: &Heap, slot: &T) -> usize {
        heap.inner().memory.space.offset(std::ptr::from_ref(slot).addr() as u64) as usize / 8
    }

    fn is_old(heap: &Heap, object: Gc<'_, Node>) -> bool {
        let memory = &heap.inner().memory;
        let (word, space) = (<Node as SlotType>::to_word(object), &memory.space);
        assert_eq!(space.is_old(word), memory.blocks.is_old(space.offset(word) as usize / BLOCK_BYTES), "G1");
        space.is_old(word)
    }

    /// What is remembered now, which is empty afterwards.
    fn remembered(heap: &Heap) -> Vec<(usize, Sort)> {
        let set = &heap.inner().memory.generations.as_ref().unwrap().remembered;
        set.exchange();
        let mut taken = Vec::new();
        set.take_then(|slot, sort| taken.push((slot, sort)));
        taken
    }

    /// Two objects, of which the first is old.
    fn old_and_young(heap: &Heap, m: &mut Mutator<'_>, f: impl FnOnce(&Mutator<'_>, Gc<'_, Node>, Gc<'_, Node>)) {
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
                let at = |slot: usize, sort| vec![(slot, sort)];
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
                let word = <Node as SlotType>::to_word(young);
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
            let good = <Node as SlotType>::to_word(target);
            let first = granule(heap, &holder.strong);
            let words =
                [&granule(heap, &holder.tagged), &granule(heap, &holder.weak), &granule(heap, &holder.pair), &first];
            for &slot in words {
                assert_eq!(heap.inner().memory.word(slot * 8).load(Relaxed), good);
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
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).generations(true).verify(true).on_event(listener);
        let heap = heap.build().unwrap();
        heap.enter(|m| {
            let holder = root(m);
            m.collect();
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
                let (holder, young) = (holder.get(m), young.get(m));
                assert!(is_old(&heap, holder) && !is_old(&heap, young));
                let slot = granule(&heap, &holder.strong);
                assert_eq!(heap.inner().memory.word(slot * 8).load(Relaxed), <Node as SlotType>::to_word(young));
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
        let (block, generations) = (3, memory.generations.as_ref().unwrap());
        let offset = block * BLOCK_BYTES + 64;
        let places = [(&memory.forwarding, 5), (&generations.old_forwarding, 6)].map(|(table, place)| {
            let mut bits = [0; crate::space::BLOCK_MARK_WORDS];
            bits[0] = 1 << 8;
            table.insert(block, Box::new(gc_core::forwarding::Forwarding::new(bits).unwrap()));
            table.entry(offset).unwrap().publish(Granule::new(place * BLOCK_GRANULES)).unwrap();
            place * BLOCK_BYTES
        });
        let good = heap.inner().good_words().colors;
        let words = [memory.space.view(good.young.other()), memory.space.old_view(good.old.other())];
        assert_eq!(words.map(|view| heap.inner().remap(view + offset as u64)), places);
        heap.inner().drop_forwarding([block]);
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
                let slots = [0, LEN / 2, LEN - 1].map(|index| &array.tail()[index]);
                slots.iter().for_each(|slot| slot.set(m, Some(young)));
                let set = &heap.inner().memory.generations.as_ref().unwrap().remembered;
                let granules = slots.map(|slot| granule(heap, slot));
                assert!(granules.iter().all(|&slot| blocks.is_old(slot / BLOCK_GRANULES)));
                assert!(granules.iter().all(|&slot| set.contains(slot, Sort::Strong)));
                granules
            };
            // Dead: freed, or nothing of it is remembered where another object may be.
            m.collect();
            m.collect();
            assert!(before.iter().all(|&slot| !blocks.is_old(slot / BLOCK_GRANULES)), "it is still there");
            assert_eq!(remembered(heap), []);
        });
    }
}
