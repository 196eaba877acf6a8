//! Traps 4 and 5: `Plain` of what is not `'static`.
use gc_heap::{Field, Gc, Mutator, Plain};

#[path = "../common/node.rs"]
mod node;
use node::Node;

fn field<F: Field>() {}

fn parameter<T: Copy + Send + Sync>() {
    field::<Plain<T>>();
}

fn reference<'a>() {
    field::<Plain<&'a u64>>();
}

fn closure<'g>(_: &'g Mutator<'_>, key: &'g u64) {
    fn field_of<T: Copy + Send + Sync + 'static>(_: T) {}
    field_of(move || *key);
}

fn main() {
    let _: Option<Gc<'_, Node>> = None;
}
