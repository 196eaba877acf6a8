//! Identity of the process: tells a child made by `fork(2)`, which has a copy of all memory, from
//! its parent.

use super::inject::refused;
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Forks between the program's start and this process.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Guards the state shared by all heaps of the process.
static SHARED: Mutex<()> = Mutex::new(());

/// The guard of `SHARED` while the thread that holds it forks.
struct Held(UnsafeCell<Option<MutexGuard<'static, ()>>>);

// SAFETY: only the thread that holds `SHARED` uses the cell: it stores the guard and takes it out
// again.
unsafe impl Sync for Held {}

static HELD: Held = Held(UnsafeCell::new(None));

thread_local! {
    /// Whether this thread is in `fork`. Const-initialized and without a destructor, so it can be
    /// used in every thread at any time.
    static FORKING: Cell<bool> = const { Cell::new(false) };
}

/// Takes the lock, so that no other thread holds [`shared_state`] during the fork: in the child the
/// lock would be held by a thread that does not exist there.
extern "C" fn before_fork() {
    // If the handlers are registered twice, only the first call takes the lock.
    if !FORKING.replace(true) {
        let guard = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: this thread holds the lock.
        unsafe { *HELD.0.get() = Some(guard) };
    }
}

extern "C" fn in_parent() {
    if FORKING.replace(false) {
        // SAFETY: this thread, or the one that it is a copy of, holds the lock since `before_fork`.
        drop(unsafe { (*HELD.0.get()).take() });
    }
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    in_parent();
}

/// Registers the fork handlers. Deliberately not a `Once`: one that is running while another thread
/// forks would never complete in the child. Two threads may both register the handlers; they are
/// idempotent.
fn tell_children() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.load(Ordering::Acquire) {
        // SAFETY: the handlers take a lock that is held briefly and never by a thread that calls
        // `fork`, and add to an atomic.
        let _ = refused("pthread_atfork")
            || unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) } != 0;
        TOLD.store(true, Ordering::Release);
    }
}

/// Locks the state shared by all heaps of the process. `fork(2)` takes this lock first, so a child
/// never inherits the state half-updated or the lock held by a thread that it does not have. Blocks
/// while another thread holds it. Not reentrant; not async-signal-safe.
pub fn shared_state() -> MutexGuard<'static, ()> {
    tell_children();
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process in which this value was created. In a child made by `fork(2)`, the copy shows that
/// it is another process.
///
/// A child made by a bare `clone(2)` or `vfork(2)` is not detected: those run no fork handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    forks: u32,
}

impl Process {
    /// The current process. The first call registers handlers by `pthread_atfork(3)`; if that fails
    /// for lack of memory, children are not detected.
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
