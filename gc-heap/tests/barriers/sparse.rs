//! Heaps with more addresses than memory: large objects are contiguous wherever memory is free.

use crate::common::{Random, backing, checked, plain, stress};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Backing, Barrier, BuildError, Bytes, Heap, HeapBuilder, HugePages, Local, Mutator, OutOfMemory,
    SlotArray,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MIB: usize = 1 << 20;
const BLOCK: usize = 64 << 10;

/// What the file may have beside objects: roots, with the page barrier.
const ROOTS: usize = MIB;

type Table = SlotArray<Option<Bytes>>;

fn table<'s>(m: &mut Mutator<'s>, len: usize) -> Local<'s, Table> {
    m.build::<Table>(AllocSize::tail::<Table>(len), |m| m.place_array((), len, None)).unwrap()
}

/// Puts bytes into a slot, that fill so many bytes of blocks with their header.
fn place(m: &mut Mutator<'_>, table: Local<'_, Table>, index: usize, bytes: usize) -> Result<(), OutOfMemory> {
    let tail = vec![index as u8; bytes - 24];
    let m = m.reserve(AllocSize::tail::<Bytes>(tail.len()))?;
    table.get(m).tail()[index].set(m, Some(m.place_bytes::<Bytes>((), &tail)));
    Ok(())
}

fn forget(m: &Mutator<'_>, table: Local<'_, Table>, index: usize) {
    table.get(m).tail()[index].set(m, None);
}

/// Whether an object has the bytes that it was given.
fn is_whole(m: &Mutator<'_>, table: Local<'_, Table>, index: usize) -> bool {
    let object = table.get(m).tail()[index].get(m);
    object.is_none_or(|object| object.tail() == vec![index as u8; object.tail_len()])
}

fn check_all(m: &Mutator<'_>, table: Local<'_, Table>) {
    (0..table.get(m).tail_len()).for_each(|index| assert!(is_whole(m, table, index), "other bytes in {index}"));
}

/// Runs `work`; meanwhile another thread looks whether the heap ever has more than its maximum. Of
/// private memory pages are counted one after the other, and those that a flip moves meanwhile
/// twice: so it is looked at in the end, and the least of several counts is right.
fn within_the_maximum<R>(heap: &Heap, work: impl FnOnce() -> R) -> R {
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let resident = || heap.resident_bytes().unwrap();
    let is_private = backing() == Backing::Anonymous;
    let done = AtomicBool::new(false);
    let (result, mut most) = std::thread::scope(|scope| {
        let done = &done;
        let looks = scope.spawn(move || {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                let stats = heap.stats();
                assert!(stats.used_bytes <= stats.committed_bytes && stats.committed_peak_bytes <= stats.max_bytes);
                most = if is_private { 0 } else { resident().max(most) };
                std::thread::sleep(Duration::from_micros(500));
            }
            most
        });
        let ends = Ends(done);
        let result = work();
        drop(ends);
        (result, looks.join().unwrap())
    });
    if is_private {
        let count = || {
            std::thread::sleep(Duration::from_millis(2));
            resident()
        };
        most = (0..20).map(|_| count()).min().unwrap();
    }
    assert!(most > 0 && most <= heap.max_bytes() + ROOTS, "{most} bytes of memory, maximum {}", heap.max_bytes());
    result
}

/// Fills a heap with objects of a MiB, drops every second, and makes longer ones until 5 % of the
/// memory are free. Returns whether each got its memory.
fn fill_between(heap: &Heap) -> bool {
    let max = heap.max_bytes();
    heap.enter(|m| {
        let count = max / MIB - 4;
        let short = table(m, count);
        (0..count).for_each(|index| place(m, short, index, MIB).unwrap());
        (0..count).step_by(2).for_each(|index| forget(m, short, index));
        m.collect();
        let long = table(m, 100);
        let mut free = max - heap.stats().used_bytes;
        assert!(free > max / 2, "{free} bytes are free between objects that live");
        let mut next = 0;
        while let Some(bytes) = [32 * MIB, 8 * MIB, 3 * MIB, MIB].into_iter().find(|bytes| free >= bytes + max / 20) {
            if place(m, long, next, bytes).is_err() {
                return false;
            }
            (free, next) = (free - bytes, next + 1);
        }
        check_all(m, short);
        check_all(m, long);
        true
    })
    .unwrap()
}

/// With as many addresses as memory, large objects have to move for that, in a pause.
pub(crate) fn what_is_free_between_large_objects_is_used_without_a_copy(barrier: Barrier) {
    let builder = || plain(barrier, 128 * MIB).uncommit_delay(None);
    let heap = builder().build().unwrap();
    let all = within_the_maximum(&heap, || fill_between(&heap));
    assert!(!all || heap.stats().large_objects_moved > 0, "as many addresses as memory are enough");
    for factor in [2, 5] {
        let heap = builder().address_factor(factor).build().unwrap();
        assert!(within_the_maximum(&heap, || fill_between(&heap)), "no memory with a factor of {factor}");
        let stats = heap.stats();
        assert_eq!((stats.compactions, stats.large_objects_moved), (0, 0), "{stats:?}");
        assert!(stats.uncommitted_bytes > 40 * MIB as u64, "memory came from elsewhere");
        assert_eq!(heap.refusals().count, 0);
    }
}

/// What a thread holds of objects that come and go: bytes of blocks.
fn come_and_go(heap: &Heap, seed: u64, steps: usize, most: usize) {
    let mut random = Random::new(seed);
    heap.enter(|m| {
        const PLACES: usize = 600;
        let objects = table(m, PLACES);
        let mut held: Vec<(usize, usize)> = Vec::new();
        let mut unused: Vec<usize> = (0..PLACES).collect();
        let mut sum = 0;
        for _ in 0..steps {
            let bytes = (BLOCK << random.below(9)) * (1 + random.below(8)) / 8;
            let bytes = bytes.max(BLOCK).next_multiple_of(BLOCK);
            while sum + bytes > most || unused.is_empty() {
                let (index, bytes) = held.swap_remove(random.below(held.len()));
                assert!(is_whole(m, objects, index), "other bytes in {index}");
                forget(m, objects, index);
                unused.push(index);
                sum -= bytes;
            }
            let index = unused.pop().unwrap();
            place(m, objects, index, bytes).unwrap_or_else(|error| panic!("{bytes} bytes, {sum} held: {error}"));
            held.push((index, bytes));
            sum += bytes;
        }
        check_all(m, objects);
    })
    .unwrap();
}

/// Objects of 64 KiB to 16 MiB, in a heap that is full to nine tenths.
pub(crate) fn large_objects_come_and_go_in_a_full_heap(barrier: Barrier) {
    let heap = plain(barrier, 160 * MIB).address_factor(4).build().unwrap();
    within_the_maximum(&heap, || {
        std::thread::scope(|scope| {
            for seed in 1..3 {
                let heap = &heap;
                scope.spawn(move || come_and_go(heap, seed, 300, 160 * MIB / 100 * 45));
            }
        });
    });
    assert_eq!(heap.stats().large_objects_moved, 0, "{:?}", heap.stats());
}

/// Everything is verified, threads are delayed, and small objects move all the time.
pub(crate) fn memory_goes_from_block_to_block_under_stress(barrier: Barrier) {
    const HEAP: usize = 12 * MIB;
    for (workers, seed) in [(1, 51), (2, 52)] {
        let heap = checked(barrier, HEAP).address_factor(2).workers(workers).stress(stress(seed)).build().unwrap();
        within_the_maximum(&heap, || {
            std::thread::scope(|scope| {
                for thread in 0..2 {
                    let heap = &heap;
                    scope.spawn(move || mixed(heap, seed + 10 * thread, 400, HEAP / 4));
                }
            });
        });
    }
}

/// Objects of a few bytes to 1 MiB, so many bytes of them.
fn mixed(heap: &Heap, seed: u64, steps: usize, most: usize) {
    let mut random = Random::new(seed);
    heap.enter(|m| {
        const PLACES: usize = 250;
        let objects = table(m, PLACES);
        let mut sizes = [0; PLACES];
        for _ in 0..steps {
            let index = random.below(PLACES);
            let magnitude = 5 + random.below(15);
            let bytes = 32 + random.below(1 << magnitude);
            forget(m, objects, index);
            sizes[index] = 0;
            while sizes.iter().sum::<usize>() + bytes.next_multiple_of(BLOCK) > most {
                let gone = random.below(PLACES);
                assert!(is_whole(m, objects, gone), "other bytes in {gone}");
                forget(m, objects, gone);
                sizes[gone] = 0;
            }
            place(m, objects, index, bytes).unwrap();
            sizes[index] = if bytes > 32 << 10 { bytes.next_multiple_of(BLOCK) } else { bytes };
        }
        check_all(m, objects);
    })
    .unwrap();
}

/// All of the memory is there from the start, and no more, however much of the addresses is used.
pub(crate) fn a_pretouched_heap_has_its_maximum_and_no_more(barrier: Barrier) {
    let heap = plain(barrier, 64 * MIB).address_factor(4).pretouch(true).uncommit_delay(None).build().unwrap();
    let stats = heap.stats();
    assert_eq!((stats.committed_bytes, stats.committed_peak_bytes), (64 * MIB, 64 * MIB));
    let resident = heap.resident_bytes().unwrap();
    assert!((64 * MIB..64 * MIB + ROOTS).contains(&resident), "{resident}");
    assert!(within_the_maximum(&heap, || fill_between(&heap)));
    assert_eq!((heap.stats().compactions, heap.stats().committed_bytes), (0, 64 * MIB));
}

/// What is free is uncommitted, wherever it is, and can be used again.
pub(crate) fn free_memory_is_given_back_from_all_addresses(barrier: Barrier) {
    let delay = Duration::from_millis(100);
    let builder = plain(barrier, 64 * MIB).address_factor(3).uncommit_delay(Some(delay));
    let heap = builder.soft_max_bytes(48 * MIB).build().unwrap();
    for _ in 0..2 {
        assert!(within_the_maximum(&heap, || fill_between(&heap)));
        assert!(heap.stats().committed_peak_bytes > 56 * MIB);
        heap.collect();
        while heap.stats().committed_bytes > 3 * MIB || heap.resident_bytes().unwrap() > 3 * MIB {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(heap.stats().used_bytes <= heap.stats().committed_bytes);
    }
}

/// Chunks are made huge while large objects take memory from others, huge ones included.
pub(crate) fn huge_pages_are_made_within_the_maximum(barrier: Barrier) {
    let background = |builder: HeapBuilder| builder.huge_pages(HugePages::Background);
    let heap = background(plain(barrier, 64 * MIB).address_factor(3)).build().unwrap();
    within_the_maximum(&heap, || {
        std::thread::scope(|scope| {
            for seed in 3..5 {
                let heap = &heap;
                scope.spawn(move || come_and_go(heap, seed, 60, 20 * MIB));
            }
        });
        assert!(fill_between(&heap));
    });
    assert_eq!(heap.stats().large_objects_moved, 0);
    if let Ok(heap) = plain(barrier, 64 * MIB).address_factor(2).pretouch(true).huge_pages(HugePages::Collapse).build()
    {
        assert_eq!(heap.stats().huge_bytes, 64 * MIB);
        assert!(within_the_maximum(&heap, || fill_between(&heap)));
    }
}

pub(crate) fn what_is_no_address_factor_is_refused() {
    for factor in [0, 17, usize::MAX] {
        let error = Heap::builder().max_bytes(8 * MIB).address_factor(factor).build().unwrap_err();
        assert!(matches!(error, BuildError::AddressFactor { factor: said } if said == factor));
        let text = error.to_string();
        assert!(text.contains(&factor.to_string()) && text.contains("1 to 16") && !text.contains('\n'), "{text}");
    }
    for factor in [1, 3, 16] {
        let heap = Heap::builder().max_bytes(4 * MIB + 1).address_factor(factor).build().unwrap();
        assert_eq!((heap.max_bytes(), heap.stats().committed_bytes), (4 * MIB + BLOCK, 0));
        // More than the memory is refused at once, whatever there is in addresses.
        let refused = heap.enter(|m| m.reserve(AllocSize::tail::<Bytes>(5 * MIB)).map(drop)).unwrap();
        assert!(refused.unwrap_err().to_string().contains("more than an empty heap"));
        assert!(heap.enter(|m| m.reserve(AllocSize::tail::<Bytes>(3 * MIB)).is_ok()).unwrap());
    }
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        what_is_free_between_large_objects_is_used_without_a_copy,
        large_objects_come_and_go_in_a_full_heap,
        memory_goes_from_block_to_block_under_stress,
        a_pretouched_heap_has_its_maximum_and_no_more,
        free_memory_is_given_back_from_all_addresses,
    ],
    file: tests![huge_pages_are_made_within_the_maximum],
    once: tests![what_is_no_address_factor_is_refused],
    ..Tests::NONE
};
