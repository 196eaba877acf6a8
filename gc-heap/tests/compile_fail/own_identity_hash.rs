//! Identity hashes of types that do not have them, and attributes that are wrong.
use gc_heap::{Gc, Mutator, Tagged, Trace, WeakMap};

#[derive(Trace)]
struct Plain {
    id: u64,
}

fn hash(m: &Mutator<'_>, plain: Gc<'_, Plain>) -> u64 {
    plain.identity_hash(m)
}

fn key(m: &mut Mutator<'_>) {
    let _ = WeakMap::<Plain, Tagged>::new(m);
}

#[derive(Trace)]
#[trace(identity_hash, identity_hash)]
struct Twice;

#[derive(Trace)]
#[trace(identity_hash = 8)]
struct Value;

#[derive(Trace)]
struct OfAField {
    #[trace(identity_hash)]
    id: u64,
}

fn main() {}
