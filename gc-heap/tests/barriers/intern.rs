//! The table of weak strings.

use crate::common::{Random, checked, plain, stress};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Bytes, InternTable, Local, OutOfMemory, Trace};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Hashes that collide all the time.
#[derive(Default)]
struct Poor(u64);

impl Hasher for Poor {
    fn write(&mut self, bytes: &[u8]) {
        self.0 += bytes.iter().map(|byte| u64::from(*byte) % 4).sum::<u64>();
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Trace)]
#[trace(tail = u8)]
struct Str {
    hash: u64,
}

/// Against a map of the texts that are kept: one object for each, with cycles in between.
pub(crate) fn equal_texts_are_one_object(barrier: Barrier) {
    let heap = checked(barrier, 8 << 20).stress(stress(9)).build().unwrap();
    heap.enter(|m| -> Result<(), OutOfMemory> {
        let table: InternTable<Str, BuildHasherDefault<Poor>> = InternTable::new(m)?;
        let mut kept: HashMap<Vec<u8>, Local<'_, Str>> = HashMap::new();
        let mut random = Random::new(3);
        for turn in 0..3000 {
            let text = random.below(400).to_string().repeat(1 + turn % 2).into_bytes();
            let (m, string) = table.intern_with(m, &text, |_| (), |_, hash| StrInit { hash })?;
            assert!(string.tail() == text && string.hash & 1 == 1);
            match kept.get(&text) {
                Some(known) => assert!(known.get(m).ptr_eq(string)),
                None if random.one_in(3) => _ = kept.insert(text, m.local(string)),
                None => {}
            }
        }
        m.collect();
        assert_eq!(table.len(m), kept.len());
        Ok(())
    })
    .unwrap()
    .unwrap();
}

/// Ten times what the heap holds, none of it kept; and a table that is as large as what is kept.
pub(crate) fn strings_that_die_at_once_never_fill_the_heap(barrier: Barrier) {
    for bytes in [4 << 20, 16 << 20] {
        let heap = plain(barrier, bytes).build().unwrap();
        heap.enter(|m| -> Result<(), OutOfMemory> {
            let table: InternTable = InternTable::new(m)?;
            let kept = {
                let (m, string) = table.intern(m, b"kept")?;
                m.local(string)
            };
            for number in 0..bytes / 4 {
                let (_, string) = table.intern(m, &number.to_le_bytes())?;
                assert_eq!(string.tail(), number.to_le_bytes());
            }
            let (m, again) = table.intern(m, b"kept")?;
            assert!(again.ptr_eq(kept.get(m)));
            Ok(())
        })
        .unwrap()
        .unwrap_or_else(|error| panic!("{bytes}: {error}"));
    }
}

/// Threads that intern the same texts get the same objects, while the heap is collected.
pub(crate) fn threads_share_a_table(barrier: Barrier) {
    let heap = checked(barrier, 16 << 20).build().unwrap();
    let table = heap.enter(InternTable::<Bytes>::new).unwrap().unwrap();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (heap, table) = (&heap, &table);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                heap.enter(|m| -> Result<(), OutOfMemory> {
                    for turn in 0..400 {
                        let m = &mut *m.frame();
                        let text = format!("text {}", random.below(50));
                        let first = {
                            let (m, string) = table.intern(m, text.as_bytes())?;
                            m.local(string)
                        };
                        if turn % 40 == 0 {
                            m.collect();
                        }
                        m.reserve(AllocSize::tail::<Bytes>(100))?.place_bytes::<Bytes>((), &[0; 100]);
                        let (m, again) = table.intern(m, text.as_bytes())?;
                        assert!(again.ptr_eq(first.get(m)) && again.tail() == text.as_bytes());
                    }
                    Ok(())
                })
                .unwrap()
                .unwrap();
            });
        }
    });
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![equal_texts_are_one_object, strings_that_die_at_once_never_fill_the_heap, threads_share_a_table],
    ..Tests::NONE
};
