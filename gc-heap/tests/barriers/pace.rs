//! When cycles begin, and when they do not.

use crate::common::plain;
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, AnyObject, Backing, Barrier, BuildError, Bytes, Event, Heap, HeapBuilder, HeapStats, Local, Mutator,
    OutOfMemory, Slot, SlotArray, StallCause, Trace, Tried,
};
use std::time::Duration;

#[derive(Trace)]
struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

/// A list of three thousand built at once takes two blocks, of which an empty heap has some.
pub(crate) fn a_reservation_of_several_blocks_takes_free_ones(barrier: Barrier) {
    const NODES: usize = 8000;
    let heap = plain(barrier, 64 << 20).build().unwrap();
    let build = heap.enter(|m| -> Result<(), OutOfMemory> {
        for round in 0..50 {
            let m = m.reserve(AllocSize::of::<Node>().times(NODES))?;
            let mut list = None;
            for id in 0..NODES as u64 {
                list = Some(m.place(NodeInit { id: round + id, next: list }));
            }
            assert_eq!(list.map(|node| node.id), Some(round + NODES as u64 - 1));
        }
        Ok(())
    });
    build.unwrap().unwrap();
    let stats = heap.stats();
    assert!(stats.allocated_bytes < 32 << 20, "half of the heap is left: {stats:?}");
    assert_eq!((stats.cycles, stats.stalls), (0, 0));
}

/// Cycles that take less than a millisecond, while blocks are taken by the gigabyte a second: a
/// margin that does not know how short a cycle is takes the whole heap, and cycles follow one
/// another.
pub(crate) fn short_cycles_do_not_follow_one_another(barrier: Barrier) {
    const KEPT: usize = 500;
    type Table = SlotArray<Option<Bytes>>;
    let cycles = |heap: HeapBuilder| {
        let heap = heap.build().unwrap();
        let junk = vec![b'!'; 100_000];
        let storm = heap.enter(|m| -> Result<(), OutOfMemory> {
            let table = m.build::<Table>(AllocSize::tail::<Table>(KEPT), |m| m.place_array((), KEPT, None))?;
            for index in 0..KEPT {
                let m = m.reserve(AllocSize::tail::<Bytes>(junk.len() / 2))?;
                table.get(m).tail()[index].set(m, Some(m.place_bytes::<Bytes>((), &junk[..junk.len() / 2])));
            }
            for _ in 0..40_000 {
                m.reserve(AllocSize::tail::<Bytes>(junk.len()))?.place_bytes::<Bytes>((), &junk);
            }
            Ok(())
        });
        storm.unwrap().unwrap();
        heap.stats().cycles
    };
    let baseline = cycles(plain(Barrier::StopTheWorld, 128 << 20).backing(Backing::Memfd).generations(false));
    // A few times as many are wanted; where the machine is busy with other things, cycles are long.
    let seen: Vec<_> = (0..5).map(|_| cycles(plain(barrier, 128 << 20))).collect();
    assert!(
        seen.iter().min() <= Some(&(5 * baseline)),
        "{seen:?} cycles, and {baseline} where nobody allocates meanwhile"
    );
}

/// Fills a table with `kept` objects, and then replaces one at random, `replaced` times; `between`
/// runs after each hundredth. Returns the statistics of when the table was full.
fn replace_at_random(
    heap: &Heap,
    kept: usize,
    bytes: usize,
    replaced: usize,
    between: impl Fn(&mut Mutator<'_>),
) -> HeapStats {
    type Table = SlotArray<Option<Bytes>>;
    let payload = vec![b'!'; bytes];
    let replace = heap.enter(|m| -> Result<HeapStats, OutOfMemory> {
        let table = m.build::<Table>(AllocSize::tail::<Table>(kept), |m| m.place_array((), kept, None))?;
        let (mut random, mut before) = (1_u64, heap.stats());
        for index in 0..kept + replaced {
            if index == kept {
                before = heap.stats();
            }
            if index > kept && index % 100 == 0 {
                between(m);
            }
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = if index < kept { index } else { random as usize % kept };
            let m = m.reserve(AllocSize::tail::<Bytes>(bytes))?;
            table.get(m).tail()[at].set(m, Some(m.place_bytes::<Bytes>((), &payload)));
        }
        Ok(before)
    });
    replace.unwrap().unwrap()
}

/// What makes a program slow.
fn rest(m: &mut Mutator<'_>) {
    m.blocking(|| std::thread::sleep(Duration::from_millis(2)));
}

/// Objects of two and a half blocks, one replaced at a time: what lies behind each is neither live
/// nor to be gained. A page barrier that keeps blocks for gaining it leaves few to the program, and
/// cycles follow one another.
pub(crate) fn what_lies_behind_large_objects_is_not_kept_for(barrier: Barrier) {
    const KEPT: usize = 250;
    const BYTES: usize = 160_000;
    let cycles = |barrier| {
        // The baseline has no generations.
        let generations = crate::common::generations() && barrier != Barrier::StopTheWorld;
        let heap = plain(barrier, 52 << 20).backing(Backing::Memfd).generations(generations).build().unwrap();
        replace_at_random(&heap, KEPT, BYTES, 8_000 - KEPT, |_| ());
        heap.stats().cycles
    };
    let baseline = cycles(Barrier::StopTheWorld);
    let seen: Vec<_> = (0..3).map(|_| cycles(barrier)).collect();
    assert!(seen.iter().min() <= Some(&(3 * baseline)), "{seen:?} cycles, and {baseline} where nothing is kept");
}

/// Objects that die at random, so that each cycle evacuates, in a program that allocates slowly. It
/// was fast while it filled the heap, and the collector takes many blocks at once to copy to: where
/// either is taken for the rate at which it allocates, half of what is free is kept for the next
/// cycle, which begins when the one before has ended.
pub(crate) fn neither_copies_nor_a_fast_start_begin_cycles() {
    const KEPT: usize = 42_000;
    const BYTES: usize = 1000;
    const REPLACED: usize = 75_000;
    let cycles = |barrier| {
        let heap = plain(barrier, 64 << 20).build().unwrap();
        let before = replace_at_random(&heap, KEPT, BYTES, REPLACED, rest);
        heap.stats().cycles - before.cycles
    };
    let baseline = cycles(Barrier::StopTheWorld);
    let seen: Vec<_> = (0..3).map(|_| cycles(Barrier::Load)).collect();
    assert!(
        seen.iter().min() <= Some(&(2 * baseline)),
        "{seen:?} cycles, and {baseline} where nobody allocates meanwhile"
    );
}

/// A thread that finds nothing while a flip is planned waits until the first sources are free. A
/// cycle that it had requested meanwhile would begin when the flip is over, and find nothing to do.
pub(crate) fn who_was_served_by_a_flip_needs_no_other_cycle() {
    const KEPT: usize = 28_000;
    const BYTES: usize = 1000;
    const REPLACED: usize = 75_000;
    let heap = plain(Barrier::Page, 64 << 20).build().unwrap();
    let (before, after) = (replace_at_random(&heap, KEPT, BYTES, REPLACED, rest), heap.stats());
    let (cycles, flips) = (after.cycles - before.cycles, after.relocations - before.relocations);
    assert!(flips > 2 && cycles <= flips + 2, "{cycles} cycles, {flips} flips");
}

/// A `collect` before anything lives finds nothing in no time. The next cycle begins when half of
/// the heap is used all the same.
pub(crate) fn an_early_cycle_that_finds_nothing_changes_nothing(barrier: Barrier) {
    let heap = plain(barrier, 64 << 20).build().unwrap();
    let grow = heap.enter(|m| -> Result<(), OutOfMemory> {
        for _ in 0..5 {
            m.collect();
        }
        let (_, _) = heap.take_events();
        let list = m.build::<Option<Node>>(AllocSize::NONE, |_| None)?;
        let mut id = 0;
        // Not until a cycle *ends*: where it is slow, what grows meanwhile would fill the heap.
        while heap.stats().cycles == 5 && heap.stats().used_bytes < 48 << 20 {
            // As slow as a program that computes something meanwhile: the collector gets a
            // processor in time.
            m.blocking(|| std::thread::sleep(Duration::from_micros(50)));
            for _ in 0..5000 {
                let m = m.reserve(AllocSize::of::<Node>())?;
                list.set(m, Some(m.place(NodeInit { id, next: list.get(m) })));
                id += 1;
            }
        }
        // Begins one where none has begun.
        m.collect();
        Ok(())
    });
    grow.unwrap().unwrap();
    let (events, _) = heap.take_events();
    let first = events.iter().find_map(|event| if let Event::Cycle(cycle) = event { Some(cycle) } else { None });
    let used = first.expect("a cycle").used_before_bytes;
    assert!(used < 45 << 20, "it began with {used} bytes used of {}", heap.max_bytes());
}

/// A list that fills the heap but for a few blocks, and then garbage, block after block: a
/// collection for each few of them. Until an error comes, or there were so many cycles.
fn thrash(heap: &Heap, most_cycles: u64) -> (Option<OutOfMemory>, u64) {
    let outcome = heap.enter(|m| {
        let list = m.build::<Option<Node>>(AllocSize::NONE, |_| None).unwrap();
        let mut id = 0;
        while let Ok(m) = m.reserve(AllocSize::of::<Node>()) {
            list.set(m, Some(m.place(NodeInit { id, next: list.get(m) })));
            id += 1;
        }
        let mut rest = list.get(m);
        for _ in 0..20_000 {
            rest = rest.and_then(|node| node.next.get(m));
        }
        list.set(m, rest);
        let before = heap.stats().cycles;
        let error = loop {
            // Not at each object: asking would be most of the program's work, and the collector's
            // share would not reach the limit.
            if heap.stats().cycles > before + most_cycles {
                break None;
            }
            let garbage = (0..1000)
                .try_for_each(|_| m.reserve(AllocSize::of::<Node>()).map(|m| _ = m.place(NodeInit { id, next: None })));
            if let Err(error) = garbage {
                break Some(error);
            }
        };
        // Nothing is lost, and what was let go of can be used.
        let mut node = list.get(m);
        while let Some(found) = node {
            assert!(found.id < id);
            (id, node) = (found.id, found.next.get(m));
        }
        assert_eq!(id, 0);
        let cycles = heap.stats().cycles - before;
        list.set(m, None);
        assert!(m.reserve(AllocSize::of::<Node>().times(100_000)).is_ok());
        (error, cycles)
    });
    outcome.unwrap()
}

/// Else a program stands still for as long as it likes, and nobody hears of it.
pub(crate) fn collecting_near_the_end_of_memory_ends(barrier: Barrier) {
    const MOST: u64 = 2000;
    let builder = plain(barrier, 32 << 20);
    let (error, cycles) = thrash(&builder.clone().build().unwrap(), MOST);
    let error = error.expect("it collects without end");
    let Tried::CollectingLimit { collections, percent } = error.tried() else {
        panic!("{error}: after {cycles} cycles")
    };
    assert!(collections >= 8 && (95..=100).contains(&percent) && cycles >= 8, "{error}");
    assert!(error.to_string().contains(&format!("the last {collections} collections took {percent} %")), "{error}");
    // For those who want it.
    let (error, _) = thrash(&builder.collecting_limit(None).build().unwrap(), cycles + 20);
    assert_eq!(error, None);
}

/// Rows of leaves until so much of the heap lives, and the heap's cycles. A row needs two fifths of
/// a block at once: while it grows, each block is four fifths full, too full to be evacuated by a
/// cycle, and the rest of it is gained by compaction alone.
fn fill(barrier: Barrier, percent: usize) -> Result<u64, OutOfMemory> {
    type Row = SlotArray<Option<AnyObject>>;
    const LEN: usize = 800;
    // With their headers.
    const ROW_BYTES: usize = 16 + LEN * 8 + LEN * 24;
    let heap = plain(barrier, 128 << 20).collecting_limit(Some(0.5)).build().unwrap();
    let rows = heap.max_bytes() / 100 * percent / ROW_BYTES;
    let filled = heap.enter(|m| -> Result<(), OutOfMemory> {
        let head = m.local_of::<Option<Row>>(None);
        for _ in 0..rows {
            let m = m.reserve(AllocSize::tail::<Row>(LEN) + AllocSize::tail::<Bytes>(1).times(LEN))?;
            let row = m.place_array::<Row>((), LEN, None);
            for slot in &row.tail()[1..] {
                slot.set(m, Some(m.place_bytes::<Bytes>((), b"y").any()));
            }
            row.tail()[0].set(m, head.get(m).map(|row| row.any()));
            head.set(m, Some(row));
        }
        let (mut row, mut found) = (head.get(m), 0);
        while let Some(here) = row {
            found += 1;
            row = here.tail()[0].get(m).map(|row| row.downcast::<Row>().expect("a row"));
        }
        assert_eq!(found, rows);
        Ok(())
    });
    filled.unwrap().map(|()| heap.stats().cycles)
}

/// Fails where threads are served a few of the withheld blocks after each cycle, so that none of
/// them waits in vain, and nothing is compacted.
pub(crate) fn a_heap_can_be_filled(barrier: Barrier) {
    for percent in [80, 90, 95] {
        let cycles = fill(barrier, percent).unwrap_or_else(|error| panic!("{percent} % live: {error}"));
        assert!(cycles < 40, "{percent} % live: {cycles} cycles");
    }
}

/// A list of which two thirds of the heap are, and a program that allocates garbage beside it as
/// fast as it can: what is free lasts for a part of each marking.
pub(crate) fn threads_are_slowed_down_before_memory_is_used_up(barrier: Barrier) {
    let heap = plain(barrier, 48 << 20).build().unwrap();
    let causes = heap.enter(|m| -> Result<[u64; 2], OutOfMemory> {
        let list: Local<'_, Option<Node>> = m.local(None);
        for id in 0..1 << 20 {
            let m = m.reserve(AllocSize::of::<Node>())?;
            list.set(m, Some(m.place(NodeInit { id, next: list.get(m) })));
        }
        drop(heap.take_events());
        let (before, mut causes) = (heap.stats().cycles, [0; 2]);
        while heap.stats().cycles < before + 20 {
            for id in 0..10_000 {
                m.reserve(AllocSize::of::<Node>())?.place(NodeInit { id, next: None });
            }
            for event in heap.take_events().0 {
                let Event::Stall(stall) = event else { continue };
                causes[usize::from(stall.cause == StallCause::Throttled)] += 1;
            }
        }
        assert_eq!(list.get(m).map(|node| node.id), Some((1 << 20) - 1));
        Ok(causes)
    });
    let [_, throttled] = causes.unwrap().unwrap();
    let stats = heap.stats();
    assert!(stats.throttled >= throttled && stats.throttled <= stats.stalls, "{throttled}: {stats:?}");
    // While the baseline marks, nobody allocates.
    assert_eq!(throttled != 0, barrier != Barrier::StopTheWorld, "{stats:?}");
}

/// The text names what was done, not what usually is.
pub(crate) fn the_error_says_what_was_tried(barrier: Barrier) {
    let heap = plain(barrier, 8 << 20).build().unwrap();
    let errors = heap.enter(|m| {
        let more = m.reserve(AllocSize::tail::<Bytes>(8 << 20)).unwrap_err();
        assert_eq!((heap.stats().cycles, heap.stats().stalls), (0, 0));
        let first =
            m.build::<Bytes>(AllocSize::tail::<Bytes>(5 << 20), |m| m.place_buffer((), 5 << 20).finish(m)).unwrap();
        let second = m.reserve(AllocSize::tail::<Bytes>(5 << 20)).unwrap_err();
        assert_eq!(first.get(m).tail_len(), 5 << 20);
        [more, second]
    });
    let [more, second] = errors.unwrap();
    assert_eq!((more.tried(), second.tried()), (Tried::TooMuch, Tried::CycleAndCompaction));
    let (more, second) = (more.to_string(), second.to_string());
    assert!(more.contains("nothing was collected") && !more.contains("after a"), "{more}");
    assert!(second.contains("after a cycle and a compaction"), "{second}");
    let stats = heap.stats();
    assert!(stats.cycles >= 2 && stats.compactions == 1, "{stats:?}");
}

pub(crate) fn a_limit_on_collecting_is_a_share() {
    for share in [0.0, -1.0, 1.5, f64::NAN] {
        let refused = Heap::builder().collecting_limit(Some(share)).build();
        assert!(matches!(refused, Err(BuildError::CollectingLimit { .. })), "{share}");
    }
    assert!(Heap::builder().max_bytes(4 << 20).collecting_limit(Some(1.0)).build().is_ok());
}

/// A program that has become idle allocates nothing, so nothing else begins a cycle.
pub(crate) fn an_idle_heap_gives_its_garbage_back_once(barrier: Barrier) {
    let heap = plain(barrier, 64 << 20).idle_after(Some(Duration::from_millis(200))).build().unwrap();
    let work = heap.enter(|m| -> Result<(), OutOfMemory> {
        for id in 0..800_000 {
            m.reserve(AllocSize::of::<Node>())?.place(NodeInit { id, next: None });
        }
        Ok(())
    });
    work.unwrap().unwrap();
    assert!(heap.stats().committed_bytes > 12 << 20);
    // Ends by the deadline of the trial, where it does not.
    while heap.stats().committed_bytes > 1 << 20 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let cycles = heap.stats().cycles;
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(heap.stats().cycles, cycles, "once is enough");
}

/// What the book says of a program that knows that it is idle.
pub(crate) fn what_is_collected_and_released_is_the_systems(barrier: Barrier) {
    let heap = plain(barrier, 64 << 20).idle_after(None).build().unwrap();
    let work = heap.enter(|m| -> Result<(), OutOfMemory> {
        for id in 0..800_000 {
            m.reserve(AllocSize::of::<Node>())?.place(NodeInit { id, next: None });
        }
        Ok(())
    });
    work.unwrap().unwrap();
    heap.collect();
    let given_back = heap.release_memory();
    assert!(given_back > 12 << 20 && heap.stats().committed_bytes < 1 << 20, "{given_back}: {:?}", heap.stats());
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        a_reservation_of_several_blocks_takes_free_ones,
        collecting_near_the_end_of_memory_ends,
        a_heap_can_be_filled,
        the_error_says_what_was_tried,
        threads_are_slowed_down_before_memory_is_used_up,
        an_idle_heap_gives_its_garbage_back_once,
        what_is_collected_and_released_is_the_systems,
    ],
    concurrent: tests![
        short_cycles_do_not_follow_one_another,
        what_lies_behind_large_objects_is_not_kept_for,
        an_early_cycle_that_finds_nothing_changes_nothing,
    ],
    page: tests![who_was_served_by_a_flip_needs_no_other_cycle],
    once: tests![a_limit_on_collecting_is_a_share, neither_copies_nor_a_fast_start_begin_cycles],
    ..Tests::NONE
};
