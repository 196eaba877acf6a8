//! Which process this is: `fork(2)` makes a child that has a copy of everything, and is another.

use super::inject::refused;
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Forks between the program's start and this process.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Guards what the heaps of a process share.
static SHARED: Mutex<()> = Mutex::new(());

/// The lock, while a thread that holds it forks.
struct Held(UnsafeCell<Option<MutexGuard<'static, ()>>>);

// SAFETY: the cell is used by the thread only that has `SHARED`: it puts the guard in and takes it out again.
unsafe impl Sync for Held {}

static HELD: Held = Held(UnsafeCell::new(None));

thread_local! {
    /// Whether this thread forks. Constant and without a destructor, so it is there in every thread at any time.
    static FORKING: Cell<bool> = const { Cell::new(false) };
}

/// No thread is inside [`shared_state`] while another forks: the child would have the lock held by a thread that it does not
/// have.
extern "C" fn before_fork() {
    // Where the handlers are installed twice, the first to come does it.
    if !FORKING.replace(true) {
        let guard = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: this thread has the lock.
        unsafe { *HELD.0.get() = Some(guard) };
    }
}

extern "C" fn in_parent() {
    if FORKING.replace(false) {
        // SAFETY: this thread, or the one that it is a copy of, has the lock since `before_fork`.
        drop(unsafe { (*HELD.0.get()).take() });
    }
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    in_parent();
}

/// Installs the handlers before it returns. Nobody waits for another thread here: what is half done while a third one forks stays
/// so in the child. So two threads may install them, and then each is called twice, which changes nothing.
fn tell_children() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.load(Ordering::Acquire) {
        // SAFETY: the handlers take a lock that is held for short times and by nobody who forks, and add to an atomic.
        let _ = refused("pthread_atfork")
            || unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) } != 0;
        TOLD.store(true, Ordering::Release);
    }
}

/// The right to change what the heaps of the process share. `fork(2)` waits for its end, so that a child finds that state whole,
/// and nobody at it. Blocks while another thread has it; not to be asked for twice, nor by a signal handler.
pub fn shared_state() -> MutexGuard<'static, ()> {
    tell_children();
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process in which this was made. A child made by `fork(2)` finds in its copy that it is another.
///
/// A child made by a bare `clone(2)` or `vfork(2)` is not told: those call no handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    forks: u32,
}

impl Process {
    /// This process. The first call has the C library tell children, by `pthread_atfork(3)`; where it has no memory for that,
    /// every process counts as the first.
    pub fn current() -> Process {
        tell_children();
        Process { forks: FORKS.load(Ordering::Relaxed) }
    }

    /// Whether this is still that process: one load.
    #[inline]
    pub fn is_current(self) -> bool {
        self.forks == FORKS.load(Ordering::Relaxed)
    }
}
