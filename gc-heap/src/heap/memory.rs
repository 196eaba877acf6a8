//! What an embedder asks of a heap's memory: to give it back, to make do with less, and how much
//! there is.

use super::Heap;
use crate::active::is_inside;
use gc_core::sys::SysError;
use std::time::Duration;

impl Heap {
    /// Uncommits all free memory now. Returns the number of bytes.
    ///
    /// # Panics
    /// If this process is a child made by `fork`: the memory is the parent's.
    pub fn release_memory(&self) -> usize {
        self.inner().check_process();
        self.inner().uncommit(Duration::ZERO)
    }

    /// Gives back all memory that can be spared: runs a whole cycle that packs what lives into as
    /// few blocks as that takes, while the program runs, and uncommits all that is free then.
    /// Returns the number of bytes. Takes the time of a cycle, and of copying what lies in blocks
    /// that are not nearly full. Large objects and objects that are pinned stay where they are. For
    /// threads that are not inside a heap; threads inside call it in
    /// [`Mutator::blocking`](crate::Mutator::blocking).
    ///
    /// A heap that is idle does the same by itself
    /// ([`HeapBuilder::idle_after`](crate::HeapBuilder::idle_after)).
    ///
    /// # Panics
    /// As [`collect`](Self::collect).
    ///
    /// ```
    /// use gc_heap::{AllocSize, Bytes, Heap, SlotArray};
    ///
    /// type Table = SlotArray<Option<Bytes>>;
    /// let heap = Heap::builder().max_bytes(64 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let table = m.build::<Table>(AllocSize::tail::<Table>(100), |m| m.place_array((), 100, None))?;
    ///     for index in 0..10_000 {
    ///         let m = m.reserve(AllocSize::tail::<Bytes>(1000))?;
    ///         let bytes = m.place_bytes::<Bytes>((), &[1; 1000]);
    ///         if index % 100 == 0 {
    ///             table.get(m).tail()[index / 100].set(m, Some(bytes)); // one in each block
    ///         }
    ///     }
    ///     let before = heap.stats().committed_bytes;
    ///     let bytes = m.blocking(|| heap.trim());
    ///     let after = heap.stats().committed_bytes;
    ///     assert!(before > 9 << 20 && bytes > 9 << 20 && after < 1 << 20);
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trim(&self) -> usize {
        assert!(!is_inside(), "Heap::trim from inside a heap: call it in Mutator::blocking");
        let inner = self.inner();
        inner.check_process();
        inner.schedule.requests.wait(inner.schedule.requests.request_packing());
        inner.check_collector();
        inner.uncommit(Duration::ZERO)
    }

    /// The memory that the heap tries to make do with, in bytes.
    #[must_use]
    pub fn soft_max_bytes(&self) -> usize {
        self.inner().schedule.soft_max.bytes()
    }

    /// Changes the memory that the heap tries to make do with: see
    /// [`HeapBuilder::soft_max_bytes`](crate::HeapBuilder::soft_max_bytes). More than the maximum
    /// is the maximum. Takes a lock briefly, and does not wait for the effect: a cycle begins if
    /// more is in use, and memory beyond is uncommitted little by little. [`trim`](Self::trim) does
    /// so at once. For any thread, inside a heap or not.
    ///
    /// # Panics
    /// If this process is a child made by `fork`: the memory is the parent's.
    ///
    /// ```
    /// let heap = gc_heap::Heap::builder().max_bytes(64 << 20).soft_max_bytes(32 << 20).build()?;
    /// assert_eq!(heap.stats().soft_max_bytes, 32 << 20);
    /// heap.set_soft_max_bytes(usize::MAX);
    /// assert_eq!(heap.soft_max_bytes(), heap.max_bytes());
    /// # Ok::<(), gc_heap::BuildError>(())
    /// ```
    pub fn set_soft_max_bytes(&self, bytes: usize) {
        self.inner().check_process();
        self.inner().schedule.soft_max.set(bytes);
        self.inner().pace_anew();
    }

    /// Bytes of the heap's memory that each of its views maps by 2 MiB pages: the collector's view,
    /// then those of the mutators (with [`Barrier::Page`](crate::Barrier::Page) the last is that
    /// from which a flip's pages come). From `ShmemPmdMapped` of `/proc/self/smaps`, for which the
    /// kernel walks the page tables of the whole process: milliseconds per GiB of small pages. A
    /// view maps a page at its first touch of it, so
    /// [`HeapStats::huge_bytes`](crate::HeapStats::huge_bytes) may be more. 0 of private memory,
    /// which `AnonHugePages` counts there.
    ///
    /// # Errors
    /// What reading the file gives.
    ///
    /// ```
    /// let heap = gc_heap::Heap::builder().max_bytes(16 << 20).build()?;
    /// for (view, bytes) in heap.huge_mapped_bytes()?.iter().enumerate() {
    ///     println!("view {view}: {bytes} bytes in 2 MiB pages");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn huge_mapped_bytes(&self) -> Result<Vec<usize>, SysError> {
        self.inner().memory.views.huge_mapped_bytes()
    }

    /// Bytes of memory that the system holds for the heap's views, each page once: with
    /// [`Backing::Memfd`](crate::Backing::Memfd) those of its file (`st_blocks` of `fstat(2)`, a
    /// microsecond), those that were swapped out included, and with
    /// [`Barrier::Page`](crate::Barrier::Page) those of roots, which lie in the file; of private
    /// memory those that are in the page tables (`PAGEMAP_SCAN`, Linux 6.7). Less than
    /// [`HeapStats::committed_bytes`](crate::HeapStats::committed_bytes) by what no thread has
    /// touched yet, as the end of the block in which it allocates.
    ///
    /// # Errors
    /// What the call gives.
    ///
    /// ```
    /// let heap = gc_heap::Heap::builder().max_bytes(16 << 20).pretouch(true).build()?;
    /// assert!(heap.resident_bytes()? >= 16 << 20);
    /// heap.trim();
    /// assert!(heap.resident_bytes()? < 1 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resident_bytes(&self) -> Result<usize, SysError> {
        self.inner().memory.views.committed_bytes()
    }

    /// Maximum size in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.inner().config.max_bytes
    }
}
