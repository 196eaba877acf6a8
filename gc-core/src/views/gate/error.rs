//! What a gate returns when the kernel refuses, and how it says so.

use crate::sys::{SysError, UffdSource};
use std::fmt;

/// Why a gate is unavailable: the refused calls, and what would enable them.
#[derive(Debug, Clone)]
pub struct GateError {
    pub(super) refused: Vec<(UffdSource, SysError)>,
    /// The error of the trial flip.
    pub(super) flip: Option<Box<SysError>>,
}

impl GateError {
    /// The errors of all refused calls: of each source of a descriptor, or of the trial flip.
    pub fn refused(&self) -> impl Iterator<Item = SysError> {
        self.flip
            .as_deref()
            .copied()
            .into_iter()
            .chain(self.refused.iter().filter(|_| self.flip.is_none()).map(|(_, error)| *error))
    }
}

impl fmt::Display for GateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a limit refuses, newer kernels and other sandboxes refuse as well.
        let limit = self.refused().find_map(|error| limit_of(error.errno()));
        if let Some(error) = &self.flip {
            return match limit {
                Some(limit) => {
                    write!(f, "a trial flip was refused at a limit: {error}; {limit}, or use the load barrier")
                }
                None => write!(
                    f,
                    "a trial flip does not work (mremap(MREMAP_DONTUNMAP) needs Linux 5.13 on shared memory, 5.7 on \
                     private memory): {error}; allow the call in the container's seccomp profile, or use the load barrier"
                ),
            };
        }
        match limit {
            Some(_) => write!(f, "no userfaultfd was opened at a limit: ")?,
            None => write!(
                f,
                "no userfaultfd with SIGBUS faults (it needs Linux 5.14 on shared memory, 4.14 on private memory): "
            )?,
        }
        for (index, (_, error)) in self.refused.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "; " })?;
        }
        match limit {
            Some(limit) => write!(f, "; {limit}, or use the load barrier"),
            None => write!(
                f,
                "; allow the call in the container's seccomp profile, grant access to /dev/userfaultfd, \
                 or use the load barrier"
            ),
        }
    }
}

/// What to do about a call that was refused at a limit.
fn limit_of(errno: i32) -> Option<&'static str> {
    match errno {
        libc::ENOMEM => Some(
            "raise the process's limits on memory and addresses (RLIMIT_DATA, RLIMIT_AS, vm.max_map_count, \
             vm.overcommit_memory), free memory",
        ),
        libc::EMFILE => Some("raise the process's limit of open files (RLIMIT_NOFILE)"),
        libc::ENFILE => Some("raise the system's limit of open files (fs.file-max)"),
        _ => None,
    }
}

impl std::error::Error for GateError {}

/// A refused flip. Nothing is gated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlipError {
    /// The refused call.
    pub error: Box<SysError>,
    /// Unregistering was refused as well. Absent pages still fault: they must be [let
    /// in](super::Gate::install) unchanged until [`Gate::end`](super::Gate::end) succeeds.
    pub still_registered: bool,
}

impl fmt::Display for FlipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pages of a heap cannot be unmapped for a flip: {}", self.error)
    }
}

impl std::error::Error for FlipError {}

/// Result of installing pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallResult {
    /// All pages are mapped.
    Present,
    /// The range is not registered (any more): its pages are mapped, or the kernel maps them at the
    /// next access.
    NotGated,
    /// The kernel refused every way and every retry. The page still faults.
    Refused(SysError),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A limit is not a sandbox, and no newer kernel helps against it.
    #[test]
    fn an_error_names_the_cause_of_its_errno() {
        let flip = |errno| {
            let error = SysError::new("mremap(DONTUNMAP)", &[], errno);
            GateError { refused: Vec::new(), flip: Some(Box::new(error)) }.to_string()
        };
        let opened = |errnos: &[i32]| {
            let error = |&errno: &i32| (UffdSource::SystemCall, SysError::new("userfaultfd", &[], errno));
            GateError { refused: errnos.iter().map(error).collect(), flip: None }.to_string()
        };
        let has = |text: &str, words: &[&str]| words.iter().all(|word| text.contains(word));
        let hasnt = |text: &str, words: &[&str]| words.iter().all(|word| !text.contains(word));
        let of_kernel = ["seccomp", "Linux 5"];
        for errno in [libc::ENOSYS, libc::EPERM, libc::EINVAL, libc::EACCES] {
            assert!(has(&flip(errno), &of_kernel) && hasnt(&flip(errno), &["RLIMIT"]), "{}", flip(errno));
            assert!(has(&opened(&[errno]), &of_kernel) && hasnt(&opened(&[errno]), &["RLIMIT"]));
        }
        let limits = ["RLIMIT_DATA", "RLIMIT_AS", "vm.max_map_count", "memory", "load barrier"];
        for text in [flip(libc::ENOMEM), opened(&[libc::ENOENT, libc::ENOMEM, libc::ENOMEM])] {
            assert!(has(&text, &limits) && hasnt(&text, &of_kernel), "{text}");
        }
        for (errno, limit) in [(libc::EMFILE, "RLIMIT_NOFILE"), (libc::ENFILE, "fs.file-max")] {
            let text = opened(&[libc::EACCES, errno, errno]);
            assert!(has(&text, &[limit]) && hasnt(&text, &of_kernel), "{text}");
        }
    }
}
