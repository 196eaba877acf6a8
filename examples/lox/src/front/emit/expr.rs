//! Expressions: each goes to a register that its user chooses.

use super::super::ast::{Arithmetic, Comparison, Expr, ExprKind, Place};
use super::super::scanner::At;
use super::{Emitter, Reg};
use crate::code::{Instr, Op};

/// The operation on two registers, and on a register and a number.
fn arithmetic_ops(operator: Arithmetic) -> (Op, Op) {
    match operator {
        Arithmetic::Add => (Op::Add, Op::AddNumber),
        Arithmetic::Subtract => (Op::Subtract, Op::SubtractNumber),
        Arithmetic::Multiply => (Op::Multiply, Op::MultiplyNumber),
        Arithmetic::Divide => (Op::Divide, Op::DivideNumber),
    }
}

fn comparison_op(operator: Comparison) -> Op {
    match operator {
        Comparison::Less => Op::Less,
        Comparison::Greater => Op::Greater,
        Comparison::NotLess => Op::NotLess,
        Comparison::NotGreater => Op::NotGreater,
        Comparison::Equal => Op::Equal,
        Comparison::NotEqual => Op::NotEqual,
    }
}

impl Emitter<'_> {
    /// The register of a variable that lives in one.
    fn plain_local(&self, expr: &Expr) -> Option<Reg> {
        match expr.kind {
            ExprKind::Get(Place::Local(var)) if !self.is_captured(var) => Some(self.register(var)),
            _ => None,
        }
    }

    /// The expression's value in some register: a variable's own, or a new temporary.
    pub(super) fn operand(&mut self, expr: &Expr) -> Reg {
        self.plain_local(expr).unwrap_or_else(|| {
            let register = self.temporary();
            self.expr(expr, register);
            register
        })
    }

    /// As `operand`, for one that must stay what it is while `later` is evaluated.
    pub(super) fn operand_before(&mut self, expr: &Expr, later: &Expr) -> Reg {
        match self.plain_local(expr) {
            Some(register) if !later.assigns => register,
            _ => {
                let register = self.temporary();
                self.expr(expr, register);
                register
            }
        }
    }

    /// As `operand`, by way of `to` where that is a temporary: a chain of operations takes one
    /// register, and no register keeps what was left in it while the operand's calls run above.
    fn operand_in(&mut self, expr: &Expr, to: Reg) -> Reg {
        match self.plain_local(expr) {
            None if self.is_temporary(to) => {
                self.expr(expr, to);
                to
            }
            _ => self.operand(expr),
        }
    }

    fn pair(&mut self, left: &Expr, right: &Expr, to: Reg) -> (Reg, Reg) {
        let left = match self.plain_local(left) {
            Some(register) if !right.assigns => return (register, self.operand_in(right, to)),
            // The target can hold the left side meanwhile, unless it is a variable that the right
            // side reads.
            _ if self.is_temporary(to) => {
                self.expr(left, to);
                to
            }
            _ => self.operand_before(left, right),
        };
        (left, self.operand(right))
    }

    /// Evaluates into `to`. Temporaries above are free again afterwards.
    pub(super) fn expr(&mut self, expr: &Expr, to: Reg) {
        let (mut expr, mut to) = (expr, to);
        // The operations that go on with what comes first, from the outside in.
        let mut around = Vec::new();
        while let Some(first) = expr.first().filter(|first| first.first().is_some()) {
            around.push((expr, to, self.next));
            let takes_to = match expr.kind {
                ExprKind::Call(..) | ExprKind::Invoke(..) => self.is_on_top(to),
                _ => self.is_temporary(to),
            };
            to = if takes_to { to } else { self.temporary() };
            expr = first;
        }
        let next = self.next;
        self.expr_open(expr, to);
        self.next = next;
        for (expr, outer, next) in around.into_iter().rev() {
            self.go_on(expr, to, outer);
            self.next = next;
            to = outer;
        }
    }

    /// The operation whose first operand is in `first` already.
    fn go_on(&mut self, expr: &Expr, first: Reg, to: Reg) {
        let at = expr.at;
        match &expr.kind {
            ExprKind::Arithmetic(operator, _, right) => {
                let (plain, with_number) = arithmetic_ops(*operator);
                let (op, right) = match right.kind {
                    ExprKind::Num(number) => (with_number, self.number(number)),
                    _ => (plain, self.operand(right)),
                };
                self.op(at, op, to, first, right);
            }
            ExprKind::Comparison(operator, _, right) => {
                let right = self.operand(right);
                self.op(at, comparison_op(*operator), to, first, right);
            }
            ExprKind::Property(_, symbol) => {
                let site = self.site(*symbol);
                self.op(at, Op::GetProperty, to, first, site);
            }
            ExprKind::Call(_, arguments) => {
                self.call_in(first, to, at, arguments, |_| Instr::new(Op::Call, 0, 0, 0));
            }
            ExprKind::Invoke(_, symbol, arguments) => {
                let site = self.site(*symbol);
                self.call_in(first, to, at, arguments, |_| Instr::new(Op::Invoke, 0, site, 0));
            }
            _ => unreachable!("these are the kinds that have a first operand"),
        }
    }

    fn expr_open(&mut self, expr: &Expr, to: Reg) {
        let at = expr.at;
        match &expr.kind {
            ExprKind::Nil => self.op(at, Op::Nil, to, 0, 0),
            ExprKind::Bool(true) => self.op(at, Op::True, to, 0, 0),
            ExprKind::Bool(false) => self.op(at, Op::False, to, 0, 0),
            ExprKind::Num(number) => {
                let index = self.number(*number);
                self.op(at, Op::Number, to, index, 0);
            }
            ExprKind::Str(text) => {
                let index = self.string(text);
                self.op(at, Op::Constant, to, index, 0);
            }
            ExprKind::Get(place) => self.get(*place, to, at),
            ExprKind::Assign(place, value) => {
                let value = self.assign(*place, value, at, Some(to));
                self.move_to(to, value, at);
            }
            ExprKind::Not(operand) => {
                let operand = self.operand_in(operand, to);
                self.op(at, Op::Not, to, operand, 0);
            }
            ExprKind::Negate(operand) => {
                let operand = self.operand_in(operand, to);
                self.op(at, Op::Negate, to, operand, 0);
            }
            ExprKind::Arithmetic(operator, left, right) => self.arithmetic(*operator, left, right, to, at),
            ExprKind::Comparison(operator, left, right) => {
                let (left, right) = self.pair(left, right, to);
                self.op(at, comparison_op(*operator), to, left, right);
            }
            ExprKind::And(left, right) => self.logic(Op::JumpFalse, left, right, to, at),
            ExprKind::Or(left, right) => self.logic(Op::JumpTrue, left, right, to, at),
            ExprKind::Call(callee, arguments) => {
                self.in_window(to, at, callee, arguments, |_| Instr::new(Op::Call, 0, 0, 0));
            }
            ExprKind::Invoke(object, symbol, arguments) => {
                let site = self.site(*symbol);
                self.in_window(to, at, object, arguments, |_| Instr::new(Op::Invoke, 0, site, 0));
            }
            ExprKind::SuperInvoke(this, superclass, symbol, arguments) => {
                let site = self.site(*symbol);
                self.in_window(to, at, this, arguments, |emitter| {
                    let class = emitter.operand(superclass);
                    Instr::new(Op::SuperInvoke, 0, site, class)
                });
            }
            ExprKind::Property(object, symbol) => {
                let object = self.operand_in(object, to);
                let site = self.site(*symbol);
                self.op(at, Op::GetProperty, to, object, site);
            }
            ExprKind::SetProperty(object, symbol, value) => {
                let value = self.set_property(object, *symbol, value, at, Some(to));
                self.move_to(to, value, at);
            }
            ExprKind::SuperProperty(this, superclass, symbol) => {
                let this = self.operand_in(this, to);
                let class = self.operand(superclass);
                let site = self.site(*symbol);
                // One of at most 256 names in the function.
                let instr = Instr { op: Op::GetSuper, x: site as u8, a: to, b: this, c: class };
                self.push(at, instr);
            }
        }
    }

    /// Evaluates for what it does, not for its value.
    pub(super) fn effect(&mut self, expr: &Expr) {
        let next = self.next;
        match &expr.kind {
            ExprKind::Assign(place, value) => {
                self.assign(*place, value, expr.at, None);
            }
            ExprKind::SetProperty(object, symbol, value) => {
                self.set_property(object, *symbol, value, expr.at, None);
            }
            _ => {
                self.operand(expr);
            }
        }
        self.next = next;
    }

    fn move_to(&mut self, to: Reg, from: Reg, at: At) {
        if to != from {
            self.op(at, Op::Move, to, from, 0);
        }
    }

    fn get(&mut self, place: Place, to: Reg, at: At) {
        match place {
            Place::Local(var) if self.is_captured(var) => {
                let cell = self.register(var);
                self.op(at, Op::GetCell, to, cell, 0);
            }
            Place::Local(var) => {
                let register = self.register(var);
                self.move_to(to, register, at);
            }
            Place::Upvalue(upvalue) => self.op(at, Op::GetUpvalue, to, upvalue.into(), 0),
            Place::Global(global) => self.push(at, Instr::with_wide(Op::GetGlobal, to, global as usize)),
        }
    }

    /// A register that holds the value. `by`: where it is wanted, if anywhere.
    fn assign(&mut self, place: Place, value: &Expr, at: At, by: Option<Reg>) -> Reg {
        if let Place::Local(var) = place
            && !self.is_captured(var)
        {
            let register = self.register(var);
            self.expr(value, register);
            return register;
        }
        let value = match by {
            Some(to) => self.operand_in(value, to),
            None => self.operand(value),
        };
        match place {
            Place::Local(var) => {
                let cell = self.register(var);
                self.op(at, Op::SetCell, cell, value, 0);
            }
            Place::Upvalue(upvalue) => self.op(at, Op::SetUpvalue, value, upvalue.into(), 0),
            Place::Global(global) => self.push(at, Instr::with_wide(Op::SetGlobal, value, global as usize)),
        }
        value
    }

    fn set_property(&mut self, object: &Expr, symbol: u32, value: &Expr, at: At, by: Option<Reg>) -> Reg {
        let (object, value) = match by {
            Some(to) => self.pair(object, value, to),
            None => (self.operand_before(object, value), self.operand(value)),
        };
        let site = self.site(symbol);
        self.op(at, Op::SetProperty, object, value, site);
        value
    }

    fn arithmetic(&mut self, operator: Arithmetic, left: &Expr, right: &Expr, to: Reg, at: At) {
        let (plain, with_number) = arithmetic_ops(operator);
        let swaps = matches!(operator, Arithmetic::Add | Arithmetic::Multiply);
        let (other, number) = match (&left.kind, &right.kind) {
            (_, ExprKind::Num(number)) => (left, *number),
            (ExprKind::Num(number), _) if swaps => (right, *number),
            _ => {
                let (left, right) = self.pair(left, right, to);
                self.op(at, plain, to, left, right);
                return;
            }
        };
        let other = self.operand_in(other, to);
        let number = self.number(number);
        self.op(at, with_number, to, other, number);
    }

    fn logic(&mut self, jump: Op, left: &Expr, right: &Expr, to: Reg, at: At) {
        // Both sides go to one register, which must be nobody's variable meanwhile.
        let register = if self.is_temporary(to) { to } else { self.temporary() };
        self.expr(left, register);
        let from = self.jump(at, jump, register, 0);
        self.expr(right, register);
        self.land(from);
        self.move_to(to, register, at);
    }

    /// A call: the callee (or the object) and the arguments in registers that follow each other.
    fn in_window(&mut self, to: Reg, at: At, first: &Expr, arguments: &[Expr], call: impl FnOnce(&mut Self) -> Instr) {
        let window = if self.is_on_top(to) { to } else { self.temporary() };
        self.expr(first, window);
        self.call_in(window, to, at, arguments, call);
    }

    fn is_on_top(&self, register: Reg) -> bool {
        self.is_temporary(register) && usize::from(register) + 1 == self.next
    }

    /// The callee (or the object) is in the window already.
    fn call_in(&mut self, window: Reg, to: Reg, at: At, arguments: &[Expr], call: impl FnOnce(&mut Self) -> Instr) {
        for argument in arguments {
            let register = self.temporary();
            self.expr(argument, register);
        }
        let call = call(self);
        self.push(at, Instr { a: window, x: arguments.len() as u8, ..call });
        self.move_to(to, window, at);
    }
}
