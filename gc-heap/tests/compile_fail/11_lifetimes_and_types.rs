//! Trap 11: a downcast, or an impl, to a type with a lifetime.
use gc_heap::{AnyGc, Gc, Trace, Value};

struct Short<'a>(&'a u8);

fn downcast<'a>(any: AnyGc<'_>) {
    let _: Option<Gc<'_, Short<'a>>> = any.downcast();
}

fn downcast_value<'a>(value: Value<'_>) {
    value.downcast::<Short<'a>>();
}

fn is_static<'a>() {
    fn object<T: Trace>() {}
    object::<&'a u8>();
}

fn main() {}
