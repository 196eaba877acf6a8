//! Objects with tails of every sort, from slices and iterators of every sort, small and large.

use crate::common::{checked, panics, stress};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Array, Barrier, Bytes, Field, Gc, Mutator, Num, OutOfMemory, Plain, Slot, SlotArray, Tagged, Trace,
    Value,
};

#[derive(Trace)]
struct Leaf {
    number: u64,
}

/// An element that is written field by field: its initialiser lies otherwise.
#[derive(Trace)]
struct Entry {
    small: u8,
    leaf: Slot<Option<Leaf>>,
    number: Num<u32>,
}

/// Small; of a block or so; large; large, of many blocks.
const LENS: [usize; 5] = [0, 5, 3_000, 40_000, 200_000];

/// Places a copy of the elements, from a slice and from iterators that know how many they give and
/// that do not.
fn copies<'g, E: Field>(m: &'g Mutator<'_>, elements: &[E::Init<'g>], same: impl Fn(&E, &E::Init<'g>) -> bool)
where
    E::Init<'g>: Copy,
{
    let placed: [Gc<'_, Array<E>>; 3] = [
        m.place_copy((), elements),
        m.place_tail((), elements.iter().copied()),
        m.place_tail((), elements.iter().copied().filter(|_| true)),
    ];
    for array in placed {
        assert_eq!(array.tail_len(), elements.len());
        assert!(array.tail().iter().zip(elements).all(|(placed, element)| same(placed, element)));
    }
}

pub(crate) fn tails_are_copied_whole(barrier: Barrier) {
    let heap = checked(barrier, 64 << 20).stress(stress(7)).build().unwrap();
    heap.enter(|m| -> Result<(), OutOfMemory> {
        for len in LENS {
            macro_rules! of {
                ($element:ty, $make:expr, $same:expr) => {{
                    let m = m.reserve(AllocSize::tail::<Array<$element>>(len).times(3))?;
                    let elements: Vec<_> = (0..len).map($make).collect();
                    copies::<$element>(m, &elements, $same);
                }};
            }
            of!(u8, |i| i as u8, |a, b| a == b);
            of!(i16, |i| -(i as i16 / 2), |a, b| a == b);
            of!(f64, |i| i as f64 / 3.0, |a, b| a == b);
            of!(bool, |i| i % 3 == 0, |a, b| a == b);
            of!(char, |i| char::from_u32(i as u32 % 0xd000).unwrap(), |a, b| a == b);
            of!(Num<u32>, |i| i as u32, |a, b| a.get() == *b);
            of!(Num<f32>, |i| i as f32, |a, b| a.get() == *b);
            of!(Num<bool>, |i| i % 2 == 0, |a, b| a.get() == *b);
            of!(Plain<(u8, u32)>, |i| (i as u8, i as u32), |a, b| a.get() == *b);
            of!([u16; 3], |i| [i as u16; 3], |a, b| a == b);
            m.collect();
        }
        for len in LENS {
            let leaf = m.alloc::<Leaf>(|_| LeafInit { number: 3 })?;
            let arrays =
                AllocSize::tail::<SlotArray<Tagged>>(len).times(9) + AllocSize::tail::<Array<Entry>>(len).times(3);
            let m = m.reserve(arrays)?;
            let leaf = leaf.get(m);
            let values: Vec<Value<'_>> =
                (0..len).map(|i| if i % 3 == 0 { leaf.into() } else { Value::num(i as f64) }).collect();
            copies::<Slot<Tagged>>(m, &values, |slot, value| slot.get(m).is_identical(*value));
            let typed = vec![leaf; len];
            copies::<Slot<Leaf>>(m, &typed, |slot, leaf| slot.get(m).ptr_eq(*leaf));
            let some: Vec<Option<Gc<'_, Leaf>>> = (0..len).map(|i| (i % 2 == 0).then_some(leaf)).collect();
            copies::<Slot<Option<Leaf>>>(m, &some, |slot, leaf| {
                slot.get(m).map(|l| l.number) == leaf.map(|l| l.number)
            });
            let make = |i: usize| EntryInit { small: i as u8, leaf: some[i], number: i as u32 };
            let entries: Vec<_> = (0..len).map(make).collect();
            let array = m.place_copy::<Array<Entry>>((), &entries);
            let whole = array.tail().iter().enumerate().all(|(i, entry)| {
                entry.small == i as u8
                    && entry.number.get() == i as u32
                    && entry.leaf.get(m).is_some() == some[i].is_some()
            });
            assert!(whole && array.tail_len() == len);
        }
        Ok(())
    })
    .unwrap()
    .unwrap();
}

/// Memory in which other objects lay, and an iterator that panics half way, or places objects and
/// has cycles verified after: no slot holds what was there before.
pub(crate) fn what_lay_there_before_is_nowhere_seen(barrier: Barrier) {
    let heap = checked(barrier, 32 << 20).build().unwrap();
    heap.enter(|m| -> Result<(), OutOfMemory> {
        for len in [3_000, 40_000, 200_000] {
            // A pattern that would be a reference if a slot held it.
            let pattern = vec![0x10_u8; 8 * len];
            for _ in 0..3 {
                let m = &mut *m.frame();
                m.build::<Bytes>(AllocSize::tail::<Bytes>(pattern.len()), |m| m.place_bytes((), &pattern))?;
            }
            m.collect();
            let half = len / 2;
            // The room of another type, which has no slots in its tail.
            let room = AllocSize::tail::<Bytes>(8 * len) + AllocSize::of::<Leaf>().times(len);
            for _ in 0..3 {
                let m = m.reserve(room)?;
                panics(|| {
                    m.place_tail::<SlotArray<Option<Leaf>>, _>(
                        (),
                        (0..len).map(|i| {
                            assert!(i < half, "half way");
                            Some(m.place(LeafInit { number: i as u64 }))
                        }),
                    )
                });
            }
            m.collect();
            let slots = m.build::<SlotArray<Option<Leaf>>>(room, |m| {
                m.place_tail((), (0..len).map(|i| (i % 2 == 0).then(|| m.place(LeafInit { number: i as u64 }))))
            })?;
            m.collect();
            let number = |i: usize| slots.get(m).tail()[i].get(m).map(|leaf| leaf.number);
            assert!((0..len).all(|i| number(i) == (i % 2 == 0).then_some(i as u64)));
            // No room was asked for; where a block is free, an object finds one all the same.
            let raw: Gc<'_, Array<Num<u64>>> = m.reserve(AllocSize::tail::<Bytes>(8 * len))?.place_array((), len, 5);
            assert!(raw.tail().iter().all(|number| number.get() == 5));
        }
        Ok(())
    })
    .unwrap()
    .unwrap();
}

pub(crate) const TESTS: Tests =
    Tests { every: tests![tails_are_copied_whole, what_lay_there_before_is_nowhere_seen], ..Tests::NONE };
