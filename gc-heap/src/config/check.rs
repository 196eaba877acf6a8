//! Checks of the options before a heap is built.

use super::{DEFAULT_BYTES, HeapBuilder, HugePages, MAX_NAME_BYTES, MIN_HEAP_BYTES};
use crate::error::BuildError;
use crate::object::header::KINDS_END;
use crate::space::BLOCK_BYTES;

/// Maximum number of collector threads.
const MAX_WORKERS: usize = 64;
/// Maximum of addresses, as a multiple of the heap's maximum.
const MAX_ADDRESS_FACTOR: usize = 16;
/// Maximum number of pages of a fault cluster.
const MAX_CLUSTER_PAGES: usize = 64;

impl HeapBuilder {
    /// Checks whether [`build`](Self::build) would refuse these options here: the heap's size and
    /// the machine's memory, the options that exclude one another, and, with
    /// [`Barrier::Page`](crate::Barrier::Page), whether this process can use that barrier, which it
    /// tries on 2 MiB of address space (less than a millisecond). Allocates no memory for the heap
    /// and starts no thread, so a program that builds heaps later can reject its options at once.
    ///
    /// Building can still fail afterwards: for address space of the whole heap, memory to pretouch,
    /// 2 MiB pages, or threads.
    ///
    /// ```
    /// use gc_heap::{BuildError, Heap};
    ///
    /// let builder = Heap::builder().max_bytes(64 << 20);
    /// assert!(builder.check().is_ok());
    /// let error = builder.workers(65).check().unwrap_err();
    /// assert!(matches!(error, BuildError::Workers { workers: 65 }), "{error}");
    /// ```
    pub fn check(&self) -> Result<(), BuildError> {
        self.check_options(memory())?;
        self.config.barrier.try_out(&self.config)
    }

    /// [`check`](Self::check) for a machine or control group with `memory` bytes, for a heap that
    /// is planned here and built there, or if the caller reserves some memory.
    ///
    /// ```
    /// use gc_heap::{ByteSize, Heap};
    ///
    /// let error = Heap::builder().max_bytes(1 << 30).check_within(512 << 20).unwrap_err();
    /// let says = "a heap of 1 GiB does not fit this machine: it has 512 MiB of memory; make the heap smaller";
    /// assert_eq!(error.to_string(), says);
    /// ```
    pub fn check_within(&self, memory: usize) -> Result<(), BuildError> {
        self.check_options(Room { memory, unslowed: memory })?;
        self.config.barrier.try_out(&self.config)
    }

    /// The checks of the options and of the machine's memory.
    pub(super) fn check_options(&self, room: Room) -> Result<(), BuildError> {
        let config = &self.config;
        let (bytes, memory) = (self.bytes(room), room.memory);
        if bytes < MIN_HEAP_BYTES {
            return Err(BuildError::TooSmall { bytes, least: MIN_HEAP_BYTES });
        }
        if bytes > memory {
            return Err(BuildError::TooLarge { bytes, memory });
        }
        if !(1..=MAX_ADDRESS_FACTOR).contains(&config.address_factor) {
            return Err(BuildError::AddressFactor { factor: config.address_factor });
        }
        let (name, nul) = (config.name.as_bytes(), config.name.contains('\0'));
        if nul || name.len() > MAX_NAME_BYTES {
            return Err(BuildError::Name { bytes: name.len(), nul });
        }
        if !(1..=MAX_WORKERS).contains(&config.workers) {
            return Err(BuildError::Workers { workers: config.workers });
        }
        if let Some(share) = config.collecting_limit
            && !(share > 0.0 && share <= 1.0)
        {
            return Err(BuildError::CollectingLimit { share });
        }
        if let Some(share) = config.memory_stall_limit
            && !(share > 0.0 && share <= 1.0)
        {
            return Err(BuildError::MemoryStallLimit { share });
        }
        check_images(gc_core::sys::images_end())?;
        config.barrier.check(config)?;
        if config.huge_pages == HugePages::Collapse && !config.pretouch {
            // Collapsing later, on allocation, would cost a mutator about 6 ms for each 2 MiB.
            return Err(BuildError::Collapse);
        }
        if !config.fault_cluster.is_power_of_two() || config.fault_cluster > MAX_CLUSTER_PAGES {
            return Err(BuildError::FaultCluster { pages: config.fault_cluster });
        }
        Ok(())
    }

    /// The requested size, or the default for a machine with this much memory.
    pub(super) fn bytes(&self, room: Room) -> usize {
        if self.sized { self.config.max_bytes } else { default_bytes(room.unslowed) }
    }
}

/// Bytes of memory that a process may use.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// At most.
    memory: usize,
    /// Before the kernel slows it down: `memory.high` of a control group may be less.
    unslowed: usize,
}

/// What there is here; if unknown, no option is refused for lack of memory.
pub(super) fn memory() -> Room {
    let limit = gc_core::sys::memory_limit();
    limit.map_or(Room { memory: usize::MAX, unslowed: usize::MAX }, |limit| Room {
        memory: limit.bytes,
        unslowed: limit.unslowed_bytes(),
    })
}

/// The default size of a heap: leaves memory for the rest of the process.
fn default_bytes(memory: usize) -> usize {
    DEFAULT_BYTES.min(memory / 2 / BLOCK_BYTES * BLOCK_BYTES).max(MIN_HEAP_BYTES)
}

/// An object's header holds the address of a `static` in 48 bits.
fn check_images(end: usize) -> Result<(), BuildError> {
    if end <= KINDS_END { Ok(()) } else { Err(BuildError::Images { end }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backing, Barrier, Heap};

    #[test]
    fn the_default_leaves_room_beside_the_heap() {
        let default = |mib: usize| default_bytes(mib << 20) >> 20;
        assert_eq!([usize::MAX >> 20, 1024, 512, 256, 100, 2].map(default), [256, 256, 256, 128, 50, 4]);
    }

    /// What slows a process down refuses no heap, but the default keeps clear of it.
    #[test]
    fn the_default_leaves_room_below_what_slows_down() {
        let room = Room { memory: 1 << 30, unslowed: 100 << 20 };
        assert_eq!(Heap::builder().bytes(room), 50 << 20);
        assert!(Heap::builder().max_bytes(200 << 20).check_options(room).is_ok());
    }

    /// In a release build too: the high bits of an address would be taken for the object's size.
    #[test]
    fn a_program_whose_types_do_not_fit_a_header_is_refused() {
        assert!(check_images(KINDS_END).is_ok());
        let error = check_images(KINDS_END + 1).unwrap_err();
        assert!(matches!(error, BuildError::Images { end } if end == KINDS_END + 1));
        assert!(error.to_string().contains("0x1000000000001"), "{error}");
        let kind = std::ptr::from_ref(<crate::slot::Bytes as crate::object::Trace>::KIND) as usize;
        assert!(kind < gc_core::sys::images_end(), "what `build` tests covers the types");
    }

    #[test]
    fn check_and_build_refuse_the_same_with_the_same_words() {
        let base = || Heap::builder().max_bytes(16 << 20);
        let refused = [
            base().max_bytes(0),
            base().max_bytes(MIN_HEAP_BYTES - 1),
            base().max_bytes(usize::MAX),
            base().name("a\0b"),
            base().workers(0),
            base().workers(65),
            base().address_factor(0),
            base().address_factor(17),
            base().collecting_limit(Some(0.0)),
            base().memory_stall_limit(Some(0.0)),
            base().memory_stall_limit(Some(1.01)),
            base().memory_stall_limit(Some(f64::NAN)),
            base().backing(Backing::Anonymous),
            base().huge_pages(HugePages::Collapse),
            base().fault_cluster(3),
        ];
        for builder in refused {
            let said = builder.check().expect_err("refused").to_string();
            assert!(!said.contains('\n'), "one line: {said}");
            assert_eq!(builder.build().expect_err("refused, too").to_string(), said);
        }
        assert!(base().check().is_ok() && Heap::builder().check().is_ok());
        let page = base().barrier(Barrier::Page);
        assert_eq!(page.check().is_ok(), page.build().is_ok(), "what this kernel gives");
    }

    #[test]
    fn a_heap_is_checked_for_the_memory_that_it_will_have() {
        let heap = |bytes| Heap::builder().max_bytes(bytes);
        assert!(heap(1 << 30).check_within(1 << 30).is_ok());
        let error = heap(1 << 30).check_within((1 << 30) - 1).unwrap_err();
        assert!(matches!(error, BuildError::TooLarge { bytes, memory } if bytes == 1 << 30 && memory < bytes));
        // The default size follows the memory.
        assert!(Heap::builder().check_within(8 << 20).is_ok());
    }
}
