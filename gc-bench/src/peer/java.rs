//! A Java development kit: where it is, and how a run's virtual machine is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::Peer;
use crate::failure::Failure;

/// The kit of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Java {
    /// As `java -version` names it: `25.0.2`.
    pub(crate) jdk: String,
    /// The folder of `java` and `javac`; empty: they are on the path.
    #[serde(skip_serializing_if = "is_empty", default)]
    bin: PathBuf,
}

/// What a run's virtual machine is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) peer: Peer,
    pub(crate) heap_bytes: u64,
    pub(crate) pretouch: bool,
    pub(crate) large_pages: bool,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// The version in what `java -version` writes: `openjdk version "17.0.15" 2025-04-15`.
fn version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.contains(" version \""))?;
    line.split('"').nth(1).filter(|version| version.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

impl Java {
    /// The kit in that folder, else `JAVA_HOME`'s, else the one on the path; or why there is none
    /// that can be used.
    pub(super) fn find(home: Option<&Path>) -> Result<Self, String> {
        let of_environment = || std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let bin = home.map(Path::to_owned).or_else(of_environment).map(|home| home.join("bin")).unwrap_or_default();
        let said = |name: &str| Command::new(bin.join(name)).arg("-version").output();
        let missing = |name: &str, why: &dyn std::fmt::Display| {
            let place = if is_empty(&bin) { "the path".into() } else { bin.display().to_string() };
            format!(
                "there is no usable `{name}` in {place} ({why}): install a JDK (openjdk-25-jdk, or a Temurin archive) \
                 and name its folder with --jdk"
            )
        };
        let java = said("java").map_err(|e| missing("java", &e))?;
        said("javac").map_err(|e| missing("javac", &e))?;
        let text = String::from_utf8_lossy(&java.stderr);
        let jdk = version(&text).ok_or_else(|| missing("java", &"it does not say its version"))?;
        Ok(Self { jdk, bin })
    }

    /// Compiles the peer's program into a folder.
    pub(super) fn compile(&self, source: &Path, into: &Path) -> Result<(), Failure> {
        let compiler = Command::new(self.bin.join("javac")).arg("-d").arg(into).arg(source).output();
        let output = compiler.map_err(|e| Failure::run(format!("cannot start javac: {e}")))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(Failure::run(format!("javac: {}", text.lines().next().unwrap_or("no message"))))
    }

    /// The virtual machine of a run. The whole heap is there before anything is measured.
    pub(super) fn machine(&self, of: &Machine, classes: &Path, log: &Path) -> Command {
        let mut java = Command::new(self.bin.join("java"));
        java.args([format!("-Xms{}", of.heap_bytes), format!("-Xmx{}", of.heap_bytes)]);
        java.arg(match of.peer {
            Peer::G1 => "-XX:+UseG1GC",
            Peer::Parallel => "-XX:+UseParallelGC",
            Peer::Zgc => "-XX:+UseZGC",
            Peer::Go | Peer::V8 | Peer::Manual => unreachable!("it is not of the JVM"),
        });
        if of.pretouch {
            java.arg("-XX:+AlwaysPreTouch");
        }
        if of.large_pages {
            // Where the system allows them (`/sys/kernel/mm/transparent_hugepage`).
            java.arg("-XX:+UseTransparentHugePages");
        }
        // By the monotonic clock, as the samples.
        java.arg(format!("-Xlog:safepoint:file={}:timenanos:filecount=0", log.display()));
        java.arg("-cp").arg(classes).arg("Peer");
        java
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_what_stands_in_quotes() {
        let text = "NOTE: Picked up JDK_JAVA_OPTIONS: -Dx=\"1\"\nopenjdk version \"25.0.2\" 2026-01-20 LTS\nOpenJDK Runtime Environment Temurin-25.0.2+10";
        assert_eq!(version(text).as_deref(), Some("25.0.2"));
        assert_eq!((version("no java \"here\""), version("")), (None, None));
    }

    #[test]
    fn a_kit_that_is_not_there_is_one_line_that_says_what_to_do() {
        let line = Java::find(Some(Path::new("/nowhere/at/all"))).unwrap_err();
        assert!(line.contains("/nowhere/at/all") && line.contains("--jdk") && !line.contains('\n'), "{line}");
    }
}
