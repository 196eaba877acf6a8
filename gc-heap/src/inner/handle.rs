//! The handle of a heap, and what happens when the last one goes.

use crate::inner::HeapInner;
use crate::warning::BuildWarning;
use gc_core::fault::Registration;
use std::cell::Cell;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A garbage-collected heap. A handle: clones are the same heap, which ends with the last of them.
///
/// A process may have many; each has its collector, and its stops concern nobody but the threads inside it. A thread is
/// inside one at a time, and no reference leads from one into another:
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
/// A child made by `fork` has a copy of the handle, and nothing behind it: entering is refused with [`EnterError::Forked`], what
/// needs the collector panics, and dropping it changes nothing. `exec` works from anywhere, and so does
/// [`std::process::Command`]. The parent is not disturbed. The child can build heaps of its own, however many threads its parent had.
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
    /// The process that the heap is in. A child made by `fork` has a copy of this value, and neither the heap's memory nor
    /// its collector.
    process: u32,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // There is no thread to join, and locks may be held for ever by threads that the child does not have.
            std::mem::forget((self.faults.take(), self.collector.take()));
            // A thread of the parent's may have been pushing on one of its queues: no such queue can be dropped.
            std::mem::forget(Arc::clone(&self.inner));
            return;
        }
        self.inner.schedule.requests.shutdown();
        let ending = Ending { faults: self.faults.take(), inner: Arc::clone(&self.inner) };
        let Some(thread) = self.collector.take() else { return };
        if thread.thread().id() == std::thread::current().id() {
            // In a listener, on the collector thread: it ends the heap when it is through, as it cannot wait for itself. Where
            // it is past that, in its thread-locals' destructors, nobody takes this, and the heap ends here.
            let _ = ENDING.try_with(|slot| slot.set(Some(ending)));
            return;
        }
        // A collector that failed has said why to those who wait; there is nobody left to tell.
        let _ = thread.join();
    }
}

thread_local! {
    /// On a collector thread: the end of its heap, where that fell to it.
    pub(crate) static ENDING: Cell<Option<Ending>> = const { Cell::new(None) };
}

/// The end of a heap, made when this is dropped. The collector is at work no more.
pub(crate) struct Ending {
    faults: Option<Registration>,
    inner: Arc<HeapInner>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        // All objects have died. What nobody has a queue for any more is dropped here, on this thread.
        let sinks = std::mem::take(&mut *self.inner.roots.targets.lock());
        while self.inner.roots.new_registrations.pop().is_some() {}
        sinks.iter().for_each(|sink| sink.close());
        // Before the memory ends. No thread is attached any more: each keeps a handle of the heap.
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
