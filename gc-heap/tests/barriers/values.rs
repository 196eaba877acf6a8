//! Values as an embedder uses them: constants beside references, in every kind of root and slot.

use crate::common::every_heap;
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Mutator, Num, Root, RootStack, Slot, SlotArray, Tagged, Trace, Unpacked, Value};
use std::sync::atomic::Ordering;

#[derive(Trace)]
struct Pair {
    first: Slot<Tagged>,
    second: Slot<Tagged>,
}

/// The shorter of two borrows: a value made before lives as long as what it is stored beside.
fn either<'g>(m: &'g Mutator<'_>, slot: &Slot<Tagged>, constant: Value<'static>) -> [Value<'g>; 2] {
    [slot.get(m), constant]
}

pub(crate) fn constants_go_wherever_references_do(barrier: Barrier) {
    let heap = crate::common::checked(barrier, 4 << 20).build().unwrap();
    heap.enter(|m| {
        let m = m.reserve(AllocSize::of::<Pair>().times(2) + AllocSize::tail::<SlotArray<Tagged>>(3)).unwrap();
        let pair = m.place(PairInit { first: Value::NIL, second: Value::TRUE });
        let other = m.place(PairInit { first: pair.into(), second: Value::NIL });
        let array = m.place_array::<SlotArray<Tagged>>((), 3, Value::NIL);
        array.tail()[0].set(m, Value::FALSE);
        array.tail()[1].set(m, other.into());
        assert!(array.tail()[2].get(m).is_nil());
        assert!(array.tail()[0].get(m).is_identical(Value::FALSE));
        let [held, nil] = either(m, &other.first, Value::NIL);
        assert!(held.is_identical(pair.into()) && nil.is_nil());
        assert!(other.second.swap(m, Value::TRUE).is_nil());
        assert!(other.second.compare_exchange(m, Value::NIL, Value::FALSE).is_err());
        assert!(other.second.compare_exchange(m, Value::TRUE, Value::FALSE).is_ok());
        let (local, root) = (m.local(Value::NIL), Root::<Tagged>::new(m, Value::NIL));
        assert!(local.get(m).is_nil() && root.get(m).is_nil());
        local.set(m, pair.into());
        local.set(m, Value::NIL);
        root.set(m, Value::TRUE);
        let stack = RootStack::<Tagged>::new(&heap).unwrap();
        stack.push(m, Value::NIL);
        stack.push(m, pair.into());
        stack.poke(m, 0, Value::NIL);
        assert_eq!(stack.len(), 2);
    })
    .unwrap();
}

pub(crate) fn immediates_and_references_survive_cycles(barrier: Barrier) {
    for (mirror, workers) in crate::common::sorts() {
        let heap = crate::common::checked(barrier, 4 << 20).mirror(mirror).workers(workers);
        let heap = heap.stress(crate::common::stress(1)).build().unwrap();
        heap.enter(|m| {
            let doubles =
                [0.0, -0.0, f64::MIN_POSITIVE, f64::MAX, f64::INFINITY, f64::NAN, -f64::NAN, f64::from_bits(1)];
            let stack = RootStack::<Tagged>::new(&heap).unwrap();
            for (i, x) in doubles.into_iter().enumerate() {
                let m = m.reserve(AllocSize::of::<Pair>()).unwrap();
                let pair = m.place(PairInit { first: Value::num(x), second: Value::int(i as i32) });
                stack.push(m, pair.into());
                stack.push(m, Value::num(x));
            }
            for _ in 0..5 {
                m.collect();
                for (i, x) in doubles.into_iter().enumerate() {
                    let pair = stack.get(m, 2 * i).downcast::<Pair>().unwrap();
                    let Unpacked::Num(first) = pair.first.get(m).unpack() else { panic!("a number") };
                    assert!(first.to_bits() == x.to_bits() || first.is_nan() && x.is_nan());
                    assert_eq!(pair.second.get(m).as_int(), Some(i as i32));
                    assert!(stack.get(m, 2 * i + 1).is_identical(Value::num(x)));
                }
            }
        })
        .unwrap();
        assert!(heap.stats().relocations > 0);
    }
}

/// A double whose bits are a reference's must not be taken for one, by barriers or collector.
pub(crate) fn no_double_forges_a_reference(barrier: Barrier) {
    let heap = crate::common::checked(barrier, 4 << 20).stress(crate::common::stress(2)).build().unwrap();
    heap.enter(|m| {
        let local = m.local(Value::NIL);
        let root = Root::<Tagged>::new(m, Value::NIL);
        // Every 16-bit pattern above, with payloads that look like addresses below.
        for high in (0..=u64::from(u16::MAX)).step_by(7) {
            for low in [1, 0x0000_7f00_1234_5678, 0xffff_ffff_ffff] {
                let x = f64::from_bits(high << 48 | low);
                local.set(m, Value::num(x));
                root.set(m, Value::num(x));
                for value in [local.get(m), root.get(m)] {
                    assert!(value.as_any().is_none() && !value.is_nil() && value.as_int().is_none());
                    let back = value.as_num().unwrap();
                    assert!(back.to_bits() == x.to_bits() || back.is_nan() && x.is_nan());
                }
            }
            if high % 1024 < 7 {
                m.collect();
            }
        }
    })
    .unwrap();
}

/// The two heaps of a process do not mix, whatever a root holds.
pub(crate) fn an_immediate_of_another_heap_is_refused_too(barrier: Barrier) {
    let (one, two) = (
        crate::common::checked(barrier, 4 << 20).build().unwrap(),
        crate::common::checked(barrier, 4 << 20).build().unwrap(),
    );
    let root = one.enter(|m| Root::<Tagged>::new(m, Value::TRUE)).unwrap();
    let stack = RootStack::<Tagged>::new(&one).unwrap();
    one.enter(|m| stack.push(m, Value::TRUE)).unwrap();
    // A wrong answer would panic as well: ask for the right one, which a missing check gives.
    let refused = |f: &dyn Fn(&Mutator<'_>)| {
        two.enter(|m| crate::common::catch_unwind(std::panic::AssertUnwindSafe(|| f(m))).is_err()).unwrap()
    };
    assert!(refused(&|m| assert_eq!(root.get(m).as_bool(), Some(true))));
    assert!(refused(&|m| root.set(m, Value::NIL)));
    assert!(refused(&|m| assert_eq!(stack.peek(m, 0).as_bool(), Some(true))));
    assert!(refused(&|m| stack.push(m, Value::NIL)));
    assert_eq!(one.enter(|m| root.get(m).as_bool()).unwrap(), Some(true));
}

#[derive(Trace)]
struct Counter {
    count: Num<u32>,
    turn: Num<bool>,
}

/// Threads add to one number while its object moves. Fails where an addition is lost, to another or
/// to a copy.
pub(crate) fn threads_add_to_one_number(barrier: Barrier) {
    const THREADS: u32 = 4;
    const TIMES: u32 = 2000;
    for heap in every_heap(barrier, 4 << 20, 21) {
        let counter = heap
            .enter(|m| {
                let (m, counter) = m.alloc_raw::<Counter>(|_| CounterInit { count: 0, turn: false }).unwrap();
                Root::<Counter>::new(m, counter)
            })
            .unwrap();
        let add = || {
            heap.enter(|m| {
                let mut turns = 0;
                for _ in 0..TIMES {
                    let m = m.reserve(AllocSize::of::<Counter>()).unwrap();
                    m.place(CounterInit { count: 0, turn: false }); // garbage, for cycles
                    let counter = counter.get(m);
                    counter.count.as_atomic().fetch_add(1, Ordering::Relaxed);
                    turns += u32::from(counter.turn.as_atomic().fetch_xor(true, Ordering::AcqRel));
                }
                turns
            })
            .unwrap()
        };
        let turns: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(add)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(turns, THREADS * TIMES / 2);
        assert_eq!(heap.enter(|m| counter.get(m).count.get()), Ok(THREADS * TIMES));
    }
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![immediates_and_references_survive_cycles, threads_add_to_one_number],
    concurrent: tests![
        constants_go_wherever_references_do,
        no_double_forges_a_reference,
        an_immediate_of_another_heap_is_refused_too
    ],
    ..Tests::NONE
};
