//! A handle on an object is invariant in the object's type: two types of which one is a subtype of the other can still
//! have different tails, here numbers and references made of them.
#![allow(coherence_leak_check)]

use gc_heap::{Field, Gc, Local, Plain, Root, RootStack, Slot, SlotArray, Trace, Weak, WeakSlot};
use std::marker::PhantomData;

trait Pick: 'static {
    type Element: Field;
}

impl Pick for for<'a> fn(&'a u8) {
    type Element = [u64; 2];
}

impl Pick for fn(&'static u8) {
    type Element = Plain<&'static str>;
}

#[derive(Trace)]
#[trace(tail = <P as Pick>::Element)]
struct Picked<P: Pick>(PhantomData<P>);

type Numbers = Picked<for<'a> fn(&'a u8)>;
type Strings = Picked<fn(&'static u8)>;

fn raw_reference<'g>(numbers: Gc<'g, Numbers>) -> Gc<'g, Strings> {
    numbers
}

fn local<'s>(numbers: Local<'s, Numbers>) -> Local<'s, Strings> {
    numbers
}

fn root(numbers: Root<Numbers>) -> Root<Strings> {
    numbers
}

fn weak(numbers: Weak<Numbers>) -> Weak<Strings> {
    numbers
}

fn stack(numbers: RootStack<Numbers>) -> RootStack<Strings> {
    numbers
}

fn slot<'g>(numbers: &'g Slot<Numbers>) -> &'g Slot<Strings> {
    numbers
}

fn weak_slot<'g>(numbers: &'g WeakSlot<Numbers>) -> &'g WeakSlot<Strings> {
    numbers
}

fn array<'g>(numbers: Gc<'g, SlotArray<Numbers>>) -> Gc<'g, SlotArray<Strings>> {
    numbers
}

fn main() {}
