//! Keys of weak maps whose hash is the program's own: it would run under the map's lock.
use gc_heap::{Gc, Mutator, Trace, WeakKey};

#[derive(Trace)]
struct Plain {
    id: u64,
}

impl WeakKey for Plain {}

#[derive(Trace)]
struct WithAMethod {
    id: u64,
}

impl WeakKey for WithAMethod {
    fn hash_of(_: Gc<'_, WithAMethod>, _: &Mutator<'_>) -> u64 {
        0
    }
}

#[derive(Trace)]
struct ByTheSupertrait {
    id: u64,
}

impl gc_heap::slot::any_object::sealed::Hashed for ByTheSupertrait {
    fn hash_of(_: Gc<'_, ByTheSupertrait>, _: &Mutator<'_>) -> u64 {
        0
    }
}

fn main() {}
