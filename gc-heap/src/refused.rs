//! What the system refused where nobody waits for an answer.

use crate::lock::Mutex;
use gc_core::sys::SysError;

/// The system calls that the collector made by itself and that were refused: to give memory back, to take pages away. The heap does
/// without what they were for, and tries again at the next occasion; nobody's call fails.
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
    /// How many, since the heap was built.
    pub count: u64,
    /// The last of them: the call, its arguments, and the errno.
    pub last: Option<SysError>,
}

/// Where they are noted.
#[derive(Default)]
pub(crate) struct Noted(pub(crate) Mutex<Refusals>);

impl Noted {
    pub(crate) fn note(&self, error: SysError) {
        let noted = &mut *self.0.lock();
        noted.count += 1;
        noted.last = Some(error);
    }
}
