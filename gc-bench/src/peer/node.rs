//! Node.js: where it is, and how a run of V8 is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The Node.js of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// As `node --version` names it, without the letter: `20.20.2`.
    pub(crate) version: String,
    program: PathBuf,
    /// How many isolates share the heap's size: each mutator of a run has one.
    pub(crate) isolates: u64,
}

/// The version in what `node --version` writes: `v20.20.2`.
fn version(text: &str) -> Option<String> {
    let version = text.trim().strip_prefix('v')?;
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

impl Node {
    /// That program, else `node` on the path; or why it cannot be used.
    pub(super) fn find(program: Option<&Path>) -> Result<Self, String> {
        let program = program.unwrap_or(Path::new("node")).to_owned();
        let missing = |why: &dyn std::fmt::Display| {
            let name = program.display();
            format!("there is no usable `{name}` ({why}): install Node.js, or name its program with --node")
        };
        let said = Command::new(&program).arg("--version").output().map_err(|e| missing(&e))?;
        let version = version(&String::from_utf8_lossy(&said.stdout)).filter(|_| said.status.success());
        let version = version.ok_or_else(|| missing(&"it does not say its version"))?;
        Ok(Self { version, program, isolates: 1 })
    }

    pub(super) fn command(&self, program: &Path) -> Command {
        let mut node = Command::new(&self.program);
        node.arg(program);
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_begins_with_a_letter() {
        assert_eq!(version("v20.20.2\n").as_deref(), Some("20.20.2"));
        assert_eq!((version("20.20.2"), version("version 3"), version("")), (None, None, None));
    }

    #[test]
    fn what_is_not_there_is_one_line_that_says_what_to_do() {
        for program in ["/nowhere/at/all", "/bin/false", "/bin/echo"] {
            let line = Node::find(Some(Path::new(program))).unwrap_err();
            assert!(line.contains(program) && line.contains("--node") && !line.contains('\n'), "{line}");
        }
    }
}
