//! Objects of every size: what the header can say of it and what not, what moves and what never
//! does.

use crate::common::{checked, every_heap};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Array, Barrier, Bytes, Gc, Local, Mutator, OutOfMemory, Slot, SlotArray, Tagged, Trace, Value,
};

/// An object of some words, a slot the last of them.
#[derive(Trace)]
struct Wide<const WORDS: usize> {
    numbers: [u64; WORDS],
    last: Slot<Option<Wide<WORDS>>>,
}

fn wide<const WORDS: usize>(m: &mut Mutator<'_>) -> Result<(), OutOfMemory> {
    let m = &mut *m.frame();
    let list = m.local_of::<Option<Wide<WORDS>>>(None);
    for number in 0..40 {
        let m = &mut *m.frame();
        let numbers = std::array::from_fn(|index| number << 32 | index as u64);
        let object = m.alloc::<Wide<WORDS>>(|m| WideInit { numbers, last: list.get(m) })?;
        // Others die between them, so that they move.
        m.alloc::<Wide<WORDS>>(|_| WideInit { numbers, last: None })?;
        list.set(m, Some(object.get(m)));
    }
    m.collect();
    m.collect();
    let mut object = list.get(m);
    for number in (0..40).rev() {
        let found = object.expect("forty objects");
        assert!(found.numbers.iter().copied().eq((0..WORDS as u64).map(|index| number << 32 | index)));
        object = found.last.get(m);
    }
    assert!(object.is_none());
    Ok(())
}

/// Around 512 bytes, around a page, and the largest that a fixed part may be.
pub(crate) fn objects_of_512_bytes_and_more(barrier: Barrier) {
    for heap in every_heap(barrier, 8 << 20, 21) {
        heap.enter(|m| -> Result<(), OutOfMemory> {
            for _ in 0..3 {
                wide::<0>(m)?;
                wide::<60>(m)?;
                wide::<61>(m)?;
                wide::<62>(m)?;
                wide::<63>(m)?;
                wide::<64>(m)?;
                wide::<65>(m)?;
                wide::<200>(m)?;
                wide::<508>(m)?;
                wide::<510>(m)?;
            }
            Ok(())
        })
        .unwrap()
        .unwrap();
    }
}

/// Bytes, numbers, values: nothing, a few, and around all that changes with the size: a page, a
/// large object, a block.
const LENGTHS: &[usize] =
    &[0, 1, 7, 8, 9, 62, 63, 64, 500, 512, 4077, 4096, 8190, 32_751, 32_753, 65_519, 65_521, 300_001];

#[derive(Trace)]
struct Row {
    bytes: Slot<Bytes>,
    numbers: Slot<Array<f64>>,
    values: Slot<SlotArray<Tagged>>,
}

fn row<'s>(m: &mut Mutator<'s>, len: usize) -> Result<Local<'s, Row>, OutOfMemory> {
    let room = AllocSize::of::<Row>()
        + AllocSize::tail::<Bytes>(len)
        + AllocSize::tail::<Array<f64>>(len / 8)
        + AllocSize::tail::<SlotArray<Tagged>>(len / 8);
    m.build::<Row>(room, |m| {
        let text: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
        let bytes = m.place_bytes::<Bytes>((), &text);
        let numbers = m.place_tail::<Array<f64>, _>((), (0..len / 8).map(|index| index as f64 / 3.0));
        // Every other value leads to the bytes.
        let value = |index: usize| if index.is_multiple_of(2) { bytes.into() } else { Value::int(index as i32) };
        let values = m.place_tail::<SlotArray<Tagged>, _>((), (0..len / 8).map(value));
        m.place(RowInit { bytes, numbers, values })
    })
}

fn check(m: &Mutator<'_>, row: Gc<'_, Row>, len: usize) {
    let (bytes, numbers, values) = (row.bytes.get(m), row.numbers.get(m), row.values.get(m));
    assert_eq!((bytes.tail_len(), numbers.tail_len(), values.tail_len()), (len, len / 8, len / 8));
    assert!(bytes.tail().iter().enumerate().all(|(index, &byte)| byte == (index % 251) as u8));
    assert!(numbers.tail().iter().enumerate().all(|(index, &x)| x == index as f64 / 3.0));
    for (index, value) in values.tail().iter().map(|slot| slot.get(m)).enumerate() {
        match value.downcast::<Bytes>() {
            Some(found) => assert!(index % 2 == 0 && found.ptr_eq(bytes)),
            None => assert_eq!(value.as_int(), Some(index as i32)),
        }
    }
}

pub(crate) fn arrays_and_strings_of_any_length(barrier: Barrier) {
    for heap in every_heap(barrier, 16 << 20, 22) {
        heap.enter(|m| -> Result<(), OutOfMemory> {
            for round in 0..3 {
                let m = &mut *m.frame();
                let mut rows = Vec::new();
                for &len in LENGTHS {
                    rows.push((row(m, len)?, len));
                    row(&mut m.frame(), len + round)?; // garbage
                }
                m.collect();
                rows.iter().for_each(|&(row, len)| check(m, row.get(m), len));
                m.collect();
                rows.iter().for_each(|&(row, len)| check(m, row.get(m), len));
            }
            Ok(())
        })
        .unwrap()
        .unwrap();
    }
}

/// A large object keeps its place through every relocation, and through a compaction for a run that
/// cannot be made, while small ones move around it. (In stress mode it would move in every pause.)
pub(crate) fn large_objects_move_only_to_make_a_run(barrier: Barrier) {
    const HEAP: usize = 8 << 20;
    let heap = checked(barrier, HEAP).build().unwrap();
    heap.enter(|m| -> Result<(), OutOfMemory> {
        // Views differ above the heap's size.
        let place = |bytes: Gc<'_, Bytes>| bytes.tail().as_ptr().addr() % HEAP;
        let mut large = Vec::new();
        let small = m.local_of::<Option<Wide<30>>>(None);
        for len in [33_000, 70_000, 500_000, 40_000] {
            let bytes = vec![len as u8; len];
            let object = m.build::<Bytes>(AllocSize::tail::<Bytes>(len), |m| m.place_bytes((), &bytes))?;
            large.push((object, place(object.get(m)), len));
        }
        for number in 0..24_000 {
            let m = m.reserve(AllocSize::of::<Wide<30>>())?;
            let object = m.place(WideInit { numbers: [number; 30], last: small.get(m) });
            if number % 3 == 0 {
                small.set(m, Some(object));
            }
        }
        for _ in 0..10 {
            m.collect();
            for &(object, at, len) in &large {
                assert_eq!(place(object.get(m)), at, "a large object has moved");
                assert!(object.get(m).tail().iter().all(|&byte| byte == len as u8));
            }
        }
        assert!(heap.stats().relocations > 0, "nothing has moved at all: {:?}", heap.stats());
        // Nearly the whole heap: it is compacted in a pause before the request fails.
        m.reserve(AllocSize::tail::<Bytes>(HEAP / 8 * 7)).unwrap_err();
        assert!(heap.stats().compactions > 0, "{:?}", heap.stats());
        assert!(
            large.iter().all(|&(object, at, _)| place(object.get(m)) == at),
            "a compaction has moved a large object"
        );
        Ok(())
    })
    .unwrap()
    .unwrap();
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        objects_of_512_bytes_and_more,
        arrays_and_strings_of_any_length,
        large_objects_move_only_to_make_a_run
    ],
    ..Tests::NONE
};
