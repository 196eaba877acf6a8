//! What stands in for the crate where the derived code looks, and changes nothing: the map is that
//! of the fields, as the collector and the verifier find.
#![forbid(unsafe_code)]
#![allow(unused)]
use gc_heap::{Field, Heap, Slot, Trace};
use gc_heap_test_replace::replace;

/// A `core` whose `offset_of!` lies and whose `write` does nothing, beside the crate's own.
mod fake {
    pub mod __private {
        pub use gc_heap::__private::*;
        pub mod core {
            pub mod mem {
                macro_rules! offset_of { ($($t:tt)*) => { 0 } }
                pub(crate) use offset_of;
            }
            pub mod ptr {
                pub fn write<T>(_: *mut T, _: T) {}
            }
            pub mod marker {
                pub use std::cell::Cell as PhantomData;
            }
        }
    }
}

#[derive(Trace)]
#[trace(crate = fake)]
#[repr(C)]
struct Liar {
    number: u64,
    slot: Slot<Option<Liar>>,
}

/// Methods of the names that the derived code calls, of every type, by value and by reference.
mod methods {
    use gc_heap::{Slot, Trace};

    trait Evil: Sized {
        fn __gc_heap_map<S>(self, _: *const S) -> gc_heap::WordMap {
            gc_heap::WordMap::empty(0)
        }
        fn __gc_heap_field<F, G>(self, _: *const F, _: G) -> Self {
            self
        }
        fn __gc_heap_whole(self) -> gc_heap::WordMap {
            gc_heap::WordMap::empty(0)
        }
        fn __gc_heap_write<F, I>(self, _: I, _: *mut F) {}
        fn __gc_heap_object<T, I>(self, _: I, _: *mut T) {}
        fn __gc_heap_kind<T>(self, _: bool) {}
        fn __gc_heap_map_of<T>(self) -> gc_heap::WordMap {
            gc_heap::WordMap::empty(0)
        }
    }
    impl<T> Evil for T {}

    #[derive(Trace)]
    #[repr(C)]
    pub(crate) struct Liar {
        pub(crate) number: u64,
        pub(crate) slot: Slot<Option<Liar>>,
    }
}

// Read by the derive in another order than it has.
#[derive(Trace)]
#[replace(#[repr(C)] struct Reordered { slot: Slot<Option<Reordered>>, number: u64 })]
#[repr(C)]
struct Reordered {
    number: u64,
    slot: Slot<Option<Reordered>>,
}

// A tail where none was asked for: an array of bytes, as one with `tail = u8`.
mod tail {
    pub mod __private {
        pub use gc_heap::__private::{Field, FieldName, HashWord, IdentityHash, Init, Kind, NoHashWord, Trace, WordMap};
        pub type NoTail = u8;
    }
}

#[derive(Trace)]
#[trace(crate = tail)]
struct Tailed;

fn is_field<F: Field>() {}

macro_rules! lives {
    ($heap:ident, $type:ty, $init:ident) => {
        $heap
            .enter(|m| {
                let first = m.alloc::<$type>(|_| $init { number: 0, slot: None }).unwrap();
                let address = format!("{:p}", first.get(m).as_ref());
                let number = u64::from_str_radix(address.trim_start_matches("0x"), 16).unwrap();
                // No reference, though it looks like one into the heap.
                let root = m.alloc::<$type>(|m| $init { number: number + 0x80_0000, slot: Some(first.get(m)) }).unwrap();
                root.get(m).slot.get(m).unwrap().slot.set(m, Some(root.get(m)));
                for _ in 0..3 {
                    m.collect();
                    for _ in 0..1000 {
                        m.frame().alloc::<$type>(|_| $init { number: 1, slot: None }).unwrap();
                    }
                }
                let back = root.get(m).slot.get(m).unwrap().slot.get(m).unwrap();
                assert!(back.ptr_eq(root.get(m)));
                assert_eq!(back.number, number + 0x80_0000);
            })
            .unwrap();
    };
}

fn main() {
    use methods::{Liar as Method, LiarInit as MethodInit};
    is_field::<Liar>();
    let heap = Heap::builder().max_bytes(16 << 20).verify(true).build().unwrap();
    lives!(heap, Liar, LiarInit);
    lives!(heap, Method, MethodInit);
    lives!(heap, Reordered, ReorderedInit);
    heap.enter(|m| {
        let m = m.reserve(gc_heap::AllocSize::tail::<Tailed>(4)).unwrap();
        assert_eq!(m.place_bytes::<Tailed>((), b"text").tail(), b"text");
    })
    .unwrap();
}
