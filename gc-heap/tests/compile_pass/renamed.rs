//! The derive finds the crate under another path, and is not confused by names of the embedder.
#![no_implicit_prelude]
#![allow(dead_code)]

mod reexported {
    pub extern crate gc_heap as heap;
}

// What the derive must not pick up.
mod core {}
struct Kind;
struct WordMap;
struct Some;
const KIND: u8 = 0;

#[derive(reexported::heap::Trace)]
#[trace(crate = reexported::heap)]
struct Node {
    init: u64,
    dst: reexported::heap::Slot<Node>,
    map: u8,
    all: u8,
}

#[derive(reexported::heap::Trace)]
#[trace(tail = u8, crate = crate::reexported::heap)]
struct Text;

fn main() {
    let heap = reexported::heap::Heap::builder().max_bytes(16 << 20).build().unwrap();
    let text = heap.enter(|m| {
        let m = m.reserve(reexported::heap::AllocSize::tail::<Text>(4)).unwrap();
        m.place_bytes::<Text>((), b"text").tail().to_vec()
    });
    ::std::assert_eq!(text.unwrap(), b"text");
}
