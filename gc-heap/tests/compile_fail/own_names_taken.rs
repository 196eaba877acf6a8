//! Constants that are called as what the derive binds would be patterns: they do not compile, and change nothing unseen.
#![forbid(unsafe_code)]
#![allow(non_upper_case_globals, non_camel_case_types)]
use gc_heap::{Slot, Trace};

mod object {
    use super::*;
    const __gc_heap_object: *const Node = std::ptr::null();

    #[derive(Trace)]
    struct Node {
        next: Slot<Option<Node>>,
    }
}

mod to {
    use super::*;
    struct __gc_heap_to;

    #[derive(Trace)]
    struct Node {
        next: Slot<Option<Node>>,
    }
}

fn main() {}
