//! Large objects move where a thread wants a run of blocks and what is free lies between them;
//! pinned ones stay.

use crate::common::{Random, checked, every_heap, stress};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Barrier, Bytes, Ephemeron, FinalizerQueue, Gc, Heap, Local, Mutator, Num, OutOfMemory, Pinned, Root,
    RootStack, Slot, SlotArray, Trace, Weak, WeakSlot,
};
use std::io::Write;
use std::sync::Barrier as Meeting;
use std::sync::atomic::{AtomicBool, Ordering};

const HEAP: usize = 16 << 20;
const BLOCK: usize = 64 << 10;

/// Blocks that are never counted on: the collector's reserve, and those that threads allocate small
/// objects in.
const SPARE: usize = 16;

/// Blocks of a row, and how many rows fill a heap.
const ROW: usize = 3;
const ROWS: usize = (HEAP / BLOCK - SPARE) / ROW;

/// A large object.
#[derive(Trace)]
#[trace(identity_hash, tail = Cell)]
struct Row {
    id: u64,
    myself: WeakSlot<Row>,
    pair: Ephemeron<Row, Row>,
}

#[derive(Trace)]
struct Cell {
    count: Num<u64>,
    to: Slot<Option<Row>>,
    check: [u64; 6],
}

type Rows = SlotArray<Option<Row>>;

/// Cells of a row that takes so many blocks.
fn cells(blocks: usize) -> usize {
    (blocks * BLOCK - 200) / size_of::<Cell>()
}

/// As many places for rows.
fn table<'s>(m: &mut Mutator<'s>, len: usize) -> Local<'s, Rows> {
    m.build::<Rows>(AllocSize::tail::<Rows>(len), |m| m.place_array((), len, None)).unwrap()
}

/// Puts a new row of so many blocks into its place.
fn put(m: &mut Mutator<'_>, rows: Local<'_, Rows>, id: usize, blocks: usize) -> Result<(), OutOfMemory> {
    let m = m.reserve(AllocSize::tail::<Row>(cells(blocks)))?;
    let fill = CellInit { count: (id as u64) << 32, to: None, check: [id as u64; 6] };
    let row = m.place_array::<Row>(RowInit { id: id as u64, myself: None, pair: None }, cells(blocks), fill);
    row.myself.set(m, Some(row));
    row.pair.set(m, Some((row, row)));
    rows.get(m).tail()[id].set(m, Some(row));
    Ok(())
}

/// A heap full of rows.
fn filled<'s>(m: &mut Mutator<'s>) -> Local<'s, Rows> {
    let rows = table(m, ROWS);
    (0..ROWS).for_each(|id| put(m, rows, id, ROW).unwrap());
    rows
}

/// Checks that a row is this one, and leads to itself alone.
fn check(m: &Mutator<'_>, row: Gc<'_, Row>, id: usize) {
    assert_eq!(row.id, id as u64);
    let is_right = |cell: &Cell| cell.count.get() >> 32 == row.id && cell.check == [row.id; 6];
    assert!(row.tail().iter().all(is_right), "cells of another row in row {id}");
    assert!(row.myself.get(m).is_some_and(|other| other.ptr_eq(row)), "the weak slot of row {id}");
    let (key, value) = row.pair.get(m).expect("a pair of a live key");
    assert!(key.ptr_eq(row) && value.ptr_eq(row), "the pair of row {id}");
}

fn check_all(m: &Mutator<'_>, rows: Local<'_, Rows>) {
    let rows = rows.get(m).tail().iter().enumerate();
    rows.for_each(|(id, slot)| slot.get(m).into_iter().for_each(|row| check(m, row, id)));
}

/// Numbers of the rows that are there.
fn kept(m: &Mutator<'_>, rows: Local<'_, Rows>) -> Vec<usize> {
    let rows = rows.get(m).tail().iter().enumerate();
    rows.filter_map(|(id, slot)| slot.get(m).map(|_| id)).collect()
}

/// Leads from cells at the beginning, in the middle and at the end of each row to other rows.
fn link(m: &Mutator<'_>, rows: Local<'_, Rows>) {
    each_link(m, rows, |slot, to| slot.set(m, Some(to)));
}

fn check_links(m: &Mutator<'_>, rows: Local<'_, Rows>) {
    each_link(m, rows, |slot, to| assert!(slot.get(m).is_some_and(|found| found.ptr_eq(to)), "another row"));
}

fn each_link<'g>(m: &'g Mutator<'_>, rows: Local<'_, Rows>, each: impl Fn(&Slot<Option<Row>>, Gc<'g, Row>)) {
    let (kept, rows) = (kept(m, rows), rows.get(m).tail());
    for (index, &id) in kept.iter().enumerate() {
        let cells = rows[id].get(m).unwrap().tail();
        for (step, at) in [0, cells.len() / 2, cells.len() - 1].into_iter().enumerate() {
            let to = rows[kept[(index + 7 * step + 1) % kept.len()]].get(m).unwrap();
            each(&cells[at].to, to);
        }
    }
}

/// Makes rows of so many blocks, as long as there are blocks, and gives how many blocks they take.
fn use_blocks(m: &mut Mutator<'_>, most: usize, blocks: usize) -> usize {
    let m = &mut *m.frame();
    let count = most / blocks;
    let rows = table(m, count);
    let got = (0..count).take_while(|&id| put(m, rows, id, blocks).is_ok()).count();
    check_all(m, rows);
    got * blocks
}

fn drop_rows(m: &Mutator<'_>, rows: Local<'_, Rows>, mut drops: impl FnMut(usize) -> bool) -> usize {
    let gone = (0..ROWS).filter(|&id| drops(id)).collect::<Vec<_>>();
    gone.iter().for_each(|&id| rows.get(m).tail()[id].set(m, None));
    gone.len() * ROW
}

/// Rows are dropped in a pattern, and longer ones wanted, as many as there is memory for. What
/// stays is held by locals, a stack, roots, slots, and weakly.
pub(crate) fn what_is_free_between_large_objects_can_be_used(barrier: Barrier) {
    let patterns: [fn(usize, &mut Random) -> bool; 3] =
        [|id, _| id % 2 == 0, |id, _| id % 4 < 2, |_, random| random.one_in(2)];
    for (seed, heap) in every_heap(barrier, HEAP, 31).enumerate() {
        for (pattern, longer) in patterns.into_iter().zip([2 * ROW, 4 * ROW, 2 * ROW + 1]) {
            let before = heap.stats();
            let mut random = Random::new(seed as u64 + 1);
            heap.enter(|m| {
                // Else new rows lie in the holes that rows of the pattern before have left, and
                // those that are dropped may be neighbours.
                m.collect();
                let rows = filled(m);
                let free = drop_rows(m, rows, |id| pattern(id, &mut random));
                let kept = kept(m, rows);
                link(m, rows);
                let each = |f: &mut dyn FnMut(Gc<'_, Row>)| {
                    kept.iter().for_each(|&id| f(rows.get(m).tail()[id].get(m).unwrap()))
                };
                let (mut hashes, mut roots, mut weak) = (Vec::new(), Vec::new(), Vec::new());
                let stack: RootStack<Row> = RootStack::new(&heap).unwrap();
                each(&mut |row| {
                    hashes.push(row.identity_hash(m));
                    roots.push(Root::<Row>::new(m, row));
                    weak.push(Weak::new(m, row));
                    stack.push(m, row);
                });
                let got = use_blocks(m, free - 2 * longer, longer);
                assert!(got + 3 * longer > free, "{got} of {free} blocks");
                check_all(m, rows);
                check_links(m, rows);
                for (index, &id) in kept.iter().enumerate() {
                    let row = rows.get(m).tail()[id].get(m).unwrap();
                    assert_eq!(row.identity_hash(m), hashes[index]);
                    assert!(roots[index].get(m).ptr_eq(row) && stack.get(m, index).ptr_eq(row));
                    assert!(weak[index].get(m).is_some_and(|other| other.ptr_eq(row)));
                }
            })
            .unwrap();
            let stats = heap.stats();
            let moved = stats.large_objects_moved - before.large_objects_moved;
            let bytes = stats.large_bytes_moved - before.large_bytes_moved;
            assert!(moved > 0 && bytes / moved > (ROW * BLOCK - 300) as u64, "{moved} with {bytes} bytes");
        }
    }
}

/// Long rows with short holes between them: each overlaps its new place.
pub(crate) fn rows_slide_by_less_than_their_length(barrier: Barrier) {
    const LONG: usize = 7;
    for heap in every_heap(barrier, HEAP, 38) {
        heap.enter(|m| {
            let rows = table(m, ROWS);
            // Of two lengths, one after the other.
            let pairs = ROWS * ROW / (LONG + 2);
            for id in 0..2 * pairs {
                put(m, rows, id, if id % 2 == 0 { 2 } else { LONG }).unwrap();
            }
            (0..pairs).for_each(|pair| rows.get(m).tail()[2 * pair].set(m, None));
            link(m, rows);
            let free = 2 * pairs;
            let got = use_blocks(m, free - LONG, LONG);
            assert!(got + 2 * LONG > free, "{got} of {free} blocks");
            check_all(m, rows);
            check_links(m, rows);
        })
        .unwrap();
        assert!(heap.stats().large_objects_moved > 0);
    }
}

/// Rows that are dropped are finalized once, and those that moved not.
pub(crate) fn moved_objects_are_finalized_when_they_die(barrier: Barrier) {
    for heap in every_heap(barrier, HEAP, 32) {
        let queue = FinalizerQueue::<Row>::new(&heap);
        heap.enter(|m| {
            let rows = filled(m);
            for slot in rows.get(m).tail().iter().step_by(2) {
                queue.register(m, slot.get(m).unwrap());
            }
            let free = drop_rows(m, rows, |id| id % 2 == 1);
            assert_ne!(use_blocks(m, free / 2, 2 * ROW), 0);
            m.collect();
            assert_eq!(queue.ready(), 0, "a row died that is held");
            drop_rows(m, rows, |id| id % 4 == 0);
            m.collect();
            m.collect();
            let mut dead = Vec::new();
            while let Some(row) = queue.take() {
                let id = row.get(m).id as usize;
                check(m, row.get(m), id);
                dead.push(id);
            }
            dead.sort_unstable();
            assert!(dead.iter().copied().eq((0..ROWS).step_by(4)), "{dead:?}");
        })
        .unwrap();
        assert!(heap.stats().large_objects_moved > 0);
    }
}

#[derive(Trace)]
struct Crumb {
    words: [u64; 62],
    next: Slot<Option<Crumb>>,
}

/// Small objects stand between large ones: full blocks of them, and blocks that are nearly empty.
pub(crate) fn small_objects_between_large_ones_make_way(barrier: Barrier) {
    for heap in every_heap(barrier, HEAP, 33) {
        let before = heap.stats();
        heap.enter(|m| {
            let rows = filled(m);
            // Small objects take the holes between the rows, and what is free below.
            let free = drop_rows(m, rows, |id| id % 3 == 0);
            let (all, few) = (m.local_of::<Option<Crumb>>(None), m.local_of::<Option<Crumb>>(None));
            let crumbs = (free - SPARE) * (BLOCK / size_of::<Crumb>()) / 2;
            for number in 0..crumbs {
                let m = m.reserve(AllocSize::of::<Crumb>()).unwrap();
                // The first half of them fills blocks, of the others few live.
                let list = if number < crumbs / 2 { all } else { few };
                let crumb = m.place(CrumbInit { words: [number as u64; 62], next: list.get(m) });
                if number < crumbs / 2 || number % 9 == 0 {
                    list.set(m, Some(crumb));
                }
            }
            let free = drop_rows(m, rows, |id| id % 3 == 1);
            link(m, rows);
            let got = use_blocks(m, free, 5 * ROW);
            assert!(got + 5 * ROW > free, "{got} of {free} blocks");
            check_all(m, rows);
            check_links(m, rows);
            for (list, count) in [(all, crumbs / 2), (few, (crumbs / 2..crumbs).filter(|n| n % 9 == 0).count())] {
                let mut found = 0;
                let mut next = list.get(m);
                while let Some(crumb) = next {
                    assert!(crumb.words.iter().all(|&word| word == crumb.words[0]));
                    (found, next) = (found + 1, crumb.next.get(m));
                }
                assert_eq!(found, count);
            }
        })
        .unwrap();
        assert!(heap.stats().large_objects_moved > before.large_objects_moved);
    }
}

const PINNED: usize = ROW * BLOCK - 200;

/// Pinned bytes, all of them the lowest byte of its number.
struct Pin {
    id: usize,
    pin: Pinned<Bytes>,
    address: usize,
}

/// Fills a heap with rows and, every `nth`, with pinned bytes instead.
fn filled_with_pins<'s>(m: &mut Mutator<'s>, nth: usize) -> (Local<'s, Rows>, Vec<Pin>) {
    let rows = table(m, ROWS);
    let mut pins = Vec::new();
    for id in 0..ROWS {
        if id % nth == 0 {
            let m = m.reserve(AllocSize::tail::<Bytes>(PINNED)).unwrap();
            let pin = m.pin(m.place_bytes::<Bytes>((), &vec![id as u8; PINNED]));
            let address = pin.tail_ptr().addr();
            pins.push(Pin { id, pin, address });
        } else {
            put(m, rows, id, ROW).unwrap();
        }
    }
    (rows, pins)
}

fn check_pins(m: &Mutator<'_>, pins: &[Pin]) {
    for Pin { id, pin, address } in pins {
        assert_eq!(pin.tail_ptr().addr(), *address, "a pinned object has moved");
        assert!(pin.tail().iter().all(|&byte| byte == *id as u8));
        assert!(pin.get(m).tail() == pin.tail());
    }
}

/// Between two pinned objects others slide. An object that is being filled stays too.
pub(crate) fn pinned_objects_stay_and_others_move_around_them(barrier: Barrier) {
    for heap in every_heap(barrier, HEAP, 34) {
        heap.enter(|m| {
            let (rows, pins) = filled_with_pins(m, 5);
            let room = AllocSize::tail::<Bytes>(PINNED);
            drop_rows(m, rows, |id| id == 7);
            let mut unfilled = m.reserve(room).unwrap().place_unfilled::<Bytes>((), PINNED);
            unfilled.write_all(&[1; PINNED / 2]).unwrap();
            // Of the four rows between two pinned objects the first and the third.
            let free = drop_rows(m, rows, |id| id % 5 == 1 || id % 5 == 3);
            link(m, rows);
            let got = use_blocks(m, free / 2, 2 * ROW);
            assert!(got + 2 * ROW > free / 2, "{got} of {free} blocks");
            check_all(m, rows);
            check_links(m, rows);
            check_pins(m, &pins);
            unfilled.write_all(&[2; PINNED - PINNED / 2]).unwrap();
            let bytes = unfilled.into_buffer().finish(m);
            assert!(bytes.tail()[..PINNED / 2].iter().all(|&byte| byte == 1));
            assert!(bytes.tail()[PINNED / 2..].iter().all(|&byte| byte == 2));
        })
        .unwrap();
        assert!(heap.stats().large_objects_moved > 0);
    }
}

/// Nowhere between two pinned objects are enough blocks free: rows move past them into holes
/// elsewhere.
pub(crate) fn objects_move_past_pinned_ones(barrier: Barrier) {
    for heap in every_heap(barrier, HEAP, 35) {
        heap.enter(|m| {
            let (rows, pins) = filled_with_pins(m, 3);
            let free = drop_rows(m, rows, |id| id % 3 == 1);
            link(m, rows);
            let got = use_blocks(m, free / 2, 2 * ROW);
            assert!(got + 2 * ROW > free / 2, "{got} of {free} blocks");
            check_all(m, rows);
            check_links(m, rows);
            check_pins(m, &pins);
        })
        .unwrap();
        assert!(heap.stats().large_objects_moved > 0);
    }
}

/// Threads that want runs of different lengths at one time.
pub(crate) fn several_threads_wait_for_runs(barrier: Barrier) {
    for heap in every_heap(barrier, HEAP, 36) {
        heap.enter(|m| {
            let rows = filled(m);
            drop_rows(m, rows, |id| id % 2 == 0);
            link(m, rows);
            let meeting = Meeting::new(4);
            m.blocking(|| {
                std::thread::scope(|scope| {
                    for thread in 0..4 {
                        let (heap, meeting) = (&heap, &meeting);
                        scope.spawn(move || {
                            meeting.wait();
                            // 4 times 4 to 7 blocks three times: 66 of 120 blocks.
                            let got = heap.enter(|m| use_blocks(m, 3 * (thread + 4), thread + 4)).unwrap();
                            assert_eq!(got, 3 * (thread + 4));
                        });
                    }
                });
            });
            check_all(m, rows);
            check_links(m, rows);
        })
        .unwrap();
        assert!(heap.stats().large_objects_moved > 0);
    }
}

/// Ends the other threads, also where a test panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Threads load from rows and store into them while they move again and again: no store is lost,
/// and each load finds what was stored.
pub(crate) fn rows_move_while_threads_use_them(barrier: Barrier) {
    const THREADS: usize = 3;
    // Rows that stay. Slots lead to these alone, so that the others can be dropped.
    const STAY: usize = 3;
    for heap in [checked(barrier, HEAP), checked(barrier, HEAP).stress(stress(37)).workers(2)] {
        let heap: Heap = heap.build().unwrap();
        let rows = heap
            .enter(|m| {
                let rows = filled(m);
                Root::<Rows>::new(m, rows.get(m))
            })
            .unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let use_rows = |thread: usize| {
                let mut random = Random::new(thread as u64 + 1);
                let mut stored = vec![0_u64; ROWS];
                heap.enter(|m| {
                    while !done.load(Ordering::Relaxed) {
                        m.safepoint();
                        let (from, to) = (random.below(ROWS), random.below(ROWS / STAY) * STAY);
                        let all = rows.get(m).tail();
                        let (Some(row), Some(to)) = (all[from].get(m), all[to].get(m)) else { continue };
                        // Each thread has cells of its own, in every page of the row.
                        let cell = &row.tail()[thread + THREADS * random.below(row.tail_len() / THREADS)];
                        assert_eq!((row.id, cell.count.get() >> 32), (from as u64, from as u64));
                        if let Some(old) = cell.to.get(m) {
                            assert!((old.id as usize).is_multiple_of(STAY) && old.myself.get(m).unwrap().ptr_eq(old));
                        }
                        cell.to.set(m, Some(to));
                        cell.count.set(cell.count.get() + 1);
                        stored[from] += 1;
                        assert!(cell.to.get(m).is_some_and(|found| found.ptr_eq(to)));
                    }
                })
                .unwrap();
                stored
            };
            let users: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || use_rows(thread))).collect();
            let ends = Ends(&done);
            heap.enter(|m| {
                let rows = m.local(rows.get(m));
                let mut random = Random::new(99);
                for _ in 0..5 {
                    let free = drop_rows(m, rows, |id| id % STAY != 0 && random.one_in(2));
                    let got = use_blocks(m, free - 4 * ROW, 4 * ROW);
                    assert!(got + 8 * ROW > free, "{got} of {free} blocks");
                    let gone: Vec<_> = (0..ROWS).filter(|&id| rows.get(m).tail()[id].get(m).is_none()).collect();
                    gone.into_iter().for_each(|id| put(m, rows, id, ROW).unwrap());
                }
            })
            .unwrap();
            drop(ends);
            let stored: Vec<_> = users.into_iter().map(|user| user.join().unwrap()).collect();
            heap.enter(|m| {
                let rows = m.local(rows.get(m));
                check_all(m, rows);
                for id in (0..ROWS).step_by(STAY) {
                    let row = rows.get(m).tail()[id].get(m).unwrap();
                    let found: u64 = row.tail().iter().map(|cell| cell.count.get() & 0xffff_ffff).sum();
                    assert_eq!(found, stored.iter().map(|stored| stored[id]).sum::<u64>(), "stores into row {id}");
                }
            })
            .unwrap();
        });
        assert!(heap.stats().large_objects_moved > 0, "{:?}", heap.stats());
    }
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        what_is_free_between_large_objects_can_be_used,
        rows_slide_by_less_than_their_length,
        moved_objects_are_finalized_when_they_die,
        small_objects_between_large_ones_make_way,
        pinned_objects_stay_and_others_move_around_them,
        objects_move_past_pinned_ones,
        several_threads_wait_for_runs,
        rows_move_while_threads_use_them,
    ],
    ..Tests::NONE
};
