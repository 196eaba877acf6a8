//! Finalization: notification of the death of objects, on the embedder's own threads.
//!
//! The collector runs no code of the embedder. It moves dead objects to a queue, which the embedder
//! drains when and where it likes. There are two kinds of queue:
//!
//! | | returns | the object |
//! | --- | --- | --- |
//! | [`FinalizerQueue`] | the object, as a [`Root`] | is revived |
//! | [`ResourceQueue`] | a value that was kept outside the heap | has died for good |
//!
//! The order within a cycle: weak references and ephemerons to the dead are cleared; then the
//! objects of finalizer queues are marked, with everything reachable from them; then weak
//! references found there are resolved; then the resources of objects that are still dead are
//! released; and only then the queues are filled.

use crate::active::is_inside;
use crate::barrier::{Place, access};
use crate::handles::Root;
use crate::inner::HeapInner;
use crate::inner::handle::Heap;
use crate::inner::registration::{FinalizerTarget, OnDeath, Registration};
use crate::lock::{Condvar, Mutex};
use crate::mutator::Mutator;
use crate::object::Trace;
use crate::roots::table::RootCell;
use crate::slot::words::RootWord;
use crate::slot::{Gc, Referent, SlotType};
use gc_core::sys::Process;
use gc_core::word::GoodWord;
use std::any::type_name;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// One queue. `P` is what is kept outside the heap for each object.
struct Queue<P> {
    state: Mutex<State<P>>,
    filled: Condvar,
    heap: Weak<HeapInner>,
    /// The one that the heap is in.
    process: Process,
}

/// A value in its own allocation, which an object refers to while this handle is moved. A `Box`
/// would assert at each move that no other pointer to the value exists.
struct Kept<P>(NonNull<P>);

// SAFETY: owns its value, as a `Box` does.
unsafe impl<P: Send> Send for Kept<P> {}

impl<P> Kept<P> {
    fn new(value: P) -> Kept<P> {
        Kept(NonNull::from(Box::leak(Box::new(value))))
    }

    /// Takes the value. No thread reads it any more: its object is dead.
    fn into_inner(self) -> P {
        let this = ManuallyDrop::new(self);
        // SAFETY: made by `new`, and taken out once, as `self` is gone.
        unsafe { *Box::from_raw(this.0.as_ptr()) }
    }
}

impl<P> Drop for Kept<P> {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and not taken out.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

struct State<P> {
    /// By key.
    kept: Vec<Option<Kept<P>>>,
    free: Vec<usize>,
    ready: VecDeque<(usize, Option<RootCell>)>,
    closed: bool,
    /// Why the collector has given up, if it has.
    failure: Option<String>,
}

impl<P: Send + 'static> Queue<P> {
    fn new(heap: &Heap) -> Arc<Queue<P>> {
        let inner = heap.inner();
        let state = State { kept: Vec::new(), free: Vec::new(), ready: VecDeque::new(), closed: false, failure: None };
        let (state, filled) = (Mutex::new(state), Condvar::new());
        let queue = Arc::new(Queue { state, filled, heap: Arc::downgrade(inner), process: inner.process });
        if !inner.process.is_current() {
            // Nobody fills it in a child made by `fork`, where the lock may be held for ever.
            return queue;
        }
        let mut sinks = inner.roots.targets.lock();
        // Drops queues without handles and registrations here, on a thread of the embedder.
        let ended: Vec<_> = sinks.extract_if(.., |sink| Arc::strong_count(sink) == 1).collect();
        sinks.push(Arc::<Queue<P>>::clone(&queue));
        drop(sinks);
        drop(ended);
        // A collector that fails says so first, and then tells the queues: either it has found this
        // one, or this finds it out.
        if let Some(why) = inner.schedule.requests.failure() {
            queue.fail(&why);
        }
        queue
    }

    /// Keeps a value. Returns its key and address.
    fn keep(&self, value: P) -> (usize, *const P) {
        let value = Kept::new(value);
        let address = value.0.as_ptr().cast_const();
        let mut state = self.state.lock();
        let key = match state.free.pop() {
            Some(key) => {
                state.kept[key] = Some(value);
                key
            }
            None => {
                state.kept.push(Some(value));
                state.kept.len() - 1
            }
        };
        (key, address)
    }

    /// `object`: the word of a good reference.
    fn watch(self: &Arc<Self>, m: &Mutator<'_>, object: GoodWord, end: OnDeath, key: usize) {
        let cell = access::new_root(&m.inner().roots.watched, Place::WeakRoot, object, m);
        m.inner().roots.new_registrations.push(Registration { cell, end, queue: Arc::<Queue<P>>::clone(self), key });
    }

    fn check(&self, m: &Mutator<'_>) {
        assert!(
            std::ptr::eq(self.heap.as_ptr(), m.inner_ptr()),
            "a queue of one heap was used with a mutator of another"
        );
    }

    fn pop(state: &mut State<P>) -> Option<(P, Option<RootCell>)> {
        let (key, revived) = state.ready.pop_front()?;
        let kept = state.kept[key].take().expect("a ready entry is kept until it is taken");
        state.free.push(key);
        Some((kept.into_inner(), revived))
    }

    fn take(&self) -> Option<(P, Option<RootCell>)> {
        Self::pop(&mut *self.state.lock_in(self.process)?)
    }

    fn wait(&self, timeout: Duration) -> Option<(P, Option<RootCell>)> {
        assert!(!is_inside(), "waiting for a queue inside a heap would block the cycle that fills it; use `blocking`");
        assert!(self.process.is_current(), "a child made by `fork` waited for a queue of its parent's heap");
        let until = Instant::now().checked_add(timeout);
        let mut state = self.state.lock();
        loop {
            if let Some(taken) = Self::pop(&mut state) {
                return Some(taken);
            }
            if state.closed {
                return None;
            }
            if let Some(why) = &state.failure {
                let why = why.clone();
                drop(state);
                panic!("the collector has failed: {why}");
            }
            match until {
                Some(until) => {
                    let over;
                    (state, over) = self.filled.wait_until(state, until);
                    if over {
                        return Self::pop(&mut state);
                    }
                }
                None => state = self.filled.wait(state),
            }
        }
    }

    fn ready(&self) -> usize {
        self.state.lock_in(self.process).map_or(0, |state| state.ready.len())
    }

    fn kept(&self) -> usize {
        self.state.lock_in(self.process).map_or(0, |state| state.kept.len() - state.free.len())
    }
}

impl<P: Send + 'static> FinalizerTarget for Queue<P> {
    fn publish(&self, key: usize, revived: Option<RootCell>) {
        self.state.lock().ready.push_back((key, revived));
        self.filled.notify_one();
    }

    fn close(&self) {
        let mut state = self.state.lock();
        // No object can be revived any more: drop revived roots, queue the values kept outside.
        state.ready.clear();
        let keys: Vec<_> = (0..state.kept.len()).filter(|&key| state.kept[key].is_some()).collect();
        state.ready.extend(keys.into_iter().map(|key| (key, None)));
        state.closed = true;
        self.filled.notify_all();
    }

    fn fail(&self, why: &str) {
        self.state.lock().failure = Some(why.to_owned());
        self.filled.notify_all();
    }
}

/// Returns objects that have become unreachable: once per registration, as a [`Root`].
///
/// The object is intact, with everything reachable from it, including other objects that died with
/// it, which may be registered themselves and are returned as well, in no particular order. Weak
/// references and ephemerons of live objects to them were cleared before. The embedder may keep the
/// object, register it again, or drop the root; then the next cycle frees it.
///
/// With [`AnyObject`](crate::AnyObject) for `T` the queue takes objects of any type.
///
/// A handle: clones are the same queue. Objects that are registered when the heap ends are not
/// returned: use a [`ResourceQueue`] for values that must be released in any case. Objects that are
/// not taken stay alive.
///
/// ```
/// use gc_heap::{FinalizerQueue, Heap, Trace};
///
/// #[derive(Trace)]
/// struct Connection { id: u64 }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let queue = FinalizerQueue::<Connection>::new(&heap);
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     {
///         let m = &mut *m.frame();
///         let connection = m.alloc::<Connection>(|_| ConnectionInit { id: 7 })?;
///         queue.register(m, connection.get(m));
///         assert!(queue.take().is_none());
///     }
///     m.collect();
///     let connection = queue.take().expect("it has died");
///     assert_eq!(connection.get(m).id, 7);
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FinalizerQueue<T> {
    queue: Arc<Queue<()>>,
    /// Invariant: of two types of which one is a subtype of the other, the objects may differ.
    _gives: PhantomData<fn(T) -> T>,
}

impl<T> Clone for FinalizerQueue<T> {
    fn clone(&self) -> Self {
        FinalizerQueue { queue: Arc::clone(&self.queue), _gives: PhantomData }
    }
}

impl<T: Referent> FinalizerQueue<T> {
    /// Holds the lock.
    #[cfg(test)]
    pub(crate) fn locked(&self) -> impl Sized {
        self.queue.state.lock()
    }

    /// An empty queue.
    #[must_use]
    pub fn new(heap: &Heap) -> FinalizerQueue<T> {
        FinalizerQueue { queue: Queue::new(heap), _gives: PhantomData }
    }

    /// Registers the object: this queue returns it once after it becomes unreachable. Takes locks
    /// briefly; never a safepoint.
    ///
    /// # Panics
    /// If the queue belongs to another heap than the mutator.
    pub fn register(&self, m: &Mutator<'_>, object: T::Loaded<'_>) {
        self.queue.check(m);
        let (key, _) = self.queue.keep(());
        self.queue.watch(m, T::to_word(object), OnDeath::Revive, key);
    }

    /// The next object that has died. Never waits. A child made by `fork` has a copy of the queue
    /// as it was then, whose roots it cannot read; nothing is in the copy if a thread was using the
    /// queue at that moment.
    #[must_use]
    pub fn take(&self) -> Option<Root<T>> {
        self.queue.take().and_then(|(_, revived)| revived.map(root))
    }

    /// The next object that has died; waits for one, at most `timeout`. `None` also when the heap
    /// has ended.
    ///
    /// # Panics
    /// If this thread is inside a heap: call it from [`Mutator::blocking`], or on a thread of its
    /// own. If the queue is empty and the collector has failed, before the call or during it:
    /// nothing is returned any more until the heap ends. If this process is a child made by `fork`:
    /// it has no collector.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<Root<T>> {
        self.queue.wait(timeout).and_then(|(_, revived)| revived.map(root))
    }

    /// Objects that have died and were not taken yet. In a child made by `fork` as
    /// [`take`](Self::take).
    #[must_use]
    pub fn ready(&self) -> usize {
        self.queue.ready()
    }
}

/// The root of a revived object of a queue of `S`.
fn root<S: SlotType>(cell: RootCell) -> Root<S> {
    // SAFETY: a `FinalizerQueue<S>` registers objects of its own type alone.
    Root::of(unsafe { RootWord::of(cell) })
}

impl<T> std::fmt::Debug for FinalizerQueue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FinalizerQueue<{}>", type_name::<T>())
    }
}

/// Keeps values outside the heap, each for an object, and returns each after its object has died.
///
/// This is how a value that needs [`Drop`] (a file, a socket, a buffer of another library) belongs
/// to a heap object: types that need drop are refused in objects. [`place`](Self::place) wraps the
/// value in an object; [`attach`](Self::attach) adds a value to an object of any type. The embedder
/// takes the values of dead objects on a thread of its own, and drops or reuses them there.
///
/// A value is returned exactly once, after its object has become unreachable, also from objects
/// that a [`FinalizerQueue`] has revived. When the heap ends, all objects die: the remaining values
/// are returned then, to owners of the queue; if there are none, the thread that dropped the heap
/// drops the values. A handle: clones are the same queue.
///
/// ```
/// use gc_heap::{Heap, Resource, ResourceQueue, AllocSize, Slot, Trace};
///
/// /// An object with what it must not hold itself.
/// #[derive(Trace)]
/// struct Log { lines: Slot<Resource<std::sync::Mutex<Vec<String>>>> }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let queue = ResourceQueue::new(&heap);
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let m = &mut *m.frame();
///     let room = AllocSize::of::<Log>() + AllocSize::of::<Resource<std::sync::Mutex<Vec<String>>>>();
///     let log = m.build::<Log>(room, |m| m.place(LogInit { lines: queue.place(m, Default::default()) }))?;
///     log.get(m).lines.get(m).get().lock().unwrap().push("first".into());
///     Ok(())
/// })??;
/// heap.collect();
/// let lines = queue.take().expect("the log has died").into_inner()?;
/// assert_eq!(lines, ["first"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ResourceQueue<R> {
    queue: Arc<Queue<R>>,
}

impl<R> Clone for ResourceQueue<R> {
    fn clone(&self) -> Self {
        ResourceQueue { queue: Arc::clone(&self.queue) }
    }
}

/// A heap object that stands for a value outside the heap: see [`ResourceQueue::place`].
///
/// Threads share it, so its value changes only through `Sync` types: an atomic, a lock, a file. A
/// reference to the value ends at the next safepoint, as one to the object does.
///
/// ```
/// use gc_heap::{Heap, Resource, ResourceQueue, AllocSize, Slot, Trace};
/// use std::sync::Mutex;
///
/// #[derive(Trace)]
/// struct Window { title: Slot<Resource<Mutex<String>>> }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let titles = ResourceQueue::<Mutex<String>>::new(&heap);
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     // AllocSize for the object that stands for the value, too.
///     let room = AllocSize::of::<Window>() + AllocSize::of::<Resource<Mutex<String>>>();
///     let window = m.build::<Window>(room, |m| {
///         m.place(WindowInit { title: titles.place(m, Mutex::new("new".into())) })
///     })?;
///     // The lock is not held over a safepoint: another thread that waits for it inside the heap would never reach one.
///     window.get(m).title.get(m).get().lock().unwrap().push_str(" file");
///     m.collect();
///     assert_eq!(*window.get(m).title.get(m).get().lock().unwrap(), "new file");
///     assert_eq!((titles.kept(), titles.ready()), (1, 0));
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Trace)]
pub struct Resource<R: Send + Sync + 'static> {
    address: usize,
    _is: PhantomData<fn(R) -> R>,
}

impl<R: Send + Sync + 'static> Resource<R> {
    /// The value.
    #[inline]
    #[must_use]
    pub fn get(&self) -> &R {
        // SAFETY: made by `place` from the address of a boxed `R`, which is taken out of its box
        // only after this object was found dead, or the heap has ended; a reference to it is a
        // reference to a live object.
        unsafe { &*std::ptr::with_exposed_provenance::<R>(self.address) }
    }
}

impl<R: Send + 'static> ResourceQueue<R> {
    /// Holds the lock.
    #[cfg(test)]
    pub(crate) fn locked(&self) -> impl Sized {
        self.queue.state.lock()
    }

    /// An empty queue.
    #[must_use]
    pub fn new(heap: &Heap) -> ResourceQueue<R> {
        ResourceQueue { queue: Queue::new(heap) }
    }

    /// Wraps a value in an object: places a `Resource<R>` within the reserved size, as
    /// [`Mutator::place`]. Takes locks briefly; never a safepoint.
    ///
    /// # Panics
    /// If the queue belongs to another heap than the mutator, and as [`Mutator::place`].
    pub fn place<'g>(&self, m: &'g Mutator<'_>, resource: R) -> Gc<'g, Resource<R>>
    where
        R: Sync,
    {
        self.queue.check(m);
        let (key, address) = self.queue.keep(resource);
        let object = m.place(ResourceInit { address: address.expose_provenance(), _is: PhantomData });
        self.queue.watch(m, object.word(), OnDeath::Release, key);
        object
    }

    /// Keeps a value for an object of any type. Takes locks briefly; never a safepoint.
    ///
    /// # Panics
    /// If the queue belongs to another heap than the mutator.
    pub fn attach<T: Trace>(&self, m: &Mutator<'_>, object: Gc<'_, T>, resource: R) {
        self.queue.check(m);
        let (key, _) = self.queue.keep(resource);
        self.queue.watch(m, object.word(), OnDeath::Release, key);
    }

    /// The next value whose object has died. Never waits. A child made by `fork` has a copy of the
    /// queue and of its values as they were then; nothing is in the copy if a thread was using the
    /// queue at that moment.
    #[must_use]
    pub fn take(&self) -> Option<R> {
        self.queue.take().map(|(kept, _)| kept)
    }

    /// The next value whose object has died; waits for one, at most `timeout`. `None` also when the
    /// heap has ended and no value is left.
    ///
    /// # Panics
    /// If this thread is inside a heap: call it from [`Mutator::blocking`], or on a thread of its
    /// own. If the queue is empty and the collector has failed, before the call or during it:
    /// nothing is returned any more until the heap ends. If this process is a child made by `fork`:
    /// it has no collector.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<R> {
        self.queue.wait(timeout).map(|(kept, _)| kept)
    }

    /// Number of values whose objects have died, and that were not taken yet. In a child made by
    /// `fork` as [`take`](Self::take).
    #[must_use]
    pub fn ready(&self) -> usize {
        self.queue.ready()
    }

    /// Number of kept values, including those that are ready. In a child made by `fork` as
    /// [`take`](Self::take).
    #[must_use]
    pub fn kept(&self) -> usize {
        self.queue.kept()
    }
}

impl<R> std::fmt::Debug for ResourceQueue<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ResourceQueue<{}>", type_name::<R>())
    }
}
