//! Error messages, on standard error: as the book has them, or with excerpts of the source.

use crate::code::Source;
use crate::front::parser::{CompileError, ErrorPlace};
use crate::front::scanner::At;
use crate::vm::RuntimeError;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::io::Write;

/// Where messages go, and how they look.
pub(crate) struct Reporter {
    pub(crate) excerpts: bool,
}

impl Reporter {
    pub(crate) fn compile_errors(&self, source: &Source, errors: &[CompileError]) {
        let mut text = Vec::new();
        for error in errors {
            if self.excerpts {
                text.extend(excerpt(source, error.at, error.message, &[]).into_bytes());
                continue;
            }
            text.extend(format!("[line {}] Error", error.at.line).into_bytes());
            match &error.place {
                ErrorPlace::Token(token) => [b" at '", token.as_slice(), b"'"].iter().for_each(|s| text.extend(*s)),
                ErrorPlace::End => text.extend(b" at end"),
                ErrorPlace::Nowhere => {}
            }
            text.extend(format!(": {}\n", error.message).into_bytes());
        }
        write(&text);
    }

    /// A thread could not begin.
    pub(crate) fn thread_failed(&self, error: &dyn std::fmt::Display) {
        write(format!("A thread has failed: {error}.\n").as_bytes());
    }

    pub(crate) fn runtime_error(&self, error: &RuntimeError) {
        let lines = error.trace.iter().map(|call| match &call.function {
            None => format!("[line {}] in script", call.at.line),
            Some(name) => format!("[line {}] in {name}()", call.at.line),
        });
        match error.trace.first() {
            Some(innermost) if self.excerpts => {
                let lines: Vec<String> = lines.collect();
                write(excerpt(&innermost.source, innermost.at, &error.message, &lines).as_bytes());
            }
            _ => {
                let lines: String = lines.map(|line| line + "\n").collect();
                write(format!("{}\n{lines}", error.message).as_bytes());
            }
        }
    }
}

/// A line on standard error.
pub(crate) fn say(line: &str) {
    write(format!("{line}\n").as_bytes());
}

fn write(text: &[u8]) {
    // Where standard error is full or closed there is nobody to tell.
    let _ = std::io::stderr().lock().write_all(text);
}

/// The message with the piece of source it is about, and notes below.
fn excerpt(source: &Source, at: At, message: &str, notes: &[String]) -> String {
    let text = String::from_utf8_lossy(&source.text);
    // Where the source is not UTF-8, what replaces a byte is longer: the place is moved along.
    let moved = |byte: usize| String::from_utf8_lossy(&source.text[..byte.min(source.text.len())]).len();
    // A token may be one byte of a character: the whole character is shown.
    let inside = |byte: usize| source.text.get(byte).is_some_and(|byte| byte & 0xC0 == 0x80);
    let (mut start, mut end) = (at.start as usize, (at.start + at.len) as usize);
    while inside(start) && start > 0 {
        start -= 1;
    }
    while inside(end) {
        end += 1;
    }
    let boundary =
        |byte: usize| (0..=byte.min(text.len())).rev().find(|&byte| text.is_char_boundary(byte)).unwrap_or(0);
    let (start, end) = (boundary(moved(start)), boundary(moved(end)));
    let annotation = AnnotationKind::Primary.span(start..end.max(start));
    let snippet = Snippet::source(&*text).path(&source.name).annotation(annotation);
    let mut group = Group::with_title(Level::ERROR.primary_title(message)).element(snippet);
    for note in notes {
        group = group.element(Level::NOTE.message(note));
    }
    let mut rendered = Renderer::plain().render(&[group]);
    rendered.push('\n');
    rendered
}
