//! System calls of the collector that were refused.

use crate::lock::Mutex;
use gc_core::sys::SysError;

/// The refused system calls of the collector: to uncommit memory, to unmap pages for a flip, or to
/// have a short time slice. The heap continues without, and tries again at the next occasion; no
/// call of the program fails.
///
/// The time slice is requested once, when the collector's thread begins (`sched_getattr` and
/// `sched_setattr`, which some sandboxes refuse). Without it a mutator that wakes up while a cycle
/// runs waits up to about 3 ms for its processor. A thread of another policy than `SCHED_OTHER` and
/// `SCHED_BATCH` requests none.
///
/// ```
/// let heap = gc_heap::Heap::builder().max_bytes(16 << 20).build()?;
/// heap.collect();
/// heap.release_memory();
/// let refusals = heap.refusals();
/// assert!(refusals.count == 0, "the last of {}: {}", refusals.count, refusals.last.unwrap());
/// # Ok::<(), gc_heap::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusals {
    /// Number of refusals since the heap was built.
    pub count: u64,
    /// The last one: the call, its arguments, and the errno.
    pub last: Option<SysError>,
}

/// The record of refusals.
#[derive(Default)]
pub(crate) struct Noted(pub(crate) Mutex<Refusals>);

impl Noted {
    pub(crate) fn note(&self, error: SysError) {
        let noted = &mut *self.0.lock();
        noted.count += 1;
        noted.last = Some(error);
    }
}
