//! How the scheduler treats a collector thread, and what it does to any.

use super::error::SysError;
use std::fs::File;
use std::os::unix::fs::FileExt;
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

/// How long a thread has waited for a processor although it could have run: after it was preempted, and after it was woken.
/// Who times a call and finds this changed has timed the scheduler as well.
#[derive(Debug)]
pub struct RunDelay(File);

impl RunDelay {
    /// Of the calling thread; may be asked by others.
    ///
    /// # Errors
    /// `ENOENT` from a kernel without `CONFIG_SCHED_INFO`, or where there is no `/proc`.
    pub fn of_this_thread() -> Result<RunDelay, SysError> {
        let path = "/proc/thread-self/schedstat";
        File::open(path).map(RunDelay).map_err(|error| SysError::from_io("open(schedstat)", &[], &error))
    }

    /// All of it since the thread began. One system call, some 1 us.
    ///
    /// # Errors
    /// What reading the file gives; `EIO` where it has another form than in Linux 2.6.23 and later.
    pub fn total(&self) -> Result<Duration, SysError> {
        let mut text = [0; 96];
        let read = self.0.read_at(&mut text, 0).map_err(|error| SysError::from_io("read(schedstat)", &[], &error))?;
        // Nanoseconds on a processor, nanoseconds waiting for one, and how often it got one.
        let second = std::str::from_utf8(&text[..read]).ok().and_then(|text| text.split(' ').nth(1)?.parse().ok());
        second.map(Duration::from_nanos).ok_or_else(|| SysError::new("read(schedstat)", &[], libc::EIO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two threads for each processor, all of which compute: sooner or later each waits for one.
    #[test]
    fn a_thread_beside_others_waits() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..2 * processors {
                scope.spawn(|| {
                    let delay = RunDelay::of_this_thread().unwrap();
                    let before = delay.total().unwrap();
                    let until = std::time::Instant::now() + Duration::from_secs(60);
                    while delay.total().unwrap() == before {
                        assert!(std::time::Instant::now() < until, "never waited");
                    }
                });
            }
        });
    }
}
