//! Which process this is: `fork(2)` makes a child that has a copy of everything, and is another.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// Forks between the program's start and this process.
static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
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
        static TELL: Once = Once::new();
        TELL.call_once(|| {
            // SAFETY: the handler adds to an atomic, which may be done in the child of a process of many threads.
            unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        });
        Process { forks: FORKS.load(Ordering::Relaxed) }
    }

    /// Whether this is still that process: one load.
    #[inline]
    pub fn is_current(self) -> bool {
        self.forks == FORKS.load(Ordering::Relaxed)
    }
}
