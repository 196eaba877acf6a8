//! The handle of a heap, and what happens when the last one goes.

use crate::inner::HeapInner;
use crate::warning::BuildWarning;
use gc_core::fault::Registration;
use std::cell::Cell;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A garbage-collected heap. A handle: clones are the same heap, which ends with the last of them.
///
/// A process may have many; each has its own collector, and its pauses stop only the threads inside
/// it. A thread is inside one heap at a time, and no reference leads from one heap into another:
///
/// ```
/// use gc_heap::{Bytes, EnterError, Heap, OutOfMemory, AllocSize};
///
/// let [one, two] = [Heap::builder().max_bytes(8 << 20).build()?, Heap::builder().max_bytes(16 << 20).build()?];
/// one.enter(|m| -> Result<(), OutOfMemory> {
///     let text = m.build::<Bytes>(AllocSize::tail::<Bytes>(4), |m| m.place_bytes((), b"mine"))?;
///     assert_eq!(two.enter(|_| ()), Err(EnterError::AlreadyEntered));
///     let copy = text.get(m).tail().to_vec(); // what goes over is a copy
///     let len = m.blocking(|| {
///         two.enter(|m| -> Result<usize, OutOfMemory> {
///             let m = m.reserve(AllocSize::tail::<Bytes>(copy.len()))?;
///             Ok(m.place_bytes::<Bytes>((), &copy).tail_len())
///         })
///     });
///     assert_eq!(len, Ok(Ok(4)));
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # fork
///
/// A child made by `fork` has a copy of the handle, but not the heap: entering is refused with
/// [`EnterError::Forked`](crate::EnterError::Forked), functions that need the collector panic, and
/// dropping it changes nothing. `exec` works from anywhere, and so does [`std::process::Command`].
/// The parent is not disturbed. The child can build heaps of its own, however many threads its
/// parent had.
///
/// ```
/// use gc_heap::{EnterError, Heap};
///
/// let heap = Heap::builder().max_bytes(8 << 20).build()?;
/// // SAFETY: a process with threads was copied with one of them, so the child does only what takes no lock: it asks the heap, and
/// // ends by `_exit`.
/// let child = unsafe { libc::fork() };
/// if child == 0 {
///     let refused = heap.enter(|_| ()) == Err(EnterError::Forked);
///     // SAFETY: ends the child at once, without the exit handlers of the parent.
///     unsafe { libc::_exit(if refused { 0 } else { 1 }) }
/// }
/// let mut status = 0;
/// // SAFETY: waits for the child above; the status is this frame's.
/// assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
/// assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
/// heap.enter(|m| m.collect())?; // the parent goes on
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Heap {
    owner: Arc<Owner>,
}

struct Owner {
    /// Goes to the [`Ending`].
    faults: Option<Registration>,
    inner: Arc<HeapInner>,
    collector: Option<JoinHandle<()>>,
    /// What building the heap had to say.
    warnings: Vec<BuildWarning>,
    /// The process that the heap is in. A child made by `fork` has a copy of this value, and
    /// neither the heap's memory nor its collector.
    process: u32,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // The child has no thread to join, and threads that it does not have may hold locks for
            // ever.
            std::mem::forget((self.faults.take(), self.collector.take()));
            // A thread of the parent may have been pushing to one of the queues, so no queue may be
            // dropped.
            std::mem::forget(Arc::clone(&self.inner));
            return;
        }
        self.inner.schedule.requests.shutdown();
        let ending = Ending { faults: self.faults.take(), inner: Arc::clone(&self.inner) };
        let Some(thread) = self.collector.take() else { return };
        if thread.thread().id() == std::thread::current().id() {
            // In a listener, on the collector thread: the collector ends the heap when it has
            // finished, because it cannot wait for itself. If it is already in its thread-local
            // destructors, it does not take this any more, and the heap ends here.
            let _ = ENDING.try_with(|slot| slot.set(Some(ending)));
            return;
        }
        // A failed collector has reported the reason to the waiting threads; no one else needs it.
        let _ = thread.join();
    }
}

thread_local! {
    /// On a collector thread: the end of its heap, if this thread must perform it.
    pub(crate) static ENDING: Cell<Option<Ending>> = const { Cell::new(None) };
}

/// Ends a heap when dropped. The collector has stopped.
pub(crate) struct Ending {
    faults: Option<Registration>,
    inner: Arc<HeapInner>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        // All objects have died. Values whose queue has no owner any more are dropped here, on this
        // thread.
        let sinks = std::mem::take(&mut *self.inner.roots.targets.lock());
        while self.inner.roots.new_registrations.pop().is_some() {}
        sinks.iter().for_each(|sink| sink.close());
        // Before the memory is unmapped. No thread is attached any more: each keeps a handle of the
        // heap.
        drop(self.faults.take());
    }
}

impl Heap {
    pub(crate) fn new(
        inner: Arc<HeapInner>,
        collector: JoinHandle<()>,
        faults: Option<Registration>,
        warnings: Vec<BuildWarning>,
    ) -> Heap {
        let (collector, process) = (Some(collector), std::process::id());
        Heap { owner: Arc::new(Owner { inner, collector, faults, warnings, process }) }
    }

    pub(crate) fn build_warnings(&self) -> &[BuildWarning] {
        &self.owner.warnings
    }

    pub(crate) fn inner(&self) -> &Arc<HeapInner> {
        &self.owner.inner
    }
}

impl std::fmt::Debug for Heap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heap")
            .field("name", &self.inner().config.name)
            .field("max_bytes", &self.max_bytes())
            .field("barrier", &self.inner().config.barrier)
            .finish_non_exhaustive()
    }
}
