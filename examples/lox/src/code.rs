//! What the compiler makes: register code, one word of 8 bytes an instruction.
//!
//! Registers are the slots of the operand stack from the frame's base up: the callee or `this`, the
//! arguments, then variables and temporaries. A call's window of registers is the callee's frame,
//! so arguments are never copied.
//!
//! Code is text: it holds no reference into the heap (those are in
//! [`Function`](crate::object::Function)), never changes but for its caches, and lives as long as
//! the process.

use crate::front::scanner::At;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Operations. `a`, `b`, `c` are the operands of the instruction; `r[a]` is a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    /// `r[a] = r[b]`
    Move,
    Nil,
    True,
    False,
    /// `r[a] = numbers[b]`
    Number,
    /// `r[a] = constants[b]`
    Constant,
    /// `r[a] = globals[wide]`; so the next two.
    GetGlobal,
    SetGlobal,
    DefineGlobal,
    /// `r[a] = upvalues[b]`, `upvalues[b] = r[a]`
    GetUpvalue,
    SetUpvalue,
    /// `r[a] = a new cell that holds r[a]`
    NewCell,
    /// `r[a] = cell r[b]`, `cell r[a] = r[b]`
    GetCell,
    SetCell,
    /// `r[a] = r[b] op r[c]`
    Add,
    Subtract,
    Multiply,
    Divide,
    /// `r[a] = r[b] op numbers[c]`
    AddNumber,
    SubtractNumber,
    MultiplyNumber,
    DivideNumber,
    /// `r[a] = r[b] op r[c]`
    Less,
    Greater,
    NotLess,
    NotGreater,
    Equal,
    NotEqual,
    /// Forward by `offset` if `r[a] op r[b]`
    JumpLess,
    JumpGreater,
    JumpNotLess,
    JumpNotGreater,
    JumpEqual,
    JumpNotEqual,
    /// Forward by `offset` if `r[a] op numbers[b]`
    JumpLessNumber,
    JumpGreaterNumber,
    JumpNotLessNumber,
    JumpNotGreaterNumber,
    JumpEqualNumber,
    JumpNotEqualNumber,
    /// Forward by `offset`, always or by the truth of `r[a]`
    Jump,
    JumpFalse,
    JumpTrue,
    /// Back by `wide`; a safepoint.
    Loop,
    /// `r[a] = op r[b]`
    Not,
    Negate,
    /// `r[a] = r[a](r[a + 1], ... r[a + x])`
    Call,
    /// `r[a] = r[a].name(...)`, by site `b`
    Invoke,
    /// As `Invoke`, by the methods of the class `r[c]`
    SuperInvoke,
    /// `r[a] = r[b].name`, by site `c`
    GetProperty,
    /// `r[a].name = r[b]`, by site `c`
    SetProperty,
    /// `r[a] = method of class r[c], bound to r[b]`, by site `x`
    GetSuper,
    /// `r[a] = closure of the function constants[b]`
    Closure,
    /// `r[a] = a class named constants[b]`, whose methods set `c` fields
    Class,
    /// `class r[a]` takes all methods of `class r[b]`
    Inherit,
    /// `class r[a]` gets the method `r[b]`, named by site `c`
    Method,
    Return,
    Print,
}

/// An instruction.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Instr {
    pub(crate) op: Op,
    pub(crate) x: u8,
    pub(crate) a: u16,
    pub(crate) b: u16,
    pub(crate) c: u16,
}

impl Instr {
    pub(crate) fn new(op: Op, a: u16, b: u16, c: u16) -> Instr {
        Instr { op, x: 0, a, b, c }
    }

    /// `b` and `c` as one number.
    #[inline(always)]
    pub(crate) fn wide(self) -> usize {
        usize::from(self.b) | usize::from(self.c) << 16
    }

    pub(crate) fn with_wide(op: Op, a: u16, wide: usize) -> Instr {
        Instr::new(op, a, wide as u16, (wide >> 16) as u16)
    }

    /// `c` and `x` as one number: how far a jump goes.
    #[inline(always)]
    pub(crate) fn offset(self) -> usize {
        usize::from(self.c) | usize::from(self.x) << 16
    }

    pub(crate) fn set_offset(&mut self, offset: usize) {
        debug_assert!(offset < 1 << 24, "the parser limits jumps");
        self.c = offset as u16;
        self.x = (offset >> 16) as u8;
    }
}

/// Where a property is named, with what was found there last.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) symbol: u32,
    /// The last two findings, the newer one first; see [`crate::shapes`].
    pub(crate) cache: [AtomicU64; 2],
}

/// What a closure takes along when it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Capture {
    /// The cell in a register of the function around.
    Register(u16),
    /// An upvalue of the function around.
    Upvalue(u8),
}

/// A text that was compiled.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file, or what stands for it in messages.
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
}

/// A function's code.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) source: Arc<Source>,
    /// `None`: the script.
    pub(crate) name: Option<Box<[u8]>>,
    pub(crate) arity: u32,
    /// The register that holds the closure while it runs.
    pub(crate) closure: u16,
    /// How many registers a frame has.
    pub(crate) registers: usize,
    pub(crate) instrs: Box<[Instr]>,
    /// For each instruction, where its errors are.
    pub(crate) ats: Box<[At]>,
    /// For each instruction, how many registers are in use while it runs, those that it reads and
    /// writes among them. What lies above is left over. A frame that waits for a call has no such
    /// gap: the call's window is on top.
    pub(crate) tops: Box<[u16]>,
    pub(crate) numbers: Box<[f64]>,
    pub(crate) sites: Box<[Site]>,
    pub(crate) captures: Box<[Capture]>,
}

/// A constant that is an object.
#[derive(Debug)]
pub(crate) enum Constant {
    String(Box<[u8]>),
    Function(Box<Proto>),
}

/// A function as the compiler makes it, not yet in the heap.
#[derive(Debug)]
pub(crate) struct Proto {
    pub(crate) code: Code,
    pub(crate) constants: Vec<Constant>,
}
