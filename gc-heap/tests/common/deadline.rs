//! A test that hangs is a failure that says where it hangs, not patience.

use super::factor;
use std::backtrace::Backtrace;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Ends the process when a test hangs. Dropped, it does nothing.
pub(crate) struct Deadline(#[allow(dead_code, reason = "its drop is the signal")] Sender<()>);

/// The longest a test may take, of the time that it is given: see [`Given`].
pub(crate) fn deadline(what: impl Into<String>) -> Deadline {
    deadline_after(what, Duration::from_secs(120))
}

/// As [`deadline`], with a limit of its own.
pub(crate) fn deadline_after(what: impl Into<String>, limit: Duration) -> Deadline {
    let (sender, receiver) = channel();
    let (what, limit) = (what.into(), limit * factor());
    std::thread::spawn(move || {
        let (begun, mut given) = (Instant::now(), Given::new());
        while given.total < limit {
            if receiver.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            given.look();
        }
        // SAFETY: no memory is involved. What follows may wait for a lock that one of the hanging
        // threads has.
        unsafe { libc::alarm(30) };
        eprintln!("{what}: no end after {limit:?} ({:?} by the clock): a deadlock or a livelock", begun.elapsed());
        print_threads();
        std::process::abort();
    });
    Deadline(sender)
}

/// The threads that have printed what they were at.
static PRINTED: AtomicUsize = AtomicUsize::new(0);

/// Of a thread that is asked by a signal. The process is about to end: that a handler may neither
/// allocate nor lock costs the other threads' lines where it goes wrong, and nothing else.
extern "C" fn print_thread(_: i32) {
    eprintln!("{}", Backtrace::force_capture());
    PRINTED.fetch_add(1, Ordering::Release);
}

/// Prints where each thread of the process is, one after the other; a thread that does not answer
/// in two seconds is left out.
fn print_threads() {
    // SAFETY: the signal is used for nothing else, and the handler is a function that stays.
    unsafe { libc::signal(libc::SIGUSR2, print_thread as *const () as usize) };
    let this = fs::read_link("/proc/thread-self").unwrap();
    for thread in
        fs::read_dir("/proc/self/task").unwrap().flatten().filter(|t| Some(&*t.file_name()) != this.file_name())
    {
        let read = |file| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let (name, state, at) = (read("comm"), stat(&thread.path().join("stat")), read("wchan"));
        eprintln!("thread {}, {}, {:?}, {at}", thread.file_name().display(), name.trim(), state.first());
        let Ok(id) = thread.file_name().to_string_lossy().parse::<libc::pid_t>() else { continue };
        let (printed, asked) = (PRINTED.load(Ordering::Acquire), Instant::now());
        // SAFETY: asks a thread of this process for what `print_thread` does.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, libc::SIGUSR2) };
        while PRINTED.load(Ordering::Acquire) == printed && asked.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// How often it is looked how the process fares.
const LOOK: Duration = Duration::from_millis(500);

/// The time that the process was given. On a machine where others have the processors a test gets
/// on as slowly as they like, so while a thread of the process wants a processor, only what the
/// process had of them counts. Where none does, all waits for something else, and the clock counts.
struct Given {
    total: Duration,
    looked: Instant,
    cpu: Duration,
}

impl Given {
    fn new() -> Given {
        Given { total: Duration::ZERO, looked: Instant::now(), cpu: cpu_time() }
    }

    fn look(&mut self) {
        let (now, cpu) = (Instant::now(), cpu_time());
        let passed = now - self.looked;
        self.total += if wants_processor() { passed.min(cpu.saturating_sub(self.cpu)) } else { passed };
        (self.looked, self.cpu) = (now, cpu);
    }
}

/// The fields of a `stat` file of proc(5) from the state on; the name before it may hold anything.
fn stat(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().map(str::to_owned).collect())
}

/// What all threads of the process have had of the processors; a hundredth of a second more or
/// less.
fn cpu_time() -> Duration {
    let stat = stat("/proc/self/stat".as_ref());
    let ticks = stat.get(11..13).expect("utime and stime").iter().map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Whether a thread of the process, but for this one, has a processor or waits for one.
fn wants_processor() -> bool {
    let this = fs::read_link("/proc/thread-self").unwrap();
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    threads
        .filter(|thread| Some(&*thread.file_name()) != this.file_name())
        .any(|thread| stat(&thread.path().join("stat")).first().is_some_and(|state| state == "R"))
}
