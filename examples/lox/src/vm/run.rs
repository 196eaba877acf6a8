//! The interpreter's loop.
//!
//! While nothing moves, the loop keeps raw references to the stack's slots, the globals and the
//! code. An operation that may be a safepoint saves the position in its frame, does its work
//! through the stack, and takes the references anew.

#![expect(clippy::neg_cmp_op_on_partial_ord, reason = "the language's `<=` is \"not greater\": it shows with NaN")]

use super::object::place_closure;
use super::property::{field, found_at, store_at};
use super::{FRAMES, Fault, Frame, Vm};
use crate::code::Op;
use crate::native::undefined_global;
use crate::object::{
    Cell, CellInit, Class, Closure, Function, Globals, Instance, InstanceInit, equal, find_method, is_falsey,
};
use crate::shapes::{EMPTY, Found};
use gc_heap::{AllocSize, Gc, Mutator, Value};

/// The closure of a frame.
#[inline(always)]
fn closure_in<'g>(value: Value<'g>) -> Gc<'g, Closure> {
    value.downcast().expect("a frame keeps its closure")
}

/// The cell of a captured variable.
#[inline(always)]
fn cell_in<'g>(value: Value<'g>) -> Gc<'g, Cell> {
    value.downcast().expect("captured variables are cells")
}

const NUMBERS: &str = "Operands must be numbers.";

impl Vm {
    /// Runs from the last frame until the first one returns; its result is in the first frame's
    /// first slot.
    ///
    /// # Errors
    /// What went wrong; the frames tell where.
    pub(super) fn run(&mut self, mutator: &mut Mutator<'_>) -> Result<(), Fault> {
        'reload: loop {
            let m: &Mutator<'_> = mutator;
            let all = self.stack.slots(m);
            let globals = all[0].get(m).downcast::<Globals>().expect("slot 0 holds the globals").tail();
            let Frame { mut code, mut pc, mut base } = self.frames[self.depth - 1];
            let mut instrs = &code.instrs[..];
            let mut regs = &all[base..];

            /// Saves the position for errors, callees and safepoints.
            macro_rules! save {
                () => {
                    self.frames[self.depth - 1].pc = pc
                };
            }
            macro_rules! fail {
                ($message:expr) => {{
                    save!();
                    return Err(Fault::error($message));
                }};
            }
            /// Does something that may be a safepoint.
            macro_rules! away {
                ($work:expr) => {{
                    save!();
                    $work?;
                    continue 'reload;
                }};
            }
            macro_rules! arithmetic {
                ($i:ident, $op:tt) => {{
                    let (Some(x), Some(y)) = (regs[$i.b as usize].num(), regs[$i.c as usize].num()) else {
                        fail!(NUMBERS)
                    };
                    regs[$i.a as usize].set_num(m, x $op y);
                }};
            }
            macro_rules! arithmetic_number {
                ($i:ident, $op:tt) => {{
                    let Some(x) = regs[$i.b as usize].num() else { fail!(NUMBERS) };
                    regs[$i.a as usize].set_num(m, x $op code.numbers[$i.c as usize]);
                }};
            }
            macro_rules! compare {
                ($i:ident, $x:ident, $y:ident, $holds:expr) => {{
                    let (Some($x), Some($y)) = (regs[$i.b as usize].num(), regs[$i.c as usize].num()) else {
                        fail!(NUMBERS)
                    };
                    regs[$i.a as usize].set(m, Value::bool($holds));
                }};
            }
            macro_rules! jump {
                ($i:ident, $x:ident, $y:ident, $holds:expr) => {{
                    let (Some($x), Some($y)) = (regs[$i.a as usize].num(), regs[$i.b as usize].num()) else {
                        fail!(NUMBERS)
                    };
                    if $holds {
                        pc += $i.offset();
                    }
                }};
            }
            macro_rules! jump_number {
                ($i:ident, $x:ident, $y:ident, $holds:expr) => {{
                    let Some($x) = regs[$i.a as usize].num() else { fail!(NUMBERS) };
                    let $y = code.numbers[$i.b as usize];
                    if $holds {
                        pc += $i.offset();
                    }
                }};
            }
            /// Begins a call if nothing is wrong with it; falls through if something is.
            macro_rules! enter {
                ($i:ident, $closure:expr) => {{
                    let closure: Gc<'_, Closure> = $closure;
                    let target = closure.code.get();
                    let new_base = base + $i.a as usize;
                    let end = new_base + target.registers;
                    if target.arity == u32::from($i.x) && self.depth < FRAMES && end <= all.len() {
                        save!();
                        self.frames[self.depth] = Frame { code: target, pc: 0, base: new_base };
                        self.depth += 1;
                        self.used.set(self.used.get().max(end));
                        (code, pc, base) = (target, 0, new_base);
                        instrs = &code.instrs[..];
                        regs = &all[base..];
                        regs[code.closure as usize].set(m, closure.into());
                        if m.safepoint_due() {
                            self.tidy_at(mutator, 0);
                            mutator.safepoint();
                            continue 'reload;
                        }
                        continue;
                    }
                }};
            }

            loop {
                let i = instrs[pc];
                pc += 1;
                match i.op {
                    Op::Move => regs[i.a as usize].set(m, regs[i.b as usize].get(m)),
                    Op::Nil => regs[i.a as usize].set(m, Value::NIL),
                    Op::True => regs[i.a as usize].set(m, Value::TRUE),
                    Op::False => regs[i.a as usize].set(m, Value::FALSE),
                    Op::Number => regs[i.a as usize].set_num(m, code.numbers[i.b as usize]),
                    Op::Constant => {
                        let closure = closure_in(regs[code.closure as usize].get(m));
                        regs[i.a as usize].set(m, Self::constant(m, closure, i.b as usize));
                    }

                    Op::GetGlobal => {
                        let value = globals[i.wide()].get(m);
                        if value.as_special().is_some() {
                            save!();
                            return Err(undefined_global(&self.shared, i.wide()));
                        }
                        regs[i.a as usize].set(m, value);
                    }
                    Op::SetGlobal => {
                        let global = &globals[i.wide()];
                        if global.get(m).as_special().is_some() {
                            save!();
                            return Err(undefined_global(&self.shared, i.wide()));
                        }
                        global.set(m, regs[i.a as usize].get(m));
                    }
                    Op::DefineGlobal => globals[i.wide()].set(m, regs[i.a as usize].get(m)),

                    Op::GetUpvalue => {
                        let closure = closure_in(regs[code.closure as usize].get(m));
                        regs[i.a as usize].set(m, closure.tail()[i.b as usize].get(m).value.get(m));
                    }
                    Op::SetUpvalue => {
                        let closure = closure_in(regs[code.closure as usize].get(m));
                        closure.tail()[i.b as usize].get(m).value.set(m, regs[i.a as usize].get(m));
                    }
                    Op::NewCell => {
                        if !m.has_room(AllocSize::of::<Cell>()) {
                            away!(self.make_cell(mutator, base + i.a as usize))
                        }
                        let cell = m.place(CellInit { value: regs[i.a as usize].get(m) });
                        regs[i.a as usize].set(m, cell.into());
                    }
                    Op::GetCell => {
                        let cell = cell_in(regs[i.b as usize].get(m));
                        regs[i.a as usize].set(m, cell.value.get(m));
                    }
                    Op::SetCell => {
                        let cell = cell_in(regs[i.a as usize].get(m));
                        cell.value.set(m, regs[i.b as usize].get(m));
                    }

                    Op::Add => {
                        if let (Some(x), Some(y)) = (regs[i.b as usize].num(), regs[i.c as usize].num()) {
                            regs[i.a as usize].set_num(m, x + y);
                        } else {
                            let at = |register: u16| base + register as usize;
                            away!(self.concatenate(mutator, at(i.a), at(i.b), at(i.c)))
                        }
                    }
                    Op::Subtract => arithmetic!(i, -),
                    Op::Multiply => arithmetic!(i, *),
                    Op::Divide => arithmetic!(i, /),
                    Op::AddNumber => {
                        let Some(x) = regs[i.b as usize].num() else {
                            fail!("Operands must be two numbers or two strings.")
                        };
                        regs[i.a as usize].set_num(m, x + code.numbers[i.c as usize]);
                    }
                    Op::SubtractNumber => arithmetic_number!(i, -),
                    Op::MultiplyNumber => arithmetic_number!(i, *),
                    Op::DivideNumber => arithmetic_number!(i, /),

                    Op::Less => compare!(i, x, y, x < y),
                    Op::Greater => compare!(i, x, y, x > y),
                    Op::NotLess => compare!(i, x, y, !(x < y)),
                    Op::NotGreater => compare!(i, x, y, !(x > y)),
                    Op::Equal => {
                        let equal = equal(regs[i.b as usize].get(m), regs[i.c as usize].get(m));
                        regs[i.a as usize].set(m, Value::bool(equal));
                    }
                    Op::NotEqual => {
                        let equal = equal(regs[i.b as usize].get(m), regs[i.c as usize].get(m));
                        regs[i.a as usize].set(m, Value::bool(!equal));
                    }

                    Op::JumpLess => jump!(i, x, y, x < y),
                    Op::JumpGreater => jump!(i, x, y, x > y),
                    Op::JumpNotLess => jump!(i, x, y, !(x < y)),
                    Op::JumpNotGreater => jump!(i, x, y, !(x > y)),
                    Op::JumpEqual => {
                        if equal(regs[i.a as usize].get(m), regs[i.b as usize].get(m)) {
                            pc += i.offset();
                        }
                    }
                    Op::JumpNotEqual => {
                        if !equal(regs[i.a as usize].get(m), regs[i.b as usize].get(m)) {
                            pc += i.offset();
                        }
                    }
                    Op::JumpLessNumber => jump_number!(i, x, y, x < y),
                    Op::JumpGreaterNumber => jump_number!(i, x, y, x > y),
                    Op::JumpNotLessNumber => jump_number!(i, x, y, !(x < y)),
                    Op::JumpNotGreaterNumber => jump_number!(i, x, y, !(x > y)),
                    Op::JumpEqualNumber => {
                        if regs[i.a as usize].num() == Some(code.numbers[i.b as usize]) {
                            pc += i.offset();
                        }
                    }
                    Op::JumpNotEqualNumber => {
                        if regs[i.a as usize].num() != Some(code.numbers[i.b as usize]) {
                            pc += i.offset();
                        }
                    }

                    Op::Jump => pc += i.offset(),
                    Op::JumpFalse => {
                        if is_falsey(regs[i.a as usize].get(m)) {
                            pc += i.offset();
                        }
                    }
                    Op::JumpTrue => {
                        if !is_falsey(regs[i.a as usize].get(m)) {
                            pc += i.offset();
                        }
                    }
                    Op::Loop => {
                        pc -= i.wide();
                        if m.safepoint_due() {
                            save!();
                            self.tidy_at(mutator, pc);
                            mutator.safepoint();
                            continue 'reload;
                        }
                    }

                    Op::Not => {
                        let value = regs[i.b as usize].get(m);
                        regs[i.a as usize].set(m, Value::bool(is_falsey(value)));
                    }
                    Op::Negate => {
                        let Some(x) = regs[i.b as usize].num() else { fail!("Operand must be a number.") };
                        regs[i.a as usize].set_num(m, -x);
                    }

                    Op::Call => {
                        let callee = regs[i.a as usize].get(m);
                        if let Some(closure) = callee.downcast::<Closure>() {
                            enter!(i, closure);
                        } else if let Some(class) = callee.downcast::<Class>() {
                            let fields = class.fields.get() as usize;
                            if m.has_room(AllocSize::tail::<Instance>(fields)) {
                                let init = InstanceInit { class, more: Value::NIL, shape: EMPTY };
                                let instance = m.place_array::<Instance>(init, fields, Value::NIL);
                                regs[i.a as usize].set(m, instance.into());
                                match class.init.get(m) {
                                    Some(init) => enter!(i, init),
                                    None if i.x == 0 => continue,
                                    None => {}
                                }
                                // Something is wrong with the call: it is tried again, slowly.
                                regs[i.a as usize].set(m, callee);
                            }
                        }
                        away!(self.call(mutator, base + i.a as usize, i.x as usize))
                    }
                    Op::Invoke => {
                        let site = &code.sites[i.b as usize];
                        if let Some(instance) = regs[i.a as usize].get(m).downcast::<Instance>() {
                            let shape = instance.shape.get();
                            if found_at(&self.lookups, site, shape) == Some(Found::NoField)
                                && let Some(method) = find_method(m, instance.class.get(m).methods.get(m), site.symbol)
                            {
                                enter!(i, method);
                            }
                        }
                        away!(self.invoke(mutator, site, base + i.a as usize, i.x as usize))
                    }
                    Op::SuperInvoke => {
                        let class = regs[i.c as usize].get(m).downcast::<Class>();
                        let class = class.expect("`super` is a class");
                        let symbol = code.sites[i.b as usize].symbol;
                        if let Some(method) = find_method(m, class.methods.get(m), symbol) {
                            enter!(i, method);
                        }
                        away!(self.invoke_of(m, class, symbol, base + i.a as usize, i.x as usize))
                    }
                    Op::GetProperty => {
                        let site = &code.sites[i.c as usize];
                        if let Some(instance) = regs[i.b as usize].get(m).downcast::<Instance>() {
                            let shape = instance.shape.get();
                            if let Some(Found::Field(index)) = found_at(&self.lookups, site, shape) {
                                regs[i.a as usize].set(m, field(m, instance, index));
                                continue;
                            }
                        }
                        away!(self.get_property(mutator, site, base + i.a as usize, base + i.b as usize))
                    }
                    Op::SetProperty => {
                        let site = &code.sites[i.c as usize];
                        if let Some(instance) = regs[i.a as usize].get(m).downcast::<Instance>() {
                            let shape = instance.shape.get();
                            if let Some(store) = store_at(&self.lookups, site, shape)
                                && let Some(slot) = instance.tail().get(store.index as usize)
                            {
                                slot.set(m, regs[i.b as usize].get(m));
                                instance.shape.set(store.shape);
                                continue;
                            }
                        }
                        away!(self.set_property(mutator, site, base + i.a as usize, base + i.b as usize))
                    }
                    Op::GetSuper => {
                        let at = |register: u16| base + register as usize;
                        let site = &code.sites[i.x as usize];
                        away!(self.get_super(mutator, site, at(i.a), at(i.b), at(i.c)))
                    }

                    Op::Closure => {
                        let around = closure_in(regs[code.closure as usize].get(m));
                        let function = Self::constant(m, around, i.b as usize).downcast::<Function>();
                        let function = function.expect("the compiler put a function there");
                        if !m.has_room(AllocSize::tail::<Closure>(function.code.captures.len())) {
                            away!(self.make_closure(mutator, base + i.a as usize, i.b as usize))
                        }
                        let closure = place_closure(m, regs, around, function);
                        regs[i.a as usize].set(m, closure.into());
                    }
                    Op::Class => away!(self.make_class(mutator, base + i.a as usize, i.b as usize, i.c.into())),
                    Op::Inherit => away!(self.inherit(mutator, base + i.a as usize, base + i.b as usize)),
                    Op::Method => {
                        let site = &code.sites[i.c as usize];
                        away!(self.add_method(mutator, base + i.a as usize, base + i.b as usize, site))
                    }

                    Op::Return => {
                        regs[0].set(m, regs[i.a as usize].get(m));
                        self.depth -= 1;
                        if self.depth == 0 {
                            return Ok(());
                        }
                        Frame { code, pc, base } = self.frames[self.depth - 1];
                        instrs = &code.instrs[..];
                        regs = &all[base..];
                    }
                    Op::Print => {
                        save!();
                        self.print(mutator, base + i.a as usize);
                        continue 'reload;
                    }
                }
            }
        }
    }
}
