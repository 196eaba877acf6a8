//! Threads of a real-time policy beside ordinary ones, on one processor: whatever they wait for,
//! they must sleep, or it never comes.

use crate::common::{backing, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Bytes, Heap, Mutator, Root, Slot, SlotArray, Stress, Trace, WeakMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Runs `test` on a thread that has one processor, as have all that it makes.
pub(crate) fn on_one_processor(test: impl FnOnce() + Send) {
    let pinned = || {
        // SAFETY: sets of this frame, all zero is one; the calls read and write so many bytes.
        unsafe {
            let mut all: libc::cpu_set_t = std::mem::zeroed();
            assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut all), 0);
            let first = (0..libc::CPU_SETSIZE as usize).find(|&cpu| libc::CPU_ISSET(cpu, &all)).unwrap();
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(first, &mut one);
            assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one), 0);
        }
        test();
    };
    std::thread::scope(|scope| scope.spawn(pinned).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Gives the calling thread a real-time policy. `false`: the system refuses, and a line says so.
fn to_real_time() -> bool {
    let wanted = libc::sched_param { sched_priority: 2 };
    // SAFETY: the kernel reads a struct of this frame.
    let refused = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const wanted) } != 0;
    if refused {
        println!("not tested, this thread gets no real-time policy: {}", std::io::Error::last_os_error());
    }
    !refused
}

/// Processor time of the calling thread.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes a struct of this frame.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Spinning without end takes what the kernel leaves to real-time threads, 950 of 1000 ms; and for
/// ever where that is switched off. What a real-time thread does here at once takes a tenth of
/// this.
const MOST: Duration = Duration::from_millis(300);

/// Until a timer goes off: in the middle of whatever an ordinary thread does by then.
fn sleep(round: u64) {
    std::thread::sleep(Duration::from_micros(50 + round % 37));
}

/// The longer of a time and the processor time that `turn` takes.
fn longer(longest: Duration, turn: impl FnOnce()) -> Duration {
    let before = processor_time();
    turn();
    longest.max(processor_time() - before)
}

#[derive(Trace)]
struct Node {
    number: u64,
    next: Slot<Option<Node>>,
}

/// A collector that is repairing a page, or moving it, has lost its processor to the thread that
/// waits for the page.
pub(crate) fn a_real_time_thread_sleeps_until_the_collector_has_repaired_a_page(barrier: Barrier) {
    const NODES: usize = 30_000;
    let backing = backing();
    on_one_processor(move || {
        let stress = Stress { cycle_every: 0, delay_one_in: u32::MAX, ..stress(1) };
        let heap =
            Heap::builder().max_bytes(16 << 20).barrier(barrier).backing(backing).stress(stress).build().unwrap();
        let (longest, flips) = while_collecting(&heap, Duration::ZERO, || {
            heap.enter(|m| {
                let nodes = m
                    .build::<SlotArray<Option<Node>>>(AllocSize::tail::<SlotArray<Option<Node>>>(NODES), |m| {
                        m.place_array((), NODES, None)
                    })
                    .unwrap();
                for number in 0..NODES {
                    let m = m.reserve(AllocSize::of::<Node>()).unwrap();
                    nodes.get(m).tail()[number].set(m, Some(m.place(NodeInit { number: number as u64, next: None })));
                }
                if !to_real_time() {
                    return (Duration::ZERO, 0);
                }
                let before = heap.stats().relocations;
                let mut longest = Duration::ZERO;
                for round in 0..400 {
                    m.blocking(|| sleep(round));
                    longest = longer(longest, || {
                        let sum: u64 = nodes.get(m).tail().iter().map(|slot| slot.get(m).unwrap().number).sum();
                        assert_eq!(sum, (NODES * (NODES - 1) / 2) as u64);
                    });
                }
                (longest, heap.stats().relocations - before)
            })
            .unwrap()
        });
        println!("longest {longest:?}, {flips} relocations");
        assert!(longest < MOST, "a look at {NODES} objects took {longest:?} of processor time");
    });
}

/// A thread that searches a weak map has lost its processor to one that wants to.
pub(crate) fn a_real_time_thread_sleeps_until_a_weak_map_is_free(barrier: Barrier) {
    #[derive(Trace)]
    #[trace(identity_hash)]
    struct Key {
        number: u64,
    }
    type Map = WeakMap<Key, Bytes>;
    let backing = backing();
    on_one_processor(move || {
        let heap = Heap::builder().max_bytes(16 << 20).barrier(barrier).backing(backing).build().unwrap();
        let done = AtomicBool::new(false);
        let longest = heap.enter(|m| {
            let map = Map::new(m).unwrap();
            let key = m.build::<Option<Key>>(AllocSize::of::<Key>(), |m| Some(m.place(KeyInit { number: 1 }))).unwrap();
            let (shared_map, shared_key) = (Root::<Map>::new(m, map.get(m)), Root::<Option<Key>>::new(m, key.get(m)));
            std::thread::scope(|scope| {
                let ordinary = scope.spawn(|| {
                    let search = |m: &mut Mutator<'_>| {
                        while !done.load(Ordering::Relaxed) {
                            for _ in 0..100 {
                                assert!(shared_map.get(m).get(m, shared_key.get(m).unwrap()).is_none());
                            }
                            m.safepoint();
                        }
                    };
                    heap.enter(search).unwrap();
                });
                let mut longest = Duration::ZERO;
                for round in 0..if to_real_time() { 2000 } else { 0 } {
                    sleep(round);
                    longest = longer(longest, || assert!(map.get(m).get(m, key.get(m).unwrap()).is_none()));
                }
                done.store(true, Ordering::Relaxed);
                m.blocking(|| ordinary.join().unwrap());
                longest
            })
        });
        let longest = longest.unwrap();
        assert!(longest < MOST, "a search took {longest:?} of processor time");
    });
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        a_real_time_thread_sleeps_until_the_collector_has_repaired_a_page,
        a_real_time_thread_sleeps_until_a_weak_map_is_free
    ],
    ..Tests::NONE
};
