//! A test that hangs is a failure that says where it hangs, not patience.

use super::factor;
use std::backtrace::Backtrace;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Ends the process when a test hangs. Dropped, it prints how long the test took, if that was long.
pub(crate) struct Deadline {
    /// Its drop is the signal.
    sender: Option<Sender<()>>,
    watch: Option<JoinHandle<()>>,
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.sender.take();
        // The line about a long test is printed before the process can end.
        let _ = self.watch.take().map(JoinHandle::join);
    }
}

/// A test that takes longer than this, of the time that it is given, is named: on a slow machine it
/// comes near its limit.
const LONG: Duration = Duration::from_secs(20);

/// The longest a test may take, of the time that it is given: see [`Given`].
pub(crate) fn deadline(what: impl Into<String>) -> Deadline {
    deadline_after(what, Duration::from_secs(120))
}

/// As [`deadline`], with a limit of its own.
pub(crate) fn deadline_after(what: impl Into<String>, limit: Duration) -> Deadline {
    let (sender, receiver) = channel();
    let (what, limit) = (what.into(), limit * factor());
    let watch = std::thread::spawn(move || {
        let (begun, mut given) = (Instant::now(), Given::new());
        while given.total < limit {
            let ended = receiver.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout);
            given.look();
            if ended {
                if given.total > LONG {
                    eprintln!("{what}: took {:?} ({:?} by the clock)", given.total, begun.elapsed());
                }
                return;
            }
        }
        end_process(&format!(
            "{what}: no end after {limit:?} ({:?} by the clock): a deadlock or a livelock",
            begun.elapsed()
        ));
    });
    Deadline { sender: Some(sender), watch: Some(watch) }
}

/// Says why, and where each thread is, and ends the process. Of a long output often the end alone
/// is kept: the last lines are a line for each thread, and why.
fn end_process(why: &str) -> ! {
    static ENDS: AtomicBool = AtomicBool::new(false);
    while ENDS.swap(true, Ordering::Relaxed) {
        // Another test has hung as well, and its thread ends the process when it has said so.
        eprintln!("{why}");
        std::thread::sleep(Duration::from_secs(60));
    }
    // SAFETY: no memory is involved. What follows may wait for a lock that one of the hanging
    // threads has.
    unsafe { libc::alarm(60) };
    eprintln!("{why}");
    // The first backtrace reads what is known of the program, which takes seconds on a slow
    // machine.
    drop(Backtrace::force_capture().to_string());
    let lines = print_threads();
    eprintln!();
    lines.iter().for_each(|line| eprintln!("{line}"));
    eprintln!("{why}");
    std::process::abort();
}

/// The threads that have printed where they were.
static PRINTED: AtomicUsize = AtomicUsize::new(0);

/// The innermost frame of the project's of the thread that has printed last.
static INNERMOST: Mutex<String> = Mutex::new(String::new());

/// Of a thread that is asked by a signal. The process is about to end: that a handler may neither
/// allocate nor lock costs the other threads' lines where it goes wrong, and nothing else.
extern "C" fn print_thread(_: i32) {
    let frames = own_frames(&Backtrace::force_capture().to_string());
    frames.iter().for_each(|frame| eprintln!("    {frame}"));
    if let Ok(mut innermost) = INNERMOST.try_lock() {
        *innermost = frames.into_iter().next().unwrap_or_default();
    }
    PRINTED.fetch_add(1, Ordering::Release);
}

/// The frames of a backtrace that are the project's: function and place. What the standard library
/// and other crates do between them says nothing.
pub(crate) fn own_frames(backtrace: &str) -> Vec<String> {
    let lines: Vec<&str> = backtrace.lines().map(str::trim).collect();
    let frames = lines.windows(2).filter_map(|lines| {
        let (_, function) = lines[0].split_once(": ").filter(|(number, _)| number.parse::<u32>().is_ok())?;
        let place = lines[1].strip_prefix("at ")?;
        let others = ["/rustc/", "/registry/", "/.rustup/", "common/deadline.rs"];
        let is_own = place.contains(".rs:") && !others.iter().any(|other| place.contains(other));
        is_own.then(|| format!("{function} at {place}"))
    });
    frames.collect()
}

/// Prints where each thread of the process is, one after the other, and gives a line for each. Of a
/// thread that does not answer in two seconds (it may have been in the allocator, whose lock it
/// then waits for) only its state is known.
fn print_threads() -> Vec<String> {
    // SAFETY: the signal is used for nothing else, and the handler is a function that stays.
    unsafe { libc::signal(libc::SIGUSR2, print_thread as *const () as usize) };
    let this = fs::read_link("/proc/thread-self").unwrap();
    let begun = Instant::now();
    let mut lines = Vec::new();
    for thread in
        fs::read_dir("/proc/self/task").unwrap().flatten().filter(|t| Some(&*t.file_name()) != this.file_name())
    {
        let read = |file| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let (name, state, at) = (read("comm"), stat(&thread.path().join("stat")), read("wchan"));
        // One that has ended meanwhile has none.
        let Some(state) = state.first() else { continue };
        let mut line = format!("thread {}, {}, {state}, {at}", thread.file_name().display(), name.trim());
        eprintln!("{line}");
        let Ok(id) = thread.file_name().to_string_lossy().parse::<libc::pid_t>() else { continue };
        let (printed, asked) = (PRINTED.load(Ordering::Acquire), Instant::now());
        // SAFETY: asks a thread of this process for what `print_thread` does.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, libc::SIGUSR2) };
        let answered = || PRINTED.load(Ordering::Acquire) != printed;
        // With backtraces that take long, or threads that do not answer, the last lines come in
        // time all the same.
        while !answered() && asked.elapsed() < PATIENCE && begun.elapsed() < 15 * PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let innermost = INNERMOST.try_lock().map(|innermost| innermost.clone()).unwrap_or_default();
        line += &if answered() { format!(": {innermost}") } else { ": does not answer".to_owned() };
        lines.push(line);
    }
    lines
}

/// How long a thread may take to say where it is.
const PATIENCE: Duration = Duration::from_secs(2);

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
        // A thread that wakes up late had no processor: all of the machine stood still, or others
        // had it.
        let passed = (now - self.looked).min(2 * LOOK);
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
