//! Entering a heap, leaving it, and waiting outside.

use super::Mutator;
use crate::active::{ACTIVE, NOBODY, Who, inside_in_a_child, is_inside, out_of_order, this_thread};
use crate::error::EnterError;
use crate::events::LossKind;
use crate::inner::HeapInner;
use crate::inner::handle::Heap;
use crate::inner::loss::{self, Recording};
use crate::inner::record::MutatorRecord;
use gc_core::fault::{FaultStack, unblock_faults};
use gc_core::sys::SysError;
use std::cell::OnceCell;
use std::sync::Arc;

thread_local! {
    /// The setup for serving this thread's faults, from its first entry into a heap with the page
    /// barrier until the thread ends.
    static FAULTS: OnceCell<FaultStack> = const { OnceCell::new() };
}

/// Prepares the thread to serve its own faults: for good, or, in thread-local destructors, as long
/// as the returned guard lives.
fn serve_faults() -> Result<Option<FaultStack>, SysError> {
    FAULTS
        .try_with(|faults| match faults.get() {
            // The program may have blocked the signal meanwhile.
            Some(_) => unblock_faults().map(|()| None),
            None => FaultStack::new().map(|stack| {
                faults.get_or_init(|| stack);
                None
            }),
        })
        .unwrap_or_else(|_| FaultStack::new().map(Some))
}

/// A thread attached to a heap, for many [`enter`](Self::enter)s. Between them it counts as parked.
///
/// `Send`: the threads of a pool may pass it on. It may be dropped at any moment, in any phase of
/// the collector, as a thread may end at any moment; the objects that it allocated stay.
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
    // Boxed: `Mutator` holds pointers to the record, and references to the mutator need a stable
    // address.
    mutator: Box<Mutator<'static>>,
    record: Arc<MutatorRecord>,
    inner: Arc<HeapInner>,
    recording: Arc<Recording>,
    /// Keeps the collector alive while threads are attached.
    _heap: Heap,
}

// SAFETY: the mutator inside is reachable only within `enter`, which confines it to the calling
// thread and publishes its changes when it parks; between two calls nothing in it refers to a
// thread.
unsafe impl Send for HeapThread {}

impl HeapThread {
    pub(crate) fn attach(heap: &Heap) -> Result<HeapThread, EnterError> {
        if is_inside() {
            // Attaching waits for the end of a pause, and the pause would wait for this thread.
            return Err(EnterError::AlreadyEntered);
        }
        let inner = Arc::clone(heap.inner());
        if !inner.process.is_current() {
            return Err(EnterError::Forked);
        }
        let record = MutatorRecord::new(&inner.roots.memory, &inner.config)
            .map_err(|no| no.0.map_or(EnterError::NoAddressSpace, EnterError::System))?;
        let record = Arc::new(record);
        let mutator = Box::new(Mutator::new(Arc::clone(&inner), Arc::clone(&record)));
        // The lock that a pause holds: a thread attaches before or after the pause.
        let attaching = match inner.world.attaching.try_lock() {
            Some(attaching) => attaching,
            None => {
                let begin_ns = inner.report.events.now();
                let attaching = inner.world.attaching.lock();
                let ns = inner.report.events.now() - begin_ns;
                record.account.note(&inner, LossKind::Attaching, begin_ns, ns);
                attaching
            }
        };
        inner.world.mutators.lock().push(Arc::clone(&record));
        drop(attaching);
        let recording = Recording::new(&record, &inner);
        Ok(HeapThread { mutator, record, inner, recording, _heap: heap.clone() })
    }

    /// Runs `f` inside the heap. Waits while a pause is in progress; the thread takes part in
    /// pauses until `f` returns.
    ///
    /// # Errors
    /// [`EnterError::AlreadyEntered`] if this thread is inside a heap and not in
    /// [`Mutator::blocking`]; [`EnterError::System`]; [`EnterError::Forked`] in a child made by
    /// `fork`.
    pub fn enter<R>(&mut self, f: impl for<'m, 's> FnOnce(&'m mut Mutator<'s>) -> R) -> Result<R, EnterError> {
        if !self.inner.process.is_current() {
            return Err(EnterError::Forked);
        }
        if is_inside() {
            return Err(EnterError::AlreadyEntered);
        }
        self.expect_parked("entered");
        let _faults = match self.inner.relocation.takes_faults().then(serve_faults) {
            None => None,
            Some(Ok(faults)) => faults,
            Some(Err(error)) => return Err(EnterError::System(error)),
        };
        self.record.set_thread(this_thread());
        ACTIVE.set(self.record.number);
        let entered = Entered(&mut self.mutator);
        loss::record_to(Arc::clone(&self.recording), &self.inner);
        entered.0.unpark();
        Ok(f(entered.0))
    }

    /// Ends the process if the stack that was inside was dropped without leaving: its mutator still
    /// counts as running, and each pause would wait for it.
    fn expect_parked(&self, event: &str) {
        if self.record.state.is_running() {
            let (heap, number) = (&self.inner.config.name, self.record.number);
            out_of_order(
                format_args!("the `HeapThread` of mutator {number} of heap `{heap}` was {event}"),
                format_args!("that mutator is inside"),
            );
        }
    }
}

/// Leaves the heap, also on unwinding.
struct Entered<'a>(&'a mut Mutator<'static>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mutator = &mut *self.0;
        mutator.expect_active("leaves");
        // Frames may have been leaked (`mem::forget`): nothing refers to the locals any more.
        mutator.pop_to(mutator.record().locals_base());
        mutator.release_reserved();
        mutator.record().account.depart(mutator.inner());
        mutator.park();
        let _ = loss::record_to_nobody();
        ACTIVE.set(NOBODY);
    }
}

impl std::fmt::Debug for HeapThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeapThread").field("heap", &self.inner.config.name).finish_non_exhaustive()
    }
}

impl Drop for HeapThread {
    fn drop(&mut self) {
        if !self.inner.process.is_current() {
            // The collector is the parent's, and a thread of the parent may hold a lock.
            return;
        }
        self.expect_parked("dropped");
        // Parked: the collector may see the closed blocks at any time.
        self.mutator.tlabs.on_unpark(&self.record);
        self.mutator.retire();
        // Do not take `attaching`: a pause holds it while it may wait for this very thread (inside
        // the heap by another `HeapThread`). A pause in progress has its own list, and needs
        // nothing from a parked thread.
        self.inner.world.mutators.lock().retain(|record| !Arc::ptr_eq(record, &self.record));
        self.record.account.flush();
        if self.inner.config.records_losses() {
            self.inner.take_losses(std::slice::from_ref(&self.record));
        }
    }
}

/// Returns from a parked wait, also on unwinding.
struct Away<'a, 's> {
    mutator: &'a mut Mutator<'s>,
    thread: u64,
    recording: Option<Arc<Recording>>,
}

impl Drop for Away<'_, '_> {
    fn drop(&mut self) {
        let mutator = &mut *self.mutator;
        if ACTIVE.get() != NOBODY || self.thread != this_thread().number {
            mutator.returns_out_of_order();
        }
        ACTIVE.set(mutator.record().number);
        if let Some(recording) = self.recording.take() {
            loss::record_to(recording, mutator.inner());
        }
        if mutator.inner().relocation.takes_faults() {
            // The code that ran outside may have blocked the signal. A sandbox that refuses to
            // unblock it also refused to block it.
            let _ = unblock_faults();
        }
        mutator.unpark();
    }
}

impl<'s> Mutator<'s> {
    /// Runs `f` outside the heap: for system calls, locks, joins, and any other wait. A safepoint
    /// before and after; meanwhile the thread counts as parked, so it delays no other thread. `f`
    /// may enter another heap.
    ///
    /// Ends the process with a message (`abort`) if it returns on another thread, or while another
    /// mutator is active on the thread: a coroutine was switched in `f` and returns out of order.
    /// Likewise if it returns in a child made by `fork` in `f`: the heap is the parent's.
    ///
    /// ```
    /// use gc_heap::{Bytes, Heap, AllocSize};
    /// use std::sync::mpsc;
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// let (sender, letters) = mpsc::channel::<Vec<u8>>();
    /// std::thread::scope(|scope| {
    ///     let heap = &heap;
    ///     let reader = scope.spawn(move || {
    ///         heap.enter(|m| -> Result<usize, gc_heap::OutOfMemory> {
    ///             let mut sum = 0;
    ///             // `letters.recv()` outside of `blocking` would delay every pause until a letter arrives.
    ///             while let Ok(letter) = m.blocking(|| letters.recv()) {
    ///                 let m = m.reserve(AllocSize::tail::<Bytes>(letter.len()))?;
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
        self.expect_active("calls `blocking`");
        self.record().account.depart(self.inner());
        self.park();
        let recording = loss::record_to_nobody();
        ACTIVE.set(NOBODY);
        let _away = Away { mutator: self, thread: this_thread().number, recording };
        f()
    }

    /// As `blocking`, for the heap's own waits.
    pub(crate) fn parked<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.blocking(f)
    }

    /// Ends the process unless this mutator is the one that is active on this thread.
    pub(crate) fn expect_active(&self, event: &str) {
        if ACTIVE.get() != self.record().number {
            self.acts_out_of_order(event);
        }
    }

    #[cold]
    fn acts_out_of_order(&self, event: &str) -> ! {
        let (heap, number) = (&self.inner.config.name, self.record().number);
        out_of_order(format_args!("mutator {number} of heap `{heap}` {event}"), format_args!("{}", Who(ACTIVE.get())));
    }

    #[cold]
    fn returns_out_of_order(&self) -> ! {
        if ACTIVE.get() != NOBODY {
            self.acts_out_of_order("returns from `blocking`");
        }
        let (heap, number) = (&self.inner.config.name, self.record().number);
        let returns = format_args!("mutator {number} of heap `{heap}` returns from `blocking`");
        if !self.inner.process.is_current() {
            inside_in_a_child(returns);
        }
        out_of_order(returns, format_args!("it was called on another thread"));
    }
}
