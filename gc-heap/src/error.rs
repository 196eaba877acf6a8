//! What can go wrong, and what to do about it.

use crate::text::ByteSize;
use gc_core::sys::SysError;
use gc_core::views::{GateError, ViewsError};
use std::fmt;

/// An allocation failed, after what [`tried`](Self::tried) says: in most cases a cycle begun after the request, and a compaction in
/// a stop.
///
/// The heap stays usable: drop references and go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct OutOfMemory {
    requested: usize,
    free: usize,
    heap: usize,
    tried: Tried,
}

/// What was tried before [`OutOfMemory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tried {
    /// A cycle begun after the request, and then a compaction in a stop.
    CycleAndCompaction,
    /// Nothing: the heap could not give so much if it were empty, beside what is set aside for relocation.
    TooMuch,
    /// Collections without end: the last ones took more than [`HeapBuilder::collecting_limit`](crate::HeapBuilder::collecting_limit)
    /// of the processor time, and gave the program hardly anything.
    CollectingLimit {
        /// How many there were in a row.
        collections: u32,
        /// Their share of the processor time, in percent.
        percent: u8,
    },
    /// The collector has failed, or the heap is shut: no cycle will run any more.
    NoCollector,
    /// The system had no address space for a root stack; the heap was not involved.
    AddressSpace,
}

impl OutOfMemory {
    pub(crate) fn of(requested: usize) -> OutOfMemory {
        OutOfMemory { requested, free: 0, heap: 0, tried: Tried::AddressSpace }
    }

    pub(crate) fn in_heap(requested: usize, free: usize, heap: usize, tried: Tried) -> OutOfMemory {
        OutOfMemory { requested, free, heap, tried }
    }

    /// What was done before it was given up.
    ///
    /// ```
    /// use gc_heap::{Bytes, Heap, AllocSize, Tried};
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// let error = heap.enter(|m| m.reserve(AllocSize::tail::<Bytes>(16 << 20)).unwrap_err())?;
    /// assert_eq!(error.tried(), Tried::TooMuch); // an empty heap would not do
    /// assert_eq!(heap.stats().cycles, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn tried(&self) -> Tried {
        self.tried
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
        let OutOfMemory { requested, free, heap, tried } = self;
        let less = "give the heap more or keep less";
        write!(f, "out of memory: ")?;
        match tried {
            Tried::AddressSpace => write!(f, "no address space for {requested} bytes"),
            Tried::CycleAndCompaction => {
                write!(f, "{requested} bytes asked for, {free} of {heap} free after a cycle and a compaction; {less}")
            }
            Tried::TooMuch => {
                write!(
                    f,
                    "{requested} bytes asked for, more than an empty heap of {heap} can give; nothing was collected"
                )
            }
            Tried::CollectingLimit { collections, percent } => write!(
                f,
                "{requested} bytes asked for, {free} of {heap} free; the last {collections} collections took {percent} % \
                 of the processor time and gave next to nothing (`collecting_limit`); {less}"
            ),
            Tried::NoCollector => {
                write!(f, "{requested} bytes asked for, {free} of {heap} free, and the collector has ended")
            }
        }
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

/// Why there is no page barrier: a line that says what would work, and the system calls that were refused.
#[derive(Clone, Debug)]
pub struct NoPageBarrier {
    why: String,
    refused: Vec<SysError>,
}

impl NoPageBarrier {
    pub(crate) fn new(why: impl fmt::Display, refused: Vec<SysError>) -> NoPageBarrier {
        NoPageBarrier { why: why.to_string(), refused }
    }

    /// The calls that were refused, each with its arguments and errno; none where the reason is another.
    #[must_use]
    pub fn refused(&self) -> &[SysError] {
        &self.refused
    }
}

impl fmt::Display for NoPageBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Why a heap could not be built. One line each that says what would work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The size is below the least that works.
    #[error("a heap of {bytes} bytes is too small: the least is {}", ByteSize::new(*.least as u64))]
    TooSmall {
        /// What was asked for.
        bytes: usize,
        /// The least size, in bytes.
        least: usize,
    },
    /// The size is more than the machine has.
    #[error(
        "a heap of {} does not fit this machine: it has {} of memory; ask for less",
        ByteSize::new(*.bytes as u64),
        ByteSize::new(*.memory as u64)
    )]
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
    /// A limit on collecting that is no share.
    #[error(
        "a limit of {share} on collecting: it is a share of the processor time, above 0 and at most 1; `None` for no limit"
    )]
    CollectingLimit {
        /// What was asked for.
        share: f64,
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
    PageBarrier(NoPageBarrier),
    /// The memory could not be mapped.
    #[error("cannot map the heap: {0}")]
    Views(Box<ViewsError>),
    /// The memory could not be populated.
    #[error("cannot populate the heap: {0}; build it without `pretouch`")]
    Populate(Box<SysError>),
    /// 2 MiB pages, which were asked for, are not to be had.
    #[error("no 2 MiB pages for the heap: {0}; build it with `HugePages::Never`")]
    HugePages(Box<SysError>),
    /// A view could not be hidden, which [`single_view`](crate::HeapBuilder::single_view) asked for.
    #[error("cannot hide a view of the heap: {0}; build it without `single_view`")]
    SingleView(Box<SysError>),
    /// A collector thread could not be started.
    #[error("cannot start a collector thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl From<ViewsError> for BuildError {
    fn from(error: ViewsError) -> BuildError {
        BuildError::Views(Box::new(error))
    }
}

impl From<GateError> for BuildError {
    fn from(error: GateError) -> BuildError {
        BuildError::PageBarrier(NoPageBarrier::new(&error, error.refused().collect()))
    }
}
