//! What the derive makes is clean under the strictest lints, in a crate without `unsafe`.
#![forbid(unsafe_code)]
#![forbid(missing_docs, unused, unreachable_pub, rust_2018_idioms)]
#![deny(warnings)]

use gc_heap::{Array, Bytes, Empty, Heap, Num, Plain, AllocSize, Slot, SlotArray, Tagged, Trace, Value, WeakSlot};

/// Every sort of field.
#[derive(Trace)]
pub struct Node {
    /// With its own words.
    pub left: Slot<Option<Node>>,
    right: Slot<Option<Node>>,
    key: u32,
    flags: [u8; 3],
    owner: WeakSlot<Node>,
    values: [Slot<Tagged>; 2],
    part: Part,
    hits: Num<f64>,
    state: Num<char>,
    name: Plain<&'static str>,
    r#type: u8,
}

#[derive(Trace)]
struct Part {
    small: u8,
    text: Slot<Bytes>,
}

#[derive(Trace)]
#[trace(tail = Part)]
struct Parts(u64, Slot<SlotArray<Tagged>>);

#[derive(Trace)]
struct Marker;

mod inner {
    use gc_heap::{Field, Slot, SlotType, Trace};
    use std::marker::PhantomData;

    /// Bounds of both spellings, a constant, a parameter that only says something.
    #[derive(Trace)]
    pub(crate) struct Pair<A: SlotType, B, P: 'static, const N: usize>
    where
        B: Clone,
    {
        pub(crate) first: Slot<A>,
        pub(crate) second: B,
        pub(crate) bytes: [u16; N],
        pub(crate) says: PhantomData<P>,
    }

    /// Refers to itself through its own parameters.
    #[derive(Trace)]
    pub(crate) struct List<T: Field> {
        pub(crate) next: Slot<Option<List<T>>>,
        pub(crate) held: T,
    }
}
use inner::{List, ListInit, Pair, PairInit};

fn main() {
    let heap = Heap::builder().max_bytes(16 << 20).build().unwrap();
    heap.enter(|m| {
        let room = AllocSize::of::<Node>()
            + AllocSize::tail::<Bytes>(5)
            + AllocSize::tail::<Parts>(2)
            + AllocSize::tail::<SlotArray<Tagged>>(3)
            + AllocSize::of::<Marker>()
            + AllocSize::of::<Pair<Node, u8, String, 3>>()
            + AllocSize::of::<List<Num<i16>>>()
            + AllocSize::tail::<Array<f64>>(2);
        let node = m
            .build::<Node>(room, |m| {
                let text = m.place_bytes::<Bytes>((), b"hello");
                let array = m.place_array::<SlotArray<Tagged>>((), 3, Value::int(7));
                let parts = [1, 2].map(|small| PartInit { small, text });
                let parts = m.place_tail::<Parts, _>(PartsInit(9, array), parts);
                let marker = m.place(Empty::<Marker>::new());
                let node = m.place(NodeInit {
                    left: None,
                    right: None,
                    key: 5,
                    flags: [1, 2, 3],
                    owner: None,
                    values: [parts.into(), marker.into()],
                    part: PartInit { small: 8, text },
                    hits: 0.5,
                    state: 'x',
                    name: "node",
                    r#type: 6,
                });
                node.owner.set(m, Some(node));
                node
            })
            .unwrap();
        m.collect();
        let node = node.get(m);
        assert_eq!((node.key, node.flags, node.name.get(), node.r#type), (5, [1, 2, 3], "node", 6));
        assert!(node.left.get(m).is_none() && node.right.get(m).is_none());
        assert!(node.owner.get(m).unwrap().ptr_eq(node));
        node.hits.set(node.hits.get() + 1.0);
        node.state.set('é');
        assert_eq!((node.hits.get(), node.state.get()), (1.5, 'é'));
        assert_eq!((node.part.small, node.part.text.get(m).tail()), (8, &b"hello"[..]));
        let parts = node.values[0].get(m).downcast::<Parts>().unwrap();
        assert_eq!((parts.0, parts.1.get(m).tail_len()), (9, 3));
        assert_eq!(parts.1.get(m).tail()[2].get(m).as_int(), Some(7));
        assert_eq!(parts.tail()[1].small, 2);
        assert!(parts.tail()[1].text.get(m).ptr_eq(node.part.text.get(m)));
        assert!(node.values[1].get(m).downcast::<Marker>().is_some());
        assert!(node.values[1].get(m).downcast::<Node>().is_none());

        let m = m.reserve(room).unwrap();
        // `reserve` was the safepoint, so nothing from before it is at hand.
        let list = m.place(ListInit { next: None, held: 3_i16 });
        let list: gc_heap::Gc<'_, List<Num<i16>>> = list;
        assert_eq!(list.held.get(), 3);
        assert!(list.next.get(m).is_none());
        let text = m.place_bytes::<Bytes>((), b"");
        let pair = m.place(PairInit::<'_, Bytes, u8, String, 3> {
            first: text,
            second: 4,
            bytes: [1; 3],
            says: std::marker::PhantomData,
        });
        let pair: gc_heap::Gc<'_, Pair<Bytes, u8, String, 3>> = pair;
        assert_eq!((pair.second, pair.bytes), (4, [1; 3]));
        assert!(pair.first.get(m).tail().is_empty());
        let _ = pair.says;
        let numbers = m.place_tail::<Array<f64>, _>((), [0.5, 1.5]);
        assert_eq!(numbers.tail(), [0.5, 1.5]);
    })
    .unwrap();
}
