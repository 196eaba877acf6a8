//! Marking by several threads, and with stacks that are bounded: counted, not timed.

use crate::common::{backing, checked, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, AnyGc, AnyObject, Barrier, Bytes, Gc, Heap, HeapStats, Mutator, OutOfMemory, Root, RootStack, SlotArray,
};
use std::time::{Duration, Instant};

type Row = SlotArray<Option<AnyObject>>;

/// What a heap is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Many objects that refer to nothing.
    Single,
    /// Some lists.
    Lists,
    /// Rows of leaves, each with the next row in its last slot.
    Comb,
    Tree,
    /// One array of leaves.
    Wide,
}

/// What holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Locals,
    Stack,
    Roots,
}

fn leaf<'g>(m: &'g Mutator<'_>) -> Option<AnyGc<'g>> {
    Some(m.place_bytes::<Bytes>((), &[1; 8]).any())
}

fn tree<'g>(m: &'g Mutator<'_>, depth: u32) -> Gc<'g, Row> {
    let row = m.place_array::<Row>((), 2, None);
    if depth > 0 {
        row.tail().iter().for_each(|slot| slot.set(m, Some(tree(m, depth - 1).any())));
    }
    row
}

/// Makes objects of a shape, some `count`, and has `hold` hold those that hold the others.
fn make(
    m: &mut Mutator<'_>,
    shape: Shape,
    count: usize,
    mut hold: impl for<'g> FnMut(&'g Mutator<'_>, AnyGc<'g>),
) -> Result<(), OutOfMemory> {
    let m = &mut *m.frame();
    let kept = m.local_of::<Option<AnyObject>>(None);
    match shape {
        Shape::Single => {
            for _ in 0..count {
                let m = m.reserve(AllocSize::tail::<Bytes>(8))?;
                hold(m, leaf(m).unwrap());
            }
        }
        Shape::Lists => {
            for number in 0..count {
                let m = m.reserve(AllocSize::tail::<Row>(1))?;
                let row = m.place_array::<Row>((), 1, kept.get(m));
                kept.set(m, Some(row.any()));
                if number % (count / 64) == 0 {
                    hold(m, row.any());
                    kept.set(m, None);
                }
            }
        }
        Shape::Comb => {
            for _ in 0..count / 100 {
                let m = m.reserve(AllocSize::tail::<Row>(100) + AllocSize::tail::<Bytes>(8).times(99))?;
                let row = m.place_array::<Row>((), 100, None);
                row.tail()[..99].iter().for_each(|slot| slot.set(m, leaf(m)));
                row.tail()[99].set(m, kept.get(m));
                kept.set(m, Some(row.any()));
            }
            hold(m, kept.get(m).unwrap());
        }
        Shape::Tree => {
            // Of small ones: what is reserved at once fits a block.
            let tops = count >> 9;
            let top = m.build::<Row>(AllocSize::tail::<Row>(tops), |m| m.place_array((), tops, None))?;
            for index in 0..tops {
                let m = m.reserve(AllocSize::tail::<Row>(2).times((2 << 8) - 1))?;
                top.get(m).tail()[index].set(m, Some(tree(m, 8).any()));
            }
            hold(m, top.get(m).any());
        }
        Shape::Wide => {
            let row = m.build::<Row>(AllocSize::tail::<Row>(count), |m| m.place_array((), count, None))?;
            for index in 0..count {
                let m = m.reserve(AllocSize::tail::<Bytes>(8))?;
                row.get(m).tail()[index].set(m, leaf(m));
            }
            hold(m, row.get(m).any());
        }
    }
    Ok(())
}

/// Makes a heap's objects, and has `then` run while they are held.
fn held<R>(heap: &Heap, shape: Shape, holder: Holder, count: usize, then: impl FnOnce(&mut Mutator<'_>) -> R) -> R {
    let stack: RootStack = RootStack::with_capacity(heap, count + 1).unwrap();
    let mut roots = Vec::new();
    heap.enter(|m| {
        match holder {
            Holder::Locals => {
                let array = m.build::<Row>(AllocSize::tail::<Row>(count), |m| m.place_array((), count, None)).unwrap();
                let mut next = 0;
                make(m, shape, count, |m, object| {
                    array.get(m).tail()[next].set(m, Some(object));
                    next += 1;
                })
                .unwrap();
                // A local each, and nothing but these.
                let locals: Vec<_> =
                    (0..next).map(|index| m.local_of::<Option<AnyObject>>(array.get(m).tail()[index].get(m))).collect();
                let null = m.build::<Row>(AllocSize::tail::<Row>(1), |m| m.place_array((), 1, None)).unwrap();
                array.set(m, null.get(m));
                assert!(locals.iter().all(|local| local.get(m).is_some()));
            }
            Holder::Stack => make(m, shape, count, |m, object| stack.push(m, object.into())).unwrap(),
            Holder::Roots => make(m, shape, count, |m, object| roots.push(Root::<AnyObject>::new(m, object))).unwrap(),
        }
        then(m)
    })
    .unwrap()
}

/// What a cycle has added.
fn cycle(heap: &Heap, m: &mut Mutator<'_>) -> (HeapStats, u64, u64) {
    let before = heap.stats();
    m.collect();
    let after = heap.stats();
    (after, after.marked_objects - before.marked_objects, after.marked_by_helpers - before.marked_by_helpers)
}

/// The machine may have no processor for a helper just then; so one cycle of many is enough.
pub(crate) fn each_marker_marks_its_share(barrier: Barrier) {
    const COUNT: usize = 100_000;
    let shapes = [Shape::Single, Shape::Lists, Shape::Comb, Shape::Tree, Shape::Wide];
    for (shape, holder) in shapes
        .into_iter()
        .flat_map(|shape| [Holder::Locals, Holder::Stack, Holder::Roots].into_iter().map(move |holder| (shape, holder)))
    {
        let heap = Heap::builder().max_bytes(48 << 20).barrier(barrier).backing(backing()).workers(2).build().unwrap();
        held(&heap, shape, holder, COUNT, |m| {
            let begun = Instant::now();
            let mut best = 0;
            while begun.elapsed() < Duration::from_secs(60) {
                let (_, marked, helped) = cycle(&heap, m);
                assert!(marked >= COUNT as u64 / 2, "{shape:?} by {holder:?}: {marked} marked");
                best = best.max(helped.min(marked - helped) * 100 / marked);
                if best >= 25 {
                    return;
                }
            }
            panic!("{shape:?} by {holder:?}: of 100 objects one of two markers marks {best} at most");
        });
    }
}

/// There is never anything to share: nobody is woken for it, and nobody waits.
pub(crate) fn one_list_is_marked_by_one(barrier: Barrier) {
    let heap = Heap::builder().max_bytes(16 << 20).barrier(barrier).backing(backing()).workers(3).build().unwrap();
    heap.enter(|m| {
        let list = m.local_of::<Option<AnyObject>>(None);
        for _ in 0..100_000 {
            let m = m.reserve(AllocSize::tail::<Row>(1)).unwrap();
            let row = m.place_array::<Row>((), 1, list.get(m));
            list.set(m, Some(row.any()));
        }
        for _ in 0..3 {
            let (_, marked, helped) = cycle(&heap, m);
            assert_eq!((marked, helped), (100_000, 0));
        }
    })
    .unwrap();
}

pub(crate) fn stacks_take_a_small_part_of_the_heap(barrier: Barrier) {
    for workers in [1, 3] {
        for (shape, holder) in [
            (Shape::Single, Holder::Locals),
            (Shape::Single, Holder::Stack),
            (Shape::Single, Holder::Roots),
            (Shape::Comb, Holder::Roots),
            (Shape::Wide, Holder::Roots),
        ] {
            let builder = Heap::builder().max_bytes(48 << 20).barrier(barrier).backing(backing());
            let heap = builder.workers(workers).build().unwrap();
            held(&heap, shape, holder, 400_000, |m| {
                let (stats, marked, _) = cycle(&heap, m);
                let most = stats.live_bytes / 64 + workers as u64 * (12 << 10);
                let found = stats.mark_stack_peak_bytes;
                assert!(found > 0 && found <= most, "{shape:?} by {holder:?}: {found} bytes for {}", stats.live_bytes);
                assert!(marked >= 400_000);
            });
        }
    }
}

/// With the stress mode a marker's stack holds 32 entries, and in two cycles of three there is next
/// to nothing beside.
pub(crate) fn full_stacks_lose_nothing(barrier: Barrier) {
    for workers in [1, 3] {
        for shape in [Shape::Single, Shape::Lists, Shape::Comb, Shape::Tree, Shape::Wide] {
            let stress = gc_heap::Stress { cycle_every: 5000, ..stress(7) };
            let heap = checked(barrier, 16 << 20).workers(workers).stress(stress).build().unwrap();
            held(&heap, shape, Holder::Stack, 20_000, |m| {
                (0..3).for_each(|_| m.collect());
                let (stats, marked, _) = cycle(&heap, m);
                assert!(marked >= 10_000 && stats.verified_slots > 0);
                assert!(shape == Shape::Lists || stats.mark_overflows > 0, "{shape:?}: no stack was ever full");
            });
        }
    }
}

/// References are overwritten while stacks overflow: the snapshot is marked all the same.
pub(crate) fn full_stacks_while_mutators_overwrite(barrier: Barrier) {
    let heap = checked(barrier, 16 << 20).workers(2).stress(stress(9)).build().unwrap();
    let work = |m: &mut Mutator<'_>| {
        const LEN: usize = 3000;
        let [from, to] =
            [0; 2].map(|_| m.build::<Row>(AllocSize::tail::<Row>(LEN), |m| m.place_array((), LEN, None)).unwrap());
        for index in 0..LEN {
            let m = m.reserve(AllocSize::tail::<Row>(1) + AllocSize::tail::<Bytes>(8)).unwrap();
            let row = m.place_array::<Row>((), 1, leaf(m));
            from.get(m).tail()[index].set(m, Some(row.any()));
        }
        let mut seed = 5_usize;
        let mut round = 0_u32;
        while heap.stats().cycles < 12 {
            round += 1;
            // What is in one table goes to the other, and leaves the first empty: it is held by
            // nothing else meanwhile.
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (at, into) = ((seed >> 33) % LEN, (seed >> 13) % LEN);
            let (one, other) = if round.is_multiple_of(2) { (from, to) } else { (to, from) };
            let moved = one.get(m).tail()[at].get(m);
            if other.get(m).tail()[into].get(m).is_none() {
                one.get(m).tail()[at].set(m, None);
                other.get(m).tail()[into].set(m, moved);
            }
            if round.is_multiple_of(16) {
                let _ = m.reserve(AllocSize::tail::<Bytes>(64)).unwrap().place_bytes::<Bytes>((), &[0; 64]);
            }
        }
        let rows = [from, to].map(|table| {
            let rows = table.get(m).tail().iter().filter_map(|slot| slot.get(m)).map(|row| row.downcast::<Row>());
            rows.map(|row| row.and_then(|row| row.tail()[0].get(m)).and_then(|leaf| leaf.downcast::<Bytes>()))
                .map(|leaf| assert_eq!(leaf.unwrap().tail(), [1; 8]))
                .count()
        });
        assert_eq!(rows.iter().sum::<usize>(), LEN);
        assert!(heap.stats().mark_overflows > 0, "no stack was ever full");
    };
    while_collecting(&heap, Duration::from_micros(100), || heap.enter(work)).unwrap();
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        each_marker_marks_its_share,
        one_list_is_marked_by_one,
        stacks_take_a_small_part_of_the_heap,
        full_stacks_lose_nothing,
        full_stacks_while_mutators_overwrite,
    ],
    ..Tests::NONE
};
