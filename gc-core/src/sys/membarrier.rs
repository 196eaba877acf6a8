//! Barriers in other threads, [`membarrier(2)`](https://man7.org/linux/man-pages/man2/membarrier.2.html).

use super::SysError;
use super::inject::refused;

/// What kind of barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Membarrier {
    /// A memory barrier in every running thread of this process, by an interrupt to its processor:
    /// `MEMBARRIER_CMD_PRIVATE_EXPEDITED` (Linux 4.14).
    PrivateExpedited,
    /// The same, and what the processors have fetched of code is dropped: `..._PRIVATE_EXPEDITED_SYNC_CORE` (Linux 4.16).
    PrivateExpeditedSyncCore,
    /// In every thread of the machine, by waiting until each has been in the kernel; milliseconds, no interrupt:
    /// `MEMBARRIER_CMD_GLOBAL` (Linux 4.3; `EINVAL` where the kernel runs `nohz_full`).
    Global,
}

impl Membarrier {
    /// The command, and the one that announces that this process will use it.
    fn commands(self) -> (i32, Option<i32>) {
        match self {
            Membarrier::PrivateExpedited => {
                (libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED, Some(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED))
            }
            Membarrier::PrivateExpeditedSyncCore => (
                libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE,
                Some(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE),
            ),
            Membarrier::Global => (libc::MEMBARRIER_CMD_GLOBAL, None),
        }
    }
}

fn call(command: i32) -> Result<(), SysError> {
    // SAFETY: the call takes numbers only.
    let failed = refused("membarrier") || unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } < 0;
    if failed { Err(SysError::last("membarrier", &[("cmd", command as usize)])) } else { Ok(()) }
}

/// Announces that this process will use a kind of barrier, once before the first. With other threads running it takes
/// milliseconds; [`Membarrier::Global`] needs none.
///
/// # Errors
/// `EINVAL` from an older kernel, `ENOSYS` or `EPERM` where a sandbox refuses the call.
pub fn membarrier_register(kind: Membarrier) -> Result<(), SysError> {
    kind.commands().1.map_or(Ok(()), call)
}

/// When it returns, each thread it concerns has passed a full memory barrier since the call began. It waits for
/// processors, never for threads.
///
/// # Errors
/// `EPERM` where [`membarrier_register`] was not called before, else as there.
pub fn membarrier(kind: Membarrier) -> Result<(), SysError> {
    call(kind.commands().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_wants_to_be_announced() {
        let kind = Membarrier::PrivateExpedited;
        // No other test of this process announces it.
        match membarrier(kind) {
            Err(error) if error.errno() == libc::EPERM => {
                membarrier_register(kind).unwrap();
                membarrier(kind).unwrap();
            }
            // An older kernel or a sandbox knows nothing of it at all.
            other => assert_eq!(membarrier_register(kind).is_ok(), other.is_ok()),
        }
    }
}
