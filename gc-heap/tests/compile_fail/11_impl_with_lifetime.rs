//! Trap 11: not even an `unsafe impl` makes an object type of a type with a lifetime.
use gc_heap::{Field, WordMap};

struct Short<'a>(&'a u8);

unsafe impl<'a> Field for Short<'a> {
    type Init<'g> = &'a u8;
    const MAP: WordMap = WordMap::empty(1);

    unsafe fn write<'g>(init: &'a u8, dst: *mut Self) {
        unsafe { dst.write(Short(init)) }
    }
}

fn main() {}
