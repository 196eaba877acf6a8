//! From source text to code: scanner, parser, code generator.

pub(crate) mod ast;
pub(crate) mod emit;
pub(crate) mod parser;
pub(crate) mod scanner;
