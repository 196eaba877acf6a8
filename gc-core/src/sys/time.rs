//! The monotonic clock and CPU clocks,
//! [`clock_gettime(2)`](https://man7.org/linux/man-pages/man2/clock_gettime.2.html) (Linux 2.6.12).

use super::SysError;
use super::inject::refused;
use std::time::Duration;

/// The clock of [`std::time::Instant`], `CLOCK_MONOTONIC`, in nanoseconds since the machine was
/// started (without the time that it slept). A vDSO read, without the checks and the seconds apart
/// of an `Instant`: the difference of two takes one instruction instead of some forty.
#[inline]
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a value of this frame. The call cannot fail for this clock, which every
    // Linux has, and the standard library relies on that as well.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

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

/// The length of the kernel's timer tick, 1/`CONFIG_HZ`: the resolution of the clock that the tick
/// advances ([`CLOCK_MONOTONIC_COARSE`](https://man7.org/linux/man-pages/man2/clock_getres.2.html),
/// Linux 2.6.32). The scheduler checks at a tick whether a thread has used up its time slice, so
/// waits for a processor are often multiples of it.
///
/// # Errors
/// `EINVAL` where the kernel has no such clock; what a sandbox answers.
pub fn tick_length() -> Result<Duration, SysError> {
    let mut tick = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to a value of this frame.
    let failed = refused("clock_getres") || unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut tick) } != 0;
    if failed {
        return Err(SysError::last("clock_getres", &[]));
    }
    Ok(Duration::new(tick.tv_sec as u64, tick.tv_nsec as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_is_that_of_instants() {
        let (before, from_ns) = (std::time::Instant::now(), monotonic_ns());
        std::thread::sleep(Duration::from_millis(5));
        let ns = monotonic_ns() - from_ns;
        assert!(ns >= 5_000_000 && u128::from(ns) <= before.elapsed().as_nanos(), "{ns}");
    }

    #[test]
    fn a_tick_is_one_of_those_that_a_kernel_can_be_built_with() {
        let tick = tick_length().unwrap();
        assert!(tick >= Duration::from_micros(100) && tick <= Duration::from_millis(10), "{tick:?}");
    }
}
