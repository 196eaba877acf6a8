//! CPU clocks, [`clock_gettime(2)`](https://man7.org/linux/man-pages/man2/clock_gettime.2.html)
//! (Linux 2.6.12).

use super::inject::refused;
use std::time::Duration;

/// CPU time this thread has used, in user and in system mode. A system call (about 0.2 us), not a
/// vDSO read.
pub fn thread_cpu_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time all threads of this process have used, dead ones too.
pub fn process_cpu_time() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a value of this frame. The call cannot fail for these clocks, which every
    // kernel of ours has; if a sandbox refuses it, the caller gets zero.
    let _ = refused("clock_gettime") || unsafe { libc::clock_gettime(id, &mut now) } != 0;
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
