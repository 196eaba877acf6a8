//! Attributes that the derive does not know.
use gc_heap::Trace;

#[derive(Trace)]
#[trace(tails = u8)]
struct Misspelt;

#[derive(Trace)]
#[trace(tail = u8, tail = u16)]
struct Twice;

#[derive(Trace)]
#[trace(tail = u8, grows)]
struct NotTheHeaps;

fn main() {}
