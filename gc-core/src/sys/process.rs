//! Which process this is: `fork(2)` makes a child that has a copy of everything, and is another.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Forks between the program's start and this process.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Guards what the heaps of a process share.
static SHARED: Mutex<()> = Mutex::new(());

thread_local! {
    /// The lock, while its thread forks.
    static FORKING: Cell<Option<MutexGuard<'static, ()>>> = const { Cell::new(None) };
}

/// No thread is inside [`shared_state`] while another forks: the child would have the lock held by a thread that it does not
/// have.
extern "C" fn before_fork() {
    let guard = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    // Fails in a thread that is ending: then the fork goes on without.
    let _ = FORKING.try_with(|forking| forking.set(Some(guard)));
}

extern "C" fn in_parent() {
    let _ = FORKING.try_with(Cell::take);
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    in_parent();
}

/// Installs the handlers, once. Who comes second goes on before that is done, and need not wait: a `Once` that is being run while
/// another thread forks is run for ever in the child.
fn tell_children() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        // SAFETY: the handlers take a lock that is held for short times and by nobody who forks, and add to an atomic.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
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
