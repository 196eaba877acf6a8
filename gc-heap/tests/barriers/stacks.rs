//! Operand stacks as an interpreter uses them: bound to their mutator, alternately deep and
//! shallow.

use crate::common::{Random, checked, panic_of, plain, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Bytes, Mutator, RootStack, Tagged, Trace, Value};
use std::time::Duration;

#[derive(Trace)]
struct Number {
    number: u64,
}

/// A value that says which it is: an object, or an immediate.
fn value<'g>(m: &'g Mutator<'_>, number: u64) -> Value<'g> {
    if number.is_multiple_of(3) { m.place(NumberInit { number }).into() } else { Value::num(number as f64) }
}

fn number(value: Value<'_>) -> u64 {
    value.downcast::<Number>().map_or_else(|| value.as_num().expect("a number") as u64, |object| object.number)
}

/// All operations against a vector, some of them of the bound stack and some of the other, with
/// cycles in between.
pub(crate) fn a_bound_stack_is_the_stack(barrier: Barrier) {
    let heap = checked(barrier, 8 << 20).stress(stress(3)).build().unwrap();
    let mut stack: RootStack = RootStack::with_capacity(&heap, 1 << 15).unwrap();
    let mut random = Random::new(11);
    let mut expected: Vec<u64> = Vec::new();
    heap.enter(|m| {
        for turn in 0..300_u64 {
            if turn.is_multiple_of(40) {
                m.collect();
            }
            let m = m.reserve(AllocSize::of::<Number>().times(64)).unwrap();
            let mut bound = stack.bind(m);
            for _ in 0..60 {
                let new = random.next() >> 20;
                match random.below(9) {
                    0..3 if bound.room() > 0 => {
                        bound.push(value(m, new));
                        expected.push(new);
                    }
                    3 => assert_eq!(bound.pop().map(number), expected.pop()),
                    4 if !expected.is_empty() => {
                        let depth = random.below(expected.len());
                        let index = expected.len() - 1 - depth;
                        assert_eq!(number(bound.peek(depth)), expected[index]);
                        bound.poke(depth, value(m, new));
                        expected[index] = new;
                    }
                    5 if !expected.is_empty() => {
                        let index = random.below(expected.len());
                        assert_eq!(number(bound.get(index)), expected[index]);
                        bound.set(index, value(m, new));
                        expected[index] = new;
                    }
                    6 if expected.len() > 1 => {
                        let [a, b] = bound.last::<2>();
                        assert!(expected.ends_with(&[number(a.get(m)), number(b.get(m))]));
                        let read: Vec<u64> = bound.slots().iter().map(|slot| number(slot.get(m))).collect();
                        assert_eq!(read, expected);
                    }
                    7 => {
                        let base = random.below(expected.len().min(30_000) + 1);
                        let len = random.below(20_000.min((1 << 15) - 600 - base.min(32_000)));
                        let window = bound.window(base, len, Value::num(new as f64));
                        expected.resize(base + len, new);
                        assert!(window.iter().map(|slot| number(slot.get(m))).eq(expected[base..].iter().copied()));
                    }
                    8 => {
                        let count = random.below(100);
                        bound.drop_top(count);
                        expected.truncate(expected.len().saturating_sub(count));
                    }
                    _ => {}
                }
                assert_eq!((bound.len(), bound.room()), (expected.len(), (1 << 15) - expected.len()));
            }
            let read: Vec<u64> = (0..stack.len()).map(|index| number(stack.get(m, index))).collect();
            assert_eq!(read, expected);
        }
    })
    .unwrap();
}

/// As of the stack itself: what is wrong, and the line of the program.
pub(crate) fn panics_of_bound_stacks_say_line_index_and_length(barrier: Barrier) {
    let heap = plain(barrier, 4 << 20).build().unwrap();
    let mut stack: RootStack = RootStack::with_capacity(&heap, 512).unwrap();
    heap.enter(|m| {
        let mut stack = stack.bind(m);
        (0..3).for_each(|_| stack.push(Value::NIL));
        let first = line!() + 2;
        let said = [
            panic_of(|| _ = stack.get(3)),
            panic_of(|| stack.set(7, Value::NIL)),
            panic_of(|| _ = stack.peek(5)),
            panic_of(|| stack.poke(6, Value::NIL)),
            panic_of(|| _ = stack.last::<4>()),
            panic_of(|| stack.resize(513, Value::NIL)),
            panic_of(|| (0..600).for_each(|_| stack.push(Value::NIL))),
        ];
        let numbers = [(3, 3), (7, 3), (5, 3), (6, 3), (4, 3), (513, 512), (513, 512)];
        for ((line, (text, file, at)), (index, len)) in (first..).zip(said).zip(numbers) {
            let whole = text.contains(&format!(" {index}")) && text.contains(&format!(" {len} "));
            assert!(whole && at == line && file.ends_with("stacks.rs"), "line {line}: {file}:{at}: {text}");
        }
    })
    .unwrap();
    // The window's sum overflows, and is too much.
    heap.enter(|m| panic_of(|| _ = stack.bind(m).window(1, usize::MAX, Value::NIL))).unwrap();
    let other = plain(barrier, 4 << 20).build().unwrap();
    let refused = other.enter(|m| crate::common::panics(|| stack.bind(m).len()));
    refused.unwrap();
}

/// Bytes of a range that have memory.
fn resident(address: usize, bytes: usize) -> usize {
    let mut pages = vec![0_u8; bytes / 4096];
    // SAFETY: mapped while the stack lives, and as many bytes as pages are written.
    let asked = unsafe { libc::mincore(address as *mut libc::c_void, bytes, pages.as_mut_ptr()) };
    assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
    pages.iter().filter(|page| **page & 1 == 1).count() * 4096
}

/// In use or not: nobody has the stack while its memory goes.
pub(crate) fn a_stack_gives_memory_back_after_a_deep_recursion(barrier: Barrier) {
    const SLOTS: usize = 4 << 20;
    const DEEP: usize = 2 << 20;
    let heap = plain(barrier, 8 << 20).build().unwrap();
    for bound in [false, true] {
        let mut stack: RootStack = RootStack::with_capacity(&heap, SLOTS).unwrap();
        let address = heap
            .enter(|m| {
                (0..3).for_each(|number| stack.push(m, Value::num(f64::from(number))));
                let address = stack.slots(m).as_ptr().addr();
                if bound {
                    let mut stack = stack.bind(m);
                    (0..DEEP).for_each(|_| stack.push(Value::TRUE));
                    stack.truncate(3);
                } else {
                    (0..DEEP).for_each(|_| stack.push(m, Value::TRUE));
                    stack.truncate(m, 3);
                }
                address
            })
            .unwrap();
        let before = resident(address, SLOTS * 8);
        assert!(before >= DEEP * 8, "{before} bytes for {DEEP} values");
        // The end of the first cycle's marking notes how much the stack has; what it has not needed
        // by the next goes then.
        (0..3).for_each(|_| heap.collect());
        let after = resident(address, SLOTS * 8);
        assert!(after <= 256 << 10, "{after} bytes for 3 values, {before} before");
        heap.enter(|m| {
            assert!((0..3).all(|index| stack.get(m, index).as_num() == Some(index as f64)));
            // And it can be as deep again.
            (0..DEEP).for_each(|_| stack.push(m, Value::TRUE));
            assert!(stack.slots(m)[3..].iter().all(|slot| slot.get(m).as_bool() == Some(true)));
        })
        .unwrap();
    }
}

/// A machine of registers makes the stack as long as its frames reach: the rest of the capacity is
/// neither touched nor looked at.
pub(crate) fn windows_touch_what_they_reach(barrier: Barrier) {
    const SLOTS: usize = 1 << 20;
    let heap = plain(barrier, 8 << 20).build().unwrap();
    let mut stack: RootStack = RootStack::with_capacity(&heap, SLOTS).unwrap();
    let address = heap
        .enter(|m| {
            let mut stack = stack.bind(m);
            for depth in 0..10 {
                let frame = stack.window(depth * 7, 8, Value::NIL);
                frame[7].set_num(m, depth as f64);
            }
            assert!((0..10).all(|depth| stack.get(depth * 7 + 7).as_num() == Some(depth as f64)));
            stack.slots().as_ptr().addr()
        })
        .unwrap();
    heap.collect();
    assert!(resident(address, SLOTS * 8) <= 64 << 10);
}

/// Up and down, at random depths, while cycles lower what the stack may use and give its memory
/// back.
pub(crate) fn stacks_grow_while_their_memory_is_given_back(barrier: Barrier) {
    let heap = plain(barrier, 16 << 20).build().unwrap();
    while_collecting(&heap, Duration::from_micros(200), || {
        std::thread::scope(|scope| {
            for seed in 0..3 {
                let heap = &heap;
                scope.spawn(move || {
                    let mut stack: RootStack<Tagged> = RootStack::with_capacity(heap, 1 << 18).unwrap();
                    let mut random = Random::new(seed);
                    heap.enter(|m| {
                        let held =
                            m.build::<Bytes>(AllocSize::tail::<Bytes>(4), |m| m.place_bytes((), b"held")).unwrap();
                        for _ in 0..60 {
                            let depth = random.below(1 << 17);
                            while stack.len() < depth {
                                m.safepoint();
                                let held = held.get(m);
                                let mut stack = stack.bind(m);
                                for _ in 0..10_000.min(depth - stack.len()) {
                                    let len = stack.len();
                                    let new = if len.is_multiple_of(8) { held.into() } else { Value::num(len as f64) };
                                    stack.push(new);
                                }
                            }
                            m.safepoint();
                            let whole = stack.slots(m).iter().enumerate().all(|(index, slot)| match slot.num() {
                                Some(number) => number == index as f64,
                                None => {
                                    let held = slot.get(m).downcast::<Bytes>();
                                    index.is_multiple_of(8) && held.is_some_and(|held| held.tail() == b"held")
                                }
                            });
                            assert!(whole, "a slot does not hold what was pushed");
                            stack.truncate(m, random.below(depth + 1).min(random.below(depth + 1)));
                        }
                    })
                    .unwrap();
                });
            }
        });
    });
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        a_bound_stack_is_the_stack,
        panics_of_bound_stacks_say_line_index_and_length,
        a_stack_gives_memory_back_after_a_deep_recursion,
        windows_touch_what_they_reach,
        stacks_grow_while_their_memory_is_given_back
    ],
    ..Tests::NONE
};
