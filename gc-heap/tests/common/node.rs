//! The object that the compile tests attack.
use gc_heap::{Slot, Trace};

#[derive(Trace)]
pub struct Node {
    pub next: Slot<Option<Node>>,
    pub key: u64,
}
