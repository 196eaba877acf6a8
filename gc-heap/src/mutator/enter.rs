//! Entering a heap, leaving it, and waiting outside.

use super::Mutator;
use crate::error::EnterError;
use crate::events::loss;
use crate::heap::Heap;
use crate::inner::HeapInner;
use crate::world::record::MutatorRecord;
use gc_core::fault::{FaultStack, unblock_faults};
use gc_core::sys::{Process, SysError, ThreadName};
use std::cell::{Cell, OnceCell};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Nobody is active.
const NOBODY: u64 = 0;

/// The first that is active as no mutator, see [`as_if_inside`]; mutators have lower numbers.
static NEXT_OTHER: AtomicU64 = AtomicU64::new(1 << 63);

/// The number of the next thread.
static NEXT_THREAD: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The number of the mutator that is active on this thread, over all heaps. Everybody who changes it says who has to be
    /// there: on one stack that is so, because calls return in the order of their making. A program that switches stacks
    /// (coroutines) can return in another, and would have two mutators at work.
    static ACTIVE: Cell<u64> = const { Cell::new(NOBODY) };

    /// This thread, once it was asked for.
    static THREAD: Cell<Option<Thread>> = const { Cell::new(None) };

    /// What a thread needs that serves its own faults, from its first time in a heap with the page barrier until it ends.
    static FAULTS: OnceCell<FaultStack> = const { OnceCell::new() };
}

/// Makes the thread ready to serve its own faults: for good, or, in the destructors at its end, as long as what is given.
fn serve_faults() -> Result<Option<FaultStack>, SysError> {
    FAULTS
        .try_with(|faults| match faults.get() {
            // The program may have blocked the signal since.
            Some(_) => unblock_faults().map(|()| None),
            None => FaultStack::new().map(|stack| {
                faults.get_or_init(|| stack);
                None
            }),
        })
        .unwrap_or_else(|_| FaultStack::new().map(Some))
}

/// Whether this thread is inside a heap, and not in `blocking`.
pub(crate) fn is_inside() -> bool {
    ACTIVE.get() != NOBODY
}

/// Runs `f` while this thread counts as inside a heap, so that it can enter none.
pub(crate) fn as_if_inside<R>(f: impl FnOnce() -> R) -> R {
    struct Before {
        active: u64,
        own: u64,
    }
    impl Drop for Before {
        fn drop(&mut self) {
            expect(self.own, format_args!("a listener has returned"));
            ACTIVE.set(self.active);
        }
    }
    let own = NEXT_OTHER.fetch_add(1, Ordering::Relaxed);
    let _before = Before { active: ACTIVE.replace(own), own };
    f()
}

/// Ends the process unless so-and-so is active on this thread.
#[inline]
fn expect(active: u64, event: std::fmt::Arguments<'_>) {
    if ACTIVE.get() != active {
        out_of_order(event, format_args!("{}", Who(ACTIVE.get())));
    }
}

/// Who is active, for people.
struct Who(u64);

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            NOBODY => f.write_str("no mutator is active on this thread"),
            number if number >> 63 == 0 => write!(f, "mutator {number} is active on this thread"),
            _ => f.write_str("a listener runs on this thread"),
        }
    }
}

/// The end, with a line. Not a panic: the unwinding would run destructors and `catch_unwind` with two mutators active, or
/// with one on another thread than its own, and each reference in hand may then be used with the wrong one.
#[cold]
#[inline(never)]
fn out_of_order(event: std::fmt::Arguments<'_>, found: std::fmt::Arguments<'_>) -> ! {
    // `eprintln!` panics where nobody reads.
    let _ = writeln!(
        std::io::stderr(),
        "parallax: {event}, but {found}: a coroutine was switched, moved or leaked inside a heap; stacks must leave heaps, and \
         return from `blocking`, in the opposite order of entering them, on the thread that entered"
    );
    std::process::abort();
}

/// A thread.
#[derive(Clone, Copy)]
pub(crate) struct Thread {
    /// No other has it, also after this one has ended. (The kernel's comes again, and so does the address of what is thread-local.)
    number: u64,
    /// The kernel's.
    pub(crate) id: u32,
    /// As it was when the thread first entered a heap.
    pub(crate) name: ThreadName,
    process: Process,
}

/// This thread. Asks the kernel the first time only.
fn this_thread() -> Thread {
    match THREAD.get() {
        // A child made by `fork` has a copy, and is another thread.
        Some(thread) if thread.process.is_current() => thread,
        _ => {
            let (id, name) = gc_core::sys::this_thread();
            let number = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
            let thread = Thread { number, id, name, process: Process::current() };
            THREAD.set(Some(thread));
            thread
        }
    }
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
    inner: Arc<HeapInner>,
    /// Set from entering to leaving. A coroutine that is leaked inside never leaves.
    entered: Cell<bool>,
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
        let inner = Arc::clone(heap.inner());
        if !inner.process.is_current() {
            return Err(EnterError::Forked);
        }
        let losses = inner.config.records_losses().then(loss::ring);
        let record = MutatorRecord::new(&inner.root_memory, losses)
            .map_err(|no| no.0.map_or(EnterError::NoAddressSpace, EnterError::System))?;
        let record = Arc::new(record);
        let mutator = Box::new(Mutator::new(Arc::clone(&inner), &record));
        // The lock that a stop holds: a thread attaches before it or after it.
        let attaching = inner.attaching.lock();
        inner.mutators.lock().push(Arc::clone(&record));
        drop(attaching);
        Ok(HeapThread { mutator, record, inner, entered: Cell::new(false), _heap: heap.clone() })
    }

    /// Runs `f` inside the heap. Waits while a stop is under way; the thread takes part in stops until `f` returns.
    ///
    /// # Errors
    /// [`EnterError::AlreadyEntered`] if this thread is inside a heap and not in [`Mutator::blocking`];
    /// [`EnterError::System`]; [`EnterError::Forked`] in a child made by `fork`.
    pub fn enter<R>(&mut self, f: impl for<'m, 's> FnOnce(&'m mut Mutator<'s>) -> R) -> Result<R, EnterError> {
        if !self.inner.process.is_current() {
            return Err(EnterError::Forked);
        }
        if is_inside() {
            return Err(EnterError::AlreadyEntered);
        }
        self.expect_parked("entered");
        let _faults = match self.inner.pages.is_some().then(serve_faults) {
            None => None,
            Some(Ok(faults)) => faults,
            Some(Err(error)) => return Err(EnterError::System(error)),
        };
        self.record.set_thread(this_thread());
        ACTIVE.set(self.record.number);
        if self.entered.replace(true) {
            self.keep_record();
        }
        let entered = Entered { mutator: &mut self.mutator, entered: &self.entered };
        entered.mutator.record_losses();
        entered.mutator.unpark();
        Ok(f(entered.mutator))
    }

    /// Ends the process if the stack that was inside is gone without having left: its mutator still counts as running, and
    /// each stop would wait for it.
    fn expect_parked(&self, event: &str) {
        if self.record.state.is_running() {
            let (heap, number) = (&self.inner.config.name, self.record.number);
            out_of_order(
                format_args!("the `HeapThread` of mutator {number} of heap `{heap}` was {event}"),
                format_args!("that mutator is inside"),
            );
        }
    }

    /// The stack that was inside is gone, in `blocking`. The thread that it was on may have the ring in hand, see `loss`: the
    /// record stays for ever.
    fn keep_record(&self) {
        std::mem::forget(Arc::clone(&self.record));
    }
}

/// Leaves the heap, also on unwinding.
struct Entered<'a> {
    mutator: &'a mut Mutator<'static>,
    entered: &'a Cell<bool>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mutator = &mut *self.mutator;
        mutator.expect_active("leaves");
        // Frames may have been forgotten: nothing refers to the locals any more.
        mutator.pop_to(mutator.record().locals_base());
        mutator.release_reserved();
        mutator.park();
        loss::record_to_nobody();
        ACTIVE.set(NOBODY);
        self.entered.set(false);
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
            // The collector that would have to know is the parent's, and a lock may be held by a thread of the parent's.
            return;
        }
        self.expect_parked("dropped");
        if self.entered.get() {
            self.keep_record();
        }
        // Parked: closing a block is a hand-over that the collector may see at any time.
        self.mutator.reclaim_tlabs();
        self.mutator.retire();
        // Not `attaching`, which a stop holds while it may wait for this very thread (inside the heap by another
        // `HeapThread`). A stop that is under way has its own list, and asks nothing of a parked thread.
        self.inner.mutators.lock().retain(|record| !Arc::ptr_eq(record, &self.record));
        if let Some(ring) = &self.record.losses {
            ring.flush();
            self.inner.take_losses(std::slice::from_ref(&self.record));
        }
    }
}

/// Returns from a parked wait, also on unwinding.
struct Away<'a, 's> {
    mutator: &'a mut Mutator<'s>,
    thread: u64,
}

impl Drop for Away<'_, '_> {
    fn drop(&mut self) {
        let mutator = &mut *self.mutator;
        if ACTIVE.get() != NOBODY || self.thread != this_thread().number {
            mutator.returns_out_of_order();
        }
        ACTIVE.set(mutator.record().number);
        mutator.record_losses();
        if mutator.inner().pages.is_some() {
            // What ran outside may have blocked it. Where a sandbox refuses to unblock it, it refused to block it.
            let _ = unblock_faults();
        }
        mutator.unpark();
    }
}

impl<'s> Mutator<'s> {
    /// Runs `f` outside the heap: for system calls, locks, joins, anything that waits. A safepoint before and after;
    /// meanwhile the thread counts as stopped, so it delays nobody. `f` may enter another heap.
    ///
    /// Ends the process with a line (`abort`) where it returns while another mutator is active on the thread, or on another thread:
    /// where a coroutine was switched in `f`, and comes back out of order.
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
    ///             // `letters.recv()` outside of `blocking` would hold up every stop until a letter comes.
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
        self.park();
        ACTIVE.set(NOBODY);
        let _away = Away { mutator: self, thread: this_thread().number };
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
        out_of_order(
            format_args!("mutator {number} of heap `{heap}` returns from `blocking`"),
            format_args!("it was called on another thread"),
        );
    }

    /// The thread's faults go to this mutator's ring, where the heap records them.
    fn record_losses(&self) {
        match &self.record().losses {
            Some(ring) => loss::record_to(ring, &self.inner),
            None => loss::record_to_nobody(),
        }
    }
}
