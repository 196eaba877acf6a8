//! When memory is short: what fits is found, what does not is an error, and the heap goes on.

use crate::common::{Random, checked, panic_of, panics, sorts, stress};
use crate::giving_back::of_the_file;
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Array, Barrier, BuildError, ByteSize, Bytes, Heap, HugePages, Local, Mutator, Num, OutOfMemory, Slot,
    SlotArray, Tagged, Trace, Value,
};

#[derive(Trace)]
struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

pub(crate) type Table = SlotArray<Option<Bytes>>;

pub(crate) fn table<'s>(m: &mut Mutator<'s>, len: usize) -> Local<'s, Table> {
    m.build::<Table>(AllocSize::tail::<Table>(len), |m| m.place_array((), len, None)).unwrap()
}

fn bytes(index: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (index * 7 + at * 3) as u8).collect()
}

/// Gives a slot of a table an object, whose bytes depend on the slot.
pub(crate) fn place(m: &mut Mutator<'_>, table: Local<'_, Table>, index: usize, len: usize) -> Result<(), OutOfMemory> {
    let m = m.reserve(AllocSize::tail::<Bytes>(len))?;
    table.get(m).tail()[index].set(m, Some(m.place_bytes::<Bytes>((), &bytes(index, len))));
    Ok(())
}

/// Fills a table from an index until memory is out; gives the index reached, and the error.
fn fill_from(m: &mut Mutator<'_>, table: Local<'_, Table>, from: usize, len: usize) -> (usize, OutOfMemory) {
    let places = from..table.get(m).tail_len();
    let full = places.into_iter().find_map(|index| Some((index, place(m, table, index, len).err()?)));
    full.expect("the heap never was full")
}

/// Fills a table until memory is out; gives the number of objects.
fn fill(m: &mut Mutator<'_>, table: Local<'_, Table>, len: usize) -> usize {
    fill_from(m, table, 0, len).0
}

/// Checks the objects of a table, and counts them.
pub(crate) fn check_all(m: &Mutator<'_>, table: Local<'_, Table>) -> usize {
    let slots = table.get(m).tail().iter().enumerate();
    let objects = slots.filter_map(|(index, slot)| slot.get(m).map(|object| (index, object)));
    objects.inspect(|(index, object)| assert!(object.tail() == bytes(*index, object.tail_len()))).count()
}

pub(crate) fn out_of_memory_is_an_error_and_the_heap_goes_on(barrier: Barrier) {
    for (mirror, workers) in sorts() {
        let heap = checked(barrier, 4 << 20).mirror(mirror).workers(workers).build().unwrap();
        heap.enter(|m| {
            for len in [100, 5000, 40_000] {
                let m = &mut *m.frame();
                let table = table(m, (4 << 20) / len);
                let count = fill(m, table, len);
                // Nearly all of the heap is full of objects, but for the reserve and what does not
                // divide well.
                let held = count * len.next_multiple_of(8);
                assert!(held > 2 << 20, "{count} objects of {len} bytes are too much for 4 MiB");
                // Two collector threads pack a little differently each time: now and then a few
                // more fit.
                let (mut count, first) = (count, count);
                for _ in 0..3 {
                    let (reached, error) = fill_from(m, table, count, len);
                    assert!(error.requested_bytes() >= len && error.to_string().contains("out of memory"));
                    count = reached;
                }
                assert!((count - first) * len < 64 << 10, "memory was out too early: {first}, then {count}");
                assert_eq!(check_all(m, table), count);
                // Less is kept: at once there is room again.
                (0..count / 2).for_each(|index| table.get(m).tail()[index].set(m, None));
                (0..count / 4).for_each(|index| place(m, table, index, len).unwrap());
                assert_eq!(check_all(m, table), count - count / 2 + count / 4);
            }
            // All of it can be had again.
            let table = table(m, 40_000);
            assert!(fill(m, table, 1000) * 1016 > 3 << 20);
        })
        .unwrap();
        let (events, _) = heap.take_events();
        assert!(events.iter().any(|event| matches!(event, gc_heap::Event::Stall(stall) if stall.total_ns > 0)));
        let waited = |event: &gc_heap::Event| match event {
            gc_heap::Event::Stall(stall) => Some(stall.mutator),
            _ => None,
        };
        let mutators: std::collections::HashSet<u64> = events.iter().filter_map(waited).collect();
        assert_eq!(mutators.len(), 1, "there was one mutator to wait");
    }
}

/// Every block holds something that lives: no block is free, much memory is.
pub(crate) fn fragments_are_compacted_where_sixty_percent_live(barrier: Barrier) {
    for (mirror, workers) in sorts() {
        let heap = checked(barrier, 8 << 20).mirror(mirror).workers(workers).build().unwrap();
        heap.enter(|m| {
            for len in [40, 1000, 9000] {
                let m = &mut *m.frame();
                let objects = (8 << 20) / len;
                let (table, mut random) = (table(m, objects.min(32_000)), Random::new(len as u64));
                let count = (0..table.get(m).tail_len()).find(|&index| place(m, table, index, len).is_err());
                let count = count.unwrap_or(table.get(m).tail_len());
                let mut alive: Vec<usize> = (0..count).collect();
                while alive.len() * 10 > count * 6 {
                    let index = alive.swap_remove(random.below(alive.len()));
                    table.get(m).tail()[index].set(m, None);
                }
                // A quarter of the whole comes anew, as other objects: no hole fits them but
                // together.
                for _ in 0..count / 4 {
                    let index = (0..count).find(|&index| table.get(m).tail()[index].get(m).is_none()).unwrap();
                    place(m, table, index, len + 24).unwrap_or_else(|error| panic!("{len}: {error}"));
                }
                assert_eq!(check_all(m, table), alive.len() + count / 4);
            }
        })
        .unwrap();
        assert!(heap.stats().relocations > 0);
    }
}

pub(crate) fn a_run_of_blocks_is_found_after_fragmentation(barrier: Barrier) {
    for (mirror, workers) in sorts() {
        let heap = checked(barrier, 16 << 20).mirror(mirror).workers(workers).build().unwrap();
        heap.enter(|m| {
            let small = table(m, 30_000);
            let count = fill(m, small, 1000);
            // One in four stays: every block has some.
            (0..count).filter(|index| index % 4 != 0).for_each(|index| small.get(m).tail()[index].set(m, None));
            let large = table(m, 4);
            for (index, mib) in [(0, 6), (1, 2), (2, 1)] {
                place(m, large, index, mib << 20).unwrap_or_else(|error| panic!("{mib} MiB: {error}"));
            }
            assert_eq!(check_all(m, large), 3);
            assert_eq!(check_all(m, small), count.div_ceil(4));
            // Large ones go and come, of other sizes, up to 49 blocks of 256. They do not move, so
            // what is sure to be there for any order of them is a third of what is free beside two
            // others and the small ones: some 47 blocks. But each takes the highest run that is
            // free, and small objects the lowest blocks. So where every dead one is free again
            // before the next one comes, it is sure where each of these lies: in the upper 170
            // blocks, all of them.
            for round in 0..40 {
                large.get(m).tail()[round % 3].set(m, None);
                m.collect();
                place(m, large, round % 3, (2 + round % 5) << 19).unwrap_or_else(|error| panic!("{round}: {error}"));
            }
            assert_eq!(check_all(m, large), 3);
        })
        .unwrap();
    }
}

/// The least heap, many times its size through it, three quarters of it alive.
pub(crate) fn the_least_heap_works_hard(barrier: Barrier) {
    for (mirror, workers) in sorts() {
        let heap = checked(barrier, 4 << 20).mirror(mirror).workers(workers).verify(false).build().unwrap();
        heap.enter(|m| {
            let (table, mut random) = (table(m, 2600), Random::new(1));
            for step in 0..60_000_usize {
                let index = random.below(2600);
                place(m, table, index, 100 + step % 1800).unwrap_or_else(|error| panic!("step {step}: {error}"));
            }
            assert!(check_all(m, table) > 2500);
        })
        .unwrap();
        let stats = heap.stats();
        assert!(stats.committed_peak_bytes <= 4 << 20 && stats.cycles > 10, "{stats:?}");
    }
}

pub(crate) fn a_room_that_cannot_exist_is_out_of_memory(barrier: Barrier) {
    let heap = checked(barrier, 4 << 20).build().unwrap();
    heap.enter(|m| {
        let mut rooms =
            vec![AllocSize::of::<Node>().times(usize::MAX), AllocSize::tail::<Bytes>(3 << 20).times(usize::MAX)];
        for len in [4 << 20, 1 << 40, (1 << 60) - 17, 1 << 60, usize::MAX / 8 + 1, usize::MAX / 8, isize::MAX as usize]
        {
            rooms.extend([AllocSize::tail::<Bytes>(len), AllocSize::tail::<SlotArray<Tagged>>(len)]);
        }
        for near in 0..40 {
            rooms.extend([
                AllocSize::tail::<Bytes>(usize::MAX - near),
                AllocSize::tail::<Array<f64>>(usize::MAX / 8 - near),
            ]);
        }
        let sums: Vec<AllocSize> = rooms.iter().map(|room| *room + AllocSize::of::<Node>() + *room).collect();
        for room in rooms.into_iter().chain(sums) {
            assert!(m.reserve(room).is_err(), "{room:?}");
        }
        // None of it has cost anything.
        let table = table(m, 4200);
        assert!(fill(m, table, 1000) > 2500);
        // What fits exactly is granted.
        (0..4200).for_each(|index| table.get(m).tail()[index].set(m, None));
        m.reserve(AllocSize::of::<Node>().times(100_000)).unwrap();
        m.reserve(AllocSize::tail::<Bytes>(3 << 20)).unwrap();
    })
    .unwrap();
    assert!(heap.enter(|m| m.reserve(AllocSize::NONE).is_ok()).unwrap());
}

pub(crate) fn a_pretouched_heap_is_committed_from_the_start() {
    let heap = Heap::builder().max_bytes(8 << 20).pretouch(true).name("pretouched").build().unwrap();
    assert_eq!(of_the_file("pretouched"), 8 << 20);
    assert_eq!((heap.stats().committed_bytes, heap.stats().committed_peak_bytes), (8 << 20, 8 << 20));
    heap.enter(|m| {
        let table = table(m, 100);
        (0..1000).for_each(|step| place(m, table, step % 100, 20_000).unwrap());
        assert_eq!(check_all(m, table), 100);
    })
    .unwrap();
    assert_eq!(of_the_file("pretouched"), 8 << 20);
}

pub(crate) fn what_a_builder_refuses() {
    for bytes in [0, 1, (4 << 20) - 1] {
        let error = Heap::builder().max_bytes(bytes).build().unwrap_err().to_string();
        assert!(error.contains("too small") && error.contains("4 MiB") && !error.contains('\n'), "{error}");
    }
    for bytes in [1 << 50, usize::MAX - 70_000, usize::MAX] {
        let error = Heap::builder().max_bytes(bytes).build().unwrap_err().to_string();
        assert!(!error.contains('\n') && error.contains(&ByteSize::new(bytes as u64).to_string()), "{error}");
    }
    for (name, says) in [("nul\0".to_owned(), "contains NUL"), ("n".repeat(250), "249")] {
        for barrier in [Barrier::Load, Barrier::Page, Barrier::StopTheWorld] {
            let error = Heap::builder().name(&name).barrier(barrier).build().unwrap_err();
            let told = matches!(error, BuildError::Name { bytes, nul } if bytes == name.len() && nul == (bytes < 249));
            let text = error.to_string();
            assert!(
                told && text.contains("invalid heap name") && text.contains(says) && !text.contains('\n'),
                "{text}"
            );
        }
    }
    assert!(Heap::builder().max_bytes(8 << 20).name(&"n".repeat(249)).build().is_ok());
    for workers in [0, 65, usize::MAX] {
        assert!(Heap::builder().workers(workers).build().unwrap_err().to_string().contains("1 to 64"));
    }
    let collapse = || Heap::builder().max_bytes(8 << 20).huge_pages(HugePages::Collapse);
    let error = collapse().build().unwrap_err().to_string();
    assert!(error.contains("pretouch(true)") && !error.contains('\n'), "{error}");
    // With it, a kernel before 6.1 refuses it for a reason of its own.
    assert!(!matches!(collapse().pretouch(true).build(), Err(BuildError::Collapse)));
    let odd = Heap::builder().max_bytes((4 << 20) + 1).build().unwrap();
    assert_eq!(odd.max_bytes(), (4 << 20) + (64 << 10));
}

/// An iterator that says another length than it has.
struct Liar<I>(I, usize);

impl<I: Iterator> Iterator for Liar<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.1, Some(self.1))
    }
}

impl<I: Iterator> ExactSizeIterator for Liar<I> {}

fn sound(m: &mut Mutator<'_>, kept: Local<'_, Table>) {
    m.collect();
    assert_eq!(check_all(m, kept), 50);
    (0..50).for_each(|index| place(m, kept, index, 100 + index).unwrap());
}

pub(crate) fn iterators_that_lie(barrier: Barrier) {
    for stressed in [false, true] {
        let builder = checked(barrier, 4 << 20);
        let heap = if stressed { builder.stress(stress(1)) } else { builder }.build().unwrap();
        heap.enter(|m| {
            let kept = table(m, 50);
            (0..50).for_each(|index| place(m, kept, index, 100).unwrap());
            // Fewer than said.
            for (said, given) in [(1, 0), (100, 99), (5000, 10)] {
                let m = m.reserve(AllocSize::tail::<SlotArray<Tagged>>(said)).unwrap();
                panics(|| m.place_tail::<SlotArray<Tagged>, _>((), Liar((0..given).map(|_| Value::TRUE), said)));
            }
            sound(m, kept);
            // More than said: the rest is left alone.
            let m2 = m.reserve(AllocSize::tail::<SlotArray<Tagged>>(3)).unwrap();
            let array = m2.place_tail::<SlotArray<Tagged>, _>((), Liar((0..100).map(Value::int), 3));
            let values: Vec<_> = array.tail().iter().map(|slot| slot.get(m2).as_int().unwrap()).collect();
            assert_eq!(values, [0, 1, 2]);
            sound(m, kept);
            // Far more than there is.
            for said in [4 << 20, 1 << 45, usize::MAX / 8, usize::MAX] {
                let m = m.reserve(AllocSize::NONE).unwrap();
                panics(|| m.place_tail::<SlotArray<Tagged>, _>((), Liar((0..3).map(Value::int), said)));
                panics(|| m.place_array::<SlotArray<Tagged>>((), said, Value::NIL));
            }
            sound(m, kept);
        })
        .unwrap();
    }
}

/// A panic in every piece of code of the embedder that the heap calls.
pub(crate) fn panics_leave_the_heap_sound(barrier: Barrier) {
    for (mirror, workers) in sorts() {
        let builder = checked(barrier, 4 << 20).mirror(mirror).workers(workers);
        let heap = builder.stress(stress(2)).build().unwrap();
        heap.enter(|m| {
            let kept = table(m, 50);
            (0..50).for_each(|index| place(m, kept, index, 100).unwrap());
            for round in 0..30_usize {
                panics(|| m.alloc::<Node>(|_| panic!("in an initialiser")));
                panics(|| m.alloc_raw::<Node>(|_| panic!("in an initialiser")).is_ok());
                panics(|| m.build::<Node>(AllocSize::of::<Node>().times(5), |_| panic!("in build")));
                panics(|| m.scope_local::<Node, ()>(|_| panic!("in a scope")));
                panics(|| m.blocking(|| panic!("in blocking")));
                let len = [5, 700, 6000][round % 3];
                let m2 = m
                    .reserve(AllocSize::tail::<SlotArray<Option<Node>>>(len) + AllocSize::of::<Node>().times(len))
                    .unwrap();
                let nodes = (0..len).map(|at| {
                    assert!(at != len / 2, "in an iterator");
                    Some(m2.place(NodeInit { id: at as u64, next: None }))
                });
                panics(|| m2.place_tail::<SlotArray<Option<Node>>, _>((), nodes));
                panics(|| {
                    let mut frame = m.frame();
                    let node =
                        frame.build::<Node>(AllocSize::of::<Node>(), |m| m.place(NodeInit { id: 1, next: None }));
                    frame.safepoint();
                    assert_eq!(node.unwrap().get(&frame).id, 2, "in a frame");
                });
                sound(m, kept);
            }
            panics(|| heap.enter(|_| ()).unwrap());
        })
        .unwrap();
        panics(|| heap.enter(|m| m.reserve(AllocSize::tail::<Bytes>(2 << 20)).map(|_| panic!("with room in hand"))));
        heap.enter(|m| {
            // Neither the room nor the thread's place in the heap was lost.
            let table = table(m, 4200);
            assert!(fill(m, table, 1000) > 2500);
        })
        .unwrap();
    }
}

/// Placing more than was reserved is a bug of the embedder, which stress mode finds each time.
pub(crate) fn placing_past_the_room_panics_in_stress_mode(barrier: Barrier) {
    let heap = checked(barrier, 4 << 20).stress(stress(3)).build().unwrap();
    heap.enter(|m| {
        for count in [0, 1, 10, 100, 2000] {
            let m = m.reserve(AllocSize::of::<Node>().times(count)).unwrap();
            for id in 0..count as u64 {
                m.place(NodeInit { id, next: None });
            }
            let expected = line!() + 1;
            let (text, file, line) = panic_of(|| m.place(NodeInit { id: 0, next: None }));
            assert!(text.contains("placed 24 bytes past the reserved room"), "{text}");
            assert!(file.ends_with("memory.rs") && line == expected, "{file}:{line}");
            assert!(m.try_alloc(NodeInit { id: 0, next: None }).is_err());
        }
        for (room, len) in [(100, 200), (100, 70_000), (40_000, 70_000), (200_000, 200_001 + 65_536)] {
            let m = m.reserve(AllocSize::tail::<Bytes>(room)).unwrap();
            panics(|| m.place_bytes::<Bytes>((), &vec![1; len]));
        }
    })
    .unwrap();
}

/// Without stress mode it is found where memory is short, and harms nothing before.
pub(crate) fn placing_past_the_room_is_safe(barrier: Barrier) {
    for workers in [1, 2] {
        let heap = checked(barrier, 4 << 20).workers(workers).build().unwrap();
        heap.enter(|m| {
            let head = m.build::<Option<Node>>(AllocSize::NONE, |_| None).unwrap();
            for _ in 0..5 {
                let mut count = 0;
                panics(|| {
                    let m = m.reserve(AllocSize::of::<Node>()).unwrap();
                    loop {
                        head.set(m, Some(m.place(NodeInit { id: count, next: head.get(m) })));
                        count += 1;
                    }
                });
                assert!(count > 50_000);
                let (mut node, mut expected) = (head.get(m), count);
                while let Some(found) = node {
                    expected -= 1;
                    assert_eq!(found.id, expected);
                    node = found.next.get(m);
                }
                assert_eq!(expected, 0);
                head.set(m, None);
                m.collect();
            }
        })
        .unwrap();
    }
}

/// Stalled threads share what a cycle frees: none fails while little lives.
pub(crate) fn threads_that_stall_together_all_go_on(barrier: Barrier) {
    let heap = Heap::builder().max_bytes(4 << 20).barrier(barrier).backing(crate::common::backing()).build().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                heap.enter(|m| {
                    let table = table(m, 4);
                    for step in 0..2000_usize {
                        let len = if step.is_multiple_of(50) { 100_000 } else { 10_000 };
                        place(m, table, step % 4, len).unwrap_or_else(|error| panic!("step {step}: {error}"));
                    }
                })
                .unwrap();
            });
        }
    });
    assert!(heap.stats().committed_peak_bytes <= 4 << 20);
}

/// A counter that wraps inside an object is the embedder's affair.
pub(crate) fn numbers_keep_their_place(barrier: Barrier) {
    #[derive(Trace)]
    #[trace(tail = Num<u16>)]
    struct Counters {
        total: Num<i8>,
    }
    let heap = checked(barrier, 4 << 20).stress(stress(4)).build().unwrap();
    heap.enter(|m| {
        for len in [0, 1, 2, 3, 5, 17_000] {
            let m = &mut *m.frame();
            let counters = m.build::<Counters>(AllocSize::tail::<Counters>(len), |m| {
                m.place_tail(CountersInit { total: -1 }, (0..len).map(|at| at as u16))
            });
            let counters = counters.unwrap();
            m.collect();
            counters.get(m).tail().iter().for_each(|number| number.set(number.get().wrapping_add(u16::MAX)));
            m.collect();
            let counters = counters.get(m);
            assert_eq!((counters.total.get(), counters.tail_len()), (-1, len));
            let right = |(at, number): (usize, &Num<u16>)| number.get() == (at as u16).wrapping_sub(1);
            assert!(counters.tail().iter().enumerate().all(right));
        }
    })
    .unwrap();
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        out_of_memory_is_an_error_and_the_heap_goes_on,
        fragments_are_compacted_where_sixty_percent_live,
        a_run_of_blocks_is_found_after_fragmentation,
        the_least_heap_works_hard,
        panics_leave_the_heap_sound,
        threads_that_stall_together_all_go_on
    ],
    concurrent: tests![
        a_room_that_cannot_exist_is_out_of_memory,
        iterators_that_lie,
        placing_past_the_room_panics_in_stress_mode,
        placing_past_the_room_is_safe,
        numbers_keep_their_place
    ],
    once: tests![a_pretouched_heap_is_committed_from_the_start, what_a_builder_refuses],
    ..Tests::NONE
};
