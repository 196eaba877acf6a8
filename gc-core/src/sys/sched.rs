//! Scheduling of the calling thread: its time slice, its processors, how late its timers may be,
//! how long it waited for a processor, and how often it slept.

use super::error::SysError;
use super::inject::refused;
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

/// Requests time slices of this length for the calling thread (Linux rounds to 0.1 to 100 ms;
/// honoured for ordinary threads since Linux 6.12, ignored before). The thread keeps its policy,
/// nice value and flags.
///
/// A thread that wakes up preempts one with a short slice soon, and waits for the end of a long one
/// (about 3 ms). So a thread that computes for long while others must react quickly should request
/// a short one; it keeps its share of the processor. See `sched_setattr(2)` and
/// `Documentation/scheduler/sched-eevdf.rst`.
///
/// Returns whether it made the request: only `SCHED_OTHER` and `SCHED_BATCH` have such slices, and
/// a thread of another policy is left as it is.
///
/// # Errors
/// Errors of `sched_getattr` and `sched_setattr`.
pub fn set_thread_slice(slice: Duration) -> Result<bool, SysError> {
    let mut attr = thread_attr()?;
    if ![libc::SCHED_OTHER as u32, libc::SCHED_BATCH as u32].contains(&attr.policy) {
        return Ok(false);
    }
    attr.size = size_of::<SchedAttr>() as u32;
    attr.runtime = slice.as_nanos() as u64;
    // SAFETY: the kernel reads `size` bytes of a struct that lives until the call returns, and
    // touches no other memory.
    let set =
        !refused("sched_setattr") && unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) } == 0;
    if set { Ok(true) } else { Err(SysError::last("sched_setattr", &[("runtime", attr.runtime as usize)])) }
}

/// Reads the scheduling attributes of the calling thread.
fn thread_attr() -> Result<SchedAttr, SysError> {
    let mut attr = SchedAttr::default();
    let size = size_of::<SchedAttr>();
    // SAFETY: the kernel writes at most `size` bytes into a struct of that size, all of whose bytes
    // are integers.
    let got =
        !refused("sched_getattr") && unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) } == 0;
    if got { Ok(attr) } else { Err(SysError::last("sched_getattr", &[("size", size)])) }
}

/// Sets how late the kernel may make a sleep of the calling thread end, to merge it with other
/// timers: [`PR_SET_TIMERSLACK`] (Linux 2.6.28). A thread begins with its creator's, usually 50 us.
/// Zero counts as 1 ns: to the kernel it means the default.
///
/// # Errors
/// `EPERM` from a sandbox.
///
/// [`PR_SET_TIMERSLACK`]: https://man7.org/linux/man-pages/man2/PR_SET_TIMERSLACK.2const.html
pub fn set_timer_slack(slack: Duration) -> Result<(), SysError> {
    let ns = libc::c_ulong::try_from(slack.as_nanos()).unwrap_or(libc::c_ulong::MAX).max(1);
    // SAFETY: sets a number of the calling thread, no memory is involved.
    let set = !refused("prctl(SET_TIMERSLACK)") && unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, ns, 0, 0, 0) } == 0;
    if set { Ok(()) } else { Err(SysError::last("prctl(SET_TIMERSLACK)", &[("ns", ns as usize)])) }
}

/// Room for the numbers of so many processors: more than any kernel knows (`CONFIG_NR_CPUS`).
const MOST_PROCESSORS: usize = 1 << 16;

/// The processors that the calling thread may run on, in ascending order: [`sched_getaffinity`]
/// (Linux 2.5.8).
///
/// # Errors
/// What a sandbox answers.
///
/// [`sched_getaffinity`]: https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html
pub fn affinity() -> Result<Vec<usize>, SysError> {
    let mut mask = vec![0_u64; MOST_PROCESSORS / 64];
    let size = size_of_val(&mask[..]);
    // SAFETY: the kernel writes at most `size` bytes to a buffer of that size, whose elements are
    // integers.
    let got = !refused("sched_getaffinity")
        && unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size, mask.as_mut_ptr()) } >= 0;
    if !got {
        return Err(SysError::last("sched_getaffinity", &[("size", size)]));
    }
    Ok((0..MOST_PROCESSORS).filter(|at| mask[at / 64] >> (at % 64) & 1 != 0).collect())
}

/// Lets the calling thread run on these processors alone, and so the threads and processes that it
/// creates from now on: [`sched_setaffinity`] (Linux 2.5.8). Processors that are offline, or that a
/// cpuset withholds, do not count.
///
/// # Errors
/// `EINVAL` where none counts, or a number is none that a kernel has; `EPERM` from a sandbox.
///
/// [`sched_setaffinity`]: https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html
pub fn set_affinity(processors: &[usize]) -> Result<(), SysError> {
    let mut mask = vec![0_u64; MOST_PROCESSORS / 64];
    for &at in processors {
        let Some(word) = mask.get_mut(at / 64) else {
            return Err(SysError::new("sched_setaffinity", &[("processor", at)], libc::EINVAL));
        };
        *word |= 1 << (at % 64);
    }
    let size = size_of_val(&mask[..]);
    // SAFETY: the kernel reads `size` bytes of a buffer of that size, and touches no other memory.
    let set = !refused("sched_setaffinity")
        && unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, mask.as_ptr()) } == 0;
    if set { Ok(()) } else { Err(SysError::last("sched_setaffinity", &[("processors", processors.len())])) }
}

/// How often the calling thread has given its processor away: it slept, or waited for something.
/// [`getrusage(RUSAGE_THREAD)`] (Linux 2.6.26), a system call of about 0.2 us. A preemption is not
/// one.
///
/// # Errors
/// What a sandbox answers.
///
/// [`getrusage(RUSAGE_THREAD)`]: https://man7.org/linux/man-pages/man2/getrusage.2.html
pub fn thread_sleeps() -> Result<u64, SysError> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the kernel writes a whole `rusage` to a value of this frame if it returns 0.
    if refused("getrusage") || unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) } != 0 {
        return Err(SysError::last("getrusage", &[]));
    }
    // SAFETY: the call has succeeded.
    Ok(unsafe { usage.assume_init() }.ru_nvcsw as u64)
}

/// How long a thread has waited for a processor although it could have run: after it was preempted,
/// and after it was woken. If it changes while a call is timed, the measurement includes the
/// scheduler.
#[derive(Debug)]
pub struct RunDelay(File);

impl RunDelay {
    /// The record of the calling thread; other threads may read it.
    ///
    /// # Errors
    /// `ENOENT` from a kernel without `CONFIG_SCHED_INFO`, or where there is no `/proc`.
    pub fn of_this_thread() -> Result<RunDelay, SysError> {
        let path = "/proc/thread-self/schedstat";
        if refused("open(schedstat)") {
            return Err(SysError::last("open(schedstat)", &[]));
        }
        File::open(path).map(RunDelay).map_err(|error| SysError::from_io("open(schedstat)", &[], &error))
    }

    /// The total since the thread began. One system call, about 1 us.
    ///
    /// # Errors
    /// Errors of reading the file; `EIO` if its format is not that of Linux 2.6.23 and later.
    pub fn total(&self) -> Result<Duration, SysError> {
        let mut text = [0; 96];
        if refused("read(schedstat)") {
            return Err(SysError::last("read(schedstat)", &[]));
        }
        let read = self.0.read_at(&mut text, 0).map_err(|error| SysError::from_io("read(schedstat)", &[], &error))?;
        // Nanoseconds on a processor, nanoseconds waiting for one, and the number of time slices.
        let second = std::str::from_utf8(&text[..read]).ok().and_then(|text| text.split(' ').nth(1)?.parse().ok());
        second.map(Duration::from_nanos).ok_or_else(|| SysError::new("read(schedstat)", &[], libc::EIO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The call sets policy, nice value and flags too, so each must be passed back unchanged.
    #[test]
    fn a_thread_that_asks_for_a_slice_keeps_its_policy() {
        for policy in [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE] {
            std::thread::spawn(move || {
                let wanted = SchedAttr {
                    size: size_of::<SchedAttr>() as u32,
                    policy: policy as u32,
                    flags: 1, // SCHED_FLAG_RESET_ON_FORK
                    nice: 7,
                    ..SchedAttr::default()
                };
                // SAFETY: the kernel reads `size` bytes of a struct that lives until the call
                // returns.
                assert_eq!(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) }, 0);
                // `sched_getattr` and `sched_setattr` leave the nice value out for SCHED_IDLE.
                // SAFETY: sets and reads a number of the calling thread, no memory is involved.
                assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 7) }, 0);
                let asked = set_thread_slice(Duration::from_micros(100)).unwrap();
                // SAFETY: as above.
                let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
                let now = thread_attr().unwrap();
                assert_eq!((now.policy, nice, now.flags), (policy as u32, 7, 1));
                assert_eq!(asked, policy != libc::SCHED_IDLE);
            })
            .join()
            .unwrap();
        }
    }

    /// A real-time thread is left as it is, and no call could change its priority for a moment.
    #[test]
    fn a_real_time_thread_that_asks_for_a_slice_stays_one() {
        for policy in [libc::SCHED_FIFO, libc::SCHED_RR] {
            std::thread::spawn(move || {
                let wanted = SchedAttr {
                    size: size_of::<SchedAttr>() as u32,
                    policy: policy as u32,
                    flags: 1, // SCHED_FLAG_RESET_ON_FORK
                    priority: 3,
                    ..SchedAttr::default()
                };
                // SAFETY: the kernel reads `size` bytes of a struct that lives until the call
                // returns.
                if unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) } != 0 {
                    let why = SysError::last("sched_setattr", &[]);
                    return println!("not tested, this thread gets no real-time policy: {why}");
                }
                assert_eq!(set_thread_slice(Duration::from_micros(100)), Ok(false));
                let now = thread_attr().unwrap();
                assert_eq!((now.policy, now.priority, now.flags), (policy as u32, 3, 1));
            })
            .join()
            .unwrap();
        }
    }

    #[test]
    fn the_slack_of_a_thread_s_timers_is_what_it_asked_for() {
        let slack = || {
            // SAFETY: reads a number of the calling thread, no memory is involved.
            unsafe { libc::prctl(libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) }
        };
        std::thread::spawn(move || {
            set_timer_slack(Duration::from_micros(7)).unwrap();
            assert_eq!(slack(), 7_000);
            set_timer_slack(Duration::ZERO).unwrap();
            assert_eq!(slack(), 1);
        })
        .join()
        .unwrap();
    }

    /// The threads that it creates inherit its processors, and its own creator keeps its own.
    #[test]
    fn a_thread_runs_on_the_processors_that_it_asked_for() {
        let before = affinity().unwrap();
        assert!(!before.is_empty() && before.is_sorted(), "{before:?}");
        let count = |of: &[usize]| std::thread::available_parallelism().is_ok_and(|n| n.get() <= of.len());
        for at in [before[0], before[before.len() - 1]] {
            std::thread::spawn(move || {
                set_affinity(&[at]).unwrap();
                let inherited = std::thread::spawn(move || (affinity().unwrap(), count(&[at]))).join().unwrap();
                assert_eq!((affinity().unwrap(), inherited), (vec![at], (vec![at], true)));
            })
            .join()
            .unwrap();
        }
        for none in [&[][..], &[MOST_PROCESSORS], &[MOST_PROCESSORS - 1]] {
            assert_eq!(set_affinity(none).unwrap_err().errno(), libc::EINVAL, "{none:?}");
        }
        assert_eq!(affinity().unwrap(), before, "what was refused changed nothing");
    }

    /// The thread itself sleeps, and is preempted as well where the processors are busy.
    #[test]
    fn a_thread_that_sleeps_has_slept() {
        let before = thread_sleeps().unwrap();
        for _ in 0..5 {
            std::thread::sleep(Duration::from_micros(100));
        }
        let slept = thread_sleeps().unwrap() - before;
        assert!((5..50).contains(&slept), "{slept}");
    }

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
