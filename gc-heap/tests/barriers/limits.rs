//! A heap whose process is at a limit: what the system refuses then costs time, or is said in a
//! line. Scenes that change a whole process, each in a child.

use crate::child::{builder, plays_well};
use crate::common::backing;
use crate::harness::{Tests, tests};
use gc_core::sys::inject;
use gc_heap::{
    AllocSize, Backing, Barrier, BuildError, BuildWarning, Bytes, Event, Heap, HugePages, Local, MIN_HEAP_BYTES,
    Mutator, Root, Slot, Stress, Trace,
};

pub(crate) const SCENES: &[(&str, fn())] = &[
    ("no-threads", no_threads),
    ("no-addresses", no_addresses),
    ("small-files", small_files),
    ("stays-registered", stays_registered),
    ("less-than-asked", less_than_asked),
    ("events-without-memory", events_without_memory),
    ("tables-without-memory", tables_without_memory),
    ("large-tables-without-addresses", large_tables_without_addresses),
    ("cycles-without-memory", cycles_without_memory),
];

#[derive(Trace)]
struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

/// Moves what can be moved, in every cycle.
const MOVES: Stress = Stress { cycle_every: u32::MAX, delay_one_in: 0, seed: 1 };

fn set_limit(resource: libc::__rlimit_resource_t, bytes: Option<usize>) {
    let bytes = bytes.map_or(libc::RLIM_INFINITY, |bytes| bytes as u64);
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel reads a value of this frame.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

/// Bytes of addresses that the process has.
fn mapped() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 4096
}

/// Bytes of data that the process has, as `RLIMIT_DATA` counts them.
fn data() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let data = text.lines().find_map(|line| line.strip_prefix("VmData:")?.split_whitespace().next()).unwrap();
    data.parse::<usize>().unwrap() * 1024
}

type List<'s> = Local<'s, Option<Node>>;

/// Adds to a list, with as much garbage between its nodes.
fn grow(m: &mut Mutator<'_>, list: &List<'_>, ids: std::ops::Range<u64>) {
    for id in ids {
        let m = m.reserve(AllocSize::of::<Node>().times(2)).unwrap();
        list.set(m, Some(m.place(NodeInit { id, next: list.get(m) })));
        m.place(NodeInit { id: u64::MAX, next: None });
    }
}

/// Looks at each node of a list.
fn check(m: &Mutator<'_>, list: &List<'_>, len: u64) {
    let (mut node, mut left) = (list.get(m), len);
    while let Some(here) = node {
        left -= 1;
        assert_eq!(here.id, left);
        node = here.next.get(m);
    }
    assert_eq!(left, 0);
}

fn no_threads() {
    for barrier in [Barrier::Load, Barrier::StopTheWorld, Barrier::Page] {
        for workers in [2, 3, 8] {
            let heap = Heap::builder().max_bytes(16 << 20).barrier(barrier).workers(workers).stress(MOVES).build();
            let Ok(heap) = heap else { continue };
            let work = |m: &mut Mutator<'_>| {
                let list: List<'_> = m.local(None);
                grow(m, &list, 0..20_000);
                // A thread's stack takes 2 MiB.
                set_limit(libc::RLIMIT_AS, Some(mapped() + (1 << 20)));
                m.collect();
                set_limit(libc::RLIMIT_AS, None);
                check(m, &list, 20_000);
                m.collect();
                check(m, &list, 20_000);
            };
            heap.enter(work).unwrap();
            assert_eq!((heap.stats().cycles, heap.stats().relocations), (2, 2), "{barrier:?}, {workers} workers");
        }
    }
}

/// Fails where a thread that the system refuses is waited for, or taken for the heap's end.
fn a_thread_that_is_refused_does_not_stop_the_collector() {
    plays_well("no-threads");
}

/// Bytes of `address..address + len` that are mapped readable and writable.
fn usable(address: usize, len: usize) -> usize {
    let hex = |text| usize::from_str_radix(text, 16).unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let usable = maps.lines().filter(|line| line.split(' ').nth(1).unwrap().starts_with("rw"));
    let parts = usable.map(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        hex(end).min(address + len).saturating_sub(hex(start).max(address))
    });
    parts.sum()
}

/// The limit is lowered below what the process has.
fn no_addresses() {
    let heap = builder().build().unwrap();
    let work = |m: &mut Mutator<'_>| {
        let list: List<'_> = m.local(None);
        let mut len = 0;
        let mut grow = |m: &mut Mutator<'_>, list: &List<'_>| {
            grow(m, list, len..len + 5000);
            len += 5000;
            m.collect();
            check(m, list, len);
            heap.stats().relocations
        };
        assert_eq!(grow(m, &list), 1);
        let first = format!("{:?}", list.get(m).unwrap());
        let address = usize::from_str_radix(first.split("0x").nth(1).unwrap().trim_end_matches(')'), 16).unwrap();
        // The view, and the one that its page tables go to: the next of the three that a heap has.
        let span = 32 << 30;
        let view = address / span * span;
        assert_eq!((view / span) % 4, 1, "the even view");
        let first_usable = usable(view, 2 * span);
        set_limit(libc::RLIMIT_AS, Some(mapped() / 2));
        for _ in 0..3 {
            assert_eq!(grow(m, &list), 1, "flipped where the kernel refuses");
            assert_eq!(usable(view, 2 * span), first_usable, "a piece of a view is gone");
        }
        set_limit(libc::RLIMIT_AS, None);
        assert_eq!(grow(m, &list), 2);
        assert_eq!(grow(m, &list), 3);
    };
    heap.enter(work).unwrap();
}

/// Fails where the flip is tried although the kernel has just refused to prepare it: it then unmaps
/// the from-view, and other threads may map there.
fn a_limit_on_addresses_below_what_there_is_stops_flips_and_nothing_else() {
    plays_well("no-addresses");
}

fn small_files() {
    set_limit(libc::RLIMIT_FSIZE, Some(1 << 20));
    for barrier in [Barrier::Load, Barrier::StopTheWorld, Barrier::Page] {
        let why = Heap::builder().max_bytes(8 << 20).barrier(barrier).build().unwrap_err().to_string();
        assert!(!why.contains('\n'), "one line: {why}");
        let told = ["RLIMIT_FSIZE", "1048576", "ulimit -f"].iter().all(|part| why.contains(part));
        assert!(told || why.contains("userfaultfd"), "{why}");
    }
    set_limit(libc::RLIMIT_FSIZE, Some(8 << 20));
    let heap = Heap::builder().max_bytes(8 << 20).build().unwrap();
    heap.enter(|m| m.alloc::<Node>(|_| NodeInit { id: 1, next: None }).map(|_| ())).unwrap().unwrap();
}

/// Fails where the file is made all the same: the kernel answers with `SIGXFSZ`, which kills.
fn a_limit_on_the_size_of_files_is_an_error() {
    plays_well("small-files");
}

fn stays_registered() {
    let heap = builder().verify(true).build().unwrap();
    inject::refuse("ioctl(UFFDIO_UNREGISTER)", libc::ENOMEM, 0, u64::MAX);
    let work = |m: &mut Mutator<'_>| {
        let list: List<'_> = m.local(None);
        for round in 1..10 {
            grow(m, &list, (round - 1) * 5000..round * 5000);
            m.collect();
            check(m, &list, round * 5000);
        }
    };
    heap.enter(work).unwrap();
    assert_eq!(heap.stats().relocations, 1, "flipped what is registered still");
    // Of a file most pieces have been given back by then, and those are registered no more.
    assert!(backing() == Backing::Memfd || heap.faults().count > 100, "who touches new pages is served");
}

/// Fails where the faults of a view whose registration could not be ended are nobody's.
fn a_registration_that_cannot_be_ended_is_served_on() {
    plays_well("stays-registered");
}

fn more_workers_than_a_small_heap_has_room_for(barrier: Barrier) {
    for workers in [15, 16, 32, 62, 63, 64] {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).barrier(barrier).backing(backing()).workers(workers);
        let heap = heap.stress(MOVES).build().unwrap();
        heap.enter(|m| {
            let list: List<'_> = m.local(None);
            grow(m, &list, 0..10_000);
            m.collect();
            // More than there is: an error, and no overflow.
            assert!(m.reserve(AllocSize::of::<Node>().times(MIN_HEAP_BYTES)).is_err());
        })
        .unwrap();
    }
}

fn less_than_asked() {
    let small = || Heap::builder().max_bytes(MIN_HEAP_BYTES);
    inject::refuse("madvise(COLLAPSE)", libc::EAGAIN, 0, u64::MAX);
    match small().pretouch(true).huge_pages(HugePages::Collapse).build() {
        Ok(heap) => {
            let [BuildWarning::SmallPages(why)] = heap.warnings() else { panic!("{:?}", heap.warnings()) };
            assert_eq!((why.call(), why.errno()), ("madvise(COLLAPSE)", libc::EAGAIN));
        }
        Err(error) => panic!("{error}"),
    }
    // Each source of a descriptor is asked for moves, and then for copies.
    inject::refuse("ioctl(UFFDIO_API)", libc::EINVAL, 0, 3);
    match small().barrier(Barrier::Page).backing(Backing::Anonymous).build() {
        Ok(heap) => {
            let [BuildWarning::PagesCopied(why)] = heap.warnings() else { panic!("{:?}", heap.warnings()) };
            assert_eq!((why.call(), why.errno()), ("ioctl(UFFDIO_API)", libc::EINVAL));
            let text = heap.warnings()[0].to_string();
            assert!(text.contains("copied") && text.contains("Linux 6.8") && !text.contains('\n'), "{text}");
        }
        Err(error) => println!("not tested: {error}"),
    }
}

/// Fails where a heap falls back in silence.
fn what_a_heap_has_less_of_than_was_asked_for_is_said() {
    plays_well("less-than-asked");
}

fn events_without_memory() {
    let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
    heap.collect();
    let of_one_cycle = heap.take_events().0.len();
    // The record doubles.
    set_limit(libc::RLIMIT_DATA, Some(data() + (3 << 20)));
    let cycles = (5 << 20) / (of_one_cycle * size_of::<Event>());
    (0..cycles).for_each(|_| heap.collect());
    set_limit(libc::RLIMIT_DATA, None);
    let (events, lost) = heap.take_events();
    assert!(lost > 0 && events.len() > of_one_cycle, "{} events and {lost} lost, of {cycles} cycles", events.len());
    heap.collect();
    assert!(matches!(heap.take_events(), (events, 0) if !events.is_empty()));
}

/// The collector ended the process when the record of events, which nobody had asked for, could not
/// grow.
fn events_that_find_no_memory_are_counted_as_lost() {
    plays_well("events-without-memory");
}

/// Each table of a heap in turn, by a test's refusal and by the system's.
fn tables_without_memory() {
    // Otherwise the allocator would keep tables that were freed, and no limit would matter.
    // SAFETY: a setting of the C library's allocator; no other thread runs yet.
    assert_eq!(unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10) }, 1);
    let kinds = [
        (Barrier::Load, Backing::Memfd),
        (Barrier::StopTheWorld, Backing::Memfd),
        (Barrier::Page, Backing::Memfd),
        (Barrier::Page, Backing::Anonymous),
    ];
    for (barrier, backing) in kinds {
        let builder = || Heap::builder().max_bytes(128 << 20).barrier(barrier).backing(backing);
        if let Err(error) = builder().build() {
            println!("not tested: {error}");
            continue;
        }
        let mut refused = 0;
        loop {
            inject::refuse("alloc(table)", libc::ENOMEM, refused, 1);
            match builder().build() {
                Ok(_) => break,
                Err(BuildError::Tables(error)) => {
                    assert_eq!((error.call(), error.errno()), ("alloc(table)", libc::ENOMEM));
                    assert!(error.arguments().eq([("bytes", error.arguments().next().unwrap().1)]), "{error}");
                }
                // The record of what is dumped belongs to the views.
                Err(error) => assert!(error.to_string().contains("alloc(table)"), "{error}"),
            }
            refused += 1;
        }
        inject::refuse_nothing();
        assert!(refused > 12, "{barrier:?}: {refused} tables");
        // Small allocations are made before, and find their memory: a cushion that is not trimmed.
        let mut cushion: Vec<Vec<u8>> = (0..400).map(|_| Vec::with_capacity(1000)).collect();
        cushion.drain(..300);
        // From the least on, and no further than to the tables: with a little more memory than they
        // need, the standard library panics in the collector's thread, before that runs anything.
        let first = data();
        let mut more = 1 << 20;
        loop {
            set_limit(libc::RLIMIT_DATA, Some(first + more));
            let built = builder().build();
            set_limit(libc::RLIMIT_DATA, None);
            match built {
                Err(BuildError::Tables(_)) => break,
                Err(_) => more += more / 4,
                Ok(_) => panic!("{barrier:?}, {backing:?}: built within {more}, and no table was refused"),
            }
        }
        assert!(builder().build().is_ok(), "{barrier:?}, {backing:?}");
    }
}

/// Fails where the process ends when a heap's tables find no memory.
fn a_heap_whose_tables_find_no_memory_is_not_built() {
    plays_well("tables-without-memory");
}

/// A heap whose addresses can be had, and nothing more.
fn large_tables_without_addresses() {
    for barrier in [Barrier::Load, Barrier::Page] {
        let built_within = |limit: usize| -> Result<Heap, Box<BuildError>> {
            let builder = Heap::builder().max_bytes(2 << 30).barrier(barrier);
            set_limit(libc::RLIMIT_AS, Some(limit));
            let built = builder.build();
            set_limit(libc::RLIMIT_AS, None);
            built.map_err(Box::new)
        };
        match built_within(1 << 46).map_err(|error| *error) {
            Ok(_) => {}
            Err(error @ (BuildError::PageBarrier(_) | BuildError::TooLarge { .. })) => {
                println!("not tested: {error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        }
        // From the least limit at which the views can be had, to one at which a table cannot.
        let (mut low, mut high) = (mapped(), 1 << 46);
        while high - low > 1 << 20 {
            let middle = low.midpoint(high);
            match built_within(middle).map_err(|error| *error) {
                Err(BuildError::Views(_) | BuildError::PageBarrier(_)) => low = middle,
                _ => high = middle,
            }
        }
        let mut limit = high + (1 << 20);
        loop {
            match built_within(limit).map_err(|error| *error) {
                Err(BuildError::Tables(_)) => break,
                Err(_) => limit += 4 << 20,
                Ok(_) => panic!("{barrier:?}: built within {limit}, its views within {high}"),
            }
        }
    }
}

/// Fails where the process ends when the tables of a large heap find no addresses.
fn a_heap_whose_tables_find_no_addresses_is_not_built() {
    plays_well("large-tables-without-addresses");
}

/// Cycles that the program's allocator refuses every table, or one.
fn cycles_without_memory() {
    for (barrier, workers) in [(Barrier::Load, 1), (Barrier::Load, 3), (Barrier::StopTheWorld, 1), (Barrier::Page, 2)] {
        let heap = Heap::builder().max_bytes(16 << 20).barrier(barrier).backing(backing()).workers(workers);
        let Ok(heap) = heap.stress(MOVES).verify(true).build() else { continue };
        let work = |m: &mut Mutator<'_>| {
            let list: List<'_> = m.local(None);
            let mut kept: Vec<Root<Bytes>> = Vec::new();
            let mut len = 0;
            let mut round = |m: &mut Mutator<'_>| {
                grow(m, &list, len..len + 500);
                len += 500;
                // Large objects, with gaps between them.
                for index in 0..2 {
                    let m = m.reserve(AllocSize::tail::<Bytes>(200_000)).unwrap();
                    let bytes = m.place_bytes::<Bytes>((), &[7; 200_000]);
                    if index == 0 && kept.len() < 10 {
                        kept.push(Root::new(m, bytes));
                    }
                }
                m.collect();
                check(m, &list, len);
                for bytes in &kept {
                    assert!(m.bytes_for_syscall(bytes.get(m)) == [7; 200_000]);
                }
            };
            inject::refuse("alloc(table)", libc::ENOMEM, 0, u64::MAX);
            (0..3).for_each(|_| round(m));
            let (relocated, refusals) = (heap.stats().relocations, heap.refusals());
            assert_eq!(relocated, 0, "{barrier:?}: moved without a table");
            assert_eq!(refusals.last.unwrap().call(), "alloc(table)");
            for skip in 0..20 {
                inject::refuse("alloc(table)", libc::ENOMEM, skip, 1);
                round(m);
            }
            inject::refuse_nothing();
            (0..3).for_each(|_| round(m));
            assert!(heap.stats().relocations > relocated);
        };
        heap.enter(work).unwrap();
    }
}

/// Fails where the process ends when a plan finds no memory, or loses what it has planned.
fn cycles_do_without_the_tables_that_find_no_memory() {
    plays_well("cycles-without-memory");
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![more_workers_than_a_small_heap_has_room_for],
    page: tests![
        a_limit_on_addresses_below_what_there_is_stops_flips_and_nothing_else,
        a_registration_that_cannot_be_ended_is_served_on,
        cycles_do_without_the_tables_that_find_no_memory,
    ],
    once: tests![
        a_thread_that_is_refused_does_not_stop_the_collector,
        a_limit_on_the_size_of_files_is_an_error,
        what_a_heap_has_less_of_than_was_asked_for_is_said,
        events_that_find_no_memory_are_counted_as_lost,
        a_heap_whose_tables_find_no_memory_is_not_built,
        a_heap_whose_tables_find_no_addresses_is_not_built,
    ],
    ..Tests::NONE
};
