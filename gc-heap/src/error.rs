//! What can go wrong, and what to do about it.

use gc_core::sys::SysError;
use gc_core::views::ViewsError;
use std::fmt;

/// An allocation failed after everything was tried: a cycle begun after the request, and a compaction in a stop.
///
/// The heap stays usable: drop references and go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct OutOfMemory {
    requested: usize,
    free: usize,
    heap: usize,
}

impl OutOfMemory {
    pub(crate) fn of(requested: usize) -> OutOfMemory {
        OutOfMemory { requested, free: 0, heap: 0 }
    }

    pub(crate) fn in_heap(requested: usize, free: usize, heap: usize) -> OutOfMemory {
        OutOfMemory { requested, free, heap }
    }

    /// Bytes asked for (saturated).
    #[must_use]
    pub fn requested_bytes(&self) -> usize {
        self.requested
    }

    /// Bytes in free blocks when the request was given up (0 where the heap was not involved). Some hundred KiB of these are
    /// set aside for relocation and given to nobody, so this may well be more than was asked for.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.free
    }
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.heap == 0 {
            return write!(f, "out of memory: no address space for {} bytes", self.requested);
        }
        write!(
            f,
            "out of memory: {} bytes asked for, {} of {} free after a full collection; give the heap more or keep less",
            self.requested, self.free, self.heap
        )
    }
}

/// Why a thread could not enter a heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnterError {
    /// This thread is already inside a heap (this one or another). Leave it, or be in `blocking`, to enter.
    #[error("this thread is already inside a heap; leave it, or enter from within `blocking`")]
    AlreadyEntered,
    /// This process is a child, made by `fork`, of the one that the heap is in. Build a heap of its own.
    #[error("the heap is the parent's: a child made by `fork` has none of its memory; build another, or call `exec`")]
    Forked,
    /// With [`Barrier::Page`](crate::Barrier::Page): all addresses that the heap has for threads' roots are taken.
    #[error("no address space for the roots of another thread")]
    NoAddressSpace,
    /// The system refused what a thread needs in a heap: memory for its roots, or with [`Barrier::Page`](crate::Barrier::Page) what
    /// serves its page faults (an alternate signal stack, an unblocked signal).
    #[error("the system refused what another thread needs in a heap: {0}")]
    System(SysError),
}

/// Why a heap could not be built. One line each that says what would work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The size is below the least that works.
    #[error("a heap of {bytes} bytes is too small: the least is {least} (4 MiB)")]
    TooSmall {
        /// What was asked for.
        bytes: usize,
        /// The least size, in bytes.
        least: usize,
    },
    /// The size is more than the machine has.
    #[error("a heap of {bytes} bytes does not fit this machine: it has {memory} bytes of memory; ask for less")]
    TooLarge {
        /// What was asked for.
        bytes: usize,
        /// Memory of the machine or its control group, in bytes.
        memory: usize,
    },
    /// A name that the kernel does not take for a memfd.
    #[error(
        "a heap's name of {bytes} bytes{}: give `HeapBuilder::name` at most 249, and no NUL",
        if *.nul { ", with a NUL among them" } else { "" }
    )]
    Name {
        /// Its length.
        bytes: usize,
        /// Whether there is a NUL in it.
        nul: bool,
    },
    /// More collector threads than make sense.
    #[error("{workers} collector threads: 1 to 64 are possible")]
    Workers {
        /// What was asked for.
        workers: usize,
    },
    /// Anonymous memory under a barrier that needs several views of it.
    #[error("anonymous memory can be mapped once only: it works with the page barrier; the others need a memfd")]
    Backing,
    /// [`HugePages::Collapse`](crate::HugePages::Collapse) without [`pretouch`](crate::HeapBuilder::pretouch).
    #[error(
        "`HugePages::Collapse` makes 2 MiB pages of memory that is there already: build with `pretouch(true)`, \
         or ask for `HugePages::Advise`"
    )]
    Collapse,
    /// A fault cluster that is no power of two or too large.
    #[error("a fault cluster of {pages} pages: 1, 2, 4 ... 64 are possible")]
    FaultCluster {
        /// What was asked for.
        pages: usize,
    },
    /// [`Barrier::Page`](crate::Barrier::Page) was asked for, and this kernel or this sandbox does not give what it needs.
    #[error("the page barrier is not to be had: {0}")]
    PageBarrier(String),
    /// The memory could not be mapped.
    #[error("cannot map the heap: {0}")]
    Views(Box<ViewsError>),
    /// The memory could not be populated.
    #[error("cannot populate the heap: {0}; build it without `pretouch`")]
    Populate(String),
    /// A collector thread could not be started.
    #[error("cannot start a collector thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl From<ViewsError> for BuildError {
    fn from(error: ViewsError) -> BuildError {
        BuildError::Views(Box::new(error))
    }
}
