//! Mutators and frames cannot be swapped: not with each other's scopes, not with an inner one.
use gc_heap::{Frame, Mutator};

fn mutators<'a, 'b>(a: &mut Mutator<'a>, b: &mut Mutator<'b>) {
    std::mem::swap(a, b);
}

fn frames<'a, 'b>(mut a: Frame<'a>, mut b: Frame<'b>) {
    std::mem::swap(&mut a, &mut b);
}

fn frame_and_its_parent(m: &mut Mutator<'_>) {
    let mut frame = m.frame();
    std::mem::swap(&mut *frame, m);
}

fn frame_and_its_child<'a>(mut parent: Frame<'a>) {
    let mut child = parent.frame();
    std::mem::swap(&mut parent, &mut child);
}

fn main() {}
