//! How the scheduler treats a collector thread.

use super::error::SysError;
use std::time::Duration;

/// `struct sched_attr` as of Linux 3.14 (`SCHED_ATTR_SIZE_VER0`); `libc` has no such type.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Asks for time slices of this length for the calling thread (Linux rounds to 0.1 to 100 ms; honoured for ordinary
/// threads since Linux 6.12, ignored before).
///
/// A thread that wakes up preempts one with a short slice soon, and waits for the end of a long one (about 3 ms). So a
/// thread that computes for long beside others that react should ask for a short one; it keeps its share of the processor.
/// See `sched_setattr(2)` and `Documentation/scheduler/sched-eevdf.rst`.
pub fn set_thread_slice(slice: Duration) -> Result<(), SysError> {
    // The call sets the nice value too: keep what the thread has. (-1 is also a nice value; an error cannot happen for the
    // calling thread.)
    // SAFETY: reads a number of the calling thread, no memory is involved.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let attr = SchedAttr {
        nice,
        size: size_of::<SchedAttr>() as u32,
        policy: libc::SCHED_OTHER as u32,
        runtime: slice.as_nanos() as u64,
        ..SchedAttr::default()
    };
    // SAFETY: the kernel reads `size` bytes of a struct that lives until the call returns, and touches no other memory.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if result == 0 { Ok(()) } else { Err(SysError::last("sched_setattr", &[("runtime", attr.runtime as usize)])) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_slice_is_accepted() {
        std::thread::spawn(|| set_thread_slice(Duration::from_micros(100)).unwrap()).join().unwrap();
    }
}
