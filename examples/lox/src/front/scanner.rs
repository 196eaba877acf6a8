//! Tokens of the source.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    Comma,
    Dot,
    Minus,
    Plus,
    Semicolon,
    Slash,
    Star,
    Bang,
    BangEqual,
    Equal,
    EqualEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Identifier,
    String,
    Number,
    And,
    Class,
    Else,
    False,
    For,
    Fun,
    If,
    Nil,
    Or,
    Print,
    Return,
    Super,
    This,
    True,
    Var,
    While,
    /// No token: what is wrong.
    Error(&'static str),
    End,
}

/// A place in the source: the line that messages give (the book's: where a token ends), and the
/// bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) line: u32,
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// A token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) at: At,
}

/// Reads tokens one after the other. A NUL ends the source, as it does in C.
pub(crate) struct Scanner<'s> {
    source: &'s [u8],
    start: usize,
    current: usize,
    line: u32,
}

impl<'s> Scanner<'s> {
    pub(crate) fn new(source: &'s [u8]) -> Scanner<'s> {
        let end = source.iter().position(|&byte| byte == 0).unwrap_or(source.len());
        Scanner { source: &source[..end], start: 0, current: 0, line: 1 }
    }

    /// The text of a token.
    pub(crate) fn text(&self, at: At) -> &'s [u8] {
        &self.source[at.start as usize..][..at.len as usize]
    }

    fn peek(&self) -> u8 {
        self.source.get(self.current).copied().unwrap_or(0)
    }

    fn peek_next(&self) -> u8 {
        self.source.get(self.current + 1).copied().unwrap_or(0)
    }

    fn is_at_end(&self) -> bool {
        self.current >= self.source.len()
    }

    fn matches(&mut self, expected: u8) -> bool {
        let found = self.peek() == expected;
        self.current += usize::from(found);
        found
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek() {
                b' ' | b'\r' | b'\t' => self.current += 1,
                b'\n' => {
                    self.line += 1;
                    self.current += 1;
                }
                b'/' if self.peek_next() == b'/' => {
                    while !self.is_at_end() && self.peek() != b'\n' {
                        self.current += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn token(&self, kind: Kind) -> Token {
        let at = At { line: self.line, start: self.start as u32, len: (self.current - self.start) as u32 };
        Token { kind, at }
    }

    pub(crate) fn next(&mut self) -> Token {
        self.skip_blanks();
        self.start = self.current;
        if self.is_at_end() {
            return self.token(Kind::End);
        }
        let byte = self.peek();
        self.current += 1;
        let kind = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.identifier(),
            b'0'..=b'9' => self.number(),
            b'(' => Kind::LeftParen,
            b')' => Kind::RightParen,
            b'{' => Kind::LeftBrace,
            b'}' => Kind::RightBrace,
            b';' => Kind::Semicolon,
            b',' => Kind::Comma,
            b'.' => Kind::Dot,
            b'-' => Kind::Minus,
            b'+' => Kind::Plus,
            b'/' => Kind::Slash,
            b'*' => Kind::Star,
            b'!' => self.either(Kind::BangEqual, Kind::Bang),
            b'=' => self.either(Kind::EqualEqual, Kind::Equal),
            b'<' => self.either(Kind::LessEqual, Kind::Less),
            b'>' => self.either(Kind::GreaterEqual, Kind::Greater),
            b'"' => self.string(),
            _ => Kind::Error("Unexpected character."),
        };
        self.token(kind)
    }

    fn either(&mut self, with_equal: Kind, without: Kind) -> Kind {
        if self.matches(b'=') { with_equal } else { without }
    }

    fn identifier(&mut self) -> Kind {
        while self.peek().is_ascii_alphanumeric() || self.peek() == b'_' {
            self.current += 1;
        }
        match &self.source[self.start..self.current] {
            b"and" => Kind::And,
            b"class" => Kind::Class,
            b"else" => Kind::Else,
            b"false" => Kind::False,
            b"for" => Kind::For,
            b"fun" => Kind::Fun,
            b"if" => Kind::If,
            b"nil" => Kind::Nil,
            b"or" => Kind::Or,
            b"print" => Kind::Print,
            b"return" => Kind::Return,
            b"super" => Kind::Super,
            b"this" => Kind::This,
            b"true" => Kind::True,
            b"var" => Kind::Var,
            b"while" => Kind::While,
            _ => Kind::Identifier,
        }
    }

    fn number(&mut self) -> Kind {
        while self.peek().is_ascii_digit() {
            self.current += 1;
        }
        if self.peek() == b'.' && self.peek_next().is_ascii_digit() {
            self.current += 1;
            while self.peek().is_ascii_digit() {
                self.current += 1;
            }
        }
        Kind::Number
    }

    fn string(&mut self) -> Kind {
        while !self.is_at_end() && self.peek() != b'"' {
            self.line += u32::from(self.peek() == b'\n');
            self.current += 1;
        }
        if self.is_at_end() {
            return Kind::Error("Unterminated string.");
        }
        self.current += 1;
        Kind::String
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<Kind> {
        let mut scanner = Scanner::new(source.as_bytes());
        let mut kinds = Vec::new();
        loop {
            match scanner.next().kind {
                Kind::End => return kinds,
                kind => kinds.push(kind),
            }
        }
    }

    #[test]
    fn numbers_have_digits_on_both_sides_of_the_dot() {
        assert_eq!(kinds("1.5"), [Kind::Number]);
        assert_eq!(kinds("1."), [Kind::Number, Kind::Dot]);
        assert_eq!(kinds(".5"), [Kind::Dot, Kind::Number]);
        assert_eq!(kinds("1.a"), [Kind::Number, Kind::Dot, Kind::Identifier]);
    }

    #[test]
    fn a_keyword_is_the_whole_word() {
        assert_eq!(kinds("or orchid _or or1"), [Kind::Or, Kind::Identifier, Kind::Identifier, Kind::Identifier]);
    }

    #[test]
    fn a_string_gives_the_line_of_its_end() {
        let mut scanner = Scanner::new(b"\n\"a\nb\" c");
        assert_eq!(scanner.next().at.line, 3);
        assert_eq!(scanner.next().at.line, 3);
    }

    #[test]
    fn a_nul_ends_the_source() {
        assert_eq!(kinds("a\0b"), [Kind::Identifier]);
        assert_eq!(kinds("\"a\0b\""), [Kind::Error("Unterminated string.")]);
    }
}
