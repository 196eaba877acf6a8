//! The code generator.

mod expr;
mod jump;

use super::ast::{Captured, Class, Function, FunctionKind, Stmt, Target, VarId};
use super::scanner::At;
use crate::code::{Capture, Code, Constant, Instr, Op, Proto, Site, Source};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A register. A function that needs more than there are can never run: its frame does not fit the
/// stack.
type Reg = u16;

/// Makes code for a function and all within.
pub(crate) fn emit(function: &Function, source: &Arc<Source>) -> Proto {
    emit_with(function, source, Box::default())
}

fn emit_with(function: &Function, source: &Arc<Source>, captures: Box<[Capture]>) -> Proto {
    let mut emitter = Emitter {
        source,
        function,
        registers: vec![0; function.captured.len()],
        next: 0,
        variables: 0,
        most: 0,
        instrs: Vec::new(),
        ats: Vec::new(),
        tops: Vec::new(),
        numbers: Vec::new(),
        known_numbers: FxHashMap::default(),
        constants: Vec::new(),
        known_strings: FxHashMap::default(),
        symbols: Vec::new(),
    };
    let closure = emitter.prologue();
    for stmt in &function.body {
        emitter.stmt(stmt);
    }
    emitter.return_nothing(function.end);
    let site = |symbol| Site { symbol, cache: [AtomicU64::new(0), AtomicU64::new(0)] };
    Proto {
        code: Code {
            source: Arc::clone(source),
            name: function.name.clone(),
            arity: function.params.len() as u32,
            closure,
            registers: emitter.most,
            instrs: emitter.instrs.into(),
            ats: emitter.ats.into(),
            tops: emitter.tops.into(),
            numbers: emitter.numbers.into(),
            sites: emitter.symbols.into_iter().map(site).collect(),
            captures,
        },
        constants: emitter.constants,
    }
}

struct Emitter<'f> {
    source: &'f Arc<Source>,
    function: &'f Function,
    /// The register of each variable in scope.
    registers: Vec<Reg>,
    next: usize,
    /// Registers below this are variables; those from here to `next` are temporaries.
    variables: usize,
    most: usize,
    instrs: Vec<Instr>,
    ats: Vec<At>,
    tops: Vec<u16>,
    numbers: Vec<f64>,
    known_numbers: FxHashMap<u64, u16>,
    constants: Vec<Constant>,
    known_strings: FxHashMap<Box<[u8]>, u16>,
    symbols: Vec<u32>,
}

impl Emitter<'_> {
    fn push(&mut self, at: At, instr: Instr) {
        self.instrs.push(instr);
        self.ats.push(at);
        self.tops.push(self.next.min(usize::from(u16::MAX)) as u16);
    }

    fn op(&mut self, at: At, op: Op, a: Reg, b: u16, c: u16) {
        self.push(at, Instr::new(op, a, b, c));
    }

    fn temporary(&mut self) -> Reg {
        let register = self.next as Reg;
        self.next += 1;
        self.most = self.most.max(self.next);
        register
    }

    fn is_temporary(&self, register: Reg) -> bool {
        usize::from(register) >= self.variables
    }

    fn is_captured(&self, var: VarId) -> bool {
        self.function.captured[var as usize]
    }

    fn register(&self, var: VarId) -> Reg {
        self.registers[var as usize]
    }

    fn number(&mut self, number: f64) -> u16 {
        let next = self.numbers.len() as u16;
        let index = *self.known_numbers.entry(number.to_bits()).or_insert(next);
        if index == next {
            self.numbers.push(number);
        }
        index
    }

    fn string(&mut self, text: &[u8]) -> u16 {
        if let Some(&index) = self.known_strings.get(text) {
            return index;
        }
        let index = self.constants.len() as u16;
        self.constants.push(Constant::String(text.into()));
        self.known_strings.insert(text.into(), index);
        index
    }

    fn site(&mut self, symbol: u32) -> u16 {
        self.symbols.push(symbol);
        (self.symbols.len() - 1) as u16
    }

    /// The callee's and the arguments' registers; the register of the closure.
    fn prologue(&mut self) -> Reg {
        let at = self.function.end;
        let callee = self.temporary();
        self.registers[0] = callee;
        for &param in &self.function.params {
            let register = self.temporary();
            self.registers[param as usize] = register;
        }
        // A method's register 0 is `this`.
        let in_callee = matches!(self.function.kind, FunctionKind::Script | FunctionKind::Function);
        let closure = if in_callee { callee } else { self.temporary() };
        self.variables = self.next;
        for var in [0].into_iter().chain(self.function.params.iter().copied()) {
            if self.is_captured(var) {
                self.op(at, Op::NewCell, self.register(var), 0, 0);
            }
        }
        closure
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Expr(expr) => self.effect(expr),
            Stmt::Print(value, at) => {
                let value = self.operand(value);
                self.op(*at, Op::Print, value, 0, 0);
            }
            Stmt::Var(target, value, at) => self.declare(*target, *at, |this, register| match value {
                Some(value) => this.expr(value, register),
                None => this.op(*at, Op::Nil, register, 0, 0),
            }),
            Stmt::Function(target, function, at) => self.function_declaration(*target, function, *at),
            Stmt::Class(class) => self.class(class),
            Stmt::Block(body) => self.block(body),
            Stmt::If(condition, then, other) => self.if_(condition, then, other.as_deref()),
            Stmt::While(condition, body, increment, at) => {
                self.while_(condition.as_ref(), body, increment.as_ref(), *at);
            }
            Stmt::Return(None, at) => self.return_nothing(*at),
            Stmt::Return(Some(value), at) => {
                let value = self.operand(value);
                self.op(*at, Op::Return, value, 0, 0);
            }
        }
        self.next = self.variables;
    }

    fn block(&mut self, body: &[Stmt]) {
        let variables = self.variables;
        body.iter().for_each(|stmt| self.stmt(stmt));
        self.variables = variables;
        self.next = variables;
    }

    /// The value goes to a new variable, or by way of a temporary to a global.
    fn declare(&mut self, target: Target, at: At, value: impl FnOnce(&mut Self, Reg)) {
        let register = self.temporary();
        value(self, register);
        self.define(target, register, at);
    }

    fn define(&mut self, target: Target, register: Reg, at: At) {
        match target {
            Target::Global(global) => self.push(at, Instr::with_wide(Op::DefineGlobal, register, global as usize)),
            Target::Local(var) => {
                self.new_variable(var, register);
                if self.is_captured(var) {
                    self.op(at, Op::NewCell, register, 0, 0);
                }
            }
        }
    }

    fn new_variable(&mut self, var: VarId, register: Reg) {
        self.registers[var as usize] = register;
        self.variables = usize::from(register) + 1;
        self.next = self.variables;
    }

    fn function_declaration(&mut self, target: Target, function: &Function, at: At) {
        if let Target::Local(var) = target
            && self.is_captured(var)
        {
            // It may capture itself: the cell is there before the closure.
            let register = self.temporary();
            self.op(at, Op::Nil, register, 0, 0);
            self.define(target, register, at);
            let closure = self.temporary();
            self.closure(function, closure, at);
            self.op(at, Op::SetCell, register, closure, 0);
            return;
        }
        self.declare(target, at, |this, register| this.closure(function, register, at));
    }

    fn closure(&mut self, function: &Function, register: Reg, at: At) {
        let captures = function.captures.iter().map(|captured| match *captured {
            Captured::Local(var) => Capture::Register(self.register(var)),
            Captured::Upvalue(upvalue) => Capture::Upvalue(upvalue),
        });
        let proto = emit_with(function, self.source, captures.collect());
        let index = self.constants.len() as u16;
        self.constants.push(Constant::Function(Box::new(proto)));
        self.op(at, Op::Closure, register, index, 0);
    }

    fn class(&mut self, class: &Class) {
        let name = self.string(&class.name);
        let before = self.variables;
        let register = self.temporary();
        self.op(class.at, Op::Class, register, name, class.fields as u16);
        self.define(class.target, register, class.at);
        // A global may become another class's while a thread is at this body: the class stays in
        // its register.
        self.variables = self.next;
        let after = self.variables;
        let this_class = match class.target {
            Target::Local(var) if self.is_captured(var) => {
                let value = self.temporary();
                self.op(class.at, Op::GetCell, value, register, 0);
                self.variables = self.next;
                value
            }
            _ => register,
        };
        if let Some(superclass) = &class.superclass {
            let register = self.temporary();
            self.expr(&superclass.value, register);
            self.new_variable(superclass.var, register);
            self.op(superclass.value.at, Op::Inherit, this_class, register, 0);
            if self.is_captured(superclass.var) {
                self.op(class.at, Op::NewCell, register, 0, 0);
            }
        }
        let method = self.temporary();
        for (symbol, function, at) in &class.methods {
            self.closure(function, method, *at);
            let site = self.site(*symbol);
            self.op(*at, Op::Method, this_class, method, site);
        }
        self.variables = if matches!(class.target, Target::Local(_)) { after } else { before };
        self.next = self.variables;
    }

    fn return_nothing(&mut self, at: At) {
        let register = if self.function.kind == FunctionKind::Initializer && !self.is_captured(0) {
            0
        } else {
            let register = self.temporary();
            let initializer = self.function.kind == FunctionKind::Initializer;
            let op = if initializer { Op::GetCell } else { Op::Nil };
            self.op(at, op, register, 0, 0);
            register
        };
        self.op(at, Op::Return, register, 0, 0);
    }
}
