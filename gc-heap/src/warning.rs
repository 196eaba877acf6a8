//! What building a heap has to say although it succeeded.

use gc_core::sys::SysError;
use std::path::PathBuf;

/// The share of the memory that a heap may take before it is likely to be killed when full, in
/// percent: beside its objects there are the collector's tables, page tables of each view, and the
/// rest of the program.
pub(crate) const SHARE: usize = 80;

/// Something about a heap that was built and that its builder should know: it is larger than is
/// wise, or has less than it was asked for. `Display` gives one line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildWarning {
    /// When the heap is full, the process is likely to be killed, where a smaller one would have
    /// said [`OutOfMemory`](crate::OutOfMemory).
    #[error(
        "a heap of {bytes} bytes is more than {SHARE} % of the {limit} bytes of memory that this process may use ({}): when \
         it is full, the kernel may kill the process; give `max_bytes` at most {most}, or raise the limit",
        file.display()
    )]
    NearMemoryLimit {
        /// The heap's maximum.
        bytes: usize,
        /// What the process may use.
        limit: usize,
        /// Where the limit stands: of the tightest control group above the process, or
        /// `/proc/meminfo`.
        file: PathBuf,
        /// The most that is likely to be well.
        most: usize,
    },
    /// The heap has fewer collector threads than it was asked for: it is too small for more.
    #[error(
        "a heap of {bytes} bytes has room for {workers} collector threads, not for {asked}; ask for fewer, or for more memory"
    )]
    Workers {
        /// What was asked for.
        asked: usize,
        /// What it got.
        workers: usize,
        /// The heap's maximum.
        bytes: usize,
    },
    /// [`HugePages::Advise`](crate::HugePages::Advise) has no effect here.
    #[error(
        "2 MiB pages are turned off here ({file} says `{setting}`), so the heap has small ones; set it to `advise` or `madvise`"
    )]
    HugePagesOff {
        /// Of the system.
        setting: String,
        /// Where it stands.
        file: &'static str,
    },
    /// [`HugePages::Background`](crate::HugePages::Background) has no effect: the kernel has no
    /// `MADV_COLLAPSE`.
    #[error(
        "2 MiB pages cannot be made in the background here: {0}; Linux 6.1 can; `HugePages::Advise` needs Linux 4.8, \
         and the system's setting `shmem_enabled` at `advise`"
    )]
    NoCollapse(SysError),
    /// [`HugePages::Background`](crate::HugePages::Background) has no effect with
    /// [`Backing::Anonymous`](crate::Backing::Anonymous): to make a huge page of private memory,
    /// the kernel holds the lock of the process's memory map while it copies.
    #[error(
        "2 MiB pages are not made of private memory in the background, because all first touches of the process would \
         wait; use `Backing::Memfd`, or `HugePages::Advise`, which private memory follows where the setting is `madvise`"
    )]
    PrivateHugePages,
    /// [`HugePages::Collapse`](crate::HugePages::Collapse) left some of the heap in small pages.
    #[error(
        "some of the heap stays in pages of 4 KiB, because they were in use all the time: {0}; build it again, or do without"
    )]
    SmallPages(SysError),
    /// With [`Backing::Anonymous`](crate::Backing::Anonymous): this kernel has no `UFFDIO_MOVE`, so
    /// a page that a mutator touches is copied.
    #[error(
        "pages of the heap are copied when they are touched after a flip, because they cannot be moved: {0}; Linux 6.8 can"
    )]
    PagesCopied(SysError),
    /// [`memory_stall_limit`](crate::HeapBuilder::memory_stall_limit) has no effect: the kernel
    /// does not say how long threads wait for memory.
    #[error(
        "the heap does not see when threads wait for memory: {0}; Linux 4.20 says it if built with CONFIG_PSI and started \
         with psi=1; `spare_bytes` goes by the memory that is available"
    )]
    NoMemoryStalls(SysError),
}
