//! Trap 6: a bound stack ends at a safepoint, with all that it gave; and nobody uses the stack beside it.
use gc_heap::{Mutator, RootSlot, RootStack, Value};

fn bound(m: &mut Mutator<'_>, stack: &mut RootStack) {
    let mut bound = stack.bind(m);
    m.safepoint();
    bound.push(Value::NIL);
}

fn value(m: &mut Mutator<'_>, stack: &mut RootStack) {
    let value = stack.bind(m).peek(0);
    m.safepoint();
    drop(value.is_nil());
}

fn slots(m: &mut Mutator<'_>, stack: &mut RootStack) {
    let slots = stack.bind(m).slots();
    m.safepoint();
    drop(slots[0].num());
}

fn window(m: &mut Mutator<'_>, stack: &mut RootStack) {
    let window = stack.bind(m).window(0, 8, Value::NIL);
    m.safepoint();
    drop(window[0].num());
}

fn beside(m: &Mutator<'_>, stack: &mut RootStack) {
    let mut bound = stack.bind(m);
    stack.push(m, Value::NIL);
    bound.push(Value::NIL);
}

fn twice(m: &Mutator<'_>, stack: &mut RootStack) {
    let mut bound = stack.bind(m);
    let mut again = stack.bind(m);
    bound.push(Value::NIL);
    again.push(Value::NIL);
}

fn slots_and_bound_again(m: &Mutator<'_>, stack: &mut RootStack) {
    let slots = stack.bind(m).slots();
    stack.bind(m).pop();
    drop(slots[0].num());
}

fn slots_outlive_the_stack<'g>(m: &'g Mutator<'_>, mut stack: RootStack) -> &'g [RootSlot<gc_heap::Tagged>] {
    stack.bind(m).slots()
}

fn main() {}
