//! The page barrier's own cases: where objects, blocks, TLABs and roots lie when the pages are taken away.
//!
//! Each test says what rule it is about; `docs/trust.md` has what fails where a rule is removed.

use crate::common::{Random, checked, deadline, factor, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{
    Array, Barrier, Bytes, Event, Gc, Heap, HeapBuilder, HugePages, Local, Mutator, PauseKind, Room, Root, RootStack,
    Slot, SlotArray, Stress, Tagged, Trace, Value, Weak, WeakSlot,
};
use std::cell::RefCell;
use std::sync::Barrier as Meeting;
use std::sync::mpsc::channel;
use std::time::Duration;

const PAGE: usize = 4096;

/// Objects of any length: an identity, and slots that lead to others.
#[derive(Trace)]
#[trace(tail = Slot<Option<Chunk>>)]
struct Chunk {
    id: u64,
}

/// Three words, the second of which is a slot: no page begins at a multiple of it.
#[derive(Trace)]
struct Triple {
    before: u64,
    slot: Slot<Option<Chunk>>,
    after: u64,
}

#[derive(Trace)]
#[trace(tail = Triple)]
struct Triples;

type Table = SlotArray<Option<Chunk>>;

/// Whatever can move does, in each cycle, and no cycle begins unasked.
fn moving(max_bytes: usize) -> HeapBuilder {
    checked(Barrier::Page, max_bytes).stress(Stress { cycle_every: u32::MAX, ..Stress::default() })
}

/// Whether fewer relocations have been than wanted. That they come at all is what the deadline is for.
fn busy(heap: &Heap, relocations: u64) -> bool {
    heap.stats().relocations < relocations * u64::from(factor())
}

/// A fault that repairs its page alone, some pages, pages of several blocks.
fn clusters(builder: HeapBuilder) -> impl Iterator<Item = Heap> {
    [1, 4, 64].into_iter().map(move |pages| builder.clone().fault_cluster(pages).build().unwrap())
}

fn table<'s>(m: &mut Mutator<'s>, len: usize) -> Local<'s, Table> {
    m.build::<Table>(Room::tail::<Table>(len), |m| m.place_array((), len, None)).unwrap()
}

/// A chunk of so many slots, all of which lead to `to`.
fn chunk<'g>(m: &'g Mutator<'_>, id: u64, len: usize, to: Option<Gc<'g, Chunk>>) -> Gc<'g, Chunk> {
    m.place_array::<Chunk>(ChunkInit { id }, len, to)
}

fn lone<'s>(m: &mut Mutator<'s>, id: u64) -> Local<'s, Chunk> {
    m.build::<Chunk>(Room::tail::<Chunk>(1), |m| chunk(m, id, 1, None)).unwrap()
}

/// Fills a table with chunks of these lengths, each leading to the one before it, with garbage between them.
fn fill(m: &mut Mutator<'_>, table: Local<'_, Table>, mut len: impl FnMut(usize) -> usize) {
    for index in 0..table.get(m).tail_len() {
        let len = len(index);
        let m = m.reserve(Room::tail::<Chunk>(len) + Room::tail::<Chunk>(len / 2)).unwrap();
        let before = index.checked_sub(1).and_then(|before| table.get(m).tail()[before].get(m));
        let new = chunk(m, index as u64, len, before);
        table.get(m).tail()[index].set(m, Some(new));
        chunk(m, u64::MAX, len / 2, None);
    }
}

/// All of it, from the end, so that pages are met in an order that is not that of repair.
fn check(m: &Mutator<'_>, table: Local<'_, Table>) {
    let slots = table.get(m).tail();
    for index in (0..slots.len()).rev() {
        let chunk = slots[index].get(m).expect("an object in its place");
        assert_eq!(chunk.id, index as u64);
        for slot in chunk.tail() {
            assert_eq!(slot.get(m).map(|before| before.id), index.checked_sub(1).map(|before| before as u64));
        }
    }
}

/// Objects that cross one page or several, begin and end at each place of a page, and fill blocks to their last page.
pub(crate) fn objects_that_cross_pages() {
    let _deadline = deadline("objects that cross pages");
    for heap in clusters(moving(16 << 20)) {
        heap.enter(|m| {
            for scale in [20, 511, 700, 3000] {
                let m = &mut *m.frame();
                let mut random = Random::new(scale as u64);
                let table = table(m, (200_000 / scale).min(2000));
                fill(m, table, |_| scale / 2 + random.below(scale));
                for _ in 0..4 {
                    m.collect();
                    check(m, table);
                }
            }
        })
        .unwrap();
        assert!(heap.stats().relocations >= 8, "{:?}", heap.stats());
    }
}

/// As long as a block but for nothing, and for one granule: the last page of a destination is full, or ends one short.
pub(crate) fn objects_that_fill_blocks_exactly() {
    let heap = moving(16 << 20).build().unwrap();
    heap.enter(|m| {
        // Header, length, identity; four to a block, and the last one granule short or not.
        for short in [0, 1] {
            let m = &mut *m.frame();
            let table = table(m, 200);
            fill(m, table, |index| (16 << 10) / 8 - 3 - if index % 4 == 3 { short } else { 0 });
            for _ in 0..2 {
                m.collect();
                check(m, table);
            }
        }
    })
    .unwrap();
    assert!(heap.stats().relocations >= 3, "{:?}", heap.stats());
}

/// A mutator that reads while the collector repairs, and all it reads was moved.
pub(crate) fn a_mutator_reads_while_pages_come_back() {
    let _deadline = deadline("reading while pages come back");
    for heap in clusters(moving(32 << 20).verify(false)) {
        let mut random = Random::new(5);
        while_collecting(&heap, Duration::from_micros(200), || {
            heap.enter(|m| {
                let table = table(m, 3000);
                fill(m, table, |index| index % 700);
                while busy(&heap, 10) || heap.stats().pages_repaired_by_mutators == 0 {
                    let index = random.below(3000);
                    let found = table.get(m).tail()[index].get(m).unwrap();
                    assert_eq!(found.id, index as u64);
                    if let Some(slot) = found.tail().last() {
                        assert_eq!(slot.get(m).map(|before| before.id), index.checked_sub(1).map(|at| at as u64));
                    }
                    m.safepoint();
                }
            })
            .unwrap();
        });
        assert!(heap.faults().count > 0, "no page was ever missed: {:?}", heap.stats());
    }
}

/// Slots of large objects: one word after the other, one in three, weak ones; and an object without slots beside them.
pub(crate) fn arrays_over_many_pages() {
    let _deadline = deadline("arrays over many pages");
    for heap in clusters(moving(32 << 20)) {
        heap.enter(|m| {
            const LEN: usize = 20_011;
            let small = table(m, LEN);
            for index in 0..LEN {
                let m = m.reserve(Room::tail::<Chunk>(2)).unwrap();
                small.get(m).tail()[index].set(m, Some(chunk(m, index as u64, 2, None)));
            }
            let triples = m.build::<Triples>(Room::tail::<Triples>(LEN), |m| {
                let slots = small.get(m).tail().iter().enumerate();
                let parts =
                    slots.map(|(at, slot)| TripleInit { before: !(at as u64), slot: slot.get(m), after: at as u64 });
                m.place_tail::<Triples, _>((), parts)
            });
            let weak = m.build::<Array<WeakSlot<Chunk>>>(Room::tail::<Array<WeakSlot<Chunk>>>(LEN), |m| {
                m.place_tail((), small.get(m).tail().iter().map(|slot| slot.get(m)))
            });
            let bytes = vec![0x7f; 100_000];
            let blob = m.build::<Bytes>(Room::tail::<Bytes>(bytes.len()), |m| m.place_bytes((), &bytes)).unwrap();
            let (triples, weak) = (triples.unwrap(), weak.unwrap());
            for _ in 0..4 {
                m.collect();
                for index in (0..LEN).rev() {
                    let (triple, id) = (&triples.get(m).tail()[index], index as u64);
                    let found = triple.slot.get(m).unwrap();
                    assert_eq!((triple.before, found.id, triple.after), (!id, id, id));
                    assert!(weak.get(m).tail()[index].get(m).unwrap().ptr_eq(found));
                    assert!(small.get(m).tail()[index].get(m).unwrap().ptr_eq(found));
                }
                assert!(blob.get(m).tail() == bytes);
            }
        })
        .unwrap();
        assert!(heap.stats().relocations >= 3);
    }
}

/// A thread's TLAB is open and half full at each flip, while the thread runs: its fill is published, what lies below it
/// is repaired, and the rest of it is not used again.
pub(crate) fn a_tlab_half_full_of_a_thread_that_runs() {
    let _deadline = deadline("a TLAB half full");
    for heap in clusters(moving(16 << 20)) {
        while_collecting(&heap, Duration::ZERO, || {
            heap.enter(|m| {
                while busy(&heap, 10) {
                    let m = &mut *m.frame();
                    let table = table(m, 40);
                    fill(m, table, |index| index * 7 % 90);
                    (0..20).for_each(|_| m.safepoint());
                    check(m, table);
                }
            })
            .unwrap();
        });
    }
}

/// The same of a thread that is parked over several flips: nobody asks it for anything.
pub(crate) fn a_tlab_half_full_of_a_thread_that_is_parked() {
    let _deadline = deadline("a TLAB of a parked thread");
    for heap in clusters(moving(16 << 20)) {
        let before = heap.enter(|m| {
            let table = table(m, 300);
            fill(m, table, |index| index % 50);
            Root::<Table>::new(m, table.get(m))
        });
        let (before, meeting) = (before.unwrap(), Meeting::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                heap.enter(|m| {
                    for round in 0..8 {
                        let m = &mut *m.frame();
                        let table = table(m, 30 + round);
                        // In the TLAB: young objects that lead to old ones, which move.
                        for index in 0..30 + round {
                            let m = m.reserve(Room::tail::<Chunk>(3)).unwrap();
                            let old = before.get(m).tail()[index].get(m);
                            table.get(m).tail()[index].set(m, Some(chunk(m, index as u64 + 1, 3, old)));
                        }
                        m.blocking(|| {
                            meeting.wait();
                            meeting.wait();
                        });
                        for (index, slot) in table.get(m).tail().iter().enumerate() {
                            let young = slot.get(m).unwrap();
                            assert_eq!(young.id, index as u64 + 1);
                            assert!(young.tail().iter().all(|slot| slot.get(m).unwrap().id == index as u64));
                        }
                    }
                })
                .unwrap();
            });
            for _ in 0..8 {
                meeting.wait();
                (0..3).for_each(|_| heap.collect());
                meeting.wait();
            }
        });
        assert!(heap.stats().relocations >= 8, "{:?}", heap.stats());
    }
}

/// Objects that are new since the last marking, when the flip comes: threads allocate and link them in every phase.
pub(crate) fn young_objects_between_plan_and_flip() {
    let _deadline = deadline("young objects at a flip");
    for seed in 1..=3 {
        let stress = Stress { cycle_every: 7, delay_one_in: 3, seed };
        let heap = checked(Barrier::Page, 16 << 20).stress(stress).fault_cluster(1).build().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    heap.enter(|m| {
                        for _ in 0..40 * factor() {
                            let m = &mut *m.frame();
                            let table = table(m, 60);
                            fill(m, table, |index| index * 13 % 600);
                            check(m, table);
                        }
                    })
                    .unwrap();
                });
            }
        });
        assert!(heap.stats().relocations > 0, "{:?}", heap.stats());
    }
}

/// A run of blocks is zeroed in slices, with flips between them, and filled after; large objects come and go.
pub(crate) fn runs_under_construction_over_a_flip() {
    let _deadline = deadline("runs under construction");
    let heap = checked(Barrier::Page, 64 << 20).stress(stress(3)).build().unwrap();
    while_collecting(&heap, Duration::ZERO, || {
        heap.enter(|m| {
            let kept = table(m, 4);
            for round in 0_u64.. {
                if round >= 30 && !busy(&heap, 5) {
                    break;
                }
                let len = 200_000 + round as usize % 30 * 10_007;
                let place = |m: &mut Mutator<'_>| {
                    let m = m.reserve(Room::tail::<Chunk>(len) + Room::tail::<Chunk>(1)).unwrap();
                    let small = chunk(m, round, 1, None);
                    let large = chunk(m, round, len, Some(small));
                    kept.get(m).tail()[round as usize % 4].set(m, Some(large));
                };
                place(m);
                for large in kept.get(m).tail().iter().filter_map(|slot| slot.get(m)) {
                    assert!(large.tail().iter().step_by(100).all(|slot| slot.get(m).unwrap().id == large.id));
                }
            }
        })
        .unwrap();
    });
}

/// Roots of every sort, more than a page of each.
pub(crate) fn roots_of_many_pages() {
    let _deadline = deadline("roots of many pages");
    for heap in clusters(moving(16 << 20)) {
        heap.enter(|m| {
            const ROOTS: u64 = 3000;
            let stack = RootStack::<Tagged>::with_capacity(&heap, 3 * ROOTS as usize).unwrap();
            let (mut locals, mut roots, mut weak) = (Vec::new(), Vec::new(), Vec::new());
            for id in 0..ROOTS {
                let local = lone(m, id);
                stack.push(m, Value::int(id as i32));
                stack.push(m, local.get(m).into());
                roots.push(Root::<Chunk>::new(m, local.get(m)));
                weak.push(Weak::new(m, local.get(m)));
                locals.push(local);
            }
            for _ in 0..4 {
                m.collect();
                for (id, local) in locals.iter().enumerate().rev() {
                    let chunk = local.get(m);
                    assert_eq!(chunk.id, id as u64);
                    assert!(roots[id].get(m).ptr_eq(chunk) && weak[id].get(m).unwrap().ptr_eq(chunk));
                    assert!(stack.get(m, 2 * id + 1).downcast::<Chunk>().unwrap().ptr_eq(chunk));
                    assert_eq!(stack.get(m, 2 * id).as_int(), Some(id as i32));
                }
            }
            // A stack cut short and filled again: what lay above its top is not believed.
            stack.truncate(m, 10);
            m.collect();
            locals.iter().for_each(|local| stack.push(m, local.get(m).into()));
            m.collect();
            let mut pushed = (0..ROOTS as usize).map(|id| stack.get(m, 10 + id).downcast::<Chunk>().unwrap().id);
            assert!(pushed.by_ref().eq(0..ROOTS));
        })
        .unwrap();
        assert!(heap.stats().relocations >= 5, "{:?}", heap.stats());
    }
}

/// Root stacks of a page each, side by side, made, filled, read and dropped by several threads: a fault that comes late
/// finds pages, its own and its neighbours', that were never gated for the stacks that are there now.
pub(crate) fn root_stacks_made_and_dropped_all_the_time() {
    let _deadline = deadline("root stacks made and dropped");
    for cluster in [4, 64] {
        let stress = Stress { cycle_every: 300, delay_one_in: 4, seed: 1 };
        let heap =
            checked(Barrier::Page, 16 << 20).verify(false).stress(stress).fault_cluster(cluster).build().unwrap();
        while_collecting(&heap, Duration::ZERO, || {
            std::thread::scope(|scope| {
                for thread in 0..4_u64 {
                    let heap = &heap;
                    scope.spawn(move || {
                        heap.enter(|m| {
                            for round in 0_u64.. {
                                if round >= 250 * u64::from(factor()) && !busy(heap, 10) {
                                    break;
                                }
                                let stack = RootStack::<Option<Chunk>>::with_capacity(heap, 500).unwrap();
                                for step in 0..40 {
                                    let m = &mut *m.frame();
                                    let id = thread << 40 | round << 10 | step;
                                    let local = lone(m, id);
                                    stack.push(m, Some(local.get(m)));
                                    m.safepoint();
                                    let deep = m.local(stack.get(m, step as usize / 2));
                                    assert_eq!(deep.get(m).unwrap().id, thread << 40 | round << 10 | (step / 2));
                                }
                                let ids = (0..40).map(|at| stack.get(m, at).unwrap().id);
                                assert!(ids.eq((0..40).map(|step| thread << 40 | round << 10 | step)));
                            }
                        })
                        .unwrap();
                    });
                }
            });
        });
    }
}

/// The addresses for roots are not used up where no cycle ever runs: each visit takes 16 MiB of them.
pub(crate) fn visits_without_a_cycle() {
    let heap = checked(Barrier::Page, 4 << 20).build().unwrap();
    for visit in 0..3000 {
        let seen = heap.enter(|m| m.local(Value::TRUE).get(m).as_bool());
        assert_eq!(seen, Ok(Some(true)), "visit {visit}");
    }
    assert_eq!(heap.stats().cycles, 0);
}

/// A thread-local that is older than the thread's first visit ends after what the heap keeps of the thread.
pub(crate) fn a_visit_in_a_thread_locals_destructor() {
    struct Visits(Heap, Option<Root<Chunk>>);
    impl Drop for Visits {
        fn drop(&mut self) {
            let root = self.1.take().unwrap();
            self.0.enter(|m| (0..2).for_each(|_| m.collect())).unwrap();
            assert_eq!(self.0.enter(|m| root.get(m).id), Ok(7));
        }
    }
    thread_local! {
        static VISITS: RefCell<Option<Visits>> = const { RefCell::new(None) };
    }
    let heap = moving(8 << 20).build().unwrap();
    let inside = heap.clone();
    let thread = std::thread::spawn(move || {
        VISITS.with_borrow_mut(|visits| {
            assert!(visits.is_none());
            let root = inside.enter(|m| {
                let local = lone(m, 7);
                Root::<Chunk>::new(m, local.get(m))
            });
            *visits = Some(Visits(inside, root.ok()));
        });
    });
    thread.join().unwrap();
    assert!(heap.stats().relocations > 0);
}

/// Marking ends although a mutator overwrites references all the time.
pub(crate) fn marking_ends_beside_a_mutator_that_only_writes(barrier: Barrier) {
    let _deadline = deadline("a mutator that only writes");
    let heap = checked(barrier, 32 << 20).verify(false).build().unwrap();
    while_collecting(&heap, Duration::ZERO, || {
        heap.enter(|m| {
            let table = table(m, 20_000);
            for index in 0..20_000 {
                let m = m.reserve(Room::tail::<Chunk>(4)).unwrap();
                table.get(m).tail()[index].set(m, Some(chunk(m, index as u64, 4, None)));
            }
            let mut random = Random::new(1);
            while heap.stats().cycles < 20 * u64::from(factor()) {
                for _ in 0..1000 {
                    let slots = table.get(m).tail();
                    let (a, b) = (random.below(slots.len()), random.below(slots.len()));
                    let old = slots[a].swap(m, slots[b].get(m));
                    slots[b].set(m, old);
                }
                m.safepoint();
            }
        })
        .unwrap();
    });
    let stats = heap.stats();
    assert!(stats.mark_end_retries <= 3 * stats.cycles, "marking does not come to its end: {stats:?}");
}

/// Five sixths of the heap live: too little is free to copy to, and a stop compacts, which is counted and told.
pub(crate) fn a_heap_nearly_full_is_compacted_in_a_stop() {
    let _deadline = deadline("a full heap");
    for workers in [1, 2] {
        let heap = checked(Barrier::Page, 10 << 20).workers(workers).verify(false).build().unwrap();
        heap.enter(|m| {
            const OBJECTS: usize = 8000;
            let table = table(m, OBJECTS);
            let mut random = Random::new(2);
            let mut place = |m: &mut Mutator<'_>, index: usize| {
                let len = 60 + random.below(140);
                let m = m.reserve(Room::tail::<Chunk>(len)).unwrap_or_else(|error| panic!("{index}: {error}"));
                table.get(m).tail()[index].set(m, Some(chunk(m, index as u64, len, None)));
            };
            (0..OBJECTS).for_each(|index| place(m, index));
            // Those that live longest are everywhere.
            for step in 0..60_000_usize {
                place(m, step.wrapping_mul(2_654_435_761) % OBJECTS);
            }
            let slots = table.get(m).tail().iter().enumerate();
            slots.for_each(|(index, slot)| assert_eq!(slot.get(m).unwrap().id, index as u64));
        })
        .unwrap();
        let (stats, (events, _)) = (heap.stats(), heap.take_events());
        let told = events.iter().any(|e| matches!(e, Event::Pause(pause) if pause.kind == PauseKind::Compaction));
        assert!(stats.compactions > 0 && told, "no compaction: {stats:?}");
    }
}

/// Page heaps beside each other and beside a load heap, used in turn and at once, some dropped in between.
pub(crate) fn several_heaps() {
    let _deadline = deadline("several heaps");
    let load = Heap::builder().max_bytes(8 << 20).verify(true).single_view(true).stress(stress(1)).build().unwrap();
    let pages: Vec<Heap> = (0..3).map(|seed| moving(8 << 20).stress(stress(seed)).build().unwrap()).collect();
    let work = |heap: &Heap, len: usize| {
        heap.enter(|m| {
            let table = table(m, 100 + len);
            fill(m, table, |index| index % 70);
            m.collect();
            check(m, table);
        })
        .unwrap();
    };
    std::thread::scope(|scope| {
        for thread in 0..3_usize {
            let (load, pages, work) = (&load, &pages, &work);
            scope.spawn(move || {
                for round in 0..12 {
                    work(&pages[(thread + round) % 3], round);
                    work(load, round);
                    // In another heap while this one is left for a while, and a third that ends.
                    pages[thread]
                        .enter(|m| {
                            let local = lone(m, 5);
                            m.blocking(|| {
                                work(&pages[(thread + 1) % 3], round);
                                work(&moving(4 << 20).build().unwrap(), round);
                            });
                            m.collect();
                            assert_eq!(local.get(m).id, 5);
                        })
                        .unwrap();
                }
            });
        }
    });
    assert!(pages.iter().all(|heap| heap.stats().relocations > 0));
}

/// The file has 2 MiB pages where the kernel makes them, and is pretouched.
pub(crate) fn huge_pages() {
    let _deadline = deadline("huge pages");
    let huge = moving(16 << 20).pretouch(true).huge_pages(HugePages::Collapse).build();
    // A kernel without MADV_COLLAPSE (before 6.1) says so; pretouched pages of 4 KiB are tested in any case.
    let heaps = huge.into_iter().chain([moving(16 << 20).pretouch(true).build().unwrap()]);
    for heap in heaps {
        while_collecting(&heap, Duration::from_micros(100), || {
            heap.enter(|m| {
                let table = table(m, 1500);
                fill(m, table, |index| index % 300);
                for _ in 0..20 {
                    m.safepoint();
                    check(m, table);
                }
                m.collect();
                check(m, table);
            })
            .unwrap();
        });
        assert!(heap.stats().relocations > 0);
    }
}

/// A root stack goes from thread to thread, each of which pushes, reads all, and pops some.
pub(crate) fn a_root_stack_used_in_turn() {
    let _deadline = deadline("a root stack used in turn");
    for heap in clusters(moving(8 << 20)) {
        while_collecting(&heap, Duration::ZERO, || {
            let (sender, receiver) = channel();
            sender.send((RootStack::<Option<Chunk>>::with_capacity(&heap, 20_000).unwrap(), 0)).unwrap();
            let receiver = std::sync::Mutex::new(receiver);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    let (heap, receiver, sender) = (&heap, &receiver, sender.clone());
                    scope.spawn(move || {
                        while busy(heap, 10) {
                            let (stack, count) = receiver.lock().unwrap().recv().unwrap();
                            let count = heap.enter(|m| {
                                for id in count..count + 200 {
                                    let m = &mut *m.frame();
                                    let local = lone(m, id);
                                    stack.push(m, Some(local.get(m)));
                                }
                                let ids = (0..stack.len()).map(|at| stack.get(m, at).unwrap().id);
                                assert!(ids.eq(0..count + 200));
                                let kept = if count > 3000 { 100 } else { count + 100 };
                                stack.truncate(m, kept as usize);
                                kept
                            });
                            sender.send((stack, count.unwrap())).unwrap();
                        }
                    });
                }
            });
        });
    }
}

/// Memory is taken from under free blocks while pages are gated: holes of the file are let in as zeroes.
pub(crate) fn memory_is_given_back_while_pages_are_gated() {
    let _deadline = deadline("holes");
    let heap = moving(16 << 20).verify(false).build().unwrap();
    while_collecting(&heap, Duration::ZERO, || {
        heap.enter(|m| {
            for round in 0..60 {
                let m = &mut *m.frame();
                let table = table(m, 200);
                fill(m, table, |index| (index + round) % 100);
                heap.release_memory();
                m.safepoint();
                check(m, table);
                let large = m.build::<Bytes>(Room::tail::<Bytes>(40 * PAGE), |m| m.place_bytes((), &[9; 40 * PAGE]));
                heap.release_memory();
                assert!(large.unwrap().get(m).tail().iter().all(|&byte| byte == 9));
            }
        })
        .unwrap();
    });
}

pub(crate) const TESTS: Tests = Tests {
    concurrent: tests![marking_ends_beside_a_mutator_that_only_writes],
    page: tests![
        objects_that_cross_pages,
        objects_that_fill_blocks_exactly,
        a_mutator_reads_while_pages_come_back,
        arrays_over_many_pages,
        a_tlab_half_full_of_a_thread_that_runs,
        a_tlab_half_full_of_a_thread_that_is_parked,
        young_objects_between_plan_and_flip,
        runs_under_construction_over_a_flip,
        roots_of_many_pages,
        root_stacks_made_and_dropped_all_the_time,
        visits_without_a_cycle,
        a_visit_in_a_thread_locals_destructor,
        a_heap_nearly_full_is_compacted_in_a_stop,
        several_heaps,
        huge_pages,
        a_root_stack_used_in_turn,
        memory_is_given_back_while_pages_are_gated,
    ],
    ..Tests::NONE
};
