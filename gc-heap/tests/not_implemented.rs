//! Traits that types must not implement, and some that they must: what belongs to a thread is
//! neither `Send` nor `Sync`, a slot does not exist outside the heap, nothing raw is a field or
//! made of nothing.
//!
//! Checked when this file is compiled. Unlike the text of a compile error, this does not depend on
//! private fields.

use gc_heap::{
    AnyGc, Array, Bytes, Ephemeron, Field, Frame, Gc, Heap, HeapThread, IdentityHash, Local, Mutator, Num, Plain,
    ReturnSlot, Root, RootSlot, RootStack, Slot, Tagged, Trace, Unpacked, Value, Weak, WeakSlot,
};
use std::ops::DerefMut;

#[derive(Trace)]
struct Node {
    _next: Slot<Option<Node>>,
}

#[derive(Trace)]
struct Numbers {
    fixed: u64,
    hits: Num<f64>,
    name: Plain<&'static str>,
}

/// Ambiguous, and so a compile error, if `$type` implements `$trait`.
macro_rules! assert_not {
    ($trait:ident: $($type:ty),* $(,)?) => {$(
        const _: fn() = || {
            trait Either<A> {
                fn here() {}
            }
            impl<T: ?Sized> Either<()> for T {}
            struct Implements;
            impl<T: ?Sized + $trait> Either<Implements> for T {}
            let _ = <$type as Either<_>>::here;
        };
    )*};
}

assert_not! { Send:
    Mutator<'static>, &'static Mutator<'static>, &'static mut Mutator<'static>, Frame<'static>, ReturnSlot<'static, Node>,
    Gc<'static, Node>, AnyGc<'static>, Value<'static>, Unpacked<'static>, Local<'static, Node>, NodeInit<'static>,
    &'static Node, &'static Slot<Node>, &'static [Slot<Tagged>], &'static WeakSlot<Node>, &'static RootStack,
    &'static RootSlot<Tagged>, Node,
}

assert_not! { Sync:
    Mutator<'static>, Frame<'static>, Gc<'static, Node>, AnyGc<'static>, Value<'static>, Unpacked<'static>,
    Local<'static, Node>, NodeInit<'static>, Node, Slot<Node>, WeakSlot<Node>, Ephemeron<Node, Node>, RootStack, RootSlot<Tagged>,
}

assert_not! { Field:
    Gc<'static, Node>, AnyGc<'static>, Value<'static>, Local<'static, Node>, NodeInit<'static>, Root<Node>, RootStack,
    Plain<Gc<'static, Node>>, Plain<AnyGc<'static>>, Plain<Value<'static>>, Plain<Option<Gc<'static, Node>>>,
    Plain<Local<'static, Node>>, Plain<&'static Node>, Plain<Slot<Node>>, Plain<&'static Slot<Node>>, Bytes,
}

assert_not! { Trace: Gc<'static, Node>, Value<'static>, Tagged, Slot<Node>, Root<Node>, u64, Vec<Node>, Box<Node>, Option<Node> }

assert_not! { Copy: Slot<Node>, Ephemeron<Node, Node>, WeakSlot<Node>, Num<u64>, Node, Mutator<'static>, Frame<'static>, ReturnSlot<'static, Node> }

assert_not! { Clone:
    Slot<Node>, Ephemeron<Node, Node>, WeakSlot<Node>, Num<u64>, Node, Mutator<'static>, Frame<'static>, ReturnSlot<'static, Node>, HeapThread,
    Root<Node>, RootStack, RootSlot<Tagged>,
}

assert_not! { Default:
    Slot<Node>, Ephemeron<Node, Node>, Slot<Option<Node>>, Slot<Tagged>, WeakSlot<Node>, RootSlot<Tagged>, Gc<'static, Node>, AnyGc<'static>,
    Local<'static, Node>, Mutator<'static>, Frame<'static>, ReturnSlot<'static, Node>, Root<Node>, NodeInit<'static>,
}

// Only what says so has an identity hash.
assert_not! { IdentityHash: Node, Numbers, Bytes, Array<f64> }

// A raw reference is to be read only.
assert_not! { DerefMut: Gc<'static, Node>, Local<'static, Node>, Plain<u64>, Num<u64> }

const fn travels<T: Send + Sync>() {}
const fn moves<T: Send>() {}

const _: () = {
    travels::<Heap>();
    travels::<Root<Node>>();
    travels::<Root<Tagged>>();
    travels::<Weak<Node>>();
    moves::<HeapThread>();
    moves::<RootStack>();
    // Objects without slots are data like any other.
    travels::<Numbers>();
    travels::<Bytes>();
    travels::<Array<f64>>();
};

#[test]
fn an_object_without_slots_is_read_by_other_threads() {
    let heap = Heap::builder().max_bytes(16 << 20).build().unwrap();
    heap.enter(|m| {
        let numbers = m.alloc::<Numbers>(|_| NumbersInit { fixed: 7, hits: 0.0, name: "shared" }).unwrap();
        let numbers: &Numbers = numbers.get(m).as_ref();
        std::thread::scope(|s| {
            s.spawn(|| numbers.hits.set(numbers.fixed as f64 + 0.5));
        });
        assert_eq!((numbers.hits.get(), numbers.name.get()), (7.5, "shared"));
    })
    .unwrap();
}
