//! Name and number of the calling thread, and the state of other threads.

use super::SysError;
use super::inject::refused;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// A thread's name in the kernel: at most 15 bytes
/// ([`PR_GET_NAME`](https://man7.org/linux/man-pages/man2/PR_SET_NAME.2const.html)), as `ps -L`,
/// `top -H` and debuggers show it. A longer name is truncated.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ThreadName([u8; 16]);

impl ThreadName {
    /// The bytes before the first zero: usually text, but a truncated name may end in the middle of
    /// a character.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// The address of the name, zero-terminated: for tracers.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    /// The name as two words.
    #[must_use]
    pub fn to_words(self) -> [u64; 2] {
        let (low, high) = self.0.split_at(8);
        [low, high].map(|half| half.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)))
    }

    /// The name of two words, as [`to_words`](Self::to_words) makes them. The last byte counts as
    /// zero.
    #[must_use]
    pub fn from_words([low, high]: [u64; 2]) -> ThreadName {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&low.to_le_bytes());
        bytes[8..].copy_from_slice(&high.to_le_bytes());
        bytes[15] = 0;
        ThreadName(bytes)
    }
}

impl fmt::Display for ThreadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(self.bytes()))
    }
}

impl fmt::Debug for ThreadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.bytes()))
    }
}

/// Starts a thread of this name, with the standard library's stack:
/// [`pthread_create(3)`](https://man7.org/linux/man-pages/man3/pthread_create.3.html).
///
/// # Errors
/// `EAGAIN` where the process may have no more threads (`RLIMIT_NPROC`, `pids.max`) or no more
/// addresses for a stack (`RLIMIT_AS`); `EPERM` from a sandbox.
///
/// # Panics
/// If the name has a NUL.
pub fn spawn_thread(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, SysError> {
    if refused("pthread_create") {
        return Err(SysError::last("pthread_create", &[]));
    }
    Builder::new().name(name).spawn(body).map_err(|error| SysError::from_io("pthread_create", &[], &error))
}

/// The calling thread's number ([`gettid(2)`](https://man7.org/linux/man-pages/man2/gettid.2.html))
/// and name; the name is empty if the kernel refuses it.
pub fn this_thread() -> (u32, ThreadName) {
    let mut name = [0; 16];
    let refused = refused("prctl(GET_NAME)");
    // SAFETY: the kernel writes 16 bytes, the last of them zero, to an array of this frame;
    // `gettid` touches no memory.
    let (thread, done) = unsafe {
        (libc::gettid(), if refused { -1 } else { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr(), 0, 0, 0) })
    };
    (thread as u32, if done == 0 { ThreadName(name) } else { ThreadName::default() })
}

/// State of a thread, as in
/// [`/proc/PID/task/TID/stat`](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ThreadState {
    /// It runs on a processor, or waits for one.
    Runs,
    /// It sleeps interruptibly: in a lock, a read, a join.
    Sleeps,
    /// It sleeps uninterruptibly in the kernel: usually for a disk.
    Blocked,
    /// A signal or a debugger has stopped it.
    Stopped,
    /// The system does not report it.
    Unknown,
}

impl fmt::Display for ThreadState {
    /// As a clause: `it runs, or waits for a processor`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ThreadState::Runs => "it runs, or waits for a processor",
            ThreadState::Sleeps => "it sleeps",
            ThreadState::Blocked => "it waits in the kernel",
            ThreadState::Stopped => "a signal or a debugger has stopped it",
            ThreadState::Unknown => "the system does not say what it does",
        })
    }
}

/// The current state of a thread of this process. Three system calls, about 10 us.
///
/// # Errors
/// `ENOENT` if there is no such thread, or no `/proc`; errors of opening and reading a file; `EIO`
/// if the file has another format.
pub fn thread_state(thread: u32) -> Result<ThreadState, SysError> {
    let arguments = [("thread", thread as usize)];
    if refused("open(stat)") {
        return Err(SysError::last("open(stat)", &arguments));
    }
    let file = File::open(format!("/proc/self/task/{thread}/stat"));
    let mut file = file.map_err(|error| SysError::from_io("open(stat)", &arguments, &error))?;
    if refused("read(stat)") {
        return Err(SysError::last("read(stat)", &arguments));
    }
    let mut text = [0; 128];
    let read = file.read(&mut text).map_err(|error| SysError::from_io("read(stat)", &arguments, &error))?;
    // The number, the name in parentheses (which may contain parentheses), and a letter.
    let text = &text[..read];
    let state = text.iter().rposition(|&byte| byte == b')').and_then(|name_ends| text.get(name_ends + 2));
    match state {
        Some(b'R') => Ok(ThreadState::Runs),
        Some(b'S' | b'I') => Ok(ThreadState::Sleeps),
        Some(b'D') => Ok(ThreadState::Blocked),
        Some(b'T' | b't') => Ok(ThreadState::Stopped),
        Some(_) => Ok(ThreadState::Unknown),
        None => Err(SysError::new("read(stat)", &arguments, libc::EIO)),
    }
}

/// The processor time of a thread of this process since it began, up to now if it is running:
/// [`clock_gettime(2)`](https://man7.org/linux/man-pages/man2/clock_gettime.2.html) of its own
/// clock, the one that
/// [`pthread_getcpuclockid(3)`](https://man7.org/linux/man-pages/man3/pthread_getcpuclockid.3.html)
/// names (Linux 2.6.12).
///
/// # Errors
/// `EINVAL` where there is no such thread.
pub fn processor_time(thread: u32) -> Result<Duration, SysError> {
    // Three bits of the clock's name are taken, and the sign: a larger number, which no thread has,
    // would name another clock.
    if thread >= 1 << 28 {
        return Err(SysError::new("clock_gettime(thread)", &[("thread", thread as usize)], libc::EINVAL));
    }
    // The kernel's name for it: the number's complement, and below that "of a thread" (4) and "time
    // on a processor" (2).
    let clock = !(thread as libc::clockid_t) << 3 | 4 | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to a value of this frame.
    let failed = refused("clock_gettime(thread)") || unsafe { libc::clock_gettime(clock, &raw mut time) } != 0;
    if failed {
        return Err(SysError::last("clock_gettime(thread)", &[("thread", thread as usize)]));
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Instant;

    #[test]
    fn a_name_is_two_words() {
        for name in ["", "a", "exactly", "of8bytes", "a) name (R) S"] {
            let thread = std::thread::Builder::new().name(name.into());
            let found = thread.spawn(this_thread).unwrap().join().unwrap().1;
            assert!(name.is_empty() || found.to_string() == name, "{found:?}");
            assert_eq!(ThreadName::from_words(found.to_words()), found);
        }
        assert_eq!(ThreadName::from_words([u64::MAX; 2]).bytes(), [0xff; 15]);
    }

    /// The name is one that could be taken for what follows it.
    #[test]
    fn the_state_of_a_thread_that_runs_and_of_one_that_sleeps() {
        let (sender, receiver) = mpsc::channel();
        let (told, number) = mpsc::channel();
        let thread = std::thread::Builder::new().name("x) R (".into());
        let sleeper = thread.spawn(move || {
            told.send(this_thread().0).unwrap();
            receiver.recv()
        });
        let sleeper_number = number.recv().unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while thread_state(sleeper_number) != Ok(ThreadState::Sleeps) {
            assert!(Instant::now() < until, "{:?}", thread_state(sleeper_number));
        }
        let (own, sleepers) = (this_thread().0, || processor_time(sleeper_number).unwrap());
        let (before, of_the_sleeper) = (processor_time(own).unwrap(), sleepers());
        while processor_time(own).unwrap() < before + Duration::from_millis(5) {
            assert!(Instant::now() < until);
        }
        assert!(sleepers() < of_the_sleeper + Duration::from_millis(1));
        // More than the kernel ever numbers (`PID_MAX_LIMIT`, 2^22), and a number that would name
        // another clock.
        for nobody in [1 << 23, (1 << 28) - 1, 1 << 28, i32::MAX as u32, u32::MAX] {
            assert_eq!(processor_time(nobody).map_err(|error| error.errno()), Err(libc::EINVAL), "{nobody}");
        }
        sender.send(()).unwrap();
        sleeper.unwrap().join().unwrap().unwrap();
        assert_eq!(thread_state(this_thread().0), Ok(ThreadState::Runs));
        assert_eq!(thread_state(u32::MAX).map_err(|error| error.errno()), Err(libc::ENOENT));
    }
}
