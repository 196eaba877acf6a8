//! Trap 4: no lifetime gets into a `Plain` by way of a generic parameter either.
use gc_heap::{Mutator, Plain, Trace};

#[derive(Trace)]
struct Holder<T: Copy + Send + Sync + 'static> {
    held: Plain<T>,
}

#[derive(Trace)]
struct Counter {
    hits: u64,
}

fn object_in_plain(m: &Mutator<'_>) {
    let counter: &Counter = m.place(CounterInit { hits: 1 }).as_ref();
    m.place(HolderInit::<&'static Counter> { held: counter });
}

fn main() {}
