//! `#[trace(crate = path)]` is where the derive looks for the crate.
use gc_heap::Trace;

#[derive(Trace)]
#[trace(crate = nowhere)]
struct Elsewhere;

fn main() {}
