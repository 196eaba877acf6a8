//! What the parser makes of the source.
//!
//! A whole function is parsed before code is made for it, so that it is known which variables
//! closures capture: those live in cells of the heap from the start, all others in registers.

use super::scanner::At;

/// A variable of a function, numbered in the order of declaration; 0 is the callee, or `this`.
pub(crate) type VarId = u32;

/// Where a name was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Local(VarId),
    Upvalue(u8),
    Global(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// `<=` is "not greater" and `>=` is "not less", as in the book: it shows with NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Less,
    Greater,
    NotLess,
    NotGreater,
    Equal,
    NotEqual,
}

#[derive(Debug)]
pub(crate) enum ExprKind {
    Nil,
    Bool(bool),
    Num(f64),
    Str(Box<[u8]>),
    Get(Place),
    Assign(Place, Box<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    Comparison(Comparison, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Call(Box<Expr>, Vec<Expr>),
    Property(Box<Expr>, u32),
    SetProperty(Box<Expr>, u32, Box<Expr>),
    Invoke(Box<Expr>, u32, Vec<Expr>),
    /// `this`, `super`, name.
    SuperProperty(Box<Expr>, Box<Expr>, u32),
    SuperInvoke(Box<Expr>, Box<Expr>, u32, Vec<Expr>),
}

#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    /// The token that errors of this operation name.
    pub(crate) at: At,
    /// Whether a local variable is assigned anywhere inside.
    pub(crate) assigns: bool,
}

impl Expr {
    /// What is evaluated first, where it may be an operation of the same sort, and so on: chains as
    /// `a + b + c` and `f()()` are nested there by the million, and are walked in loops. What else
    /// is nested is as deep as the parser allows.
    pub(crate) fn first(&self) -> Option<&Expr> {
        match &self.kind {
            ExprKind::Arithmetic(_, first, _)
            | ExprKind::Comparison(_, first, _)
            | ExprKind::Call(first, _)
            | ExprKind::Property(first, _)
            | ExprKind::Invoke(first, _, _) => Some(first),
            _ => None,
        }
    }

    fn take_first(&mut self) -> Option<Box<Expr>> {
        self.first()?;
        match std::mem::replace(&mut self.kind, ExprKind::Nil) {
            ExprKind::Arithmetic(_, first, _)
            | ExprKind::Comparison(_, first, _)
            | ExprKind::Call(first, _)
            | ExprKind::Property(first, _)
            | ExprKind::Invoke(first, _, _) => Some(first),
            _ => None,
        }
    }
}

impl Drop for Expr {
    fn drop(&mut self) {
        let mut first = self.take_first();
        while let Some(mut expr) = first {
            first = expr.take_first();
        }
    }
}

#[derive(Debug)]
pub(crate) enum Stmt {
    Expr(Expr),
    Print(Expr, At),
    /// Without an initialiser: nil.
    Var(Target, Option<Expr>, At),
    Function(Target, Box<Function>, At),
    Class(Box<Class>),
    Block(Vec<Stmt>),
    If(Expr, Box<Stmt>, Option<Box<Stmt>>),
    /// The increment of a `for` is the third part.
    While(Option<Expr>, Box<Stmt>, Option<Expr>, At),
    Return(Option<Expr>, At),
}

/// What a declaration declares.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    Local(VarId),
    Global(u32),
}

#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) name: Box<[u8]>,
    pub(crate) target: Target,
    pub(crate) at: At,
    pub(crate) superclass: Option<Superclass>,
    pub(crate) methods: Vec<(u32, Function, At)>,
    /// How many fields its methods set: a guess of what an instance will have.
    pub(crate) fields: usize,
}

#[derive(Debug)]
pub(crate) struct Superclass {
    pub(crate) value: Expr,
    pub(crate) var: VarId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FunctionKind {
    Script,
    Function,
    Method,
    Initializer,
}

/// What a closure takes along: a variable of the function around it, or an upvalue of that
/// function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Captured {
    Local(VarId),
    Upvalue(u8),
}

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) kind: FunctionKind,
    pub(crate) name: Option<Box<[u8]>>,
    pub(crate) params: Vec<VarId>,
    pub(crate) captures: Vec<Captured>,
    /// For each variable, whether a closure captures it.
    pub(crate) captured: Vec<bool>,
    pub(crate) body: Vec<Stmt>,
    pub(crate) end: At,
}
