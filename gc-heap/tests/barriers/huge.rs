//! Huge pages that are made while the program runs.

use crate::child::plays_well;
use crate::common::{Random, checked, plain, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_core::sys::inject::{refuse, refuse_nothing};
use gc_heap::{
    AllocSize, Backing, Barrier, BuildWarning, Bytes, Heap, HugePages, Local, MIN_HEAP_BYTES, Mutator, RootStack,
    SlotArray, Stress,
};
use std::time::{Duration, Instant};

pub(crate) const SCENES: &[(&str, fn())] = &[("no-huge-pages", no_huge_pages)];

const HUGE: usize = 2 << 20;

type Table = SlotArray<Option<Bytes>>;

fn table<'s>(m: &mut Mutator<'s>, len: usize) -> Local<'s, Table> {
    m.build::<Table>(AllocSize::tail::<Table>(len), |m| m.place_array((), len, None)).unwrap()
}

fn place(m: &mut Mutator<'_>, table: Local<'_, Table>, index: usize, len: usize) {
    let m = m.reserve(AllocSize::tail::<Bytes>(len)).unwrap();
    table.get(m).tail()[index].set(m, Some(m.place_bytes::<Bytes>((), &vec![index as u8; len])));
}

/// Asserts that each object has the bytes that it was made of. Returns how many there are.
fn check(m: &Mutator<'_>, table: Local<'_, Table>) -> usize {
    let objects = table.get(m).tail().iter().enumerate().filter_map(|(index, slot)| Some((index, slot.get(m)?)));
    objects.inspect(|(index, object)| assert!(object.tail().iter().all(|&byte| byte == *index as u8))).count()
}

/// Whether a machine without free huge pages, or a kernel without the call, makes none here.
fn makes_none(heap: &Heap) -> bool {
    let refused = heap.refusals().last.filter(|_| heap.stats().huge_pages_made == 0);
    let why = heap.warnings().iter().map(|warning| warning.to_string()).chain(refused.map(|error| error.to_string()));
    why.inspect(|why| println!("huge pages are NOT TESTED: {why}")).count() > 0
}

/// Waits until something is so, as long as the trial may last.
fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the collector's view maps by huge pages what the heap counts, and no view maps more:
/// at once, but for a page that is just being made, which counts a moment later.
fn counts_agree(heap: &Heap) {
    until(|| {
        let (huge, mapped) = (heap.stats().huge_bytes, heap.huge_mapped_bytes().unwrap());
        mapped[0] == huge && mapped.iter().all(|&view| view <= huge)
    });
}

/// Fails where huge pages stay away, lose bytes, or go where blocks are uncommitted.
pub(crate) fn pages_are_made_while_the_program_runs(barrier: Barrier) {
    let heap = plain(barrier, 96 << 20).huge_pages(HugePages::Background).workers(2).build().unwrap();
    heap.enter(|m| {
        let m = &mut *m.frame();
        let kept = table(m, 4000);
        let mut random = Random::new(7);
        // More than is made in advance, of a size that leaves nothing of a block for long.
        for _ in 0..3 {
            (0..4000).for_each(|index| place(m, kept, index, 2000 + random.below(8000)));
            m.collect();
        }
        let live = heap.stats().live_bytes as usize;
        assert!(live > 20 << 20);
        // Free chunks first, and then those that the objects are in.
        m.blocking(|| until(|| makes_none(&heap) || heap.stats().huge_bytes >= live / 10 * 9));
        assert_eq!(check(m, kept), 4000);
        if makes_none(&heap) {
            return;
        }
        // A page counts when it is one, and as an attempt right after.
        assert!((heap.stats().huge_pages_made as usize + 1) * HUGE >= heap.stats().huge_bytes);
        for round in 0..4 {
            (0..4000).filter(|index| index % 4 == round).for_each(|index| place(m, kept, index, 5000));
            m.collect();
            assert_eq!(check(m, kept), 4000);
        }
        // Huge or not, no free chunk stays, and no block is punched out of a huge page.
        m.blocking(|| heap.release_memory());
        assert_eq!(check(m, kept), 4000);
        let stats = heap.stats();
        assert!(stats.huge_bytes > 0 && stats.huge_bytes <= stats.committed_bytes, "{stats:?}");
    })
    .unwrap();
    if makes_none(&heap) {
        return;
    }
    counts_agree(&heap);
    heap.collect();
    heap.collect();
    heap.release_memory();
    until(|| {
        heap.release_memory();
        heap.stats().committed_bytes < 3 * HUGE
    });
}

/// As many huge pages in each view as after a cycle of this barrier: a flip takes the mutators'
/// view away, and pages come back one by one.
pub(crate) fn every_view_has_them_again_after_a_cycle(barrier: Barrier) {
    // Moves what can be moved in every cycle.
    let moving = Stress { cycle_every: u32::MAX, ..Stress::default() };
    let heap = plain(barrier, 64 << 20).huge_pages(HugePages::Background).stress(moving).build().unwrap();
    heap.enter(|m| {
        let m = &mut *m.frame();
        let kept = table(m, 2000);
        let mut relocations = 0;
        (0..2000).for_each(|index| place(m, kept, index, 8000));
        for round in 0..20 {
            (0..2000).filter(|index| index % 2 == round % 2).for_each(|index| place(m, kept, index, 8000));
            m.collect();
            m.blocking(|| until(|| makes_none(&heap) || heap.stats().huge_bytes >= 16 << 20));
            if makes_none(&heap) {
                return;
            }
            assert_eq!(check(m, kept), 2000);
            relocations = heap.stats().relocations;
        }
        assert!(relocations > 10);
        let live = heap.stats().live_bytes as usize;
        // One of the mutators' views has what they have touched since the cycle.
        m.blocking(|| until(|| heap.huge_mapped_bytes().unwrap()[1..].iter().any(|&view| view >= live / 2)));
    })
    .unwrap();
}

/// Fails where an idle heap commits more and more, or again what was uncommitted.
fn an_idle_heap_makes_no_more_than_the_first() {
    let heap = Heap::builder().max_bytes(512 << 20).huge_pages(HugePages::Background).build().unwrap();
    until(|| makes_none(&heap) || heap.stats().huge_pages_made == 8);
    if makes_none(&heap) {
        return;
    }
    std::thread::sleep(Duration::from_millis(100));
    let stats = heap.stats();
    assert_eq!((stats.huge_pages_made, stats.committed_bytes, stats.used_bytes), (8, 8 * HUGE, 0));
    counts_agree(&heap);
    assert_eq!(heap.release_memory(), 8 * HUGE);
    std::thread::sleep(Duration::from_millis(100));
    let stats = heap.stats();
    assert_eq!((stats.huge_pages_made, stats.huge_bytes, stats.committed_bytes), (8, 0, 0));
}

/// Two heaps at once, each with threads that allocate, and cycles all the time.
pub(crate) fn stressed_heaps_stay_sound(barrier: Barrier) {
    let heaps: [_; 2] = std::array::from_fn(|seed| {
        let builder = checked(barrier, 24 << 20).huge_pages(HugePages::Background).workers(1 + seed);
        builder.stress(stress(seed as u64)).build().unwrap()
    });
    std::thread::scope(|scope| {
        for (seed, heap) in heaps.iter().flat_map(|heap| [(1, heap), (2, heap)]) {
            scope.spawn(move || {
                heap.enter(|m| {
                    let kept = table(m, 500);
                    let mut random = Random::new(seed);
                    for round in 0..6 {
                        (0..500).for_each(|index| place(m, kept, index, random.below(9000)));
                        (0..10).for_each(|index| place(m, kept, index, 100_000));
                        if round % 3 == 1 {
                            m.blocking(|| heap.release_memory());
                        }
                        assert_eq!(check(m, kept), 500);
                    }
                })
                .unwrap();
            });
        }
        while_collecting(&heaps[0], Duration::from_millis(1), || heaps[1].collect());
    });
    for heap in &heaps {
        assert!(heap.stats().huge_pages_made > 0 || makes_none(heap), "{:?}", heap.stats());
    }
}

fn no_huge_pages() {
    let build = || Heap::builder().max_bytes(8 * MIN_HEAP_BYTES).huge_pages(HugePages::Background).build().unwrap();
    let work = |heap: &Heap| {
        heap.enter(|m| {
            let kept = table(m, 500);
            (0..500).for_each(|index| place(m, kept, index, 8000));
            m.collect();
            assert_eq!(check(m, kept), 500);
        })
        .unwrap();
    };
    // A kernel that does not know the call.
    refuse("madvise(COLLAPSE)", libc::EINVAL, 0, u64::MAX);
    let heap = build();
    let [BuildWarning::NoCollapse(error)] = heap.warnings() else { panic!("{:?}", heap.warnings()) };
    assert_eq!((error.call(), error.errno()), ("madvise(COLLAPSE)", libc::EINVAL));
    work(&heap);
    let stats = heap.stats();
    assert_eq!((stats.huge_bytes, stats.huge_pages_made, stats.huge_pages_refused), (0, 0, 0));
    refuse_nothing();
    // One that has no huge page free: the heap goes on with small ones, and asks ever more rarely.
    for errno in [libc::ENOMEM, libc::EAGAIN, libc::EBUSY, libc::EINVAL] {
        refuse("madvise(COLLAPSE)", errno, 1, u64::MAX);
        let (heap, begun) = (build(), Instant::now());
        assert_eq!(heap.warnings(), []);
        work(&heap);
        until(|| heap.stats().huge_pages_refused >= 3);
        // Nor does a cycle forget that the kernel has refused.
        (0..30).for_each(|_| heap.collect());
        let (stats, refused) = (heap.stats(), heap.refusals());
        let most = 2 + (begun.elapsed().as_millis() / 10).ilog2().max(1);
        assert!(stats.huge_pages_refused <= u64::from(most) && refused.count >= 3, "{most} at most: {stats:?}");
        assert_eq!(refused.last.map(|error| (error.call(), error.errno())), Some(("madvise(COLLAPSE)", errno)));
        assert_eq!((stats.huge_bytes, stats.huge_pages_made), (0, 0));
        refuse_nothing();
        work(&heap);
        until(|| heap.stats().huge_pages_made > 0 || heap.refusals().last.is_none_or(|error| error.errno() != errno));
    }
}

/// Fails where a refusal ends the program, or is asked for all the time.
fn a_kernel_without_huge_pages_is_done_without() {
    plays_well("no-huge-pages");
}

/// Whether the kernel may make huge pages of the mapping that an address lies in.
fn may_be_huge(address: usize) -> bool {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
        let bounds = range.map(|(start, end)| (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16)));
        if let Some((Ok(start), Ok(end))) = bounds {
            inside = (start..end).contains(&address);
        } else if inside && line.starts_with("VmFlags:") {
            return !line.split(' ').any(|flag| flag == "nh");
        }
    }
    panic!("{address:#x} is in no mapping")
}

/// Where the system makes huge pages of all memory, a block or a stack that holds one word would
/// take 2 MiB, and a heap more memory than its maximum.
pub(crate) fn small_pages_are_small_whatever_the_system_says(barrier: Barrier) {
    let heap = plain(barrier, 8 << 20).build().unwrap();
    let stack: RootStack = RootStack::with_capacity(&heap, 4096).unwrap();
    for _ in 0..3 {
        heap.enter(|m| {
            let array = table(m, 1);
            assert!(!may_be_huge(array.get(m).tail().as_ptr().addr()));
            assert!(!may_be_huge(stack.slots(m).as_ptr().addr()));
        })
        .unwrap();
        heap.collect();
    }
}

fn private_memory_is_left_alone() {
    let builder = Heap::builder().max_bytes(MIN_HEAP_BYTES).barrier(Barrier::Page).backing(Backing::Anonymous);
    match builder.huge_pages(HugePages::Background).build() {
        Err(error) => println!("NOT TESTED: {error}"),
        Ok(heap) => assert!(heap.warnings().contains(&BuildWarning::PrivateHugePages), "{:?}", heap.warnings()),
    }
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![small_pages_are_small_whatever_the_system_says],
    file: tests![
        pages_are_made_while_the_program_runs,
        every_view_has_them_again_after_a_cycle,
        stressed_heaps_stay_sound,
    ],
    once: tests![
        an_idle_heap_makes_no_more_than_the_first,
        a_kernel_without_huge_pages_is_done_without,
        private_memory_is_left_alone,
    ],
    ..Tests::NONE
};
