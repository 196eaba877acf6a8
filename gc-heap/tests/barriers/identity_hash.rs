//! Identity hashes: an object has one, however often it moves and whichever thread asks first.

use crate::common::{every_heap, while_collecting};
use crate::ephemeron::{Item, Items, place};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Bytes, Mutator, Root, SlotArray, Trace};
use std::time::Duration;

pub(crate) fn an_identity_hash_stays_while_its_object_moves(barrier: Barrier) {
    #[derive(Trace)]
    #[trace(tail = u8, identity_hash)]
    struct Name(u64);
    for heap in every_heap(barrier, 8 << 20, 4) {
        heap.enter(|m| {
            const LEN: usize = 3000;
            let names = m.build::<SlotArray<Option<Name>>>(AllocSize::tail::<SlotArray<Option<Name>>>(LEN), |m| {
                m.place_array((), LEN, None)
            });
            let names = names.unwrap();
            for index in 0..LEN {
                let text = format!("name {index}");
                let m = m.reserve(AllocSize::tail::<Name>(text.len())).unwrap();
                let name = m.place_tail::<Name, _>(NameInit(index as u64), text.bytes());
                names.get(m).tail()[index].set(m, Some(name));
            }
            let hashes = |m: &Mutator<'_>| {
                let names = names.get(m).tail().iter().map(|slot| slot.get(m).unwrap());
                names.map(|name| name.identity_hash(m)).collect::<Vec<_>>()
            };
            let before = hashes(m);
            let different: std::collections::HashSet<_> = before.iter().copied().collect();
            assert!(different.len() == LEN && !different.contains(&0));
            for _ in 0..4 {
                m.collect();
                assert_eq!(hashes(m), before);
            }
            for (index, slot) in names.get(m).tail().iter().enumerate() {
                let name = slot.get(m).unwrap();
                assert_eq!((name.0, name.tail()), (index as u64, format!("name {index}").as_bytes()));
                assert_eq!(name.any().identity_hash(m), Some(before[index]));
            }
            let bytes = m.build::<Bytes>(AllocSize::tail::<Bytes>(1), |m| m.place_bytes((), b"x")).unwrap();
            assert_eq!(bytes.get(m).any().identity_hash(m), None);
        })
        .unwrap();
    }
}

/// Threads ask for the hashes of the same objects for the first time, while these move.
pub(crate) fn threads_agree_on_an_identity_hash(barrier: Barrier) {
    const LEN: usize = 2000;
    for heap in every_heap(barrier, 8 << 20, 5) {
        let items = heap.enter(|m| {
            let items = m.build::<Items>(AllocSize::tail::<Items>(LEN), |m| m.place_array((), LEN, None)).unwrap();
            for index in 0..LEN {
                let m = m.reserve(AllocSize::of::<Item>()).unwrap();
                let item = place(m, index as u64);
                items.get(m).tail()[index].set(m, Some(item));
            }
            Root::<Items>::new(m, items.get(m))
        });
        let items = items.unwrap();
        let all: Vec<Vec<u64>> = while_collecting(&heap, Duration::ZERO, || {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..3)
                    .map(|_| {
                        let (heap, items) = (&heap, &items);
                        scope.spawn(move || {
                            let hash = |m: &mut Mutator<'_>, index: usize| {
                                if index.is_multiple_of(16) {
                                    m.safepoint();
                                }
                                items.get(m).tail()[index].get(m).unwrap().identity_hash(m)
                            };
                            heap.enter(|m| (0..LEN).map(|index| hash(m, index)).collect()).unwrap()
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            })
        });
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
        let now: Vec<u64> = heap
            .enter(|m| items.get(m).tail().iter().map(|slot| slot.get(m).unwrap().identity_hash(m)).collect())
            .unwrap();
        assert_eq!(now, all[0]);
    }
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![an_identity_hash_stays_while_its_object_moves, threads_agree_on_an_identity_hash],
    ..Tests::NONE
};
