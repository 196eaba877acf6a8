//! Memory barriers in other threads,
//! [`membarrier(2)`](https://man7.org/linux/man-pages/man2/membarrier.2.html).

use super::SysError;
use super::inject::refused;

/// Kinds of barriers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Membarrier {
    /// A memory barrier in every running thread of this process, by an interrupt to its processor:
    /// `MEMBARRIER_CMD_PRIVATE_EXPEDITED` (Linux 4.14).
    PrivateExpedited,
    /// The same, and the processors discard prefetched instructions:
    /// `..._PRIVATE_EXPEDITED_SYNC_CORE` (Linux 4.16).
    PrivateExpeditedSyncCore,
    /// In every thread of the machine, by waiting until each has entered the kernel; takes
    /// milliseconds and needs no interrupt: `MEMBARRIER_CMD_GLOBAL` (Linux 4.3; `EINVAL` where the
    /// kernel runs `nohz_full`).
    Global,
}

impl Membarrier {
    /// The command, and the command that registers this process for it.
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

/// Registers this process for a kind of barrier, once before its first use. With other threads
/// running it takes milliseconds; [`Membarrier::Global`] needs no registration.
///
/// # Errors
/// `EINVAL` from an older kernel, `ENOSYS` or `EPERM` where a sandbox refuses the call.
pub fn membarrier_register(kind: Membarrier) -> Result<(), SysError> {
    kind.commands().1.map_or(Ok(()), call)
}

/// Executes a full memory barrier in each thread concerned, between the begin of this call and its
/// return. It waits for processors, never for threads.
///
/// # Errors
/// `EPERM` if [`membarrier_register`] was not called before; otherwise as there.
pub fn membarrier(kind: Membarrier) -> Result<(), SysError> {
    call(kind.commands().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_wants_to_be_announced() {
        let kind = Membarrier::PrivateExpedited;
        // No other test of this process registers for it.
        match membarrier(kind) {
            Err(error) if error.errno() == libc::EPERM => {
                membarrier_register(kind).unwrap();
                membarrier(kind).unwrap();
            }
            // An older kernel or a sandbox refuses both calls.
            other => assert_eq!(membarrier_register(kind).is_ok(), other.is_ok()),
        }
    }
}
