//! Several heaps in one process: what belongs to one is refused by another, and nothing is harmed.

use crate::common::{catch_unwind, checked, stress};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Heap, Local, Mirror, Mutator, Root, RootStack, Slot, Tagged, Trace, Value, Weak};
use std::panic::AssertUnwindSafe;

#[derive(Trace)]
struct Item {
    id: u64,
    other: Slot<Option<Item>>,
}

/// Roots of one heap that hold something.
struct Roots {
    typed: Root<Item>,
    tagged: Root<Tagged>,
    immediate: Root<Tagged>,
    weak: Weak<Item>,
    items: RootStack<Item>,
    values: RootStack<Tagged>,
}

fn roots(heap: &Heap, id: u64) -> Roots {
    heap.enter(|m| {
        let m = m.reserve(AllocSize::of::<Item>()).unwrap();
        let item = m.place(ItemInit { id, other: None });
        let (items, values) = (RootStack::new(heap).unwrap(), RootStack::new(heap).unwrap());
        items.push(m, item);
        values.push(m, item.into());
        values.push(m, Value::int(id as i32));
        let (typed, tagged) = (Root::new(m, item), Root::new(m, item.into()));
        Roots { typed, tagged, immediate: Root::new(m, Value::int(5)), weak: Weak::new(m, item), items, values }
    })
    .unwrap()
}

impl Roots {
    fn check(&self, m: &Mutator<'_>, id: u64) {
        assert_eq!(self.typed.get(m).id, id);
        assert_eq!(self.tagged.get(m).downcast::<Item>().unwrap().id, id);
        assert_eq!(self.immediate.get(m).as_int(), Some(5));
        assert_eq!(self.weak.get(m).unwrap().id, id);
        assert_eq!(self.items.peek(m, 0).id, id);
        assert_eq!(self.values.peek(m, 1).downcast::<Item>().unwrap().id, id);
        assert_eq!(self.values.peek(m, 0).as_int(), Some(id as i32));
        assert_eq!((self.items.len(), self.values.len()), (1, 2));
    }
}

/// Everything that can be done with a root and a mutator of another heap.
fn all_refused(m: &Mutator<'_>, foreign: &Roots, own: &Roots) {
    let refused = |what: &str, f: &dyn Fn()| {
        let panic = catch_unwind(AssertUnwindSafe(f)).expect_err(what);
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        assert!(text.contains("heap"), "{what}: {text}");
    };
    let item = own.typed.get(m);
    refused("Root::get", &|| assert_ne!(foreign.typed.get(m).id, u64::MAX));
    refused("Root::get of a value", &|| assert!(!foreign.tagged.get(m).is_nil()));
    refused("Root::get of an immediate", &|| assert!(!foreign.immediate.get(m).is_nil()));
    refused("Root::set", &|| foreign.typed.set(m, item));
    refused("Root::set of an immediate", &|| foreign.tagged.set(m, Value::NIL));
    refused("Weak::get", &|| assert!(foreign.weak.get(m).is_some()));
    refused("RootStack::push", &|| foreign.items.push(m, item));
    refused("RootStack::push of an immediate", &|| foreign.values.push(m, Value::NIL));
    refused("RootStack::pop", &|| assert!(foreign.items.pop(m).is_some()));
    refused("RootStack::peek", &|| assert_ne!(foreign.items.peek(m, 0).id, u64::MAX));
    refused("RootStack::peek_as", &|| assert!(foreign.values.peek_as::<Item>(m, 1).is_some()));
    refused("RootStack::get", &|| assert_ne!(foreign.items.get(m, 0).id, u64::MAX));
    refused("RootStack::set", &|| foreign.items.set(m, 0, item));
    refused("RootStack::poke", &|| foreign.values.poke(m, 0, Value::NIL));
    refused("RootStack::truncate", &|| foreign.values.truncate(m, 0));
    refused("RootStack::drop_top", &|| foreign.values.drop_top(m, 1));
    refused("RootStack::resize", &|| foreign.values.resize(m, 9, Value::NIL));
    refused("RootStack::slots", &|| assert!(foreign.values.slots(m)[0].num().is_none()));
    refused("RootStack::last", &|| assert!(foreign.values.last::<1>(m)[0].num().is_none()));
}

pub(crate) fn twelve_heaps_pairwise(barrier: Barrier) {
    // Sizes differ, and so do the bits that tell the heaps apart.
    let heaps: Vec<Heap> = (0..12)
        .map(|i| {
            let mirror = if i % 2 == 0 { Mirror::MmapMemfd } else { Mirror::MremapOldSizeZero };
            checked(barrier, (4 + 7 * (i % 4)) << 20).mirror(mirror).stress(stress(i as u64)).build().unwrap()
        })
        .collect();
    let all: Vec<Roots> = heaps.iter().zip(0..).map(|(heap, id)| roots(heap, id)).collect();
    for round in 0..2 {
        for (i, heap) in heaps.iter().enumerate() {
            heap.enter(|m| {
                for (j, foreign) in all.iter().enumerate() {
                    if i != j {
                        all_refused(m, foreign, &all[i]);
                    }
                }
                m.collect();
                all[i].check(m, i as u64);
            })
            .unwrap();
        }
        // The other color is good in half of them from now on.
        heaps.iter().skip(round).step_by(2).for_each(Heap::collect);
    }
    for ((heap, roots), id) in heaps.iter().zip(&all).zip(0..) {
        heap.enter(|m| roots.check(m, id)).unwrap();
    }
}

/// The heap that comes after gets the same addresses, and even the same words mean nothing in it.
pub(crate) fn a_root_older_than_its_heaps_successor(barrier: Barrier) {
    for round in 0..20_u64 {
        let old = checked(barrier, 4 << 20).build().unwrap();
        let foreign = roots(&old, round);
        drop(old);
        let new = checked(barrier, 4 << 20).build().unwrap();
        let own = roots(&new, round + 100);
        new.enter(|m| {
            all_refused(m, &foreign, &own);
            m.collect();
            own.check(m, round + 100);
        })
        .unwrap();
        // Dropped after its heap and while another has its addresses.
        drop(foreign);
        new.collect();
        new.enter(|m| own.check(m, round + 100)).unwrap();
    }
}

/// A local of an outer scope, met by the mutator of another heap within `blocking`.
pub(crate) fn locals_of_another_mutator(barrier: Barrier) {
    let (one, two) = (checked(barrier, 4 << 20).build().unwrap(), checked(barrier, 4 << 20).build().unwrap());
    one.enter(|m| {
        let item = m.build::<Item>(AllocSize::of::<Item>(), |m| m.place(ItemInit { id: 1, other: None })).unwrap();
        let empty = m.build::<Option<Item>>(AllocSize::NONE, |_| None).unwrap();
        let value: Local<'_, Tagged> = m.local(Value::int(3));
        m.blocking(|| {
            two.enter(|m| {
                let refused = |f: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
                refused(&|| assert_ne!(item.get(m).id, u64::MAX));
                refused(&|| assert_eq!(value.get(m).as_int(), Some(3)));
                refused(&|| value.set(m, Value::NIL));
                refused(&|| empty.set(m, None));
                m.collect();
            })
            .unwrap();
        });
        m.collect();
        assert_eq!((item.get(m).id, value.get(m).as_int()), (1, Some(3)));
        assert!(empty.get(m).is_none());
    })
    .unwrap();
}

/// The same heap, but another thread's place in it: what a local holds may be read, never written.
pub(crate) fn locals_of_another_place_in_the_same_heap(barrier: Barrier) {
    let heap = checked(barrier, 4 << 20).stress(stress(5)).build().unwrap();
    heap.enter(|m| {
        let item = m.build::<Option<Item>>(AllocSize::of::<Item>(), |m| Some(m.place(ItemInit { id: 1, other: None })));
        let item = item.unwrap();
        m.blocking(|| {
            heap.enter(|m| {
                assert!(catch_unwind(AssertUnwindSafe(|| item.set(m, None))).is_err());
                for _ in 0..3 {
                    m.collect();
                }
            })
            .unwrap();
        });
        assert_eq!(item.get(m).map(|item| item.id), Some(1));
    })
    .unwrap();
}

/// More heaps one after the other than could exist at once: addresses come back.
pub(crate) fn addresses_are_reused(barrier: Barrier) {
    for id in 0..200 {
        let heap =
            Heap::builder().max_bytes(64 << 20).barrier(barrier).backing(crate::common::backing()).build().unwrap();
        let roots = roots(&heap, id);
        heap.enter(|m| roots.check(m, id)).unwrap();
    }
}

pub(crate) const TESTS: Tests = Tests {
    concurrent: tests![
        twelve_heaps_pairwise,
        a_root_older_than_its_heaps_successor,
        locals_of_another_mutator,
        locals_of_another_place_in_the_same_heap,
        addresses_are_reused
    ],
    ..Tests::NONE
};
