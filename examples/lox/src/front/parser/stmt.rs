//! Declarations and statements.

use super::super::ast::{Class, Function, FunctionKind, Stmt, Superclass, Target};
use super::super::scanner::Kind;
use super::{ClassScope, Parser};

impl Parser<'_, '_> {
    pub(super) fn declaration(&mut self, out: &mut Vec<Stmt>) {
        let stmt = if self.matches(Kind::Class) {
            self.class()
        } else if self.matches(Kind::Fun) {
            self.fun()
        } else if self.matches(Kind::Var) {
            self.var()
        } else {
            self.statement()
        };
        out.push(stmt);
        if self.panicking {
            self.synchronize();
        }
    }

    fn synchronize(&mut self) {
        self.panicking = false;
        while !self.check(Kind::End) {
            if self.previous.kind == Kind::Semicolon {
                return;
            }
            match self.current.kind {
                Kind::Class
                | Kind::Fun
                | Kind::Var
                | Kind::For
                | Kind::If
                | Kind::While
                | Kind::Print
                | Kind::Return => return,
                _ => self.advance(),
            }
        }
    }

    fn statement(&mut self) -> Stmt {
        self.nested(Self::statement_here).unwrap_or(Stmt::Block(Vec::new()))
    }

    fn statement_here(&mut self) -> Stmt {
        if self.matches(Kind::Print) {
            self.print()
        } else if self.matches(Kind::For) {
            self.for_()
        } else if self.matches(Kind::If) {
            self.if_()
        } else if self.matches(Kind::Return) {
            self.return_()
        } else if self.matches(Kind::While) {
            self.while_()
        } else if self.matches(Kind::LeftBrace) {
            self.begin_block();
            let body = self.block();
            self.end_block();
            Stmt::Block(body)
        } else {
            self.expression_statement()
        }
    }

    fn block(&mut self) -> Vec<Stmt> {
        let mut body = Vec::new();
        self.nested(|this| {
            while !this.check(Kind::RightBrace) && !this.check(Kind::End) {
                this.declaration(&mut body);
            }
        });
        self.consume(Kind::RightBrace, "Expect '}' after block.");
        body
    }

    fn var(&mut self) -> Stmt {
        let target = self.parse_variable("Expect variable name.");
        let value = if self.matches(Kind::Equal) {
            Some(self.expression())
        } else {
            self.emit(1);
            None
        };
        self.consume(Kind::Semicolon, "Expect ';' after variable declaration.");
        self.define_variable(target);
        Stmt::Var(target, value, self.previous.at)
    }

    fn expression_statement(&mut self) -> Stmt {
        let expr = self.expression();
        self.consume(Kind::Semicolon, "Expect ';' after expression.");
        self.emit(1);
        Stmt::Expr(expr)
    }

    fn print(&mut self) -> Stmt {
        let value = self.expression();
        self.consume(Kind::Semicolon, "Expect ';' after value.");
        self.emit(1);
        Stmt::Print(value, self.previous.at)
    }

    fn return_(&mut self) -> Stmt {
        if self.scope().kind == FunctionKind::Script {
            self.error("Can't return from top-level code.");
        }
        let initializer = self.scope().kind == FunctionKind::Initializer;
        if self.matches(Kind::Semicolon) {
            self.emit(if initializer { 3 } else { 2 });
            return Stmt::Return(None, self.previous.at);
        }
        if initializer {
            self.error("Can't return a value from an initializer.");
        }
        let value = self.expression();
        self.consume(Kind::Semicolon, "Expect ';' after return value.");
        self.emit(1);
        Stmt::Return(Some(value), self.previous.at)
    }

    fn if_(&mut self) -> Stmt {
        self.consume(Kind::LeftParen, "Expect '(' after 'if'.");
        let condition = self.expression();
        self.consume(Kind::RightParen, "Expect ')' after condition.");
        let otherwise = self.emit_jump();
        self.emit(1);
        let then = Box::new(self.statement());
        let end = self.emit_jump();
        self.patch_jump(otherwise);
        self.emit(1);
        let other = self.matches(Kind::Else).then(|| Box::new(self.statement()));
        self.patch_jump(end);
        Stmt::If(condition, then, other)
    }

    fn while_(&mut self) -> Stmt {
        let start = self.scope().bytes;
        self.consume(Kind::LeftParen, "Expect '(' after 'while'.");
        let condition = self.expression();
        self.consume(Kind::RightParen, "Expect ')' after condition.");
        let exit = self.emit_jump();
        self.emit(1);
        let body = Box::new(self.statement());
        self.emit_loop(start);
        self.patch_jump(exit);
        self.emit(1);
        Stmt::While(Some(condition), body, None, self.previous.at)
    }

    fn for_(&mut self) -> Stmt {
        self.begin_block();
        self.consume(Kind::LeftParen, "Expect '(' after 'for'.");
        let first = if self.matches(Kind::Semicolon) {
            None
        } else if self.matches(Kind::Var) {
            Some(self.var())
        } else {
            Some(self.expression_statement())
        };
        let mut start = self.scope().bytes;
        let mut exit = None;
        let mut condition = None;
        if !self.matches(Kind::Semicolon) {
            condition = Some(self.expression());
            self.consume(Kind::Semicolon, "Expect ';' after loop condition.");
            exit = Some(self.emit_jump());
            self.emit(1);
        }
        let mut increment = None;
        if !self.matches(Kind::RightParen) {
            let body = self.emit_jump();
            let increment_start = self.scope().bytes;
            increment = Some(self.expression());
            self.emit(1);
            self.consume(Kind::RightParen, "Expect ')' after for clauses.");
            self.emit_loop(start);
            start = increment_start;
            self.patch_jump(body);
        }
        let body = Box::new(self.statement());
        self.emit_loop(start);
        if let Some(exit) = exit {
            self.patch_jump(exit);
            self.emit(1);
        }
        let loop_ = Stmt::While(condition, body, increment, self.previous.at);
        self.end_block();
        Stmt::Block(first.into_iter().chain([loop_]).collect())
    }

    fn fun(&mut self) -> Stmt {
        let target = self.parse_variable("Expect function name.");
        self.mark_initialized();
        let name = self.previous_text();
        let function = Box::new(self.function(FunctionKind::Function, name));
        let at = self.previous.at;
        self.define_variable(target);
        Stmt::Function(target, function, at)
    }

    /// Parameters and body; counts the closure that the function around makes.
    fn function(&mut self, kind: FunctionKind, name: &[u8]) -> Function {
        self.begin_function(kind);
        self.begin_block();
        self.consume(Kind::LeftParen, "Expect '(' after function name.");
        let mut params = Vec::new();
        if !self.check(Kind::RightParen) {
            loop {
                if params.len() == 255 {
                    self.error_at_current("Can't have more than 255 parameters.");
                }
                let param = self.parse_variable("Expect parameter name.");
                self.define_variable(param);
                if let Target::Local(var) = param
                    && params.len() < 255
                {
                    params.push(var);
                }
                if !self.matches(Kind::Comma) {
                    break;
                }
            }
        }
        self.consume(Kind::RightParen, "Expect ')' after parameters.");
        self.consume(Kind::LeftBrace, "Expect '{' before function body.");
        let body = self.block();
        let function = self.end_function(Some(name), params, body);
        self.emit(2);
        self.constant();
        self.emit(2 * function.captures.len());
        function
    }

    fn class(&mut self) -> Stmt {
        self.consume(Kind::Identifier, "Expect class name.");
        let name = self.previous_text();
        self.constant();
        let target = match self.declare_variable() {
            Some(var) => Target::Local(var),
            None => Target::Global(self.names.global(name)),
        };
        self.emit(2);
        let at = self.previous.at;
        self.define_variable(target);

        self.classes.push(ClassScope { has_superclass: false, fields: Vec::new() });
        let mut superclass = None;
        if self.matches(Kind::Less) {
            self.consume(Kind::Identifier, "Expect superclass name.");
            let value = self.variable(false);
            if self.previous_text() == name {
                self.error("A class can't inherit from itself.");
            }
            self.begin_block();
            let var = self.add_local(b"super");
            self.mark_initialized();
            superclass = Some(Superclass { value, var });
            // The book's code reads the class twice: to inherit, and to add methods.
            self.resolve(name);
            self.emit(1);
            if let Some(class) = self.classes.last_mut() {
                class.has_superclass = true;
            }
        }
        self.resolve(name);
        self.consume(Kind::LeftBrace, "Expect '{' before class body.");
        let mut methods = Vec::new();
        while !self.check(Kind::RightBrace) && !self.check(Kind::End) {
            self.consume(Kind::Identifier, "Expect method name.");
            let method = self.previous_text();
            let symbol = self.property_constant();
            let kind = if method == b"init" { FunctionKind::Initializer } else { FunctionKind::Method };
            let function = self.function(kind, method);
            self.emit(2);
            methods.push((symbol, function, self.previous.at));
        }
        self.consume(Kind::RightBrace, "Expect '}' after class body.");
        self.emit(1);
        if superclass.is_some() {
            self.end_block();
        }
        let fields = self.classes.pop().map_or(0, |class| class.fields.len());
        Stmt::Class(Box::new(Class { name: name.into(), target, at, superclass, methods, fields }))
    }
}
