//! Accounting of memory outside the heap that heap objects keep, so that its growth starts cycles.

use crate::inner::HeapInner;
use crate::inner::external::External;
use crate::inner::handle::Heap;
use crate::mutator::Mutator;
use std::fmt;
use std::sync::Arc;

/// Bytes outside the heap, accounted to it until this is dropped, by any thread, also after the
/// heap has ended. Created by [`Heap::add_external`]; stored with the owner of the memory, for
/// example in the resource of an object.
///
/// ```
/// use gc_heap::{ExternalBytes, Heap};
///
/// /// Memory that grows. The token is what it was made with, so it is replaced, the old one after the new.
/// struct Growing<'h> { heap: &'h Heap, bytes: Vec<u8>, accounted: ExternalBytes }
///
/// impl Growing<'_> {
///     fn push(&mut self, byte: u8) {
///         self.bytes.push(byte);
///         if self.bytes.capacity() != self.accounted.bytes() {
///             self.accounted = self.heap.add_external(self.bytes.capacity());
///         }
///     }
/// }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let mut growing = Growing { heap: &heap, bytes: Vec::new(), accounted: heap.add_external(0) };
/// (0..1000).for_each(|byte| growing.push(byte as u8));
/// assert_eq!(heap.external_bytes(), growing.bytes.capacity());
/// drop(growing);
/// assert_eq!(heap.external_bytes(), 0);
/// # Ok::<(), gc_heap::BuildError>(())
/// ```
#[must_use]
pub struct ExternalBytes {
    external: Arc<External>,
    bytes: usize,
}

impl ExternalBytes {
    /// The bytes. Never blocks.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for ExternalBytes {
    fn drop(&mut self) {
        self.external.sub(self.bytes);
    }
}

impl fmt::Debug for ExternalBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExternalBytes({})", self.bytes)
    }
}

impl HeapInner {
    fn add_external(&self, bytes: usize) -> ExternalBytes {
        // More than the address space is a caller's mistake; the sum must not wrap.
        let bytes = bytes.min(isize::MAX as usize >> 8);
        // A child made by `fork` has no collector to ask, and the lock may be held there for ever.
        if self.schedule.external.add(bytes) && self.process.is_current() {
            self.schedule.requests.request_whole_soon();
        }
        ExternalBytes { external: Arc::clone(&self.schedule.external), bytes }
    }
}

impl Heap {
    /// Accounts bytes outside the heap to it, until the token is dropped. A cycle begins when they
    /// have grown by as much as remains of those that existed when the last cycle began, and by
    /// [`HeapBuilder::external_step`](crate::HeapBuilder::external_step).
    ///
    /// Never waits: it imposes no limit. A program that adds faster than dead objects are drained
    /// and released has to wait itself, and to request a cycle first ([`Heap::collect`]), because
    /// less growth starts none.
    ///
    /// ```
    /// use gc_heap::{ExternalBytes, Heap, ResourceQueue, AllocSize};
    ///
    /// struct Image { pixels: Vec<u8>, _accounted: ExternalBytes }
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// let images = ResourceQueue::<Image>::new(&heap);
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let m = m.reserve(AllocSize::of::<gc_heap::Resource<Image>>())?;
    ///     let image = Image { pixels: vec![0; 4 << 20], _accounted: m.add_external(4 << 20) };
    ///     assert_eq!(images.place(m, image).get().pixels.len(), 4 << 20);
    ///     Ok(())
    /// })??;
    /// assert_eq!(heap.external_bytes(), 4 << 20);
    /// heap.collect();
    /// drop(images.take());
    /// assert_eq!(heap.external_bytes(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// In a child made by `fork` it counts and does nothing else.
    pub fn add_external(&self, bytes: usize) -> ExternalBytes {
        self.inner().add_external(bytes)
    }

    /// Bytes outside the heap that are accounted to it now. Never blocks.
    #[must_use]
    pub fn external_bytes(&self) -> usize {
        self.inner().schedule.external.bytes()
    }
}

impl Mutator<'_> {
    /// As [`Heap::add_external`]. Never blocks, never a safepoint.
    pub fn add_external(&self, bytes: usize) -> ExternalBytes {
        self.inner().add_external(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_counted_from_what_is_left_of_the_last_cycle() {
        let external = External::new(100);
        assert!(!external.add(99) && external.add(1));
        external.cycle_begins();
        assert!(!external.add(99), "as much again is wanted");
        assert!(external.add(1));
        // The cycle released most of it, while more was added.
        external.cycle_begins();
        assert!(!external.add(99));
        external.sub(190);
        assert!(external.add(1));
        external.cycle_begins();
        external.add(1000);
        external.cycle_begins();
        assert!(!external.add(1000) && external.add(200));
        assert_eq!(external.bytes(), 2310);
    }

    #[test]
    fn what_was_added_during_a_cycle_is_due_at_its_end() {
        let external = External::new(100);
        external.add(100);
        external.cycle_begins();
        external.add(150);
        // The thread that added requested no cycle, because one was running; it may now wait for
        // the release.
        assert!(external.is_due());
        external.cycle_begins();
        assert!(!external.is_due());
    }

    #[test]
    fn a_sum_beyond_reason_does_not_wrap_a_token() {
        let external = Arc::new(External::new(100));
        let token = ExternalBytes { external: Arc::clone(&external), bytes: isize::MAX as usize >> 8 };
        external.add(token.bytes());
        drop(token);
        assert_eq!(external.bytes(), 0);
    }
}
