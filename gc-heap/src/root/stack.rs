//! Root stacks: the operand stacks of a VM.
//!
//! A stack is a region of address space that is committed as it is touched. It never moves, so no word is ever copied
//! raw from slot to slot. Its first page holds the words that the collector and the owner share.
//!
//! # Protocol with the marker
//!
//! The collector scans `0..top` of a stack when it comes to it, at any time after mark start. Until then, whoever pops
//! or overwrites a slot while marking runs logs its word first, because the object may by then be reachable from
//! nowhere else that is still to be scanned. Once scanned (`scanned == epoch`), nothing more is logged. A slot is
//! written before `top` covers it (Release, Acquire).

use crate::error::OutOfMemory;
use crate::heap::Heap;
use crate::mutator::Mutator;
use crate::mutator::thread::is_inside;
use crate::object::Trace;
use crate::root::memory::Region;
use crate::shared::Shared;
use crate::slot::types::needs_barrier;
use crate::slot::value::word_as_num;
use crate::slot::{Gc, SlotType, Tagged, Value, is_reference};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Slots of a stack made by [`RootStack::new`]: 1 MiB of address space.
pub const DEFAULT_STACK_SLOTS: usize = (1 << 20) / 8;

/// A stack's memory, shared by its owner and the collector.
pub(crate) struct StackRegion {
    region: Region,
    /// Addresses of the first slot, the owner's and the collector's.
    slots: usize,
    collector_slots: usize,
    capacity: usize,
    top: AtomicU64,
    /// Number of the last marking that has scanned the stack.
    scanned: AtomicU32,
    /// The owner is gone: the collector forgets the stack at the next occasion without a marking.
    given_up: AtomicBool,
    /// Its address tells the heap, as long as the weak reference keeps the address from being used again.
    heap: usize,
    _heap: Weak<Shared>,
}

impl StackRegion {
    fn slot(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < self.capacity);
        // SAFETY: the region holds `capacity` words, is mapped as long as `self`, and all accesses are atomic.
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(self.slots).add(index) }
    }

    fn collector_slot(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < self.capacity);
        // SAFETY: as in `slot`; the same words.
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(self.collector_slots).add(index) }
    }

    /// Pages of the heap's file that hold slots below the top.
    pub(crate) fn pages(&self) -> std::ops::Range<usize> {
        self.region.pages(self.top.load(Ordering::Acquire) as usize * 8)
    }

    /// Visits the slots below the top. The collector's side of the protocol above.
    pub(crate) fn scan(&self, mut visit: impl FnMut(&AtomicU64)) {
        let top = self.top.load(Ordering::Acquire) as usize;
        (0..top).for_each(|index| visit(self.collector_slot(index)));
    }

    pub(crate) fn set_scanned(&self, epoch: u32) {
        self.scanned.store(epoch, Ordering::Release);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }
}

/// A stack of rooted values that an interpreter owns: `Send`, so a green thread's stack can move between threads, but
/// used by one at a time.
///
/// Pushing past the capacity panics: a VM checks its call depth with [`room`](Self::room) and reports its own error.
///
/// What lies on a stack is alive whether a thread uses it or nobody does, as long as the stack is kept:
///
/// ```
/// use gc_heap::{Bytes, Heap, Room, RootStack, Value};
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let stack: RootStack = RootStack::with_capacity(&heap, 1000)?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let m = m.reserve(Room::tail::<Bytes>(5))?;
///     stack.push(m, m.place_bytes::<Bytes>((), b"fiber").into());
///     stack.push(m, Value::num(1.5));
///     Ok(())
/// })??;
/// heap.collect(); // no thread has the stack, and no thread is inside the heap
/// std::thread::scope(|scope| {
///     let heap = &heap;
///     scope.spawn(move || {
///         let read = heap.enter(|m| {
///             let [text, number] = stack.last(m);
///             assert_eq!(text.get(m).downcast::<Bytes>().map(|text| text.tail()), Some(&b"fiber"[..]));
///             assert_eq!(number.num(), Some(1.5));
///         });
///         assert_eq!(read, Ok(()));
///     });
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RootStack<S = Tagged> {
    region: Arc<StackRegion>,
    /// The owner's copy of the top: a relaxed atomic would be loaded and stored anew at each push.
    top: std::cell::Cell<usize>,
    /// Invariant: of two types of which one is a subtype of the other, the slots may hold different things.
    _holds: PhantomData<fn(S) -> S>,
}

/// One slot of a [`RootStack`], borrowed with its mutator.
///
/// ```
/// use gc_heap::{Bytes, Heap, Room, RootSlot, RootStack, Tagged, Value};
///
/// /// An instruction: the two on top become one. A slot is read and written where it is.
/// fn join(stack: &RootStack, m: &mut gc_heap::Mutator<'_>) -> Result<(), gc_heap::OutOfMemory> {
///     let len = |slot: &RootSlot<Tagged>, m| slot.get(m).downcast::<Bytes>().map_or(0, |text| text.tail_len());
///     let [a, b] = stack.last(m);
///     let both = len(a, m) + len(b, m);
///     let m = m.reserve(Room::tail::<Bytes>(both))?; // a safepoint: `a` and `b` end here, like raw references
///     let [a, b] = stack.last(m);
///     let text = [a, b].map(|slot| slot.get(m).downcast::<Bytes>().map_or(&[][..], |text| text.tail())).concat();
///     a.set(m, m.place_bytes::<Bytes>((), &text).into());
///     stack.drop_top(m, 1);
///     Ok(())
/// }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let stack: RootStack = RootStack::new(&heap)?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     for text in [b"to", b"be"] {
///         let m = m.reserve(Room::tail::<Bytes>(2))?;
///         stack.push(m, m.place_bytes::<Bytes>((), text).into());
///     }
///     join(&stack, m)?;
///     assert_eq!(stack.peek_as::<Bytes>(m, 0).map(|text| text.tail()), Some(&b"tobe"[..]));
///     stack.push(m, Value::NIL);
///     assert_eq!(stack.last::<1>(m)[0].num(), None);
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(transparent)]
pub struct RootSlot<S> {
    word: AtomicU64,
    _holds: PhantomData<*mut S>,
}

impl<S: SlotType> RootStack<S> {
    /// An empty stack of 131,072 slots: 1 MiB of addresses.
    ///
    /// # Errors
    /// As [`with_capacity`](Self::with_capacity): with [`Barrier::Page`](crate::Barrier::Page) there is room for some 16,300 such
    /// stacks at a time.
    pub fn new(heap: &Heap) -> Result<RootStack<S>, OutOfMemory> {
        RootStack::with_capacity(heap, DEFAULT_STACK_SLOTS)
    }

    /// An empty stack for `slots` values (8 bytes each; rounded up to whole pages). Takes address space now and memory
    /// as it is touched.
    ///
    /// # Errors
    /// Where there is no address space. All stacks of a heap with [`Barrier::Page`](crate::Barrier::Page) together have 16 GiB of
    /// it, less 64 MiB for process-wide roots (or 8 bytes for each, where there are more); with the other barriers the
    /// system says how much. A dropped stack's comes back with the next cycle, for which a thread that is not inside a
    /// heap waits here. One that is fails, and may [`collect`](Mutator::collect) and try again.
    pub fn with_capacity(heap: &Heap, slots: usize) -> Result<RootStack<S>, OutOfMemory> {
        let bytes = slots.max(1).checked_mul(8).ok_or_else(|| OutOfMemory::of(usize::MAX))?;
        let shared = heap.shared();
        let region = Region::stack(&shared.root_memory, bytes).or_else(|none| {
            let given_up = || shared.stacks.lock().iter().any(|stack| stack.is_given_up());
            if is_inside() || !shared.process.is_current() || !given_up() {
                return Err(none);
            }
            // What dropped stacks had is free when the collector has forgotten them.
            shared.collect();
            Region::stack(&shared.root_memory, bytes)
        });
        let region = region.map_err(|_| OutOfMemory::of(bytes))?;
        let region = Arc::new(StackRegion {
            slots: region.as_ptr().expose_provenance(),
            collector_slots: region.collector_ptr().expose_provenance(),
            capacity: region.len() / 8,
            region,
            top: AtomicU64::new(0),
            scanned: AtomicU32::new(0),
            given_up: AtomicBool::new(false),
            heap: Arc::as_ptr(shared).addr(),
            _heap: Arc::downgrade(shared),
        });
        shared.stacks.lock().push(Arc::clone(&region));
        Ok(RootStack { region, top: std::cell::Cell::new(0), _holds: PhantomData })
    }

    #[inline(always)]
    #[track_caller]
    fn check(&self, m: &Mutator<'_>) {
        assert!(
            self.region.heap == m.shared_ptr().addr(),
            "a root stack of one heap was used with a mutator of another"
        );
    }

    /// Values on the stack.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.top.get()
    }

    /// Whether nothing is on the stack.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many more values fit.
    #[inline(always)]
    #[must_use]
    pub fn room(&self) -> usize {
        self.region.capacity - self.top.get()
    }

    fn set_top(&self, top: usize) {
        self.top.set(top);
        self.region.top.store(top as u64, Ordering::Release);
    }

    /// Pushes a value.
    ///
    /// # Panics
    /// If the stack is full, or belongs to another heap.
    #[inline(always)]
    #[track_caller]
    pub fn push<'g>(&self, m: &'g Mutator<'_>, value: S::Loaded<'g>) {
        self.check(m);
        let top = self.top.get();
        if top >= self.region.capacity {
            overflow(top + 1, self.region.capacity);
        }
        // Release: the marker may have read a higher top before values were popped.
        self.region.slot(top).store(S::to_word(value), Ordering::Release);
        self.set_top(top + 1);
    }

    /// Pops the last value; `None` from an empty stack.
    #[inline(always)]
    #[track_caller]
    pub fn pop<'g>(&self, m: &'g Mutator<'_>) -> Option<S::Loaded<'g>> {
        self.check(m);
        let index = self.top.get().checked_sub(1)?;
        let value = self.load(m, index);
        self.cut(m, index);
        Some(value)
    }

    #[inline(always)]
    fn load<'g>(&self, m: &'g Mutator<'_>, index: usize) -> S::Loaded<'g> {
        let slot = self.region.slot(index);
        let mut word = slot.load(Ordering::Acquire);
        if needs_barrier::<S>(word, m) {
            word = m.heal(slot, word);
        }
        // SAFETY: stored by `to_word` of this type and good now; `m` is borrowed for 'g.
        unsafe { S::from_word(word) }
    }

    #[inline(always)]
    fn cut(&self, m: &Mutator<'_>, new_top: usize) {
        if m.is_logging() {
            self.log_range(m, new_top, self.top.get());
        }
        self.set_top(new_top);
    }

    #[cold]
    #[inline(never)]
    fn log_range(&self, m: &Mutator<'_>, from: usize, to: usize) {
        if self.region.scanned.load(Ordering::Acquire) != m.epoch() {
            (from..to).for_each(|index| m.log(self.region.slot(index).load(Ordering::Acquire)));
        }
    }

    #[inline(always)]
    #[track_caller]
    fn index(&self, depth: usize) -> usize {
        let len = self.len();
        if depth >= len {
            too_deep(depth, len);
        }
        len - 1 - depth
    }

    /// The value `depth` below the last (0: the last).
    ///
    /// # Panics
    /// If there are not that many.
    #[inline(always)]
    #[track_caller]
    pub fn peek<'g>(&self, m: &'g Mutator<'_>, depth: usize) -> S::Loaded<'g> {
        self.check(m);
        self.load(m, self.index(depth))
    }

    /// Overwrites the value `depth` below the last.
    ///
    /// # Panics
    /// If there are not that many.
    #[inline(always)]
    #[track_caller]
    pub fn poke<'g>(&self, m: &'g Mutator<'_>, depth: usize, value: S::Loaded<'g>) {
        self.set(m, self.index(depth), value);
    }

    /// The value at an index counted from the bottom.
    ///
    /// # Panics
    /// If the index is not below [`len`](Self::len).
    #[inline(always)]
    #[track_caller]
    pub fn get<'g>(&self, m: &'g Mutator<'_>, index: usize) -> S::Loaded<'g> {
        self.check(m);
        if index >= self.len() {
            out_of_range(index, self.len());
        }
        self.load(m, index)
    }

    /// Overwrites the value at an index counted from the bottom.
    ///
    /// # Panics
    /// If the index is not below [`len`](Self::len).
    #[inline(always)]
    #[track_caller]
    pub fn set<'g>(&self, m: &'g Mutator<'_>, index: usize, value: S::Loaded<'g>) {
        self.check(m);
        if index >= self.len() {
            out_of_range(index, self.len());
        }
        if m.is_logging() {
            self.log_range(m, index, index + 1);
        }
        self.region.slot(index).store(S::to_word(value), Ordering::Release);
    }

    /// Makes the stack `len` values long: drops those above, or pushes copies of a value. A machine whose frames are windows of
    /// one stack makes it as long as it may get, once, and works with its [`slots`](Self::slots).
    ///
    /// # Panics
    /// If `len` is more than fits, or the stack belongs to another heap.
    #[track_caller]
    pub fn resize<'g>(&self, m: &'g Mutator<'_>, len: usize, value: S::Loaded<'g>) {
        self.truncate(m, len);
        if len > self.region.capacity {
            overflow(len, self.region.capacity);
        }
        // Release, and the top after them: as in `push`.
        (self.len()..len).for_each(|index| self.region.slot(index).store(S::to_word(value), Ordering::Release));
        self.set_top(len);
    }

    /// Drops all but the first `len` values; no effect if there are not more.
    #[inline(always)]
    #[track_caller]
    pub fn truncate(&self, m: &Mutator<'_>, len: usize) {
        self.check(m);
        if len < self.len() {
            self.cut(m, len);
        }
    }

    /// Drops the last `count` values (all, if there are fewer).
    #[inline(always)]
    #[track_caller]
    pub fn drop_top(&self, m: &Mutator<'_>, count: usize) {
        self.truncate(m, self.len().saturating_sub(count));
    }

    /// The last `N` slots, the lowest first: one check for all.
    ///
    /// # Panics
    /// If there are fewer than `N`.
    #[inline(always)]
    #[track_caller]
    pub fn last<'g, const N: usize>(&'g self, m: &'g Mutator<'_>) -> &'g [RootSlot<S>; N] {
        self.check(m);
        let Some(first) = self.len().checked_sub(N) else { too_few(N, self.len()) };
        let slot: *const AtomicU64 = if N == 0 { self.region.region.as_ptr().cast() } else { self.region.slot(first) };
        // SAFETY: N slots from `first` are below the top; `RootSlot` is a transparent atomic word, and the region lives
        // as long as `self`. A `RootSlot` that outlives a pop (`&self`) reads a word that is good or heals: the slot's
        // memory stays, and only words of this stack's type are ever written there.
        unsafe { &*slot.cast::<[RootSlot<S>; N]>() }
    }

    /// All slots, the lowest first. They can be read and written as long as nothing moves, pushes and pops or not.
    ///
    /// ```
    /// use gc_heap::{Heap, RootStack, Value};
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// let stack: RootStack = RootStack::with_capacity(&heap, 1000)?;
    /// heap.enter(|m| {
    ///     stack.resize(m, 1000, Value::NIL); // the registers of all frames
    ///     let frame = &stack.slots(m)[100..];
    ///     frame[0].set_num(m, 1.5);
    ///     frame[1].set(m, frame[0].get(m));
    ///     assert_eq!(stack.get(m, 101).as_num(), Some(1.5));
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If the stack belongs to another heap.
    #[inline(always)]
    #[track_caller]
    pub fn slots<'g>(&'g self, m: &'g Mutator<'_>) -> &'g [RootSlot<S>] {
        self.check(m);
        let first = std::ptr::with_exposed_provenance::<RootSlot<S>>(self.region.slots);
        // SAFETY: as in `last`, for all slots below the top.
        unsafe { std::slice::from_raw_parts(first, self.len()) }
    }
}

// What stacks panic with: functions of their own, so that a check in a loop is a compare and a branch.

#[cold]
#[inline(never)]
#[track_caller]
fn overflow(len: usize, capacity: usize) -> ! {
    panic!("root stack overflow: {len} values, and {capacity} fit; check `room` first")
}

#[cold]
#[inline(never)]
#[track_caller]
fn out_of_range(index: usize, len: usize) -> ! {
    panic!("root stack index out of range: index {index}, and there are {len} values")
}

#[cold]
#[inline(never)]
#[track_caller]
fn too_deep(depth: usize, len: usize) -> ! {
    panic!("root stack index out of range: depth {depth}, and there are {len} values")
}

#[cold]
#[inline(never)]
#[track_caller]
fn too_few(wanted: usize, len: usize) -> ! {
    panic!("root stack index out of range: the last {wanted}, and there are {len} values")
}

impl RootStack<Tagged> {
    /// The object `depth` below the last, if that is a reference to a `T`.
    #[inline(always)]
    #[track_caller]
    pub fn peek_as<'g, T: Trace>(&self, m: &'g Mutator<'_>, depth: usize) -> Option<Gc<'g, T>> {
        self.peek(m, depth).downcast()
    }
}

impl<S: SlotType> RootSlot<S> {
    /// What the slot holds.
    #[inline(always)]
    pub fn get<'g>(&self, m: &'g Mutator<'_>) -> S::Loaded<'g> {
        let mut word = self.word.load(Ordering::Acquire);
        if needs_barrier::<S>(word, m) {
            word = m.heal(&self.word, word);
        }
        // SAFETY: as in `RootStack::load`.
        unsafe { S::from_word(word) }
    }

    /// Overwrites the slot.
    #[inline(always)]
    pub fn set<'g>(&self, m: &'g Mutator<'_>, value: S::Loaded<'g>) {
        if m.is_logging() {
            let old = self.word.load(Ordering::Acquire);
            // An interpreter overwrites numbers most of the time: they do not pay for the call.
            if is_reference(old) {
                m.log(old);
            }
        }
        self.word.store(S::to_word(value), Ordering::Release);
    }
}

impl RootSlot<Tagged> {
    /// The number in the slot, if it holds one; no barrier.
    #[inline(always)]
    pub fn num(&self) -> Option<f64> {
        word_as_num(self.word.load(Ordering::Relaxed))
    }

    /// Overwrites the slot with a number.
    #[inline(always)]
    pub fn set_num(&self, m: &Mutator<'_>, x: f64) {
        self.set(m, Value::num(x));
    }
}

impl<S> std::fmt::Debug for RootStack<S> {
    /// The type and how many values there are: what they are is told to a mutator alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RootStack<{}>({})", std::any::type_name::<S>(), self.top.get())
    }
}

impl<S> std::fmt::Debug for RootSlot<S> {
    /// The type.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RootSlot<{}>", std::any::type_name::<S>())
    }
}

impl<S> Drop for RootStack<S> {
    fn drop(&mut self) {
        // The words stay until the collector forgets the stack, after the marking that may be running.
        self.region.given_up.store(true, Ordering::Release);
    }
}
