//! Trap 7: a mutator is returned from `enter`, stored outside, or owned.
use gc_heap::{Heap, Mutator};

fn returned(heap: &Heap) {
    heap.enter(|m| m).ok();
}

fn stored(heap: &Heap) {
    let mut kept = None;
    heap.enter(|m| kept = Some(m)).ok();
}

fn owned(heap: &Heap) {
    heap.enter(|m| drop::<Mutator<'_>>(*m)).ok();
}

fn taken(heap: &Heap) {
    heap.enter(|m| std::mem::take(m)).ok();
}

fn main() {}
