//! Root stacks: the operand stacks of a VM.
//!
//! A stack is a region of address space that is committed as it is touched. It never moves, so no
//! word is ever copied from slot to slot without the barrier. Its first page holds the words that
//! the collector and the owner share.
//!
//! What the owner and the collector do at the same time, marking and giving memory back, is in
//! [`gc_core::root_stack`].

use crate::active::is_inside;
use crate::barrier::stacks;
use crate::error::OutOfMemory;
use crate::handles::bound::{BoundStack, RootSlot, StackOf, out_of_range, too_deep, too_few};
use crate::inner::handle::Heap;
use crate::inner::mutator::Mutator;
use crate::object::Trace;
use crate::roots::region::Region;
use crate::roots::stack_region::StackRegion;
use crate::slot::{Gc, SlotType, Tagged};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

/// Slots of a stack made by [`RootStack::new`]: 1 MiB of address space.
pub const DEFAULT_STACK_SLOTS: usize = (1 << 20) / 8;

/// A stack of rooted values that an interpreter owns: `Send`, so a green thread's stack can move
/// between threads, but used by one at a time.
///
/// Pushing past the capacity panics: a VM checks its call depth with [`room`](Self::room) and
/// reports its own error.
///
/// The values on a stack are alive as long as the stack is kept, whether or not a thread uses it:
///
/// ```
/// use gc_heap::{Bytes, Heap, AllocSize, RootStack, Value};
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let stack: RootStack = RootStack::with_capacity(&heap, 1000)?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let m = m.reserve(AllocSize::tail::<Bytes>(5))?;
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
    /// Invariant in `S`: of two types of which one is a subtype of the other, the slots may hold
    /// different things.
    stack: StackOf<S>,
    /// Not `Sync`.
    _one_at_a_time: PhantomData<Cell<()>>,
}

impl<S: SlotType> RootStack<S> {
    /// An empty stack of 131,072 slots: 1 MiB of addresses.
    ///
    /// # Errors
    /// As [`with_capacity`](Self::with_capacity): with [`Barrier::Page`](crate::Barrier::Page)
    /// there is room for about 16,300 such stacks at a time.
    pub fn new(heap: &Heap) -> Result<RootStack<S>, OutOfMemory> {
        RootStack::with_capacity(heap, DEFAULT_STACK_SLOTS)
    }

    /// An empty stack for `slots` values (8 bytes each; rounded up to whole pages). Reserves
    /// address space now and commits memory as it is touched.
    ///
    /// # Errors
    /// If there is no address space. All stacks of a heap with
    /// [`Barrier::Page`](crate::Barrier::Page) together have 16 GiB of it, minus 64 MiB for
    /// process-wide roots (or 8 bytes for each, if there are more); with the other barriers the
    /// system sets the limit. The address space of a dropped stack is reusable after the next
    /// cycle, for which a thread that is not inside a heap waits here. A thread inside a heap gets
    /// the error, and may [`collect`](Mutator::collect) and try again. A child made by `fork` gets
    /// the error always.
    pub fn with_capacity(heap: &Heap, slots: usize) -> Result<RootStack<S>, OutOfMemory> {
        let bytes = slots.max(1).checked_mul(8).ok_or_else(|| OutOfMemory::of(usize::MAX))?;
        let inner = heap.inner();
        if !inner.process.is_current() {
            // The locks may be held for ever, and the memory is not there.
            return Err(OutOfMemory::of(bytes));
        }
        let region = Region::stack(&inner.roots.memory, bytes).or_else(|none| {
            let given_up = || inner.roots.stacks.lock().iter().any(|stack| stack.is_given_up());
            if is_inside() || !given_up() {
                return Err(none);
            }
            // The address space of dropped stacks is free when the collector has removed them.
            inner.collect();
            Region::stack(&inner.roots.memory, bytes)
        });
        let region = region.map_err(|_| OutOfMemory::of(bytes))?;
        let stack = StackOf::new(StackRegion::new(region, Arc::clone(inner)));
        inner.roots.stacks.lock().push(Arc::clone(stack.region()));
        Ok(RootStack { stack, _one_at_a_time: PhantomData })
    }

    #[inline(always)]
    #[track_caller]
    fn check(&self, m: &Mutator<'_>) {
        assert!(
            self.stack.region().is_of(m.inner_ptr().addr()),
            "a root stack of one heap was used with a mutator of another"
        );
    }

    /// Values on the stack.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.stack.region().len()
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
        self.stack.region().capacity() - self.stack.region().len()
    }

    /// Binds the stack to a mutator of its heap, so that the check is made once here and not in
    /// each instruction.
    ///
    /// The stack is borrowed for as long as the mutator is, so the bound stack ends at the next
    /// safepoint, like raw references.
    ///
    /// ```
    /// use gc_heap::{BoundStack, Heap, Mutator, RootStack, Value};
    ///
    /// enum Op { Load(usize), Number(f64), Add, Loop }
    ///
    /// /// The instructions up to the next safepoint.
    /// fn run(stack: &mut BoundStack<'_, '_>, code: &[Op], mut pc: usize) -> usize {
    ///     loop {
    ///         pc += 1;
    ///         match code[pc - 1] {
    ///             Op::Load(index) => stack.push(stack.get(index)),
    ///             Op::Number(x) => stack.push(Value::num(x)),
    ///             Op::Add => {
    ///                 let [a, b] = [stack.peek(1), stack.peek(0)].map(|value| value.as_num().expect("a number"));
    ///                 stack.drop_top(1);
    ///                 stack.poke(0, Value::num(a + b));
    ///             }
    ///             Op::Loop => return pc,
    ///         }
    ///     }
    /// }
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// let mut stack: RootStack = RootStack::new(&heap)?;
    /// heap.enter(|m: &mut Mutator<'_>| {
    ///     stack.push(m, Value::num(1.5));
    ///     let code = [Op::Load(0), Op::Number(2.0), Op::Add, Op::Loop];
    ///     for _ in 0..3 {
    ///         stack.truncate(m, 1);
    ///         run(&mut stack.bind(m), &code, 0);
    ///         m.safepoint();
    ///     }
    ///     assert_eq!(stack.pop(m).and_then(Value::as_num), Some(3.5));
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If the stack belongs to another heap.
    #[inline(always)]
    #[track_caller]
    pub fn bind<'g, 's>(&'g mut self, m: &'g Mutator<'s>) -> BoundStack<'g, 's, S> {
        self.check(m);
        BoundStack::new(&self.stack, m)
    }

    /// Pushes a value.
    ///
    /// # Panics
    /// If the stack is full, or belongs to another heap.
    #[inline(always)]
    #[track_caller]
    pub fn push<'g>(&self, m: &'g Mutator<'_>, value: S::Loaded<'g>) {
        self.check(m);
        let Some((top, slot)) = self.stack.next() else {
            stacks::push_slow(self.region(), S::to_word(value), m);
            return;
        };
        stacks::push(self.region(), slot.word(), top, S::to_word(value), m);
    }

    /// Pops the last value; `None` from an empty stack.
    #[inline(always)]
    #[track_caller]
    pub fn pop<'g>(&self, m: &'g Mutator<'_>) -> Option<S::Loaded<'g>> {
        self.check(m);
        let (last, below) = self.stack.slots().split_last()?;
        let value = last.get(m);
        self.cut(m, below.len());
        Some(value)
    }

    #[inline(always)]
    fn cut(&self, m: &Mutator<'_>, new_top: usize) {
        stacks::cut(self.region(), new_top, || self.len(), m);
    }

    #[inline(always)]
    #[track_caller]
    fn at_depth(&self, depth: usize) -> (usize, &RootSlot<S>) {
        let slots = self.stack.slots();
        // Below 0 it is above all.
        let index = slots.len().wrapping_sub(1).wrapping_sub(depth);
        match slots.get(index) {
            Some(slot) => (index, slot),
            None => too_deep(depth, slots.len()),
        }
    }

    #[inline(always)]
    #[track_caller]
    fn at(&self, index: usize) -> &RootSlot<S> {
        let slots = self.stack.slots();
        match slots.get(index) {
            Some(slot) => slot,
            None => out_of_range(index, slots.len()), // not in a closure, which has no caller
        }
    }

    #[inline(always)]
    fn region(&self) -> &StackRegion {
        self.stack.region()
    }

    /// The value `depth` below the last (0: the last).
    ///
    /// # Panics
    /// If there are not that many.
    #[inline(always)]
    #[track_caller]
    pub fn peek<'g>(&self, m: &'g Mutator<'_>, depth: usize) -> S::Loaded<'g> {
        self.check(m);
        self.at_depth(depth).1.get(m)
    }

    /// Overwrites the value `depth` below the last.
    ///
    /// # Panics
    /// If there are not that many.
    #[inline(always)]
    #[track_caller]
    pub fn poke<'g>(&self, m: &'g Mutator<'_>, depth: usize, value: S::Loaded<'g>) {
        self.check(m);
        let (index, slot) = self.at_depth(depth);
        stacks::overwrite(self.region(), slot.word(), index, S::to_word(value), m);
    }

    /// The value at an index counted from the bottom.
    ///
    /// # Panics
    /// If the index is not below [`len`](Self::len).
    #[inline(always)]
    #[track_caller]
    pub fn get<'g>(&self, m: &'g Mutator<'_>, index: usize) -> S::Loaded<'g> {
        self.check(m);
        self.at(index).get(m)
    }

    /// Overwrites the value at an index counted from the bottom.
    ///
    /// # Panics
    /// If the index is not below [`len`](Self::len).
    #[inline(always)]
    #[track_caller]
    pub fn set<'g>(&self, m: &'g Mutator<'_>, index: usize, value: S::Loaded<'g>) {
        self.check(m);
        stacks::overwrite(self.region(), self.at(index).word(), index, S::to_word(value), m);
    }

    /// Makes the stack `len` values long: drops those above, or pushes copies of a value. Writes to
    /// the slots that it adds, and to no others. A machine whose frames are windows of one stack
    /// makes it as long as its last frame needs ([`BoundStack::window`]): the collector scans every
    /// slot below the top, in use or not.
    ///
    /// # Panics
    /// If `len` is more than fits, or the stack belongs to another heap.
    #[track_caller]
    pub fn resize<'g>(&self, m: &'g Mutator<'_>, len: usize, value: S::Loaded<'g>) {
        self.truncate(m, len);
        if len > self.region().limit() {
            self.region().admit(len);
        }
        stacks::fill(self.region(), self.len(), len, S::to_word(value), m);
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
        let slots = self.stack.slots();
        match slots.last_chunk() {
            Some(last) => last,
            None => too_few(N, slots.len()),
        }
    }

    /// All slots, the lowest first. They can be read and written until the next safepoint, also
    /// after pushes and pops.
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
        self.stack.slots()
    }
}

impl RootStack<Tagged> {
    /// The object `depth` below the last, if that is a reference to a `T`.
    #[inline(always)]
    #[track_caller]
    pub fn peek_as<'g, T: Trace>(&self, m: &'g Mutator<'_>, depth: usize) -> Option<Gc<'g, T>> {
        self.peek(m, depth).downcast()
    }
}

impl<S> std::fmt::Debug for RootStack<S> {
    /// Prints the type and the number of values: the values can be loaded with a mutator alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RootStack<{}>({})", std::any::type_name::<S>(), self.stack.region().len())
    }
}

impl<S> Drop for RootStack<S> {
    fn drop(&mut self) {
        // The words stay until the collector removes the stack, after a marking that may be
        // running.
        self.stack.region().release();
    }
}
