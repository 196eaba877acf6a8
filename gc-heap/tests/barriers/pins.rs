//! Pinned objects stay where they are, what is lent is there, under every barrier.

use crate::common::{Random, factor, plain, sorts, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Array, Backing, Barrier, Buffer, Bytes, Mutator, Num, Pinned, Root, RootStack, Stress, Tagged, Value,
};
use std::collections::VecDeque;
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

/// Bytes of a heap. A power of two: an address modulo this is the offset in the heap, whichever
/// view it is of.
const HEAP: usize = 8 << 20;

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + seed) as u8).collect()
}

/// A file that forgets its content when it is closed.
fn file() -> std::fs::File {
    let path =
        std::env::temp_dir().join(format!("parallax-pins-{}-{:?}", std::process::id(), std::thread::current().id()));
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

/// Breaks when a pin does not take its block out of the relocation sets of the cycles that begin
/// after it. (What is pinned here is new, and so in no plan that exists; for those see the next
/// test.)
pub(crate) fn what_is_pinned_does_not_move_and_the_rest_does(barrier: Barrier) {
    for (mirror, workers) in sorts() {
        let builder = plain(barrier, HEAP).mirror(mirror).workers(workers);
        let heap = builder.verify(true).stress(stress(11)).build().unwrap();
        let stack: RootStack<Tagged> = RootStack::new(&heap).unwrap();
        heap.enter(|m| {
            let mut pins: Vec<(usize, Pinned<Bytes>, *const u8)> = Vec::new();
            for round in 0..4000_usize {
                let len = 16 + round % 700;
                let m = m.reserve(AllocSize::tail::<Bytes>(len)).unwrap();
                let bytes = m.place_bytes::<Bytes>((), &pattern(round, len));
                stack.push(m, Value::from(bytes.any()));
                if round % 97 == 0 {
                    pins.push((round, m.pin(bytes), bytes.tail().as_ptr()));
                }
                if stack.len() > 1500 {
                    stack.truncate(m, 700);
                }
                if round % 500 == 499 {
                    for (seed, pin, address) in &pins {
                        let bytes = pattern(*seed, 16 + seed % 700);
                        assert_eq!(pin.tail(), &bytes[..]);
                        assert_eq!(pin.get(m).tail(), &bytes[..]);
                        // The load barrier's views differ by color: the offset in them is what
                        // stays.
                        let now = pin.get(m).tail().as_ptr();
                        assert_eq!(now as usize % HEAP, *address as usize % HEAP, "a pinned object has moved");
                    }
                    pins.truncate(20);
                }
            }
            m.collect();
        })
        .unwrap();
        let stats = heap.stats();
        // Of anonymous memory nothing is flipped while anything is pinned.
        let moved = stats.relocations > 0 || crate::common::backing() == Backing::Anonymous;
        assert!(moved && stats.pinned_blocks <= 41, "{stats:?}");
    }
}

/// Breaks when a plan is kept although an object of its set was pinned before the stop: what is
/// pinned then moves. Objects that are old, all of which are in the set of nearly every cycle, are
/// pinned while cycles are planned all the time.
pub(crate) fn a_pin_between_plan_and_stop_spoils_the_plan(barrier: Barrier) {
    const OBJECTS: usize = 4000;
    const LEN: usize = 500;
    let heap = plain(barrier, HEAP).stress(Stress { cycle_every: 0, delay_one_in: 8, seed: 13 }).build().unwrap();
    let spoiled = 20 * u64::from(factor());
    while_collecting(&heap, Duration::ZERO, || {
        heap.enter(|m| {
            let stack: RootStack<Tagged> = RootStack::with_capacity(&heap, OBJECTS).unwrap();
            for index in 0..OBJECTS {
                let m = m.reserve(AllocSize::tail::<Bytes>(LEN).times(2)).unwrap();
                stack.push(m, Value::from(m.place_bytes::<Bytes>((), &pattern(index, LEN)).any()));
                m.place_bytes::<Bytes>((), &pattern(OBJECTS + index, LEN));
            }
            let mut random = Random::new(13);
            while heap.stats().plans_abandoned < spoiled || heap.stats().relocations < 10 {
                // For a while without a pin, else nothing would ever move; for a while with a new
                // one at each step.
                let pinning = random.one_in(2);
                let mut pins: VecDeque<(usize, Pinned<Bytes>, usize)> = VecDeque::new();
                for _ in 0..random.below(300) {
                    m.safepoint();
                    for (index, pin, place) in &pins {
                        let (now, bytes) = (pin.get(m), pattern(*index, LEN));
                        assert_eq!(now.tail().as_ptr() as usize % HEAP, *place, "a pinned object has moved");
                        assert_eq!(pin.tail_ptr() as usize % HEAP, *place, "what is lent is elsewhere");
                        assert!(now.tail() == bytes && pin.tail() == bytes, "a pinned object is not whole");
                    }
                    if pinning {
                        let index = random.below(OBJECTS);
                        let bytes = stack.get(m, index).downcast::<Bytes>().unwrap();
                        pins.push_back((index, m.pin(bytes), bytes.tail().as_ptr() as usize % HEAP));
                        pins.drain(..pins.len().saturating_sub(4));
                    }
                }
            }
            for index in 0..OBJECTS {
                assert!(stack.get(m, index).downcast::<Bytes>().unwrap().tail() == pattern(index, LEN), "{index}");
            }
        })
        .unwrap();
    });
}

/// System calls get what they are lent while another thread collects all the time. With the page
/// barrier a plain slice fails with `EFAULT` on a page that was not touched since the flip.
pub(crate) fn system_calls_read_and_write_what_they_are_lent(barrier: Barrier) {
    for (mirror, workers) in sorts() {
        let builder = plain(barrier, 16 << 20).mirror(mirror).workers(workers);
        let heap = builder.verify(true).stress(stress(12)).build().unwrap();
        let mut file = file();
        while_collecting(&heap, Duration::from_micros(100), || {
            heap.enter(|m| {
                let stack: RootStack<Tagged> = RootStack::new(&heap).unwrap();
                for round in 0..300_usize {
                    let len = [10, 5000, 40_000, 200_000][round % 4];
                    let bytes = pattern(round, len);
                    {
                        let m =
                            m.reserve(AllocSize::tail::<Bytes>(len) + AllocSize::tail::<Array<Num<u8>>>(len)).unwrap();
                        stack.push(m, Value::from(m.place_bytes::<Bytes>((), &bytes).any()));
                        stack.push(m, Value::from(m.place_array::<Array<Num<u8>>>((), len, 0).any()));
                    }
                    m.safepoint();
                    // Lent: for a call that does not wait.
                    file.seek(SeekFrom::Start(0)).unwrap();
                    file.write_all(m.bytes_for_syscall(stack.peek_as::<Bytes>(m, 1).unwrap())).unwrap();
                    // Pinned: the call waits, and collections go on.
                    let pinned = m.pin(stack.peek_as::<Bytes>(m, 1).unwrap());
                    let target = m.pin(stack.peek_as::<Array<Num<u8>>>(m, 0).unwrap());
                    m.blocking(|| {
                        std::thread::yield_now();
                        file.write_all(pinned.tail()).unwrap();
                        file.seek(SeekFrom::Start(len as u64)).unwrap();
                        // SAFETY: nobody else uses the array's numbers meanwhile, and `len` of them
                        // are there.
                        let target = unsafe { std::slice::from_raw_parts_mut(target.tail_ptr().cast::<u8>(), len) };
                        file.read_exact(target).unwrap();
                    });
                    let read: Vec<u8> =
                        stack.peek_as::<Array<Num<u8>>>(m, 0).unwrap().tail().iter().map(|byte| byte.get()).collect();
                    assert!(read == bytes, "round {round}");
                    stack.truncate(m, if round % 8 == 7 { 0 } else { stack.len() });
                }
            })
            .unwrap();
        });
        assert!(heap.stats().relocations > 0);
    }
}

/// A pin outlives the heap's handles, and is dropped where no heap is.
pub(crate) fn a_pin_may_be_the_last_to_know_the_heap(barrier: Barrier) {
    for (mirror, workers) in sorts() {
        let heap = plain(barrier, 4 << 20).mirror(mirror).workers(workers).build().unwrap();
        let pin = heap
            .enter(|m| {
                let m = m.reserve(AllocSize::tail::<Bytes>(3)).unwrap();
                m.pin(m.place_bytes::<Bytes>((), b"end"))
            })
            .unwrap();
        drop(heap);
        std::thread::spawn(move || assert_eq!(pin.tail(), b"end")).join().unwrap();
    }
}

/// Files are read into objects, without `unsafe`, while another thread collects all the time; some
/// go to other threads.
pub(crate) fn system_calls_fill_buffers(barrier: Barrier) {
    for (mirror, workers) in sorts() {
        let builder = crate::common::checked(barrier, 16 << 20).mirror(mirror).workers(workers);
        let heap = builder.stress(stress(13)).build().unwrap();
        let mut file = file();
        let content = pattern(5, 300_000);
        file.write_all(&content).unwrap();
        while_collecting(&heap, Duration::from_micros(100), || {
            heap.enter(|m| {
                let stack: RootStack<Tagged> = RootStack::new(&heap).unwrap();
                for round in 0..300_usize {
                    let len = [0, 10, 5000, 33_000, 200_000][round % 5];
                    let mut buffer: Buffer = m.reserve(AllocSize::tail::<Bytes>(len)).unwrap().place_buffer((), len);
                    assert!(buffer.len() == len && buffer.iter().all(|&byte| byte == 0), "round {round}");
                    let from = round * 31;
                    m.blocking(|| {
                        file.seek(SeekFrom::Start(from as u64)).unwrap();
                        if round % 20 < 5 {
                            let file = &mut file;
                            std::thread::scope(|scope| {
                                scope.spawn(|| file.read_exact(&mut buffer).unwrap());
                            });
                        } else {
                            file.read_exact(&mut buffer).unwrap();
                        }
                    });
                    if round % 7 == 0 {
                        drop(buffer);
                        continue;
                    }
                    assert!(buffer[..] == content[from..from + len]);
                    let bytes = if round % 3 == 0 { buffer.into_pinned().get(m) } else { buffer.finish(m) };
                    stack.push(m, Value::int(from as i32));
                    stack.push(m, bytes.into());
                    for index in (0..stack.len()).step_by(2) {
                        let from = stack.get(m, index).as_int().unwrap() as usize;
                        let bytes = stack.get(m, index + 1).downcast::<Bytes>().unwrap().tail();
                        assert!(bytes == &content[from..from + bytes.len()], "round {round}");
                    }
                    stack.truncate(m, if round % 10 == 9 { 0 } else { stack.len() });
                }
            })
            .unwrap();
        });
        let moved = heap.stats().relocations > 0 || crate::common::backing() == Backing::Anonymous;
        assert!(moved, "{:?}", heap.stats());
    }
}

pub(crate) fn a_buffer_knows_its_heap(barrier: Barrier) {
    let [one, two] = [1, 2].map(|_| crate::common::checked(barrier, 4 << 20).build().unwrap());
    let buffer: Buffer = one.enter(|m| m.reserve(AllocSize::tail::<Bytes>(3)).unwrap().place_buffer((), 3)).unwrap();
    let finish = std::panic::AssertUnwindSafe(|| two.enter(|m| buffer.finish(m).tail_len()));
    assert!(crate::common::catch_unwind(finish).is_err());
    one.collect();
    two.collect();
}

/// What a pin costs: its block, which no compaction takes; however many pins are in it, and as long
/// as one is.
pub(crate) fn what_pins_cost_is_reported(barrier: Barrier) {
    const BLOCKS: usize = 20;
    let heap = crate::common::checked(barrier, 16 << 20).stress(stress(14)).build().unwrap();
    heap.enter(|m| {
        // Half a block each, and two little ones: every second object of half a block begins
        // another block.
        let mut pins = Vec::new();
        let mut blocks = std::collections::BTreeSet::new();
        let mut kept: Vec<Root<Bytes>> = Vec::new();
        while blocks.len() < BLOCKS {
            let m = m.reserve(AllocSize::tail::<Bytes>(30_000) + AllocSize::tail::<Bytes>(100).times(2)).unwrap();
            kept.push(Root::new(m, m.place_bytes::<Bytes>((), &pattern(kept.len(), 30_000))));
            for _ in 0..2 {
                let small = m.place_bytes::<Bytes>((), &pattern(pins.len(), 100));
                let pin = m.pin(small);
                if blocks.insert(pin.tail_ptr().addr() / (64 << 10)) || pins.len() % 3 == 0 {
                    pins.push(pin);
                }
            }
        }
        m.collect();
        m.collect();
        let stats = heap.stats();
        // The block that is being filled is in no plan.
        assert!((BLOCKS as u64 - 2..=BLOCKS as u64).contains(&stats.pinned_blocks), "{stats:?}");
        let half: Vec<_> = pins.split_off(pins.len() / 2);
        drop(half);
        m.collect();
        let fewer = heap.stats().pinned_blocks;
        assert!(fewer > 0 && fewer < stats.pinned_blocks, "{fewer} after {}", stats.pinned_blocks);
        drop(pins);
        m.collect();
        assert_eq!(heap.stats().pinned_blocks, 0);
        assert!(kept.iter().zip(0..).all(|(root, seed)| root.get(m).tail() == pattern(seed, 30_000)));
    })
    .unwrap();
}

/// Byte arrays that change: filled as other bytes are, and written where they are then.
pub(crate) fn byte_arrays_change(barrier: Barrier) {
    type ByteArray = Array<Num<u8>>;
    let heap = crate::common::checked(barrier, 8 << 20).stress(stress(16)).build().unwrap();
    heap.enter(|m| {
        let stack: RootStack<ByteArray> = RootStack::new(&heap).unwrap();
        let right = |m: &Mutator<'_>, index: usize, round: u8| {
            let bytes = stack.get(m, index);
            bytes.tail_len() == index * 200 && bytes.tail().iter().all(|byte| byte.get() == index as u8 ^ round)
        };
        for index in 0..200 {
            let len = index * 200;
            let m = m.reserve(AllocSize::tail::<ByteArray>(len)).unwrap();
            if index % 2 == 0 {
                let mut buffer: Buffer<ByteArray> = m.place_buffer((), len);
                assert!(buffer.iter().all(|&byte| byte == 0));
                buffer.fill(index as u8);
                stack.push(m, buffer.finish(m));
            } else {
                stack.push(m, m.place_bytes((), &vec![index as u8; len]));
            }
        }
        for round in 1..20 {
            assert!((0..stack.len()).all(|index| right(m, index, round - 1)), "round {round}");
            for index in 0..stack.len() {
                let bytes = stack.get(m, index);
                bytes.tail().iter().for_each(|byte| byte.set(byte.get() ^ (round - 1) ^ round));
                m.safepoint();
            }
        }
    })
    .unwrap();
}

/// Foreign code keeps the address for good: the pin is forgotten, and the bytes stay as long as the
/// process.
pub(crate) fn a_pin_for_life(barrier: Barrier) {
    let heap = crate::common::checked(barrier, 8 << 20).stress(stress(15)).build().unwrap();
    let kept: Vec<(usize, &'static [u8])> = heap
        .enter(|m| {
            let mut kept = Vec::new();
            for seed in 0..3000 {
                let m = m.reserve(AllocSize::tail::<Bytes>(seed % 900)).unwrap();
                let bytes = m.place_bytes::<Bytes>((), &pattern(seed, seed % 900));
                if seed % 100 == 99 {
                    kept.push((seed, Box::leak(Box::new(m.pin(bytes))).tail()));
                }
            }
            m.collect();
            kept
        })
        .unwrap();
    assert_eq!(kept.len(), 30);
    let right = || kept.iter().all(|&(seed, bytes)| bytes == pattern(seed, seed % 900));
    assert!(right());
    drop(heap);
    std::thread::scope(|scope| scope.spawn(|| assert!(right())).join().unwrap());
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        system_calls_fill_buffers,
        a_buffer_knows_its_heap,
        what_pins_cost_is_reported,
        a_pin_for_life,
        byte_arrays_change,
        what_is_pinned_does_not_move_and_the_rest_does,
        system_calls_read_and_write_what_they_are_lent,
        a_pin_may_be_the_last_to_know_the_heap
    ],
    concurrent: tests![a_pin_between_plan_and_stop_spoils_the_plan],
    ..Tests::NONE
};
