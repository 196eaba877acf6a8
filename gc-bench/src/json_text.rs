//! A small JSON parser that builds nothing itself: it tells a [`Sink`] what it reads.
//!
//! RFC 8259, as strict as serde_json: no trailing commas, no control characters in strings, no lone
//! surrogates.

use std::fmt;

/// What listens to the parser. Containers are told when they end, with the number of their values
/// (an object's: of its pairs; each key comes as a string of its own right before its value).
pub(crate) trait Sink {
    type Error;
    fn null(&mut self) -> Result<(), Self::Error>;
    fn bool(&mut self, value: bool) -> Result<(), Self::Error>;
    fn number(&mut self, value: f64) -> Result<(), Self::Error>;
    fn string(&mut self, value: &str) -> Result<(), Self::Error>;
    fn key(&mut self, value: &str) -> Result<(), Self::Error>;
    fn array(&mut self, values: usize) -> Result<(), Self::Error>;
    fn object(&mut self, pairs: usize) -> Result<(), Self::Error>;
}

/// Where and why a text is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) what: &'static str,
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

/// Why parsing stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop<E> {
    Syntax(SyntaxError),
    /// The sink refused.
    Sink(E),
}

/// Containers within containers; serde_json draws the line at the same place.
pub(crate) const MAX_DEPTH: usize = 127;

/// Parses a whole text.
pub(crate) fn parse<S: Sink>(text: &str, sink: &mut S) -> Result<(), Stop<S::Error>> {
    Parser { text, bytes: text.as_bytes(), at: 0, scratch: String::new() }.document(sink)
}

/// The place of byte `at` in `text`, as an error says it.
pub(crate) fn error_at(text: &[u8], at: usize, what: &'static str) -> SyntaxError {
    let before = &text[..at.min(text.len())];
    let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    // Bytes that begin a character.
    let column = before[line_start..].iter().filter(|&&b| b & 0xc0 != 0x80).count() + 1;
    SyntaxError { what, line: before.iter().filter(|&&b| b == b'\n').count() + 1, column }
}

struct Parser<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    /// Strings with escapes are put together here.
    scratch: String,
}

/// A container that has begun.
struct Open {
    object: bool,
    values: usize,
}

type Found<T, E> = Result<T, Stop<E>>;

impl Parser<'_> {
    fn fail<T, E>(&self, what: &'static str) -> Found<T, E> {
        self.fail_at(self.at, what)
    }

    fn fail_at<T, E>(&self, at: usize, what: &'static str) -> Found<T, E> {
        Err(Stop::Syntax(error_at(self.bytes, at, what)))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// The next byte that is not space, without taking it.
    fn next(&mut self) -> Option<u8> {
        self.space();
        self.peek()
    }

    fn document<S: Sink>(&mut self, sink: &mut S) -> Found<(), S::Error> {
        // Containers are kept here and not on the call stack: a deep text is an error and not a
        // crash.
        let mut open: Vec<Open> = Vec::new();
        'value: loop {
            match self.next() {
                Some(begin @ (b'[' | b'{')) => {
                    if open.len() == MAX_DEPTH {
                        return self.fail("nested deeper than 127 levels");
                    }
                    self.at += 1;
                    let object = begin == b'{';
                    let end = if object { b'}' } else { b']' };
                    if self.next() != Some(end) {
                        open.push(Open { object, values: 0 });
                        if object {
                            self.key(sink)?;
                        }
                        continue 'value;
                    }
                    self.at += 1;
                    if object { sink.object(0) } else { sink.array(0) }.map_err(Stop::Sink)?;
                }
                _ => self.scalar(sink)?,
            }
            // A value has ended; so may the containers around it.
            loop {
                let Some(container) = open.last_mut() else {
                    return match self.next() {
                        None => Ok(()),
                        Some(_) => self.fail("something follows the document"),
                    };
                };
                container.values += 1;
                let (object, values) = (container.object, container.values);
                match (self.next(), object) {
                    (Some(b','), _) => {
                        self.at += 1;
                        if object {
                            self.next();
                            self.key(sink)?;
                        }
                        continue 'value;
                    }
                    (Some(b'}'), true) => sink.object(values).map_err(Stop::Sink)?,
                    (Some(b']'), false) => sink.array(values).map_err(Stop::Sink)?,
                    (None, _) => return self.fail("the text ends within a container"),
                    (_, true) => return self.fail("`,` or `}` expected"),
                    (_, false) => return self.fail("`,` or `]` expected"),
                }
                self.at += 1;
                open.pop();
            }
        }
    }

    fn key<S: Sink>(&mut self, sink: &mut S) -> Found<(), S::Error> {
        if self.peek() != Some(b'"') {
            return self.fail("a key in quotes expected");
        }
        let key = self.string()?;
        sink.key(key).map_err(Stop::Sink)?;
        if self.next() != Some(b':') {
            return self.fail("`:` expected");
        }
        self.at += 1;
        Ok(())
    }

    fn scalar<S: Sink>(&mut self, sink: &mut S) -> Found<(), S::Error> {
        match self.peek() {
            Some(b'"') => {
                let string = self.string()?;
                sink.string(string)
            }
            Some(b'-' | b'0'..=b'9') => {
                let number = self.number()?;
                sink.number(number)
            }
            Some(b't') => {
                self.word("true")?;
                sink.bool(true)
            }
            Some(b'f') => {
                self.word("false")?;
                sink.bool(false)
            }
            Some(b'n') => {
                self.word("null")?;
                sink.null()
            }
            Some(_) => return self.fail("a value expected"),
            None => return self.fail("the text ends where a value is expected"),
        }
        .map_err(Stop::Sink)
    }

    fn word<E>(&mut self, word: &str) -> Found<(), E> {
        if !self.text[self.at..].starts_with(word) {
            return self.fail("a value expected");
        }
        self.at += word.len();
        Ok(())
    }

    fn digits<E>(&mut self) -> Found<(), E> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.fail("a digit expected");
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number<E>(&mut self) -> Found<f64, E> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return self.fail("a number does not begin with 0");
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        match self.text[start..self.at].parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => self.fail_at(start, "a number out of range"),
        }
    }

    /// A string, from its quote on.
    fn string<E>(&mut self) -> Found<&str, E> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(&self.text[start..self.at - 1]);
                }
                Some(b'\\') => return self.string_with_escapes(start),
                Some(0..0x20) => return self.fail("a control character within a string"),
                Some(_) => self.at += 1,
                None => return self.fail("the text ends within a string"),
            }
        }
    }

    fn string_with_escapes<E>(&mut self, start: usize) -> Found<&str, E> {
        self.scratch.clear();
        let mut plain = start;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.scratch.push_str(&self.text[plain..self.at]);
                    self.at += 1;
                    return Ok(&self.scratch);
                }
                Some(b'\\') => {
                    self.scratch.push_str(&self.text[plain..self.at]);
                    let c = self.escape()?;
                    self.scratch.push(c);
                    plain = self.at;
                }
                Some(0..0x20) => return self.fail("a control character within a string"),
                Some(_) => self.at += 1,
                None => return self.fail("the text ends within a string"),
            }
        }
    }

    fn escape<E>(&mut self) -> Found<char, E> {
        let start = self.at;
        self.at += 2;
        Ok(match self.bytes.get(start + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex()?;
                let code = match first {
                    0xd800..0xdc00 if self.text[self.at..].starts_with("\\u") => {
                        self.at += 2;
                        let second = self.hex()?;
                        if !(0xdc00..0xe000).contains(&second) {
                            return self.fail_at(start, "half of a surrogate pair");
                        }
                        0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    _ => first,
                };
                match char::from_u32(code) {
                    Some(c) => c,
                    None => return self.fail_at(start, "half of a surrogate pair"),
                }
            }
            _ => return self.fail_at(start, "an unknown escape"),
        })
    }

    fn hex<E>(&mut self) -> Found<u32, E> {
        let digits = self.bytes.get(self.at..self.at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else { return self.fail("four hexadecimal digits expected") };
        let code = digits.iter().fold(0, |code, &d| code * 16 + (d as char).to_digit(16).unwrap_or(0));
        self.at += 4;
        Ok(code)
    }
}

/// What is in a document, and what it would be in a heap.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Census {
    /// Values of every sort; keys are not counted.
    pub(crate) nodes: u64,
    /// Bytes of the objects that hold it in the heap.
    pub(crate) heap_bytes: u64,
}

impl Census {
    /// Counts a whole text.
    pub(crate) fn of(text: &str) -> Result<Self, SyntaxError> {
        let mut census = Self::default();
        match parse(text, &mut census) {
            Ok(()) => Ok(census),
            Err(Stop::Syntax(e)) => Err(e),
            Err(Stop::Sink(never)) => match never {},
        }
    }

    fn node(&mut self, tail_bytes: Option<usize>) -> Result<(), std::convert::Infallible> {
        self.nodes += 1;
        // Header, length, and the tail in whole words.
        self.heap_bytes += tail_bytes.map_or(0, |n| 16 + n.next_multiple_of(8) as u64);
        Ok(())
    }
}

impl Sink for Census {
    type Error = std::convert::Infallible;

    fn null(&mut self) -> Result<(), Self::Error> {
        self.node(None)
    }

    fn bool(&mut self, _: bool) -> Result<(), Self::Error> {
        self.node(None)
    }

    fn number(&mut self, _: f64) -> Result<(), Self::Error> {
        self.node(None)
    }

    fn string(&mut self, value: &str) -> Result<(), Self::Error> {
        self.node(Some(value.len()))
    }

    fn key(&mut self, value: &str) -> Result<(), Self::Error> {
        self.node(Some(value.len()))?;
        self.nodes -= 1;
        Ok(())
    }

    fn array(&mut self, values: usize) -> Result<(), Self::Error> {
        self.node(Some(8 * values))
    }

    fn object(&mut self, pairs: usize) -> Result<(), Self::Error> {
        self.node(Some(16 * pairs))
    }
}

#[cfg(test)]
mod tests;
