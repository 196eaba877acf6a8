//! A root stack bound to its mutator, and slots of stacks: for an interpreter between two
//! safepoints.

use crate::barrier::{Place, access, stacks};
use crate::inner::mutator::Mutator;
use crate::object::Trace;
use crate::roots::stack_region::StackRegion;
use crate::slot::value::word_as_num;
use crate::slot::{Gc, Slot, SlotType, Tagged, Value};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A [`RootStack`](crate::RootStack) with its mutator, from [`bind`](crate::RootStack::bind): the
/// heap of both was compared there, and no access checks it again.
///
/// It borrows both, so it ends at the next safepoint, as do the references that it returns. An
/// interpreter binds its stack again after each safepoint. A push is one store of the value and one
/// of the stack's top; the only remaining check is for capacity.
///
/// ```
/// use gc_heap::{BoundStack, Bytes, Heap, AllocSize, RootStack, Tagged, Value};
///
/// /// A call in a machine of registers: the arguments on top become the callee's first registers, the others are nil.
/// fn call(stack: &mut BoundStack<'_, '_>, arguments: usize, registers: usize) -> usize {
///     let base = stack.len() - arguments;
///     stack.window(base, registers, Value::NIL);
///     base
/// }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let mut stack: RootStack = RootStack::with_capacity(&heap, 1 << 20)?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let m = m.reserve(AllocSize::tail::<Bytes>(3))?;
///     let mut stack = stack.bind(m);
///     stack.push(m.place_bytes::<Bytes>((), b"one").into());
///     stack.push(Value::num(2.0));
///     let base = call(&mut stack, 2, 10);
///     let frame = &stack.slots()[base..];
///     frame[9].set(m, frame[0].get(m));
///     assert_eq!(frame.len(), 10);
///     stack.truncate(base); // the return
///     assert!(stack.is_empty() && stack.room() == 1 << 20);
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BoundStack<'g, 's, S = Tagged> {
    m: &'g Mutator<'s>,
    region: &'g StackRegion,
    /// The first slot.
    slots: *const RootSlot<S>,
    /// Copies of the region's words. The stack is borrowed mutably, so no other code moves the top,
    /// and no pause lowers the limit.
    top: usize,
    limit: usize,
    _holds: PhantomData<fn(S) -> S>,
}

impl<'g, 's, S: SlotType> BoundStack<'g, 's, S> {
    /// Binds a stack of the mutator's heap, which is borrowed mutably.
    #[inline(always)]
    pub(super) fn new(stack: &'g StackOf<S>, m: &'g Mutator<'s>) -> BoundStack<'g, 's, S> {
        let region = stack.region();
        let slots = std::ptr::with_exposed_provenance(region.slots());
        BoundStack { m, region, slots, top: region.len(), limit: region.limit(), _holds: PhantomData }
    }

    /// The mutator.
    #[inline(always)]
    #[must_use]
    pub fn mutator(&self) -> &'g Mutator<'s> {
        self.m
    }

    /// Values on the stack.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.top
    }

    /// Whether nothing is on the stack.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.top == 0
    }

    /// Number of values that still fit.
    #[inline(always)]
    #[must_use]
    pub fn room(&self) -> usize {
        self.region.capacity() - self.top
    }

    /// # Safety
    /// `index` is below the limit.
    #[inline(always)]
    unsafe fn slot(&self, index: usize) -> &'g RootSlot<S> {
        // SAFETY: the caller's; the region holds at least as many words, which are of this stack's
        // type alone (`StackOf`), and is mapped as long as it is borrowed.
        unsafe { &*self.slots.add(index) }
    }

    /// Pushes a value.
    ///
    /// # Panics
    /// If the stack is full.
    #[inline(always)]
    #[track_caller]
    pub fn push(&mut self, value: S::Loaded<'_>) {
        let top = self.top;
        if top >= self.limit {
            self.limit = stacks::push_slow(self.region, S::to_word(value), self.m);
            self.top = top + 1;
            return;
        }
        // SAFETY: below the limit.
        stacks::push(self.region, unsafe { self.slot(top) }.word(), top, S::to_word(value), self.m);
        self.top = top + 1;
    }

    /// Pops the last value; `None` from an empty stack.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<S::Loaded<'g>> {
        let index = self.top.checked_sub(1)?;
        // Read once: the compiler does not know that a heal leaves it as it is.
        let m = self.m;
        // SAFETY: below the top.
        let value = unsafe { self.slot(index) }.get(m);
        self.cut(index, m);
        Some(value)
    }

    #[inline(always)]
    fn cut(&mut self, new_top: usize, m: &Mutator<'_>) {
        stacks::cut(self.region, new_top, || self.top, m);
        self.top = new_top;
    }

    #[inline(always)]
    #[track_caller]
    fn index(&self, depth: usize) -> usize {
        if depth >= self.top {
            too_deep(depth, self.top);
        }
        self.top - 1 - depth
    }

    /// The value `depth` below the last (0: the last).
    ///
    /// # Panics
    /// If there are not that many.
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub fn peek(&self, depth: usize) -> S::Loaded<'g> {
        // SAFETY: `index` is below the top.
        unsafe { self.slot(self.index(depth)) }.get(self.m)
    }

    /// Overwrites the value `depth` below the last.
    ///
    /// # Panics
    /// If there are not that many.
    #[inline(always)]
    #[track_caller]
    pub fn poke(&mut self, depth: usize, value: S::Loaded<'_>) {
        self.set(self.index(depth), value);
    }

    /// The value at an index counted from the bottom.
    ///
    /// # Panics
    /// If the index is not below [`len`](Self::len).
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub fn get(&self, index: usize) -> S::Loaded<'g> {
        if index >= self.top {
            out_of_range(index, self.top);
        }
        // SAFETY: below the top.
        unsafe { self.slot(index) }.get(self.m)
    }

    /// Overwrites the value at an index counted from the bottom.
    ///
    /// # Panics
    /// If the index is not below [`len`](Self::len).
    #[inline(always)]
    #[track_caller]
    pub fn set(&mut self, index: usize, value: S::Loaded<'_>) {
        if index >= self.top {
            out_of_range(index, self.top);
        }
        // SAFETY: below the top.
        stacks::overwrite(self.region, unsafe { self.slot(index) }.word(), index, S::to_word(value), self.m);
    }

    /// Makes the stack `len` values long: as [`RootStack::resize`](crate::RootStack::resize).
    ///
    /// # Panics
    /// If `len` is more than fits.
    #[inline]
    #[track_caller]
    pub fn resize(&mut self, len: usize, value: S::Loaded<'_>) {
        self.truncate(len);
        if len > self.limit {
            self.limit = self.region.admit(len);
        }
        stacks::fill(self.region, self.top, len, S::to_word(value), self.m);
        self.top = len;
    }

    /// Makes the stack end `len` values above `base`, and returns these slots: the registers of a
    /// frame. Slots that were on the stack keep their values, new ones hold `fill`. So the
    /// collector scans only existing frames, and memory is committed as frames are pushed.
    ///
    /// # Panics
    /// If that is more than fits.
    #[inline]
    #[track_caller]
    pub fn window(&mut self, base: usize, len: usize, fill: S::Loaded<'_>) -> &'g [RootSlot<S>] {
        self.resize(base.saturating_add(len), fill);
        &self.slots()[base..]
    }

    /// Drops all but the first `len` values; no effect if there are not more.
    #[inline(always)]
    pub fn truncate(&mut self, len: usize) {
        if len < self.top {
            self.cut(len, self.m);
        }
    }

    /// Drops the last `count` values (all, if there are fewer).
    #[inline(always)]
    pub fn drop_top(&mut self, count: usize) {
        self.truncate(self.top.saturating_sub(count));
    }

    /// The last `N` slots, the lowest first.
    ///
    /// # Panics
    /// If there are fewer than `N`.
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub fn last<const N: usize>(&self) -> &'g [RootSlot<S>; N] {
        let Some(first) = self.top.checked_sub(N) else { too_few(N, self.top) };
        // SAFETY: N slots from `first` are below the top. As in `slots`.
        unsafe { &*self.slots.add(first).cast() }
    }

    /// All slots, the lowest first. They can be read and written until the next safepoint, also
    /// after pushes and pops.
    #[inline(always)]
    #[must_use]
    pub fn slots(&self) -> &'g [RootSlot<S>] {
        // SAFETY: as in `StackOf::slots`.
        unsafe { std::slice::from_raw_parts(self.slots, self.top) }
    }
}

impl<'g> BoundStack<'g, '_, Tagged> {
    /// The object `depth` below the last, if that is a reference to a `T`.
    ///
    /// # Panics
    /// If there are not that many values.
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub fn peek_as<T: Trace>(&self, depth: usize) -> Option<Gc<'g, T>> {
        self.peek(depth).downcast()
    }
}

impl<S> std::fmt::Debug for BoundStack<'_, '_, S> {
    /// Prints the type and the number of values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BoundStack<{}>({})", std::any::type_name::<S>(), self.top)
    }
}

/// The memory of a stack of `S`: no other word is written to its slots, and a slot below the limit
/// holds one or 0.
pub(super) struct StackOf<S> {
    region: Arc<StackRegion>,
    _holds: PhantomData<fn(S) -> S>,
}

impl<S> StackOf<S> {
    /// An empty stack.
    pub(super) fn new(region: StackRegion) -> StackOf<S> {
        StackOf { region: Arc::new(region), _holds: PhantomData }
    }

    #[inline(always)]
    pub(super) fn region(&self) -> &Arc<StackRegion> {
        &self.region
    }

    /// The slot at the top, with its index, if it is below the limit.
    #[inline(always)]
    pub(super) fn next(&self) -> Option<(usize, &RootSlot<S>)> {
        let top = self.region.len();
        let first = std::ptr::with_exposed_provenance::<RootSlot<S>>(self.region.slots());
        // SAFETY: the region holds as many words as the limit says, and is mapped as long as
        // `self`.
        (top < self.region.limit()).then(|| (top, unsafe { &*first.add(top) }))
    }

    /// The slots below the top.
    #[inline(always)]
    pub(super) fn slots(&self) -> &[RootSlot<S>] {
        let first = std::ptr::with_exposed_provenance::<RootSlot<S>>(self.region.slots());
        // SAFETY: all are below the top; `RootSlot` is a transparent atomic word, and the region is
        // mapped as long as `self`. A slot that is read after a pop holds a word that is good or
        // heals: its memory stays until a pause, and only words of this stack's type are ever
        // written there.
        unsafe { std::slice::from_raw_parts(first, self.region.len()) }
    }
}

/// One slot of a [`RootStack`](crate::RootStack), borrowed with its mutator.
///
/// ```
/// use gc_heap::{Bytes, Heap, AllocSize, RootSlot, RootStack, Tagged, Value};
///
/// /// An instruction: the two on top become one. A slot is read and written where it is.
/// fn join(stack: &RootStack, m: &mut gc_heap::Mutator<'_>) -> Result<(), gc_heap::OutOfMemory> {
///     let len = |slot: &RootSlot<Tagged>, m| slot.get(m).downcast::<Bytes>().map_or(0, |text| text.tail_len());
///     let [a, b] = stack.last(m);
///     let both = len(a, m) + len(b, m);
///     let m = m.reserve(AllocSize::tail::<Bytes>(both))?; // a safepoint: `a` and `b` end here, like raw references
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
///         let m = m.reserve(AllocSize::tail::<Bytes>(2))?;
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
    slot: Slot<S>,
}

impl<S: SlotType> RootSlot<S> {
    /// The word, for the barrier.
    #[inline(always)]
    pub(super) fn word(&self) -> &AtomicU64 {
        self.slot.raw()
    }

    /// Loads the slot's value.
    #[inline(always)]
    pub fn get<'g>(&self, m: &'g Mutator<'_>) -> S::Loaded<'g> {
        self.slot.load_at(Place::Stack, m)
    }

    /// Overwrites the slot.
    #[inline(always)]
    pub fn set<'g>(&self, m: &'g Mutator<'_>, value: S::Loaded<'g>) {
        // An interpreter overwrites numbers most of the time: skip the call for them.
        access::store_over_value::<S>(self.word(), Place::Stack, S::to_word(value), m);
    }
}

impl RootSlot<Tagged> {
    /// The number in the slot, if it holds one; no barrier.
    #[inline(always)]
    pub fn num(&self) -> Option<f64> {
        word_as_num(access::load_plain(self.word(), Place::Stack))
    }

    /// Overwrites the slot with a number.
    #[inline(always)]
    pub fn set_num(&self, m: &Mutator<'_>, x: f64) {
        self.set(m, Value::num(x));
    }
}

impl<S> std::fmt::Debug for RootSlot<S> {
    /// Prints the type only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RootSlot<{}>", std::any::type_name::<S>())
    }
}

// The panics of stacks: separate functions, so that a check in a loop is a compare and a branch.

#[cold]
#[inline(never)]
#[track_caller]
pub(super) fn out_of_range(index: usize, len: usize) -> ! {
    panic!("root stack index out of range: index {index}, and there are {len} values")
}

#[cold]
#[inline(never)]
#[track_caller]
pub(super) fn too_deep(depth: usize, len: usize) -> ! {
    panic!("root stack index out of range: depth {depth}, and there are {len} values")
}

#[cold]
#[inline(never)]
#[track_caller]
pub(super) fn too_few(wanted: usize, len: usize) -> ! {
    panic!("root stack index out of range: the last {wanted}, and there are {len} values")
}
