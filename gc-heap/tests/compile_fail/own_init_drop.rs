//! Initialisers are copied, so none may say what happens when it goes.
#![forbid(unsafe_code)]
use gc_heap::{Num, Slot, Trace};

#[derive(Trace)]
struct Numbers {
    fixed: u64,
    hits: Num<f64>,
}

impl Drop for NumbersInit<'_> {
    fn drop(&mut self) {}
}

#[derive(Trace)]
struct Inner {
    next: Slot<Option<Inner>>,
}

impl Drop for InnerInit<'_> {
    fn drop(&mut self) {}
}

#[derive(Trace)]
struct Outer {
    number: u64,
    numbers: Numbers,
}

fn main() {}
