//! Pins, and bytes for system calls.
//!
//! A pinned object does not move: its block is excluded from every evacuation set, with everything
//! else in it, so a pin costs compaction up to 64 KiB
//! ([`HeapStats::pinned_blocks`](crate::HeapStats::pinned_blocks)). A large object (over 32 KiB)
//! moves only where a thread waits for a run of blocks; a pinned one divides the runs that can be
//! made.
//!
//! The bytes are read and written through the canonical view, which no flip unmaps. With the page
//! barrier this matters: a heap page that was not touched since a flip is not mapped in the view of
//! references, and a system call that is passed its address fails with `EFAULT` instead of waiting
//! for the page.
//!
//! Anonymous memory ([`Backing::Anonymous`](crate::Backing::Anonymous)) has no second view. There
//! the bytes are mapped in the only view first, and as long as any object is pinned, no flip
//! happens: necessary compaction happens in a pause.
//!
//! # Protocol with the plan
//!
//! A mutator first counts the pin and then checks whether the block is in a set; the plan first
//! puts its blocks into the set and then checks for pins (all SeqCst). So at least one of the two
//! sees the other: the plan excludes the block, or the mutator aborts the plan, which the pause
//! that would begin the relocation detects, and the collector plans again.

use super::Root;
use crate::inner::HeapInner;
use crate::inner::mutator::Mutator;
use crate::object::{Tail, TailElement, Trace};
use crate::slot::Gc;
use crate::space::Offset;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An object that does not move until this is dropped: for foreign code, in short calls or in calls
/// that keep the address for the life of the program (then keep this, or forget it).
///
/// `Send` and `Sync`; keeps the object alive and the heap's memory mapped; can be dropped on any
/// thread, without a mutator.
///
/// A pin costs compaction: the object's block, 64 KiB with everything else in it, is excluded from
/// every relocation until the last pin in it is dropped
/// ([`HeapStats::pinned_blocks`](crate::HeapStats::pinned_blocks)). So long-lived pins should be of
/// adjacent objects, or of large objects (over 32 KiB), which move only to make a run of blocks for
/// another: a pinned one is in the way of such a run. With
/// [`Backing::Anonymous`](crate::Backing::Anonymous) objects move only in pauses while there is any
/// pin.
///
/// ```
/// use gc_heap::{Bytes, Heap, AllocSize};
/// use std::io::Write;
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| {
///     let m2 = m.reserve(AllocSize::tail::<Bytes>(5))?;
///     let pinned = m2.pin(m2.place_bytes::<Bytes>((), b"hello"));
///     // Other threads may collect and compact while this one waits for its system call.
///     m.blocking(|| std::io::sink().write_all(pinned.tail())).unwrap();
///     Ok::<(), gc_heap::OutOfMemory>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A pin that is never dropped costs its block for the life of the program, and keeps the heap's
/// memory mapped after the heap:
///
/// ```
/// use gc_heap::{Bytes, Heap, Pinned, AllocSize};
/// use std::sync::OnceLock;
///
/// /// What a library wants the address of, once and for good.
/// static NAME: OnceLock<Pinned<Bytes>> = OnceLock::new();
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let m = m.reserve(AllocSize::tail::<Bytes>(9))?;
///     NAME.get_or_init(|| m.pin(m.place_bytes::<Bytes>((), b"parallax\0")));
///     Ok(())
/// })??;
/// let address = NAME.get().unwrap().tail_ptr().addr();
/// heap.collect();
/// drop(heap);
/// assert_eq!(NAME.get().unwrap().tail_ptr().addr(), address);
/// assert_eq!(NAME.get().unwrap().tail(), b"parallax\0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pinned<T: Trace> {
    root: Root<T>,
    inner: Arc<HeapInner>,
    offset: Offset,
    /// Elements of the tail.
    pub(super) len: usize,
    _holds: PhantomData<fn(T) -> T>,
}

impl<T: Trace> Pinned<T> {
    /// The object.
    ///
    /// # Panics
    /// If it belongs to another heap than the mutator.
    pub fn get<'g>(&self, m: &'g Mutator<'_>) -> Gc<'g, T> {
        self.root.get(m)
    }

    /// The address of the object's tail, in a view that is always mapped; constant until this is
    /// dropped. It differs from the address in references: do not compare the two.
    ///
    /// Foreign code may write here, for example `read(2)`, if no slice of the tail is in use
    /// meanwhile.
    ///
    /// # Panics
    /// At compile time, if the tail has slots: a reference stored without the barrier would be
    /// lost.
    pub fn tail_ptr(&self) -> *mut T::Tail
    where
        T::Tail: TailElement,
    {
        const { assert!(!<T::Tail as Tail>::MAP.has_slots(), "a tail that holds references cannot be lent") }
        let address = self.inner.memory.views.canonical() + self.offset.bytes() + T::KIND.fixed_bytes as usize;
        std::ptr::with_exposed_provenance_mut(address)
    }
}

impl<T: Trace> Drop for Pinned<T> {
    fn drop(&mut self) {
        if !self.inner.process.is_current() {
            return; // a child made by `fork`: no relocation is planned
        }
        self.inner.world.pins.fetch_sub(1, Ordering::SeqCst);
        self.inner.memory.blocks.unpin(self.offset.block());
    }
}

impl<T: Trace> fmt::Debug for Pinned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned<{}>({:#x})", T::KIND.name(), self.offset)
    }
}

impl Mutator<'_> {
    /// Pins an object. Never a safepoint; takes a lock briefly. Costs compaction 64 KiB while it
    /// lasts: see [`Pinned`].
    ///
    /// ```
    /// use gc_heap::{Bytes, Heap, AllocSize};
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let pins = {
    ///         let m = m.reserve(AllocSize::tail::<Bytes>(100).times(3))?;
    ///         // One block for the three of them: they were placed one after the other.
    ///         [1, 2, 3].map(|byte| m.pin(m.place_bytes::<Bytes>((), &[byte; 100])))
    ///     };
    ///     m.collect(); // the block that this thread allocates in is left alone anyway,
    ///     m.collect(); // and after a cycle it allocates in another
    ///     assert_eq!(heap.stats().pinned_blocks, 1);
    ///     drop(pins);
    ///     m.collect();
    ///     assert_eq!(heap.stats().pinned_blocks, 0);
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "a pin ends when it is dropped"]
    pub fn pin<'g, T: Trace>(&'g self, object: Gc<'g, T>) -> Pinned<T> {
        let root = Root::new(self, object);
        let inner = Arc::clone(self.heap_arc());
        let offset = inner.memory.space.offset(object.word().bits());
        let block = offset.block();
        inner.memory.blocks.pin(block);
        inner.world.pins.fetch_add(1, Ordering::SeqCst);
        if inner.forwarding_of(object.word().word()).contains(block) {
            inner.world.plan_aborted.store(true, Ordering::SeqCst);
        }
        let len = if T::KIND.has_tail() { object.tail_len() } else { 0 };
        inner.relocation.lend(&inner, offset, T::KIND.size_of(len as u64));
        Pinned { root, inner, offset, len, _holds: PhantomData }
    }
}
