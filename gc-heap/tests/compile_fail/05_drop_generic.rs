//! Trap 5: `Drop` on a generic derived type, refused where it is used.
use gc_heap::{Field, AllocSize, Trace};

#[derive(Trace)]
struct Handle<T: Field> {
    held: T,
}

impl<T: Field> Drop for Handle<T> {
    fn drop(&mut self) {}
}

const ROOM: AllocSize = AllocSize::of::<Handle<u64>>();

fn main() {
    let _ = ROOM;
}
