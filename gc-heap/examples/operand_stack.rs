//! What the operations of an operand stack come to: `docs/performance.md` has the counts of
//! instructions.
//!
//! ```sh
//! cargo build --release -p gc-heap --example operand_stack
//! objdump -d --no-show-raw-insn target/release/examples/operand_stack |
//!     awk '/<.*operand_stack.*(checked|bound|machine).*>:/ { p = 1 } /^$/ { p = 0 } p'
//! ```

use gc_heap::{BoundStack, Heap, Mutator, RootStack, Tagged, Value};
use std::hint::black_box;

/// "Load a local" of a stack machine, with a check of heap and mutator for each access.
#[inline(never)]
fn checked_push_of_get(stack: &RootStack<Tagged>, m: &Mutator<'_>, index: usize) {
    stack.push(m, stack.get(m, index));
}

/// As above, with a bound stack, in a separate function.
#[inline(never)]
fn bound_push_of_get(stack: &mut BoundStack<'_, '_>, index: usize) {
    stack.push(stack.get(index));
}

#[inline(never)]
fn checked_pop(stack: &RootStack<Tagged>, m: &Mutator<'_>) -> Option<f64> {
    stack.pop(m).and_then(Value::as_num)
}

#[inline(never)]
fn bound_pop(stack: &mut BoundStack<'_, '_>) -> Option<f64> {
    stack.pop().and_then(Value::as_num)
}

enum Op {
    Load(usize),
    Add,
}

/// The same within an interpreter's loop, where the stack's top is in a register.
#[inline(never)]
fn machine(stack: &mut RootStack<Tagged>, m: &Mutator<'_>, code: &[Op]) -> Option<()> {
    let mut stack = stack.bind(m);
    for op in code {
        match *op {
            Op::Load(index) => stack.push(stack.get(index)),
            Op::Add => {
                let [a, b] = stack.last::<2>();
                a.set_num(m, a.num()? + b.num()?);
                stack.drop_top(1);
            }
        }
    }
    Some(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let heap = Heap::builder().max_bytes(16 << 20).build()?;
    let mut stack: RootStack = RootStack::new(&heap)?;
    heap.enter(|m| {
        stack.push(m, Value::num(1.5));
        stack.push(m, Value::num(2.5));
        checked_push_of_get(&stack, m, black_box(0));
        bound_push_of_get(&mut stack.bind(m), black_box(1));
        assert_eq!(checked_pop(&stack, m), Some(2.5));
        assert_eq!(bound_pop(&mut stack.bind(m)), Some(1.5));
        let code = black_box([Op::Load(0), Op::Load(1), Op::Add]);
        assert_eq!(machine(&mut stack, m, &code), Some(()));
        assert_eq!(stack.pop(m).and_then(Value::as_num), Some(4.0));
    })?;
    Ok(())
}
