//! Trap 10: a root is `Send` and `Sync`, so its type has to be both: that is, a heap object.
use gc_heap::{Mutator, Root, Weak};
use std::rc::Rc;

fn made(m: &Mutator<'_>) {
    Root::<Rc<u64>>::new(m, Rc::new(1));
}

fn read(m: &Mutator<'_>, root: &Root<Rc<u64>>) {
    root.get(m);
}

fn weak(m: &Mutator<'_>, weak: &Weak<Rc<u64>>) {
    weak.get(m);
}

fn main() {}
