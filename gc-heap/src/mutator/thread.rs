//! Entering a heap, leaving it, and waiting outside.

use super::Mutator;
use super::record::MutatorRecord;
use crate::error::EnterError;
use crate::events::loss::{self, Recording};
use crate::heap::Heap;
use crate::shared::Shared;
use gc_core::fault::FaultStack;
use gc_core::sys::SysError;
use std::cell::{Cell, OnceCell};
use std::sync::Arc;

thread_local! {
    /// Whether a mutator of some heap is active on this thread.
    static ACTIVE: Cell<bool> = const { Cell::new(false) };

    /// What a thread needs that serves its own faults, from its first time in a heap with the page barrier until it ends.
    static FAULTS: OnceCell<FaultStack> = const { OnceCell::new() };
}

/// Makes the thread ready to serve its own faults: for good, or, in the destructors at its end, as long as what is given.
fn serve_faults() -> Result<Option<FaultStack>, SysError> {
    FAULTS
        .try_with(|faults| match faults.get() {
            Some(_) => Ok(None),
            None => FaultStack::new().map(|stack| {
                faults.get_or_init(|| stack);
                None
            }),
        })
        .unwrap_or_else(|_| FaultStack::new().map(Some))
}

/// Whether this thread is inside a heap, and not in `blocking`.
pub(crate) fn is_inside() -> bool {
    ACTIVE.get()
}

/// Runs `f` while this thread counts as inside a heap, so that it can enter none.
pub(crate) fn as_if_inside<R>(f: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ACTIVE.set(self.0);
        }
    }
    let _before = Before(ACTIVE.replace(true));
    f()
}

/// A thread's place in a heap, kept for many [`enter`](Self::enter)s. Between them it counts as parked.
///
/// `Send`: the threads of a pool may hand one on. Dropped at any moment, whatever phase the collector is in, as a thread may
/// end at any moment; what it allocated stays.
///
/// ```
/// use gc_heap::{Heap, OutOfMemory, Root, Trace};
///
/// #[derive(Trace)]
/// struct Task { number: usize }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let work = |first: usize| -> Result<Vec<Root<Task>>, OutOfMemory> {
///     let mut thread = heap.thread().expect("this thread is in no heap");
///     (first..first + 10)
///         .map(|number| {
///             let task = |m: &mut gc_heap::Mutator<'_>| -> Result<_, OutOfMemory> {
///                 let (m, task) = m.alloc_raw::<Task>(|_| TaskInit { number })?;
///                 Ok(Root::new(m, task))
///             };
///             thread.enter(task).expect("as above")
///         })
///         .collect()
/// };
/// let tasks: Vec<Root<Task>> = std::thread::scope(|scope| {
///     let threads: Vec<_> = (0..4).map(|t| scope.spawn(move || work(t * 10))).collect();
///     heap.collect(); // some have ended, some work, some have not begun
///     threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Result<Vec<_>, _>>()
/// })?
/// .into_iter()
/// .flatten()
/// .collect();
/// heap.collect();
/// let numbers: Vec<usize> = heap.enter(|m| tasks.iter().map(|task| task.get(m).number).collect())?;
/// assert!(numbers.into_iter().eq(0..40));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HeapThread {
    // Boxed: `Mutator` holds pointers to the record, and its address is what `&Mutator` promises.
    mutator: Box<Mutator<'static>>,
    record: Arc<MutatorRecord>,
    shared: Arc<Shared>,
    /// Keeps the collector alive while threads are attached.
    _heap: Heap,
}

// SAFETY: the mutator inside is reachable only within `enter`, which keeps it to the calling thread and publishes what it
// did when it parks; between two calls nothing in it refers to a thread.
unsafe impl Send for HeapThread {}

impl HeapThread {
    pub(crate) fn attach(heap: &Heap) -> Result<HeapThread, EnterError> {
        if is_inside() {
            // Attaching waits for a stop to end, and a stop would wait for this thread.
            return Err(EnterError::AlreadyEntered);
        }
        let shared = Arc::clone(heap.shared());
        if !shared.process.is_current() {
            return Err(EnterError::Forked);
        }
        let losses = shared.config.records_losses().then(loss::ring);
        let record = MutatorRecord::new(&shared.root_memory, losses).map_err(|_| EnterError::NoAddressSpace)?;
        let record = Arc::new(record);
        let mutator = Box::new(Mutator::new(Arc::clone(&shared), &record));
        // The lock that a stop holds: a thread attaches before it or after it.
        let attaching = shared.attaching.lock();
        shared.mutators.lock().push(Arc::clone(&record));
        drop(attaching);
        Ok(HeapThread { mutator, record, shared, _heap: heap.clone() })
    }

    /// Runs `f` inside the heap. Waits while a stop is under way; the thread takes part in stops until `f` returns.
    ///
    /// # Errors
    /// [`EnterError::AlreadyEntered`] if this thread is inside a heap and not in [`Mutator::blocking`];
    /// [`EnterError::Forked`] in a child made by `fork`.
    pub fn enter<R>(&mut self, f: impl for<'m, 's> FnOnce(&'m mut Mutator<'s>) -> R) -> Result<R, EnterError> {
        if !self.shared.process.is_current() {
            return Err(EnterError::Forked);
        }
        if ACTIVE.replace(true) {
            return Err(EnterError::AlreadyEntered);
        }
        let _faults = match self.shared.pages.is_some().then(serve_faults) {
            None => None,
            Some(Ok(faults)) => faults,
            Some(Err(_)) => {
                ACTIVE.set(false);
                return Err(EnterError::NoAddressSpace);
            }
        };
        let _losses = self.record.losses.as_ref().map(|ring| Recording::to(ring, &self.shared));
        let entered = Entered(&mut self.mutator);
        entered.0.unpark();
        Ok(f(entered.0))
    }
}

/// Leaves the heap, also on unwinding.
struct Entered<'a>(&'a mut Mutator<'static>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // Frames may have been forgotten: nothing refers to the locals any more.
        self.0.pop_to(self.0.record().locals_base());
        self.0.release_reserved();
        self.0.park();
        ACTIVE.set(false);
    }
}

impl std::fmt::Debug for HeapThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeapThread").field("heap", &self.shared.config.name).finish_non_exhaustive()
    }
}

impl Drop for HeapThread {
    fn drop(&mut self) {
        if !self.shared.process.is_current() {
            // The collector that would have to know is the parent's, and a lock may be held by a thread of the parent's.
            return;
        }
        // Parked: closing a block is a hand-over that the collector may see at any time.
        self.mutator.take_blocks_up();
        self.mutator.retire();
        // Not `attaching`, which a stop holds while it may wait for this very thread (inside the heap by another
        // `HeapThread`). A stop that is under way has its own list, and asks nothing of a parked thread.
        self.shared.mutators.lock().retain(|record| !Arc::ptr_eq(record, &self.record));
        if let Some(ring) = &self.record.losses {
            ring.flush();
            self.shared.take_losses(std::slice::from_ref(&self.record));
        }
    }
}

/// Returns from a parked wait, also on unwinding.
struct Away<'a, 's>(&'a mut Mutator<'s>);

impl Drop for Away<'_, '_> {
    fn drop(&mut self) {
        ACTIVE.set(true);
        self.0.unpark();
    }
}

impl<'s> Mutator<'s> {
    /// Runs `f` outside the heap: for system calls, locks, joins, anything that waits. A safepoint before and after;
    /// meanwhile the thread counts as stopped, so it delays nobody. `f` may enter another heap.
    ///
    /// ```
    /// use gc_heap::{Bytes, Heap, Room};
    /// use std::sync::mpsc;
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// let (sender, letters) = mpsc::channel::<Vec<u8>>();
    /// std::thread::scope(|scope| {
    ///     let heap = &heap;
    ///     let reader = scope.spawn(move || {
    ///         heap.enter(|m| -> Result<usize, gc_heap::OutOfMemory> {
    ///             let mut sum = 0;
    ///             // `letters.recv()` outside of `blocking` would hold up every stop until a letter comes.
    ///             while let Ok(letter) = m.blocking(|| letters.recv()) {
    ///                 let m = m.reserve(Room::tail::<Bytes>(letter.len()))?;
    ///                 sum += m.place_bytes::<Bytes>((), &letter).tail_len();
    ///             }
    ///             Ok(sum)
    ///         })
    ///     });
    ///     heap.collect(); // the reader waits, and this does not wait for it
    ///     sender.send(b"letter".to_vec()).unwrap();
    ///     drop(sender);
    ///     assert_eq!(reader.join().unwrap(), Ok(Ok(6)));
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn blocking<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.park();
        ACTIVE.set(false);
        let _away = Away(self);
        f()
    }

    /// As `blocking`, for the heap's own waits.
    pub(crate) fn parked<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.blocking(f)
    }
}
