//! Go: where its toolchain is, and how a run is built.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The toolchain of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Go {
    /// As `go version` names it, without its first two letters: `1.24.4`.
    pub(crate) version: String,
    program: PathBuf,
}

/// The version in what `go version` writes: `go version go1.24.4 linux/amd64`.
fn version(text: &str) -> Option<String> {
    let version = text.strip_prefix("go version ")?.split_whitespace().next()?;
    version.strip_prefix("go").filter(|version| version.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

/// The first version that can be told how much memory to take.
const OLDEST: (u32, u32) = (1, 19);

/// Whether a version is that one or a newer one.
fn is_recent(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST
}

impl Go {
    /// That program, else `go` on the path; or why it cannot be used.
    pub(super) fn find(program: Option<&Path>) -> Result<Self, String> {
        let program = program.unwrap_or(Path::new("go")).to_owned();
        let missing = |why: &dyn std::fmt::Display| {
            let name = program.display();
            format!("there is no usable `{name}` ({why}): install Go, or name its program with --go")
        };
        let said = Command::new(&program).arg("version").output().map_err(|e| missing(&e))?;
        let version = version(&String::from_utf8_lossy(&said.stdout));
        let version = version.ok_or_else(|| missing(&"it does not say its version"))?;
        if !is_recent(&version) {
            return Err(missing(&format_args!("it is {version}, older than {}.{}", OLDEST.0, OLDEST.1)));
        }
        Ok(Self { version, program })
    }

    /// Builds the peer's program.
    pub(super) fn build(&self, source: &Path, program: &Path) -> Result<(), Failure> {
        let output = Command::new(&self.program).args(["build", "-o"]).arg(program).arg(source).output();
        let output = output.map_err(|e| Failure::run(format!("cannot start go: {e}")))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        // A line that begins with `#` names what is built.
        let why = text.lines().find(|line| !line.starts_with('#')).unwrap_or("no message");
        Err(Failure::run(format!("go build: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_third_word() {
        assert_eq!(version("go version go1.24.4 linux/amd64\n").as_deref(), Some("1.24.4"));
        assert_eq!((version("go version devel"), version("1.24"), version("")), (None, None, None));
    }

    #[test]
    fn an_old_version_is_told_from_a_recent_one() {
        for recent in ["1.19", "1.19.8", "1.21rc2", "1.100", "2.0"] {
            assert!(is_recent(recent), "{recent}");
        }
        for old in ["1.18.10", "1.9", "0.30", "1"] {
            assert!(!is_recent(old), "{old}");
        }
    }

    #[test]
    fn what_is_not_there_is_one_line_that_says_what_to_do() {
        for program in ["/nowhere/at/all", "/bin/false", "/bin/echo"] {
            let line = Go::find(Some(Path::new(program))).unwrap_err();
            assert!(line.contains(program) && line.contains("--go") && !line.contains('\n'), "{line}");
        }
    }
}
