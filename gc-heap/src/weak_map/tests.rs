use super::*;
use crate::{Barrier, Heap, Tagged, Value};

#[derive(Trace)]
#[trace(identity_hash)]
struct Key {
    id: u64,
}

type Map = WeakMap<Key, Tagged>;

fn heaps(mib: &[usize]) -> impl Iterator<Item = (Barrier, usize, Heap)> {
    let barriers = [Barrier::Load, Barrier::Page, Barrier::StopTheWorld];
    let all = barriers.into_iter().flat_map(move |barrier| mib.iter().map(move |mib| (barrier, mib << 20)));
    // Where this machine refuses the page barrier there is nothing to test.
    all.filter_map(|(barrier, bytes)| {
        Heap::builder().max_bytes(bytes).barrier(barrier).build().ok().map(|heap| (barrier, bytes, heap))
    })
}

/// Of a large heap too: there no cycle would be due before the table had half a million places.
#[test]
fn a_table_of_keys_that_die_at_once_stays_small_in_heaps_of_all_sizes() {
    for (barrier, bytes, heap) in heaps(&[4, 16, 64, 256]) {
        heap.enter(|m| -> Result<(), OutOfMemory> {
            let map = Map::new(m)?;
            let (key, value) = (m.alloc::<Key>(|_| KeyInit { id: 0 })?, m.local(Value::int(1)));
            let mut most = 0;
            for id in 0..300_000 {
                let (m2, new) = m.alloc_raw::<Key>(|_| KeyInit { id })?;
                key.set(m2, new);
                WeakMap::insert(map, m, key, value)?;
                most = most.max(map.get(m).table.get(m).tail_len());
            }
            let bound = 2 * ((bytes / 64).min(1 << 20) / size_of::<Entry<Key, Tagged>>()).max(2 * 16);
            assert!(most <= bound, "{barrier:?}, {bytes}: {most} places, {bound} allowed");
            assert_eq!(map.get(m).get(m, key.get(m)).map(|value| value.as_int()), Some(Some(1)));
            Ok(())
        })
        .unwrap()
        .unwrap_or_else(|error| panic!("{barrier:?}, {bytes}: {error}"));
    }
}

/// A table whose keys live grows as before, and costs a few cycles each time it doubles.
#[test]
fn a_table_of_keys_that_live_grows() {
    const KEYS: usize = 200_000;
    for (barrier, _, heap) in heaps(&[64]) {
        heap.enter(|m| -> Result<(), OutOfMemory> {
            type Keys = crate::SlotArray<Option<Key>>;
            let map = Map::new(m)?;
            let keys = m.build::<Keys>(AllocSize::tail::<Keys>(KEYS), |m| m.place_array((), KEYS, None))?;
            for id in 0..KEYS {
                let m = &mut *m.frame();
                let key = m.alloc::<Key>(|_| KeyInit { id: id as u64 })?;
                keys.get(m).tail()[id].set(m, Some(key.get(m)));
                let value = m.local(Value::int(id as i32));
                WeakMap::insert(map, m, key, value)?;
            }
            let map = map.get(m);
            assert_eq!((map.len(m), map.vanished(m)), (KEYS, 0));
            for (id, key) in keys.get(m).tail().iter().enumerate() {
                assert_eq!(map.get(m, key.get(m).unwrap()).and_then(|value| value.as_int()), Some(id as i32));
            }
            Ok(())
        })
        .unwrap()
        .unwrap_or_else(|error| panic!("{barrier:?}: {error}"));
        let cycles = heap.stats().cycles;
        assert!(cycles < 30, "{barrier:?}: {cycles} cycles");
    }
}
