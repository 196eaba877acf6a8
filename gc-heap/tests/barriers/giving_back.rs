//! Memory that the heap gives back: unasked, on request, and beyond its soft maximum.

use crate::common::{plain, while_repeating};
use crate::harness::{Tests, tests};
use crate::memory::{self, Table, check_all, table};
use gc_heap::{AllocSize, Barrier, Bytes, Heap, HeapStats, Local, Mutator};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// Gives a slot of a table an object, whose bytes depend on the slot.
fn place(m: &mut Mutator<'_>, table: Local<'_, Table>, index: usize, len: usize) {
    memory::place(m, table, index, len).unwrap_or_else(|error| panic!("{index}: {error}"));
}

/// Memory that the system says the heap's file has.
pub(crate) fn of_the_file(name: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let ours = |path: &std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains(&format!("memfd:{name}")))
    };
    let file = fds.into_iter().find(ours).expect("the heap's file");
    std::fs::metadata(file).unwrap().blocks() * 512
}

pub(crate) fn memory_is_given_back_on_request(barrier: Barrier) {
    let name = format!("given-back-{barrier:?}");
    let heap = Heap::builder()
        .max_bytes(64 << 20)
        .barrier(barrier)
        .backing(crate::common::backing())
        .uncommit_delay(None)
        .name(&name)
        .build()
        .unwrap();
    heap.enter(|m| {
        let kept = table(m, 10);
        (0..10).for_each(|index| place(m, kept, index, 2000));
        {
            let m = &mut *m.frame();
            let garbage = table(m, 20);
            (0..20).for_each(|index| place(m, garbage, index, MIB));
        }
        let before = of_the_file(&name);
        assert!(before > 20 << 20 && heap.stats().committed_bytes as u64 >= before);
        m.collect();
        m.collect();
        assert!(of_the_file(&name) > 20 << 20, "nothing is given back unasked");
        let returned = heap.release_memory();
        let after = of_the_file(&name);
        assert!(returned > 19 << 20 && after < 2 << 20, "{returned} given back, {after} left");
        assert!(heap.stats().committed_bytes < 2 << 20 && heap.stats().committed_peak_bytes > 20 << 20);
        assert_eq!(heap.release_memory(), 0);
        // What is kept is kept, and the rest can be had again, empty.
        assert_eq!(check_all(m, kept), 10);
        let garbage = table(m, 20);
        (0..20).for_each(|index| place(m, garbage, index, MIB));
        assert_eq!(check_all(m, garbage), 20);
    })
    .unwrap();
}

pub(crate) fn memory_is_given_back_after_a_while(barrier: Barrier) {
    let name = format!("after-a-while-{barrier:?}");
    let delay = Duration::from_millis(100);
    let heap = Heap::builder()
        .max_bytes(64 << 20)
        .barrier(barrier)
        .backing(crate::common::backing())
        .uncommit_delay(Some(delay))
        .name(&name)
        .build()
        .unwrap();
    heap.enter(|m| {
        let m = &mut *m.frame();
        let garbage = table(m, 20);
        (0..20).for_each(|index| place(m, garbage, index, MIB));
    })
    .unwrap();
    heap.collect();
    while of_the_file(&name) > 2 << 20 || heap.stats().committed_bytes > 3 << 20 {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Giving memory back while others allocate costs them time, never memory.
pub(crate) fn giving_back_does_not_starve_who_allocates(barrier: Barrier) {
    let heap = Heap::builder().max_bytes(4 << 20).barrier(barrier).backing(crate::common::backing()).build().unwrap();
    while_repeating(
        || {
            heap.release_memory();
        },
        || {
            heap.enter(|m| {
                let table = table(m, 10);
                (0..30_000).for_each(|step| place(m, table, step % 10, 1000));
            })
            .unwrap();
        },
    );
}

/// Allocates so many bytes of objects of 1,000 bytes, and keeps none.
pub(crate) fn churn(m: &mut Mutator<'_>, bytes: usize) {
    for _ in 0..bytes / 1024 {
        m.reserve(AllocSize::tail::<Bytes>(1000)).unwrap().place_bytes::<Bytes>((), &[1; 1000]);
    }
}

pub(crate) fn wait_until(heap: &Heap, holds: impl Fn(HeapStats) -> bool) {
    while !holds(heap.stats()) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Without one, all of the heap is used before a cycle begins.
pub(crate) fn a_soft_maximum_holds(barrier: Barrier) {
    let heap = plain(barrier, 256 * MIB).soft_max_bytes(32 * MIB).uncommit_delay(None).build().unwrap();
    heap.enter(|m| {
        let kept = table(m, 8000);
        (0..8000).for_each(|index| place(m, kept, index, 1000));
        for _ in 0..10 {
            churn(m, 50 * MIB);
        }
        assert_eq!(check_all(m, kept), 8000);
    })
    .unwrap();
    let stats = heap.stats();
    // What is allocated while a cycle runs that begins late is beyond it.
    assert!(stats.committed_peak_bytes < 80 * MIB, "{stats:?}");
    assert_eq!((stats.stalls - stats.throttled, stats.soft_max_bytes), (0, 32 * MIB), "nobody waits because of it");
}

/// A program that needs more gets it, without a wait and without cycles from end to end.
pub(crate) fn a_soft_maximum_below_what_lives_gives_way(barrier: Barrier) {
    let heap = plain(barrier, 256 * MIB).soft_max_bytes(0).uncommit_delay(None).build().unwrap();
    heap.enter(|m| {
        // 40 MiB.
        let kept = table(m, 40_000);
        (0..40_000).for_each(|index| place(m, kept, index, 1000));
        let before = heap.stats();
        churn(m, 400 * MIB);
        let after = heap.stats();
        // A quarter of what lives is 10 MiB, of which half may be free when a cycle begins.
        let cycles = after.cycles - before.cycles;
        assert!((2..100).contains(&cycles), "{cycles} cycles");
        assert_eq!((after.stalls - after.throttled, check_all(m, kept)), (0, 40_000));
        m.collect();
        m.blocking(|| wait_until(&heap, |stats| stats.committed_bytes < 70 * MIB));
        // Where the soft maximum is the maximum again, cycles are rare again.
        heap.set_soft_max_bytes(usize::MAX);
        let before = heap.stats().cycles;
        churn(m, 400 * MIB);
        assert!(heap.stats().cycles - before < cycles, "{cycles}, then {}", heap.stats().cycles - before);
    })
    .unwrap();
}

/// With a delay of five minutes nothing else gives it back.
pub(crate) fn a_lower_soft_maximum_gives_memory_back(barrier: Barrier) {
    let name = format!("lower-{barrier:?}");
    let heap = plain(barrier, 256 * MIB).name(&name).build().unwrap();
    heap.enter(|m| {
        let kept = table(m, 1000);
        (0..1000).for_each(|index| place(m, kept, index, 1000));
        churn(m, 100 * MIB);
        let before = heap.stats();
        assert!(before.committed_bytes > 90 * MIB, "{before:?}");
        // A cycle begins by itself, though nobody allocates: another one where one has begun
        // before, and did not find all garbage.
        heap.set_soft_max_bytes(16 * MIB);
        m.blocking(|| wait_until(&heap, |stats| stats.committed_bytes <= 17 * MIB));
        let after = heap.stats();
        let of_the_file = of_the_file(&name);
        assert!(after.cycles > 0 && of_the_file <= 18 * MIB as u64, "{of_the_file}, {after:?}");
        assert!(after.uncommitted_bytes as usize >= before.committed_bytes - 17 * MIB, "{after:?}");
        assert_eq!(check_all(m, kept), 1000);
    })
    .unwrap();
}

/// Ten in a hundred objects live, spread over all blocks: a cycle and `release_memory` gain
/// nothing.
pub(crate) fn sparse(m: &mut Mutator<'_>, kept: Local<'_, Table>) {
    for index in 0..kept.get(m).tail_len() {
        place(m, kept, index, 1000);
        churn(m, 9 * 1024);
    }
}

/// It allocates too much to be idle, and far too little for a cycle: where nothing else begins one,
/// its memory is that of its peak for hours.
pub(crate) fn a_slow_program_is_packed(barrier: Barrier) {
    let delay = Some(Duration::from_millis(200));
    let heap = plain(barrier, 128 * MIB).idle_after(None).uncommit_delay(delay).build().unwrap();
    heap.enter(|m| {
        let kept = table(m, 8000);
        sparse(m, kept);
        let live = bytes_of(8000);
        while heap.stats().committed_bytes > live + live / 10 + 4 * MIB {
            churn(m, 64 << 10);
            m.blocking(|| std::thread::sleep(Duration::from_millis(10)));
        }
        assert_eq!(check_all(m, kept), 8000);
    })
    .unwrap();
}

/// With the delay's default of five minutes: ten minutes after a peak.
pub(crate) fn a_slow_program_is_packed_soon_after_its_peak(barrier: Barrier) {
    let delay = Duration::from_secs(2);
    let heap = plain(barrier, 64 * MIB).idle_after(None).uncommit_delay(Some(delay)).build().unwrap();
    heap.enter(|m| {
        let kept = table(m, 4000);
        sparse(m, kept);
        m.collect();
        let (peak, live) = (Instant::now(), bytes_of(4000));
        // What it allocates between two cycles stays committed.
        while heap.stats().committed_bytes > live + live / 10 + 4 * MIB {
            assert!(peak.elapsed() < delay * 11 / 4, "{:?} after the peak: {:?}", peak.elapsed(), heap.stats());
            churn(m, 8 << 10);
            m.blocking(|| std::thread::sleep(Duration::from_millis(10)));
        }
        assert_eq!(check_all(m, kept), 4000);
    })
    .unwrap();
}

/// As if the system had too little whatever it has: nobody asks for a cycle.
pub(crate) fn a_heap_spares_the_system(barrier: Barrier) {
    let of = |spares| plain(barrier, 128 * MIB).spare_bytes(spares).build().unwrap();
    let [short, enough, never] = [Some(usize::MAX), Some(1), None].map(of);
    for heap in [&short, &enough, &never] {
        heap.enter(|m| {
            let kept = table(m, 4000);
            sparse(m, kept);
            churn(m, 20 * MIB);
            let live = bytes_of(4000);
            let is_small = |stats: HeapStats| stats.committed_bytes <= live + live / 2 + 2 * MIB;
            if std::ptr::eq(heap, &short) {
                m.blocking(|| wait_until(heap, is_small));
            } else {
                assert!(!is_small(heap.stats()));
            }
            assert_eq!(check_all(m, kept), 4000);
        })
        .unwrap();
    }
    assert_eq!([&enough, &never].map(|heap| heap.stats().uncommitted_bytes), [0; 2]);
}

/// Memory is short before the program has allocated anything, so the one cycle that packs finds an
/// empty heap. What comes to lie in it afterwards, sparse, is packed by the cycles that follow.
pub(crate) fn a_heap_that_grows_while_memory_is_short_is_packed(barrier: Barrier) {
    let heap = plain(barrier, 128 * MIB).spare_bytes(Some(usize::MAX)).idle_after(None).build().unwrap();
    heap.enter(|m| {
        m.blocking(|| wait_until(&heap, |stats| stats.cycles > 0));
        let kept = table(m, 4000);
        sparse(m, kept);
        let live = bytes_of(4000);
        m.blocking(|| wait_until(&heap, |stats| stats.committed_bytes <= live + live / 2 + 2 * MIB));
        assert_eq!(check_all(m, kept), 4000);
    })
    .unwrap();
}

/// Bytes of `count` objects of 1,000 bytes.
fn bytes_of(count: usize) -> usize {
    count * 1016
}

pub(crate) fn trimming_leaves_what_lives(barrier: Barrier) {
    for workers in [1, 2] {
        let name = format!("trimmed-{barrier:?}-{workers}");
        let heap = plain(barrier, 512 * MIB).workers(workers).uncommit_delay(None).name(&name).build().unwrap();
        heap.enter(|m| {
            let kept = table(m, 8000);
            sparse(m, kept);
            m.collect();
            heap.release_memory();
            let before = of_the_file(&name) as usize;
            assert!(before > 40 * MIB, "{before}: it is sparse by then");
            // Twice: the first one leaves nothing for the second.
            let [first, second] = [0; 2].map(|_| m.blocking(|| heap.trim()));
            let (after, live) = (of_the_file(&name) as usize, bytes_of(8000));
            assert!(after <= live + live / 10 + MIB, "{before} before, {after} after, {live} live");
            assert!(first >= before - after - MIB && second <= MIB, "{first}, then {second}");
            assert_eq!(check_all(m, kept), 8000);
        })
        .unwrap();
    }
}

/// While others allocate and change what lives.
pub(crate) fn trimming_disturbs_nobody(barrier: Barrier) {
    let heap = plain(barrier, 64 * MIB).verify(true).build().unwrap();
    let trimmed = AtomicUsize::new(0);
    let trim = || {
        trimmed.fetch_add(heap.trim(), Ordering::Relaxed);
    };
    let work = |seed: usize| {
        heap.enter(|m| {
            let kept = table(m, 500);
            for step in 0..5000 {
                place(m, kept, step * seed % 500, 1000);
                churn(m, 8 << 10);
            }
            check_all(m, kept)
        })
    };
    let counts = while_repeating(trim, || {
        std::thread::scope(|scope| {
            [7, 11].map(|seed| scope.spawn(move || work(seed))).map(|work| work.join().unwrap().unwrap())
        })
    });
    assert_eq!(counts, [500; 2]);
    assert!(trimmed.load(Ordering::Relaxed) > 0);
}

pub(crate) fn an_idle_heap_is_packed(barrier: Barrier) {
    let heap = plain(barrier, 128 * MIB).idle_after(Some(Duration::from_millis(300))).build().unwrap();
    heap.enter(|m| {
        let kept = table(m, 8000);
        sparse(m, kept);
        let live = bytes_of(8000);
        m.blocking(|| wait_until(&heap, |stats| stats.committed_bytes <= live + live / 10 + MIB));
        assert_eq!(check_all(m, kept), 8000);
    })
    .unwrap();
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![a_heap_spares_the_system, a_heap_that_grows_while_memory_is_short_is_packed],
    concurrent: tests![giving_back_does_not_starve_who_allocates, trimming_disturbs_nobody],
    file: tests![
        memory_is_given_back_on_request,
        memory_is_given_back_after_a_while,
        a_soft_maximum_holds,
        a_soft_maximum_below_what_lives_gives_way,
        a_lower_soft_maximum_gives_memory_back,
        trimming_leaves_what_lives,
        an_idle_heap_is_packed,
        a_slow_program_is_packed,
        a_slow_program_is_packed_soon_after_its_peak
    ],
    ..Tests::NONE
};
