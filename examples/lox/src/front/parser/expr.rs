//! Expressions.

use super::super::ast::{Arithmetic, Comparison, Expr, ExprKind, Place};
use super::super::scanner::Kind;
use super::{MOST, Parser};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precedence {
    None,
    Assignment,
    Or,
    And,
    Equality,
    Comparison,
    Term,
    Factor,
    Unary,
    Call,
}

fn infix_precedence(kind: Kind) -> Precedence {
    match kind {
        Kind::LeftParen | Kind::Dot => Precedence::Call,
        Kind::Minus | Kind::Plus => Precedence::Term,
        Kind::Slash | Kind::Star => Precedence::Factor,
        Kind::BangEqual | Kind::EqualEqual => Precedence::Equality,
        Kind::Greater | Kind::GreaterEqual | Kind::Less | Kind::LessEqual => Precedence::Comparison,
        Kind::And => Precedence::And,
        Kind::Or => Precedence::Or,
        _ => Precedence::None,
    }
}

impl Parser<'_, '_> {
    /// An operation whose errors name the token just read.
    pub(super) fn node(&self, kind: ExprKind) -> Expr {
        let any = |exprs: &[Expr]| exprs.iter().any(|expr| expr.assigns);
        let assigns = match &kind {
            ExprKind::Nil | ExprKind::Bool(_) | ExprKind::Num(_) | ExprKind::Str(_) | ExprKind::Get(_) => false,
            ExprKind::Assign(place, value) => matches!(place, Place::Local(_)) || value.assigns,
            ExprKind::Not(a) | ExprKind::Negate(a) | ExprKind::Property(a, _) => a.assigns,
            ExprKind::Arithmetic(_, a, b)
            | ExprKind::Comparison(_, a, b)
            | ExprKind::And(a, b)
            | ExprKind::Or(a, b)
            | ExprKind::SetProperty(a, _, b) => a.assigns || b.assigns,
            ExprKind::Call(a, arguments) | ExprKind::Invoke(a, _, arguments) => a.assigns || any(arguments),
            ExprKind::SuperProperty(..) => false,
            ExprKind::SuperInvoke(_, _, _, arguments) => any(arguments),
        };
        Expr { kind, at: self.previous.at, assigns }
    }

    pub(super) fn expression(&mut self) -> Expr {
        self.precedence(Precedence::Assignment)
    }

    fn precedence(&mut self, least: Precedence) -> Expr {
        self.nested(|this| this.precedence_here(least)).unwrap_or_else(|| self.node(ExprKind::Nil))
    }

    fn precedence_here(&mut self, least: Precedence) -> Expr {
        self.advance();
        let can_assign = least <= Precedence::Assignment;
        let Some(mut expr) = self.prefix(can_assign) else {
            self.error("Expect expression.");
            return self.node(ExprKind::Nil);
        };
        while infix_precedence(self.current.kind) >= least {
            self.advance();
            expr = self.infix(expr, can_assign);
        }
        if can_assign && self.matches(Kind::Equal) {
            self.error("Invalid assignment target.");
        }
        expr
    }

    fn prefix(&mut self, can_assign: bool) -> Option<Expr> {
        Some(match self.previous.kind {
            Kind::LeftParen => {
                let inner = self.expression();
                self.consume(Kind::RightParen, "Expect ')' after expression.");
                inner
            }
            Kind::Minus => {
                let operand = Box::new(self.precedence(Precedence::Unary));
                self.emit(1);
                self.node(ExprKind::Negate(operand))
            }
            Kind::Bang => {
                let operand = Box::new(self.precedence(Precedence::Unary));
                self.emit(1);
                self.node(ExprKind::Not(operand))
            }
            Kind::Identifier => self.variable(can_assign),
            Kind::String => {
                let text = self.previous_text();
                let text = text[1..text.len() - 1].into();
                self.emit(2);
                self.constant();
                self.node(ExprKind::Str(text))
            }
            Kind::Number => {
                // Digits, perhaps a dot and digits: always a number.
                let text = std::str::from_utf8(self.previous_text()).unwrap_or_default();
                let number = text.parse().unwrap_or(f64::NAN);
                self.emit(2);
                self.constant();
                self.node(ExprKind::Num(number))
            }
            Kind::False => self.literal(ExprKind::Bool(false)),
            Kind::True => self.literal(ExprKind::Bool(true)),
            Kind::Nil => self.literal(ExprKind::Nil),
            Kind::This => {
                if self.classes.is_empty() {
                    self.error("Can't use 'this' outside of a class.");
                    self.node(ExprKind::Nil)
                } else {
                    self.variable(false)
                }
            }
            Kind::Super => self.super_(),
            _ => return None,
        })
    }

    fn literal(&mut self, kind: ExprKind) -> Expr {
        self.emit(1);
        self.node(kind)
    }

    fn infix(&mut self, left: Expr, can_assign: bool) -> Expr {
        let left = Box::new(left);
        match self.previous.kind {
            Kind::LeftParen => {
                let arguments = self.arguments();
                self.emit(2);
                self.node(ExprKind::Call(left, arguments))
            }
            Kind::Dot => self.dot(left, can_assign),
            Kind::And => {
                let end = self.emit_jump();
                self.emit(1);
                let right = Box::new(self.precedence(Precedence::And));
                self.patch_jump(end);
                self.node(ExprKind::And(left, right))
            }
            Kind::Or => {
                let otherwise = self.emit_jump();
                let end = self.emit_jump();
                self.patch_jump(otherwise);
                self.emit(1);
                let right = Box::new(self.precedence(Precedence::Or));
                self.patch_jump(end);
                self.node(ExprKind::Or(left, right))
            }
            operator => self.binary(operator, left),
        }
    }

    fn binary(&mut self, operator: Kind, left: Box<Expr>) -> Expr {
        let above = match infix_precedence(operator) {
            Precedence::Equality => Precedence::Comparison,
            Precedence::Comparison => Precedence::Term,
            Precedence::Term => Precedence::Factor,
            _ => Precedence::Unary,
        };
        let right = Box::new(self.precedence(above));
        let arithmetic = match operator {
            Kind::Plus => Some(Arithmetic::Add),
            Kind::Minus => Some(Arithmetic::Subtract),
            Kind::Star => Some(Arithmetic::Multiply),
            Kind::Slash => Some(Arithmetic::Divide),
            _ => None,
        };
        if let Some(arithmetic) = arithmetic {
            self.emit(1);
            return self.node(ExprKind::Arithmetic(arithmetic, left, right));
        }
        let (comparison, bytes) = match operator {
            Kind::BangEqual => (Comparison::NotEqual, 2),
            Kind::EqualEqual => (Comparison::Equal, 1),
            Kind::Greater => (Comparison::Greater, 1),
            Kind::GreaterEqual => (Comparison::NotLess, 2),
            Kind::Less => (Comparison::Less, 1),
            _ => (Comparison::NotGreater, 2),
        };
        self.emit(bytes);
        self.node(ExprKind::Comparison(comparison, left, right))
    }

    fn arguments(&mut self) -> Vec<Expr> {
        let mut arguments = Vec::new();
        if !self.check(Kind::RightParen) {
            loop {
                let argument = self.expression();
                if arguments.len() == MOST - 1 {
                    self.error("Can't have more than 255 arguments.");
                } else {
                    arguments.push(argument);
                }
                if !self.matches(Kind::Comma) {
                    break;
                }
            }
        }
        self.consume(Kind::RightParen, "Expect ')' after arguments.");
        arguments
    }

    fn dot(&mut self, object: Box<Expr>, can_assign: bool) -> Expr {
        self.consume(Kind::Identifier, "Expect property name after '.'.");
        let name = self.property_constant();
        if can_assign && self.matches(Kind::Equal) {
            if self.scanner.text(object.at) == b"this"
                && let Some(class) = self.classes.last_mut()
                && !class.fields.contains(&name)
            {
                class.fields.push(name);
            }
            let value = Box::new(self.expression());
            self.emit(2);
            self.node(ExprKind::SetProperty(object, name, value))
        } else if self.matches(Kind::LeftParen) {
            let arguments = self.arguments();
            self.emit(3);
            self.node(ExprKind::Invoke(object, name, arguments))
        } else {
            self.emit(2);
            self.node(ExprKind::Property(object, name))
        }
    }

    pub(super) fn variable(&mut self, can_assign: bool) -> Expr {
        let place = self.resolve(self.previous_text());
        if can_assign && self.matches(Kind::Equal) {
            let value = Box::new(self.expression());
            return self.node(ExprKind::Assign(place, value));
        }
        self.node(ExprKind::Get(place))
    }

    fn super_(&mut self) -> Expr {
        match self.classes.last() {
            None => self.error("Can't use 'super' outside of a class."),
            Some(class) if !class.has_superclass => self.error("Can't use 'super' in a class with no superclass."),
            Some(_) => {}
        }
        self.consume(Kind::Dot, "Expect '.' after 'super'.");
        self.consume(Kind::Identifier, "Expect superclass method name.");
        let name = self.property_constant();
        let this = Box::new(self.implied_variable(b"this"));
        if self.matches(Kind::LeftParen) {
            let arguments = self.arguments();
            let superclass = Box::new(self.implied_variable(b"super"));
            self.emit(3);
            self.node(ExprKind::SuperInvoke(this, superclass, name, arguments))
        } else {
            let superclass = Box::new(self.implied_variable(b"super"));
            self.emit(2);
            self.node(ExprKind::SuperProperty(this, superclass, name))
        }
    }
}
