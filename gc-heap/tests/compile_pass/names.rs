//! Names of the embedder's, of every sort, that the derived code must not pick up or clash with.
#![forbid(unsafe_code)]
#![allow(dead_code, non_upper_case_globals, non_camel_case_types, non_snake_case, unused_imports, unused_macros)]

use gc_heap::{Gc, Heap};

/// Constants and unit structs become patterns where a name is bound.
mod values {
    use gc_heap::{Slot, Trace};

    const map: u8 = 0;
    const init: u8 = 0;
    const dst: u8 = 0;
    const _dst: u8 = 0;
    const all: u8 = 0;
    static value: u8 = 0;
    struct object;
    struct to;

    #[derive(Trace)]
    pub(crate) struct Node {
        map: u64,
        init: u64,
        dst: Slot<Option<Node>>,
    }

    #[derive(Trace)]
    struct Marker;
}

/// Modules, types, traits and macros that stand in front of the prelude's and the language's.
mod shadows {
    mod core {}
    mod std {}
    mod alloc {}
    struct Option;
    struct Some;
    struct None;
    struct Sized;
    struct Send;
    struct Copy;
    struct Default;
    struct bool;
    struct u64;
    struct usize;
    struct str;
    struct Kind;
    struct WordMap;
    struct FieldName;
    struct Field;
    struct Init;
    struct NoTail;
    struct Derived;
    mod __private {}
    macro_rules! offset_of { ($($t:tt)*) => { 0 } }
    macro_rules! assert { ($($t:tt)*) => {} }
    macro_rules! size_of { ($($t:tt)*) => { 0 } }

    #[derive(gc_heap::Trace)]
    #[trace(identity_hash)]
    pub(crate) struct Node {
        pub(crate) number: u32,
        pub(crate) next: gc_heap::Slot<gc_heap::Tagged>,
    }
}

/// What the types have of their own is not what the traits have.
mod inherent {
    use gc_heap::{Slot, Trace};

    #[derive(Trace)]
    #[trace(identity_hash)]
    pub(crate) struct KIND {
        pub(crate) next: Slot<Option<KIND>>,
    }

    impl KIND {
        const MAP: u8 = 0;
        const FIELDS: u8 = 0;
        const KIND: u8 = 0;
        const DERIVED: u8 = 0;
        const OF: u8 = 0;
        const IDENTITY_HASH: u8 = 0;
        fn write() {}
    }
}

/// Lifetimes of any name.
mod lifetimes {
    use gc_heap::{Plain, Trace};

    #[derive(Trace)]
    pub(crate) struct Function {
        pub(crate) run: Plain<for<'g> fn(&'g u8) -> &'g u8>,
        all: Plain<for<'a, '__g> fn(&'a u8, &'__g u8) -> &'a u8>,
    }

    macro_rules! function {
        () => { Plain<for<'g> fn(&'g u8) -> &'g u8> };
    }

    #[derive(Trace)]
    struct ByMacro {
        run: function!(),
    }

    #[derive(Trace)]
    struct Bounded<F: 'static>
    where
        F: for<'g> Fn(&'g u8) -> &'g u8 + Copy + Send + Sync,
    {
        run: Plain<F>,
    }

    #[derive(Trace)]
    #[trace(tail = Plain<for<'g> fn(&'g u8)>)]
    struct Tail;
}

/// Raw identifiers, and what a macro makes of pieces.
mod pieces {
    use gc_heap::{Num, Slot, SlotType, Trace};
    use std::marker::PhantomData;
    use std::marker::PhantomData as Says;

    #[derive(Trace)]
    pub(crate) struct r#type {
        pub(crate) r#fn: u64,
        r#struct: Slot<Option<r#type>>,
    }

    macro_rules! object {
        ($name:ident<$param:ident> { $($field:ident: $type:ty),* $(,)? }) => {
            #[derive(Trace)]
            pub(crate) struct $name<$param: 'static> { $(pub(crate) $field: $type),* }
        };
        ($name:ident($($type:ty),*)) => {
            #[derive(Trace)]
            pub(crate) struct $name($(pub(crate) $type),*);
        };
    }

    macro_rules! forward {
        ($name:ident, $($field:ident: ($($type:tt)*)),*) => {
            #[derive(Trace)]
            pub(crate) struct $name { $($field: $($type)*),* }
        };
    }
    macro_rules! through {
        ($($all:tt)*) => { forward!($($all)*); };
    }

    through!(Forwarded, r#fn: (Slot<Option<Forwarded>>), number: (Num<u32>), says: (PhantomData<fn() -> u8>));

    object!(Held<T> { held: T, again: T, says: PhantomData<T>, next: Slot<Option<Held<T>>> });
    object!(Pair(Num<u64>, Slot<Option<Pair>>));
    // Made from `()`, as if it were written without the macro.
    object!(Nothing(PhantomData<fn() -> String>, r#PhantomData<str>));

    // Under another name it is a field like others.
    #[derive(Trace)]
    pub(crate) struct Renamed<T: ?Sized + 'static>(pub(crate) Says<T>, pub(crate) [PhantomData<T>; 2], pub(crate) u64);

    #[derive(Trace)]
    pub(crate) struct Conditional {
        #[cfg(any())]
        absent: String,
        #[cfg(all())]
        pub(crate) present: u64,
        #[cfg_attr(all(), doc = "With words.")]
        pub(crate) next: Slot<Option<Conditional>>,
    }

    // `Self` is the struct, also in what its objects are made from.
    #[derive(Trace)]
    pub(crate) struct Selves<T: SlotType, const N: usize>
    where
        Option<Self>: Sized,
    {
        pub(crate) next: Slot<Option<Self>>,
        pub(crate) all: [Slot<Option<Self>>; N],
        pub(crate) last: Slot<T>,
        pub(crate) says: PhantomData<fn() -> Self>,
    }

    // In a function, where items are not paths.
    pub(crate) fn local() -> usize {
        #[derive(Trace)]
        struct Inner {
            next: Slot<Option<Inner>>,
        }
        size_of::<InnerInit<'static>>()
    }
}

fn twice(number: &u8) -> &u8 {
    number
}

fn main() {
    let heap = Heap::builder().max_bytes(16 << 20).verify(true).build().unwrap();
    heap.enter(|m| {
        let one = m.alloc::<inherent::KIND>(|_| inherent::KINDInit { next: None }).unwrap();
        let two = m.alloc::<inherent::KIND>(|m| inherent::KINDInit { next: Some(one.get(m)) }).unwrap();
        let shadow = m.alloc::<shadows::Node>(|m| shadows::NodeInit { number: 7, next: two.get(m).into() }).unwrap();
        let run = twice as for<'g> fn(&'g u8) -> &'g u8;
        let pair = m.alloc::<pieces::Pair>(|_| pieces::PairInit(9, None)).unwrap();
        let held = m
            .alloc::<pieces::Held<u16>>(|_| pieces::HeldInit { held: 5, again: 6, says: std::marker::PhantomData, next: None })
            .unwrap();
        let nothing = m.alloc::<pieces::Nothing>(|_| ()).unwrap();
        let says = std::marker::PhantomData;
        let renamed = m.alloc::<pieces::Renamed<str>>(|_| pieces::RenamedInit(says, [says; 2], 11)).unwrap();
        let conditional = m.alloc::<pieces::Conditional>(|_| pieces::ConditionalInit { present: 3, next: None }).unwrap();
        conditional.get(m).next.set(m, Some(conditional.get(m)));
        let selves = m
            .alloc::<pieces::Selves<gc_heap::Tagged, 2>>(|_| {
                let says = std::marker::PhantomData;
                pieces::SelvesInit { next: None, all: [None; 2], last: gc_heap::Value::NIL, says }
            })
            .unwrap();
        selves.get(m).all[1].set(m, Some(selves.get(m)));
        for _ in 0..3 {
            m.collect();
        }
        let kind: Gc<'_, inherent::KIND> = shadow.get(m).next.get(m).downcast().unwrap();
        assert!(kind.next.get(m).unwrap().ptr_eq(one.get(m)));
        assert_ne!(kind.identity_hash(m), shadow.get(m).identity_hash(m));
        assert_eq!((shadow.get(m).number, pair.get(m).0.get(), renamed.get(m).2), (7, 9, 11));
        assert_eq!((held.get(m).held, held.get(m).again), (5, 6));
        assert!(conditional.get(m).next.get(m).unwrap().ptr_eq(conditional.get(m)));
        assert!(selves.get(m).all[1].get(m).unwrap().ptr_eq(selves.get(m)));
        assert_eq!(*run(&1), 1);
        let _ = nothing.get(m);
        assert_eq!(pieces::local(), 8);
    })
    .unwrap();
}
