//! Jumps, and what is made of them.

use super::super::ast::{Comparison, Expr, ExprKind, Stmt};
use super::super::scanner::At;
use super::{Emitter, Reg};
use crate::code::{Instr, Op};

/// Jumps that go to the same place, not known yet.
type Jumps = Vec<usize>;

fn negated(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::NotLess,
        Comparison::Greater => Comparison::NotGreater,
        Comparison::NotLess => Comparison::Less,
        Comparison::NotGreater => Comparison::Greater,
        Comparison::Equal => Comparison::NotEqual,
        Comparison::NotEqual => Comparison::Equal,
    }
}

/// The comparison that says the same with its sides swapped.
fn swapped(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::Greater => Comparison::Less,
        Comparison::NotLess => Comparison::NotGreater,
        Comparison::NotGreater => Comparison::NotLess,
        equality => equality,
    }
}

fn jump_of(comparison: Comparison, with_number: bool) -> Op {
    match (comparison, with_number) {
        (Comparison::Less, false) => Op::JumpLess,
        (Comparison::Greater, false) => Op::JumpGreater,
        (Comparison::NotLess, false) => Op::JumpNotLess,
        (Comparison::NotGreater, false) => Op::JumpNotGreater,
        (Comparison::Equal, false) => Op::JumpEqual,
        (Comparison::NotEqual, false) => Op::JumpNotEqual,
        (Comparison::Less, true) => Op::JumpLessNumber,
        (Comparison::Greater, true) => Op::JumpGreaterNumber,
        (Comparison::NotLess, true) => Op::JumpNotLessNumber,
        (Comparison::NotGreater, true) => Op::JumpNotGreaterNumber,
        (Comparison::Equal, true) => Op::JumpEqualNumber,
        (Comparison::NotEqual, true) => Op::JumpNotEqualNumber,
    }
}

impl Emitter<'_> {
    /// A jump, to [`land`](Self::land) later.
    pub(super) fn jump(&mut self, at: At, op: Op, a: Reg, b: u16) -> usize {
        self.op(at, op, a, b, 0);
        self.instrs.len() - 1
    }

    /// The jump goes here.
    pub(super) fn land(&mut self, from: usize) {
        let offset = self.instrs.len() - from - 1;
        self.instrs[from].set_offset(offset);
    }

    fn land_all(&mut self, jumps: Jumps) {
        jumps.into_iter().for_each(|from| self.land(from));
    }

    /// Jumps if the condition's truth is `when`.
    fn branch(&mut self, condition: &Expr, when: bool, jumps: &mut Jumps) {
        let next = self.next;
        let at = condition.at;
        match &condition.kind {
            ExprKind::Not(operand) => self.branch(operand, !when, jumps),
            ExprKind::Comparison(comparison, left, right) => {
                let comparison = if when { *comparison } else { negated(*comparison) };
                let from = match (&left.kind, &right.kind) {
                    (_, ExprKind::Num(number)) => self.branch_number(comparison, left, *number, at),
                    (ExprKind::Num(number), _) => self.branch_number(swapped(comparison), right, *number, at),
                    _ => {
                        let left = self.operand_before(left, right);
                        let right = self.operand(right);
                        self.jump(at, jump_of(comparison, false), left, right)
                    }
                };
                jumps.push(from);
            }
            ExprKind::And(left, right) if !when => {
                self.branch(left, false, jumps);
                self.branch(right, false, jumps);
            }
            ExprKind::Or(left, right) if when => {
                self.branch(left, true, jumps);
                self.branch(right, true, jumps);
            }
            ExprKind::And(left, right) | ExprKind::Or(left, right) => {
                let mut past = Jumps::new();
                self.branch(left, !when, &mut past);
                self.branch(right, when, jumps);
                self.land_all(past);
            }
            ExprKind::Bool(truth) => {
                if *truth == when {
                    let from = self.jump(at, Op::Jump, 0, 0);
                    jumps.push(from);
                }
            }
            _ => {
                let value = self.operand(condition);
                let from = self.jump(at, if when { Op::JumpTrue } else { Op::JumpFalse }, value, 0);
                jumps.push(from);
            }
        }
        self.next = next;
    }

    fn branch_number(&mut self, comparison: Comparison, other: &Expr, number: f64, at: At) -> usize {
        let other = self.operand(other);
        let number = self.number(number);
        self.jump(at, jump_of(comparison, true), other, number)
    }

    pub(super) fn if_(&mut self, condition: &Expr, then: &Stmt, other: Option<&Stmt>) {
        let mut otherwise = Jumps::new();
        self.branch(condition, false, &mut otherwise);
        self.stmt(then);
        match other {
            None => self.land_all(otherwise),
            Some(other) => {
                let end = self.jump(condition.at, Op::Jump, 0, 0);
                self.land_all(otherwise);
                self.stmt(other);
                self.land(end);
            }
        }
    }

    pub(super) fn while_(&mut self, condition: Option<&Expr>, body: &Stmt, increment: Option<&Expr>, at: At) {
        let start = self.instrs.len();
        let mut exit = Jumps::new();
        if let Some(condition) = condition {
            self.branch(condition, false, &mut exit);
        }
        self.stmt(body);
        if let Some(increment) = increment {
            self.effect(increment);
        }
        let back = self.instrs.len() + 1 - start;
        self.push(at, Instr::with_wide(Op::Loop, 0, back));
        self.land_all(exit);
    }
}
