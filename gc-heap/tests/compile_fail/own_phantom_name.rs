//! What is called `PhantomData` and is not: it would hold what no field may, and be traced by nobody.
#![forbid(unsafe_code)]
use gc_heap::{Slot, Trace};
use std::cell::Cell;
use std::mem::ManuallyDrop;

mod cell {
    pub use std::cell::Cell as PhantomData;
}

#[derive(Trace)]
struct Renamed {
    next: Slot<Option<Renamed>>,
    cell: cell::PhantomData<(usize, usize)>,
}

mod alias {
    pub type PhantomData<T> = super::ManuallyDrop<super::Cell<Option<Box<T>>>>;
}

#[derive(Trace)]
struct Aliased {
    next: Slot<Option<Aliased>>,
    boxed: alias::PhantomData<[u64; 8]>,
}

mod reference {
    pub type PhantomData = &'static super::Cell<u64>;
}

#[derive(Trace)]
struct Referring(u64, reference::PhantomData);

mod own {
    pub struct PhantomData(pub super::Cell<u8>, pub u64);
}

// Alone, where the initialiser is `()`.
#[derive(Trace)]
struct Alone(own::PhantomData);

// A field of its own right, but not made from nothing.
mod number {
    pub type PhantomData = gc_heap::Num<u64>;
}

#[derive(Trace)]
#[trace(tail = u8)]
struct OfNothing(number::PhantomData);

fn main() {}
