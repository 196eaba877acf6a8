//! Arrays that grow: where they are, or by a copy; while others read them, and in every phase.

use crate::common::{Random, catch_unwind, checked, plain, sorts, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Barrier, Bytes, Event, GrowableArray, GrowableElement, Growth, Heap, Local, Mutator, Num, OutOfMemory,
    Phase, Root, Slot, Tagged, Trace, Value,
};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MIB: usize = 1 << 20;
const BLOCK: usize = 64 << 10;

#[derive(Trace)]
struct Leaf {
    number: u64,
}

type Leaves = GrowableArray<Slot<Option<Leaf>>>;
type Numbers = GrowableArray<Num<u64>>;

fn leaves<'s>(m: &mut Mutator<'s>, len: usize) -> Result<Local<'s, Leaves>, OutOfMemory> {
    m.build::<Leaves>(AllocSize::tail::<Leaves>(len), |m| m.place_array((), len, None))
}

fn numbers<'s>(m: &mut Mutator<'s>, len: usize) -> Result<Local<'s, Numbers>, OutOfMemory> {
    m.build::<Numbers>(AllocSize::tail::<Numbers>(len), |m| m.place_array((), len, 0))
}

fn put(m: &mut Mutator<'_>, array: Local<'_, Leaves>, index: usize) -> Result<(), OutOfMemory> {
    let m = m.reserve(AllocSize::of::<Leaf>())?;
    array.get(m).tail()[index].set(m, Some(m.place(LeafInit { number: index as u64 })));
    Ok(())
}

fn number(m: &Mutator<'_>, array: Local<'_, Leaves>, index: usize) -> Option<u64> {
    array.get(m).tail()[index].get(m).map(|leaf| leaf.number)
}

/// Lengths of small arrays, and of large ones within a block and of many.
const LENS: [usize; 9] = [0, 3, 1_000, 4_500, 9_000, 9_001, 60_000, 60_700, 300_000];

/// Grows an array by these lengths; `fill` stores to an element, `is_filled` says whether it holds
/// what was stored, `is_empty` whether it holds what a new one does.
fn grows<E: GrowableElement>(
    heap: &Heap,
    fill: impl Fn(&mut Mutator<'_>, Local<'_, GrowableArray<E>>, usize),
    is_filled: impl Fn(&Mutator<'_>, &E, usize) -> bool,
    is_empty: impl Fn(&Mutator<'_>, &E) -> bool,
) {
    heap.enter(|m| -> Result<(), OutOfMemory> {
        let array = m.build::<GrowableArray<E>>(AllocSize::tail::<GrowableArray<E>>(0), |m| m.place_tail((), []))?;
        let mut before = 0;
        for len in LENS {
            let was = m.local(array.get(m));
            let growth = m.grow(array, len)?;
            let now = array.get(m);
            assert_eq!(now.tail_len(), len);
            assert_eq!(now.ptr_eq(was.get(m)), growth == Growth::InPlace, "{before} to {len}: {growth:?}");
            let (old, new) = now.tail().split_at(before);
            assert!(old.iter().enumerate().all(|(index, element)| is_filled(m, element, index)), "lost at {len}");
            assert!(new.iter().all(|element| is_empty(m, element)), "not empty: {before} to {len}");
            for index in before..len {
                fill(m, array, index);
            }
            before = len;
            m.collect();
            let tail = array.get(m).tail();
            assert!(tail.iter().enumerate().all(|(index, element)| is_filled(m, element, index)), "lost of {len}");
        }
        Ok(())
    })
    .unwrap()
    .unwrap();
}

/// Elements of all sorts, in heaps with and without more addresses than memory, calm and not.
pub(crate) fn what_grows_keeps_its_elements_and_is_empty_behind(barrier: Barrier) {
    for (factor, seed) in [(1, None), (3, None), (3, Some(81))] {
        let builder = checked(barrier, 24 * MIB).address_factor(factor);
        let heap = match seed {
            Some(seed) => builder.stress(gc_heap::Stress { cycle_every: 5000, ..stress(seed) }),
            None => builder,
        }
        .build()
        .unwrap();
        // What was there before is not what an array grows into.
        heap.enter(|m| {
            let bytes = vec![0xaa; 20 * MIB];
            m.reserve(AllocSize::tail::<Bytes>(bytes.len())).unwrap().place_bytes::<Bytes>((), &bytes);
        })
        .unwrap();
        grows::<Slot<Option<Leaf>>>(
            &heap,
            |m, array, index| {
                if index % 7 == 0 {
                    put(m, array, index).unwrap();
                }
            },
            |m, slot, index| slot.get(m).map(|leaf| leaf.number) == (index % 7 == 0).then_some(index as u64),
            |m, slot| slot.get(m).is_none(),
        );
        grows::<Slot<Tagged>>(
            &heap,
            |m, array, index| array.get(m).tail()[index].set(m, Value::int(index as i32)),
            |m, slot, index| slot.get(m).as_int() == Some(index as i32),
            |m, slot| slot.get(m).is_nil(),
        );
        grows::<Num<u8>>(
            &heap,
            |m, array, index| array.get(m).tail()[index].set(index as u8 | 1),
            |_, byte, index| byte.get() == index as u8 | 1,
            |_, byte| byte.get() == 0,
        );
        grows::<Num<f64>>(
            &heap,
            |m, array, index| array.get(m).tail()[index].set(index as f64 + 0.5),
            |_, float, index| float.get() == index as f64 + 0.5,
            |_, float| float.get() == 0.0,
        );
    }
}

/// By its identity, and because there is no memory for a second one.
pub(crate) fn sixty_four_mebibytes_grow_where_they_are(barrier: Barrier) {
    const LEN: usize = 8 * MIB;
    for builder in [plain(barrier, 72 * MIB), plain(barrier, 72 * MIB).uncommit_delay(None)] {
        let heap = builder.address_factor(4).build().unwrap();
        heap.enter(|m| {
            let array = numbers(m, 10_000).unwrap();
            let same = Root::<Numbers>::new(m, array.get(m));
            let mut len = 10_000;
            // A few elements at first, then by half.
            while len < LEN {
                array.get(m).tail()[len - 1].set(len as u64);
                len = (len + if len < 40_000 { 100 } else { len / 2 }).min(LEN);
                assert!(m.grow_in_place(array, len).unwrap(), "at {len}");
            }
            assert!(array.get(m).ptr_eq(same.get(m)));
            let tail = array.get(m).tail();
            let filled = tail.iter().enumerate().filter(|(_, number)| number.get() != 0);
            assert!(filled.clone().all(|(index, number)| number.get() == index as u64 + 1));
            assert!(filled.count() > 300);
            let stats = heap.stats();
            assert_eq!((stats.large_objects_moved, stats.compactions), (0, 0), "{stats:?}");
            assert!((64 * MIB..70 * MIB).contains(&stats.used_bytes), "{stats:?}");
            // All of it is one object, which dies as a whole.
            let empty = numbers(m, 0).unwrap();
            array.set(m, empty.get(m));
            drop(same);
            m.collect();
            m.collect();
            assert!(heap.stats().used_bytes < 2 * MIB, "{:?}", heap.stats());
        })
        .unwrap();
    }
}

/// With as many addresses as memory a large array has the one before it behind it.
pub(crate) fn what_is_behind_an_array_is_left_alone(barrier: Barrier) {
    let heap = checked(barrier, 16 * MIB).build().unwrap();
    heap.enter(|m| -> Result<(), OutOfMemory> {
        let text = vec![7; 200_000];
        let behind =
            m.build::<Option<Bytes>>(AllocSize::tail::<Bytes>(text.len()), |m| Some(m.place_bytes((), &text)))?;
        let array = leaves(m, 10_000)?;
        let old = m.local(array.get(m));
        (0..10_000).step_by(100).try_for_each(|index| put(m, array, index))?;
        // As far as its last block reaches.
        assert!(m.grow_in_place(array, 16_000)?);
        assert!(!m.grow_in_place(array, 17_000)?);
        assert_eq!((array.get(m).tail_len(), old.get(m).tail_len()), (16_000, 16_000));
        assert_eq!(m.grow(array, 17_000)?, Growth::Copied);
        assert!(!array.get(m).ptr_eq(old.get(m)));
        assert_eq!((array.get(m).tail_len(), old.get(m).tail_len()), (17_000, 16_000));
        m.collect();
        for of in [array, old] {
            assert!((0..10_000).all(|index| number(m, of, index) == (index % 100 == 0).then_some(index as u64)));
        }
        assert_eq!(behind.get(m).unwrap().tail(), text);
        // When it is gone, its blocks become the array's.
        behind.set(m, None);
        m.collect();
        m.collect();
        assert!(m.grow_in_place(old, 40_000)?, "three blocks are free behind it");
        assert_eq!(old.get(m).tail_len(), 40_000);
        put(m, old, 39_999)?;
        m.collect();
        assert_eq!((number(m, old, 39_999), number(m, old, 39_998)), (Some(39_999), None));
        assert_eq!((number(m, old, 9_900), number(m, array, 9_900)), (Some(9_900), Some(9_900)));
        Ok(())
    })
    .unwrap()
    .unwrap();
}

/// Arrays of a thread's own, which come and go, and one that all threads grow and store to.
pub(crate) fn threads_grow_arrays_under_stress(barrier: Barrier) {
    const THREADS: usize = 3;
    for ((mirror, workers), factor) in sorts().zip([3, 1]) {
        let builder = checked(barrier, 24 * MIB).mirror(mirror).workers(workers).address_factor(factor);
        let heap = builder.stress(stress(82 + factor as u64)).build().unwrap();
        let shared = heap.enter(|m| {
            let array = leaves(m, 9_000).unwrap();
            Root::<Leaves>::new(m, array.get(m))
        });
        let shared = shared.unwrap();
        let grown = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (heap, shared, grown) = (&heap, &shared, &grown);
                scope.spawn(move || {
                    let mut random = Random::new(83 + thread as u64);
                    heap.enter(|m| own_and_shared(m, shared, thread, &mut random, grown)).unwrap().unwrap();
                });
            }
        });
        heap.collect();
        heap.enter(|m| {
            let array = m.local(shared.get(m));
            for index in 0..array.get(m).tail_len() {
                assert!(number(m, array, index).is_none_or(|number| number == index as u64));
            }
        })
        .unwrap();
        let enough = if factor > 1 { 100 } else { 1 };
        assert!(grown.into_inner() >= enough, "nothing grew in place");
    }

    fn own_and_shared(
        m: &mut Mutator<'_>,
        shared: &Root<Leaves>,
        thread: usize,
        random: &mut Random,
        grown: &AtomicUsize,
    ) -> Result<(), OutOfMemory> {
        for _ in 0..6 {
            let m = &mut *m.frame();
            let own = leaves(m, 1 + random.below(9_000))?;
            let all = m.local(shared.get(m));
            let mut stored = Vec::new();
            for _ in 0..40 {
                let len = own.get(m).tail_len();
                let magnitude = random.below(3);
                let more = 1 + random.below([10, 500, 20_000][magnitude]);
                let growth = m.grow(own, len + more)?;
                grown.fetch_add(usize::from(growth == Growth::InPlace), Ordering::Relaxed);
                assert!((len..len + more).all(|index| number(m, own, index).is_none()));
                for index in [len, len + more - 1, random.below(len)] {
                    put(m, own, index)?;
                    stored.push(index);
                }
                let shared_len = all.get(m).tail_len();
                if shared_len < 200_000 {
                    m.grow_in_place(all, shared_len + random.below(3_000))?;
                }
                let index = all.get(m).tail_len() / 4 * 4 - 4 + thread;
                put(m, all, index)?;
                assert_eq!(number(m, all, index), Some(index as u64));
                if own.get(m).tail_len() > 200_000 {
                    break;
                }
            }
            for &index in &stored {
                assert_eq!(number(m, own, index), Some(index as u64), "of {}", own.get(m).tail_len());
            }
        }
        Ok(())
    }
}

/// When arrays grew in place, and the phases that have ended.
#[derive(Default)]
struct Times {
    growths: Mutex<Vec<u64>>,
    phases: Mutex<Vec<(Phase, u64, u64)>>,
}

impl Times {
    fn within(&self) -> HashMap<Phase, usize> {
        let mut growths = self.growths.lock().unwrap().clone();
        growths.sort_unstable();
        let mut found = HashMap::new();
        for &(phase, start, end) in &*self.phases.lock().unwrap() {
            let count = growths.partition_point(|&at| at < end) - growths.partition_point(|&at| at < start);
            *found.entry(phase).or_default() += count;
        }
        found
    }
}

/// Two threads grow arrays, and check them, until each phase has seen it. (A cycle that stops the
/// world sees none.)
pub(crate) fn arrays_grow_in_every_phase(barrier: Barrier) {
    let phases = match barrier {
        Barrier::Load => &[Phase::Mark, Phase::Reclaim, Phase::Relocate][..],
        _ => &[Phase::Mark, Phase::Reclaim, Phase::Repair],
    };
    for (mirror, workers) in sorts() {
        let times = Arc::new(Times::default());
        let heard = Arc::clone(&times);
        let builder = checked(barrier, 32 * MIB).mirror(mirror).workers(workers).address_factor(4).stress(stress(84));
        let builder = builder.on_event(move |event| {
            if let Event::Phase(span) = event {
                heard.phases.lock().unwrap().push((span.phase, span.start_ns, span.start_ns + span.total_ns));
            }
        });
        let heap = builder.build().unwrap();
        let done = AtomicBool::new(false);
        let work = |seed| {
            let mut random = Random::new(seed);
            while !done.load(Ordering::Relaxed) {
                heap.enter(|m| grow_and_store(m, &mut random, || times.growths.lock().unwrap().push(heap.now_ns())))
                    .unwrap()
                    .unwrap();
            }
        };
        while_collecting(&heap, Duration::ZERO, || {
            std::thread::scope(|scope| {
                let threads: Vec<_> = [85, 86].map(|seed| scope.spawn(move || work(seed))).into();
                let enough = || {
                    let within = times.within();
                    heap.stats().cycles >= 20
                        && phases.iter().all(|phase| within.get(phase).is_some_and(|&count| count >= 10))
                };
                // A thread that has ended has failed.
                while !enough() && !threads.iter().any(|thread| thread.is_finished()) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                done.store(true, Ordering::Relaxed);
                threads.into_iter().for_each(|thread| thread.join().unwrap());
            });
        });
    }

    /// Small objects die meanwhile, so that there is something to evacuate.
    fn grow_and_store(m: &mut Mutator<'_>, random: &mut Random, grew: impl Fn()) -> Result<(), OutOfMemory> {
        let array = leaves(m, 5_000)?;
        while array.get(m).tail_len() < 100_000 {
            let len = array.get(m).tail_len();
            let longer = len + 1 + random.below(8_000);
            if m.grow(array, longer)? == Growth::InPlace {
                grew();
            }
            for index in (len..longer).step_by(61) {
                put(m, array, index)?;
            }
            for _ in 0..50 {
                let index = random.below(longer);
                array.get(m).tail()[index].set(m, None);
            }
        }
        for index in 0..array.get(m).tail_len() {
            assert!(number(m, array, index).is_none_or(|number| number == index as u64));
        }
        Ok(())
    }
}

/// Garbage is collected for an array that grows; where nothing helps, it is as it was.
pub(crate) fn an_array_that_grows_waits_for_memory(barrier: Barrier) {
    for factor in [1, 2, 4] {
        let heap = checked(barrier, 16 * MIB).address_factor(factor).build().unwrap();
        heap.enter(|m| {
            let array = leaves(m, 10_000).unwrap();
            put(m, array, 9_999).unwrap();
            let cycles = heap.stats().cycles;
            for round in 0..30 {
                // Large objects that die at once, and small ones.
                m.reserve(AllocSize::tail::<Bytes>(3 * MIB)).unwrap().place_bytes::<Bytes>((), &vec![1; 3 * MIB]);
                (0..10_000).for_each(|_| put(m, array, 0).unwrap());
                let len = array.get(m).tail_len() + 20_000;
                let _ = m.grow(array, len).unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
            assert!(heap.stats().cycles > cycles);
            assert_eq!((array.get(m).tail_len(), number(m, array, 9_999)), (610_000, Some(9_999)));
            // 4.9 MB live; and then as much as there is.
            let full = m.local_of::<Option<Bytes>>(None);
            let rest = (1..11).rev().find_map(|mib| {
                let m = m.reserve(AllocSize::tail::<Bytes>(mib * MIB)).ok()?;
                full.set(m, Some(m.place_array((), mib * MIB, 3)));
                Some(mib)
            });
            assert!(rest.is_some_and(|mib| mib >= 6), "{rest:?} MiB were left");
            for _ in 0..2 {
                let error = m.grow(array, 1_600_000).unwrap_err();
                assert!(error.requested_bytes() > 7 * MIB, "{error}");
                assert_eq!((array.get(m).tail_len(), number(m, array, 9_999)), (610_000, Some(9_999)));
            }
            full.set(m, None);
            let _ = m.grow(array, 1_000_000).unwrap();
            assert_eq!((array.get(m).tail_len(), number(m, array, 9_999)), (1_000_000, Some(9_999)));
        })
        .unwrap();
    }
}

/// Memory that an array needs is lent by free blocks elsewhere; the heap goes on when it has died.
pub(crate) fn an_array_grows_to_the_last_block(barrier: Barrier) {
    let heap = checked(barrier, 8 * MIB).address_factor(4).build().unwrap();
    for _ in 0..3 {
        heap.enter(|m| {
            let array = numbers(m, 10_000).unwrap();
            let mut len = 10_000;
            while m.grow_in_place(array, len + BLOCK / 8).is_ok_and(|grown| grown) {
                array.get(m).tail()[len].set(len as u64);
                len += BLOCK / 8;
            }
            assert!(len * 8 > 7 * MIB, "{} bytes of 8 MiB", len * 8);
            assert_eq!(array.get(m).tail_len(), len);
            let tail = array.get(m).tail();
            assert!((10_000..len).step_by(BLOCK / 8).all(|index| tail[index].get() == index as u64));
            assert!(m.grow(array, len + BLOCK).is_err());
            assert_eq!(array.get(m).tail_len(), len);
        })
        .unwrap();
        heap.enter(|m| (0..1_000_000).for_each(|_| _ = m.alloc_raw::<Leaf>(|_| LeafInit { number: 1 }).unwrap()))
            .unwrap();
    }
}

/// A pin has the length of its time, and the array neither moves nor loses what is stored by it.
pub(crate) fn a_pinned_array_grows(barrier: Barrier) {
    type Text = GrowableArray<Num<u8>>;
    let heap = checked(barrier, 16 * MIB).address_factor(3).build().unwrap();
    heap.enter(|m| {
        let array = m.build::<Text>(AllocSize::tail::<Text>(70_000), |m| m.place_array((), 70_000, 5)).unwrap();
        let pin = m.pin(array.get(m));
        let address = pin.tail_ptr().addr();
        assert!(m.grow_in_place(array, 2_000_000).unwrap());
        m.blocking(|| {
            heap.collect();
            pin.tail().iter().for_each(|byte| byte.set(6));
        });
        assert_eq!((pin.tail().len(), pin.tail_ptr().addr()), (70_000, address));
        let tail = array.get(m).tail();
        assert!(tail.len() == 2_000_000 && tail[..70_000].iter().all(|byte| byte.get() == 6));
        assert!(tail[70_000..].iter().all(|byte| byte.get() == 0));
    })
    .unwrap();
}

pub(crate) fn growing_is_refused_where_it_is_misused(barrier: Barrier) {
    let [one, two] = [1, 2].map(|_| checked(barrier, 8 * MIB).build().unwrap());
    one.enter(|m| {
        let array = numbers(m, 20_000).unwrap();
        array.get(m).tail()[19_999].set(3);
        // Of another mutator.
        m.blocking(|| {
            let other = two.enter(|other| {
                catch_unwind(AssertUnwindSafe(|| other.grow(array, 30_000).is_ok())).is_err()
                    && catch_unwind(AssertUnwindSafe(|| other.grow_in_place(array, 30_000).is_ok())).is_err()
            });
            assert!(other.unwrap());
        });
        for len in [2 * MIB, usize::MAX / 8, usize::MAX] {
            let error = m.grow(array, len).unwrap_err();
            assert!(error.to_string().contains("more than an empty heap"), "{error}");
            assert!(m.grow_in_place(array, len).is_err());
        }
        // It never becomes shorter.
        assert_eq!(m.grow(array, 0).unwrap(), Growth::InPlace);
        let tail = array.get(m).tail();
        assert_eq!((tail.len(), tail[19_999].get(), tail[0].get()), (20_000, 3, 0));
    })
    .unwrap();
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        what_grows_keeps_its_elements_and_is_empty_behind,
        sixty_four_mebibytes_grow_where_they_are,
        what_is_behind_an_array_is_left_alone,
        threads_grow_arrays_under_stress,
        an_array_that_grows_waits_for_memory,
        an_array_grows_to_the_last_block,
        a_pinned_array_grows,
        growing_is_refused_where_it_is_misused,
    ],
    concurrent: tests![arrays_grow_in_every_phase],
    ..Tests::NONE
};
