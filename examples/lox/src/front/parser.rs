//! The parser: one pass in the order of the book's compiler, so that errors are found in its order.
//!
//! The book's limits are limits of its bytecode (256 constants of a chunk, 64 KiB to jump over).
//! The parser counts what that bytecode would be, and reports what the book's compiler would.

mod expr;
mod stmt;

use super::ast::{Captured, Expr, ExprKind, Function, FunctionKind, Place, Target, VarId};
use super::scanner::{At, Kind, Scanner, Token};
use crate::names::Names;

/// What was wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompileError {
    pub(crate) at: At,
    pub(crate) place: ErrorPlace,
    pub(crate) message: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ErrorPlace {
    Token(Vec<u8>),
    End,
    /// The scanner's own errors.
    Nowhere,
}

/// Statements and expressions within each other: what the stack of the thread that compiles is
/// enough for, and more than the book's compiler takes.
const DEEPEST: u32 = 200_000;

/// Locals, upvalues and constants that one function can have; arguments are one fewer.
const MOST: usize = 256;

struct Local<'s> {
    name: &'s [u8],
    /// `None` until the initialiser is through.
    depth: Option<u32>,
    var: VarId,
}

/// The function that is being parsed.
struct Scope<'s> {
    kind: FunctionKind,
    locals: Vec<Local<'s>>,
    depth: u32,
    captures: Vec<Captured>,
    captured: Vec<bool>,
    /// Bytes and constants of the book's chunk for this function.
    bytes: usize,
    constants: usize,
}

/// An expression, as statements need it.
pub(crate) struct Parser<'s, 'n> {
    scanner: Scanner<'s>,
    names: &'n mut Names,
    current: Token,
    previous: Token,
    errors: Vec<CompileError>,
    panicking: bool,
    nesting: u32,
    /// Nothing more is parsed, nor reported.
    given_up: bool,
    scopes: Vec<Scope<'s>>,
    classes: Vec<ClassScope>,
}

/// A class that is being parsed.
struct ClassScope {
    has_superclass: bool,
    /// Names of the fields that its methods set.
    fields: Vec<u32>,
}

/// Parses a whole script.
pub(crate) fn parse(source: &[u8], names: &mut Names) -> Result<Function, Vec<CompileError>> {
    let scanner = Scanner::new(source);
    let nothing = Token { kind: Kind::End, at: At::default() };
    let mut parser = Parser {
        scanner,
        names,
        current: nothing,
        previous: nothing,
        errors: Vec::new(),
        panicking: false,
        nesting: 0,
        given_up: false,
        scopes: Vec::new(),
        classes: Vec::new(),
    };
    parser.begin_function(FunctionKind::Script);
    parser.advance();
    let mut body = Vec::new();
    while !parser.matches(Kind::End) {
        parser.declaration(&mut body);
    }
    let function = parser.end_function(None, Vec::new(), body);
    if parser.errors.is_empty() { Ok(function) } else { Err(parser.errors) }
}

impl<'s> Parser<'s, '_> {
    // Tokens and errors.

    fn error_at(&mut self, token: Token, message: &'static str) {
        if self.panicking || self.given_up {
            return;
        }
        self.panicking = true;
        let place = match token.kind {
            Kind::End => ErrorPlace::End,
            Kind::Error(_) => ErrorPlace::Nowhere,
            _ => ErrorPlace::Token(self.scanner.text(token.at).to_vec()),
        };
        self.errors.push(CompileError { at: token.at, place, message });
    }

    fn error(&mut self, message: &'static str) {
        self.error_at(self.previous, message);
    }

    fn error_at_current(&mut self, message: &'static str) {
        self.error_at(self.current, message);
    }

    fn advance(&mut self) {
        self.previous = self.current;
        if self.given_up {
            return;
        }
        loop {
            self.current = self.scanner.next();
            let Kind::Error(message) = self.current.kind else { return };
            self.error_at_current(message);
        }
    }

    /// Parses what is one deeper; where that is too deep, the source ends here.
    #[inline(always)]
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.nesting == DEEPEST {
            self.error_at_current("Too deeply nested.");
            self.given_up = true;
            self.current.kind = Kind::End;
            return None;
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        Some(parsed)
    }

    fn consume(&mut self, kind: Kind, message: &'static str) {
        if !self.matches(kind) {
            self.error_at_current(message);
        }
    }

    fn check(&self, kind: Kind) -> bool {
        self.current.kind == kind
    }

    fn matches(&mut self, kind: Kind) -> bool {
        let found = self.check(kind);
        if found {
            self.advance();
        }
        found
    }

    fn previous_text(&self) -> &'s [u8] {
        self.scanner.text(self.previous.at)
    }

    // The book's bytecode, counted.

    fn scope(&mut self) -> &mut Scope<'s> {
        self.scopes.last_mut().expect("a function is being parsed")
    }

    fn emit(&mut self, bytes: usize) {
        self.scope().bytes += bytes;
    }

    fn constant(&mut self) {
        self.scope().constants += 1;
        if self.scope().constants > MOST {
            self.error("Too many constants in one chunk.");
        }
    }

    /// Counts a jump; what `patch_jump` wants to know.
    fn emit_jump(&mut self) -> usize {
        self.emit(3);
        self.scope().bytes - 2
    }

    fn patch_jump(&mut self, from: usize) {
        if self.scope().bytes - from - 2 > usize::from(u16::MAX) {
            self.error("Too much code to jump over.");
        }
    }

    fn emit_loop(&mut self, start: usize) {
        self.emit(1);
        if self.scope().bytes - start + 2 > usize::from(u16::MAX) {
            self.error("Loop body too large.");
        }
        self.emit(2);
    }

    // Functions and their variables.

    fn begin_function(&mut self, kind: FunctionKind) {
        let name: &[u8] = if kind == FunctionKind::Function { b"" } else { b"this" };
        let callee = Local { name, depth: Some(0), var: 0 };
        self.scopes.push(Scope {
            kind,
            locals: vec![callee],
            depth: 0,
            captures: Vec::new(),
            captured: vec![false],
            bytes: 0,
            constants: 0,
        });
    }

    fn end_function(&mut self, name: Option<&[u8]>, params: Vec<VarId>, body: Vec<super::ast::Stmt>) -> Function {
        let scope = self.scopes.pop().expect("a function is being parsed");
        Function {
            kind: scope.kind,
            name: name.map(Into::into),
            params,
            captures: scope.captures,
            captured: scope.captured,
            body,
            end: self.previous.at,
        }
    }

    fn begin_block(&mut self) {
        self.scope().depth += 1;
    }

    fn end_block(&mut self) {
        let scope = self.scope();
        scope.depth -= 1;
        while scope.locals.last().is_some_and(|local| local.depth.is_none_or(|depth| depth > scope.depth)) {
            scope.bytes += 1;
            scope.locals.pop();
        }
    }

    fn add_local(&mut self, name: &'s [u8]) -> VarId {
        if self.scope().locals.len() == MOST {
            self.error("Too many local variables in function.");
            return 0;
        }
        let scope = self.scope();
        let var = scope.captured.len() as VarId;
        scope.captured.push(false);
        scope.locals.push(Local { name, depth: None, var });
        var
    }

    /// Declares the name just read; `None` outside of all blocks.
    fn declare_variable(&mut self) -> Option<VarId> {
        if self.scope().depth == 0 {
            return None;
        }
        let name = self.previous_text();
        let scope = self.scope();
        let here = scope.depth;
        let block = scope.locals.iter().rev().take_while(|local| local.depth.is_none_or(|depth| depth >= here));
        let taken = block.filter(|local| local.name == name).count();
        for _ in 0..taken {
            self.error("Already a variable with this name in this scope.");
        }
        Some(self.add_local(name))
    }

    fn parse_variable(&mut self, message: &'static str) -> Target {
        self.consume(Kind::Identifier, message);
        match self.declare_variable() {
            Some(var) => Target::Local(var),
            None => Target::Global(self.global_constant()),
        }
    }

    /// A global by the name just read, which is a constant of the chunk.
    fn global_constant(&mut self) -> u32 {
        self.constant();
        self.names.global(self.previous_text())
    }

    /// A property's name, just read.
    fn property_constant(&mut self) -> u32 {
        self.constant();
        self.names.symbol(self.previous_text())
    }

    fn mark_initialized(&mut self) {
        let scope = self.scope();
        if scope.depth > 0
            && let Some(last) = scope.locals.last_mut()
        {
            last.depth = Some(scope.depth);
        }
    }

    fn define_variable(&mut self, target: Target) {
        match target {
            Target::Local(_) => self.mark_initialized(),
            Target::Global(_) => self.emit(2),
        }
    }

    fn resolve_local(&mut self, scope: usize, name: &[u8]) -> Option<VarId> {
        let local = self.scopes[scope].locals.iter().rev().find(|local| local.name == name)?;
        let (var, ready) = (local.var, local.depth.is_some());
        if !ready {
            self.error("Can't read local variable in its own initializer.");
        }
        Some(var)
    }

    fn resolve_upvalue(&mut self, scope: usize, name: &[u8]) -> Option<u8> {
        let outer = scope.checked_sub(1)?;
        if let Some(var) = self.resolve_local(outer, name) {
            self.scopes[outer].captured[var as usize] = true;
            return Some(self.add_capture(scope, Captured::Local(var)));
        }
        let upvalue = self.resolve_upvalue(outer, name)?;
        Some(self.add_capture(scope, Captured::Upvalue(upvalue)))
    }

    fn add_capture(&mut self, scope: usize, captured: Captured) -> u8 {
        let captures = &mut self.scopes[scope].captures;
        if let Some(known) = captures.iter().position(|&c| c == captured) {
            return known as u8;
        }
        if captures.len() == MOST {
            self.error("Too many closure variables in function.");
            return 0;
        }
        captures.push(captured);
        (captures.len() - 1) as u8
    }

    /// Where a name is found, and what it costs the book's chunk. `word`: the source's own, for a
    /// global.
    fn resolve(&mut self, name: &[u8]) -> Place {
        let scope = self.scopes.len() - 1;
        let place = if let Some(var) = self.resolve_local(scope, name) {
            Place::Local(var)
        } else if let Some(upvalue) = self.resolve_upvalue(scope, name) {
            Place::Upvalue(upvalue)
        } else {
            self.constant();
            Place::Global(self.names.global(name))
        };
        self.emit(2);
        place
    }

    /// Reads a variable that the source does not name here.
    fn implied_variable(&mut self, name: &[u8]) -> Expr {
        let place = self.resolve(name);
        self.node(ExprKind::Get(place))
    }
}
