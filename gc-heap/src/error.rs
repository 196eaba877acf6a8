//! Errors, and what to do about them.

use crate::text::ByteSize;
use gc_core::sys::SysError;
use gc_core::views::{GateError, ViewsError};
use gc_core::zeroed::NoMemory;
use std::fmt;

/// An allocation failed after the attempts that [`tried`](Self::tried) names: in most cases a cycle
/// begun after the request, and a stop-the-world compaction.
///
/// The heap stays usable: drop references and continue.
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
    /// A cycle begun after the request, and then a stop-the-world compaction.
    CycleAndCompaction,
    /// Nothing: even an empty heap could not provide that much, because some blocks are reserved
    /// for relocation.
    TooMuch,
    /// Repeated collections: the last ones took more than
    /// [`HeapBuilder::collecting_limit`](crate::HeapBuilder::collecting_limit) of the processor
    /// time, and freed hardly anything.
    CollectingLimit {
        /// Number of collections in a row.
        collections: u32,
        /// Their share of the processor time, in percent.
        percent: u8,
    },
    /// The collector has failed, or the heap is shut down: no cycle will run any more.
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

    /// What was tried before the allocation failed.
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

    /// Requested bytes (saturated).
    #[must_use]
    pub fn requested_bytes(&self) -> usize {
        self.requested
    }

    /// Bytes in free blocks when the request failed (0 if the heap was not involved). A few hundred
    /// KiB of these are reserved for relocation, so this may be more than was requested.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.free
    }
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OutOfMemory { requested, free, heap, tried } = self;
        let less = "enlarge the heap or keep fewer objects";
        write!(f, "out of memory: ")?;
        match tried {
            Tried::AddressSpace => {
                write!(f, "no address space for {requested} bytes; drop root stacks or raise the limit")
            }
            Tried::CycleAndCompaction => {
                write!(f, "{requested} bytes requested, {free} of {heap} free after a cycle and a compaction; {less}")
            }
            Tried::TooMuch => {
                write!(
                    f,
                    "{requested} bytes requested, more than an empty heap of {heap} can provide: nothing was collected; \
                     enlarge the heap"
                )
            }
            Tried::CollectingLimit { collections, percent } => write!(
                f,
                "{requested} bytes requested, {free} of {heap} free; the last {collections} collections took {percent} % \
                 of the processor time and freed almost nothing (`collecting_limit`); {less}"
            ),
            Tried::NoCollector => {
                write!(f, "{requested} bytes requested, {free} of {heap} free, and the collector has ended")
            }
        }
    }
}

/// Why a thread could not enter a heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnterError {
    /// This thread is already inside a heap (this one or another). Leave it first, or enter from
    /// within `blocking`.
    #[error("this thread is already inside a heap; leave it, or enter from within `blocking`")]
    AlreadyEntered,
    /// This process is a child, made by `fork`, of the heap's process. Build another heap in it.
    #[error("this heap belongs to the parent process; in a child made by `fork`, build another heap or call `exec`")]
    Forked,
    /// With [`Barrier::Page`](crate::Barrier::Page): all addresses of the heap for threads' roots
    /// are in use.
    #[error("no address space left for the roots of another thread; detach a thread first")]
    NoAddressSpace,
    /// The system refused a resource that a thread needs in a heap: memory for its roots or for the
    /// record of its losses, or with [`Barrier::Page`](crate::Barrier::Page) the setup for its page
    /// faults (an alternate signal stack, an unblocked signal).
    #[error("the system refused a resource for a thread in a heap: {0}")]
    System(SysError),
}

/// Why the page barrier is unavailable: a line that says what would work, and the refused system
/// calls.
#[derive(Clone, Debug)]
pub struct NoPageBarrier {
    why: String,
    refused: Vec<SysError>,
}

impl NoPageBarrier {
    pub(crate) fn new(why: impl fmt::Display, refused: Vec<SysError>) -> NoPageBarrier {
        NoPageBarrier { why: why.to_string(), refused }
    }

    /// The refused calls, each with its arguments and errno; none if the cause is another.
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

/// Why a heap could not be built. Each message is one line that says what would work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The size is below the minimum.
    #[error("a heap of {bytes} bytes is too small; the minimum is {}", ByteSize::new(*.least as u64))]
    TooSmall {
        /// The requested value.
        bytes: usize,
        /// The minimum size, in bytes.
        least: usize,
    },
    /// The size exceeds the machine's memory.
    #[error(
        "a heap of {} does not fit this machine: it has {} of memory; make the heap smaller",
        ByteSize::new(*.bytes as u64),
        ByteSize::new(*.memory as u64)
    )]
    TooLarge {
        /// The requested value.
        bytes: usize,
        /// Memory of the machine or its control group, in bytes.
        memory: usize,
    },
    /// A name that the kernel does not accept for a memfd.
    #[error(
        "invalid heap name: {bytes} bytes{}; at most 249 bytes without NUL",
        if *.nul { ", contains NUL" } else { "" }
    )]
    Name {
        /// Its length.
        bytes: usize,
        /// Whether it contains NUL.
        nul: bool,
    },
    /// A number of collector threads out of range.
    #[error("{workers} collector threads requested; allowed: 1 to 64")]
    Workers {
        /// The requested value.
        workers: usize,
    },
    /// A multiple of the heap's maximum, for its addresses, that is out of range.
    #[error("an address factor of {factor} requested; allowed: 1 to 16 times the heap's maximum")]
    AddressFactor {
        /// The requested value.
        factor: usize,
    },
    /// A limit on collecting that is not a share.
    #[error(
        "invalid collecting limit: {share}; allowed: a share of processor time above 0 and at most 1, or `None` for no limit"
    )]
    CollectingLimit {
        /// The requested value.
        share: f64,
    },
    /// A limit on waits for memory that is not a share.
    #[error(
        "invalid limit of memory stalls: {share}; allowed: a share of time above 0 and at most 1, or `None` not to look"
    )]
    MemoryStallLimit {
        /// The requested value.
        share: f64,
    },
    /// Anonymous memory under a barrier that needs several views of it.
    #[error("anonymous memory works with the page barrier only; use `Backing::Memfd` with the others")]
    Backing,
    /// [`HugePages::Collapse`](crate::HugePages::Collapse) without
    /// [`pretouch`](crate::HeapBuilder::pretouch).
    #[error(
        "`HugePages::Collapse` needs committed memory: build with `pretouch(true)`, \
         or use `HugePages::Advise`"
    )]
    Collapse,
    /// A fault cluster that is no power of two or too large.
    #[error("a fault cluster of {pages} pages requested; allowed: 1, 2, 4 ... 64")]
    FaultCluster {
        /// The requested value.
        pages: usize,
    },
    /// The program, or a library of it, was linked for an address that no object's header can hold.
    /// The kernel never chooses one: it loads programs and libraries below 2^47 on x86-64.
    #[error(
        "the program or one of its libraries is loaded up to {end:#x}, but objects can refer to types below 2^48 only; \
         link it for a lower address"
    )]
    Images {
        /// Where the highest of them ends.
        end: usize,
    },
    /// [`Barrier::Page`](crate::Barrier::Page) was requested, and this kernel or sandbox refuses a
    /// call that it needs.
    #[error("the page barrier is unavailable: {0}")]
    PageBarrier(NoPageBarrier),
    /// The memory could not be mapped.
    #[error("cannot map the heap: {0}")]
    Views(Box<ViewsError>),
    /// The program's allocator had no memory for one of the heap's tables: about 3 % of its maximum
    /// size (times its [address factor](crate::HeapBuilder::address_factor)), and with
    /// [`Barrier::Page`](crate::Barrier::Page) 24 MiB more, because a table there covers the 24 GiB
    /// of addresses for roots too. Most of it is committed only when it is used.
    #[error("no memory for a table of the heap: {0}; make the heap smaller or raise the process's limits")]
    Tables(Box<SysError>),
    /// The memory could not be populated.
    #[error("cannot populate the heap: {0}; build it without `pretouch`")]
    Populate(Box<SysError>),
    /// The requested 2 MiB pages are unavailable.
    #[error("no 2 MiB pages for the heap: {0}; build it with `HugePages::Never`")]
    HugePages(Box<SysError>),
    /// Generations were asked for with a barrier that has none.
    #[error("only the load barrier has generations")]
    Generations,
    /// A view could not be protected, as `HeapBuilder::single_view` requires.
    #[error("cannot protect a view of the heap: {0}; build it without `single_view`")]
    SingleView(Box<SysError>),
    /// A collector thread could not be started. It has a stack of 2 MiB.
    #[error(
        "cannot start a collector thread: {0}; look at the process's limits on memory (`RLIMIT_AS`, `RLIMIT_DATA`) \
         and threads (`RLIMIT_NPROC`)"
    )]
    Thread(SysError),
}

impl From<ViewsError> for BuildError {
    fn from(error: ViewsError) -> BuildError {
        BuildError::Views(Box::new(error))
    }
}

impl From<NoMemory> for BuildError {
    fn from(no: NoMemory) -> BuildError {
        BuildError::Tables(Box::new(no.into()))
    }
}

impl From<GateError> for BuildError {
    fn from(error: GateError) -> BuildError {
        BuildError::PageBarrier(NoPageBarrier::new(&error, error.refused().collect()))
    }
}
