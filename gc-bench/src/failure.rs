//! Failures of the bench: one line on standard error, and one of three exit codes.

use std::fmt;

/// Why the bench stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request is impossible: exit code 2, and nothing was run.
    Input(String),
    /// A run was started and went wrong: exit code 1.
    Run(String),
    /// A comparison found that something is worse than it was said that it may be: exit code 3.
    Worse(String),
}

impl Failure {
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }

    pub(crate) fn run(message: impl Into<String>) -> Self {
        Self::Run(message.into())
    }

    /// Of a command line that clap refuses: it prints several paragraphs, of which the error and
    /// the hint are kept, and the usage is left to `--help`.
    pub(crate) fn of_command_line(error: &clap::Error) -> Self {
        let (error, mut parts) = (error.to_string(), Vec::new());
        for line in error.lines().map(str::trim) {
            if line.starts_with("Usage:") || line.starts_with("For more information") {
                break;
            }
            if !line.is_empty() {
                parts.push(line.strip_prefix("error: ").unwrap_or(line));
            }
        }
        Self::Input(format!("{} (gc-bench --help explains)", parts.join(" ")))
    }

    /// The process's exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Input(_) => 2,
            Self::Run(_) => 1,
            Self::Worse(_) => 3,
        }
    }

    /// The message as one line, whatever a lower layer put into it.
    pub(crate) fn line(&self) -> String {
        let (Self::Input(text) | Self::Run(text) | Self::Worse(text)) = self;
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_the_code_tells_whose_fault_it_was() {
        let bad = Failure::input("no such\n  file\r\n");
        assert_eq!(bad.to_string(), "no such file");
        assert_eq!(bad.code(), 2);
        assert_eq!((Failure::run("x").code(), Failure::Worse("x".into()).code()), (1, 3));
    }
}
