//! Every system call of the project. No code outside this module makes system calls: it lists
//! everything that a heap needs from Linux, in one place for a port or a sandbox profile.
//!
//! Addresses and lengths are plain `usize`s in bytes, multiples of the page size ([`page_size`])
//! where the kernel requires that; otherwise it returns `EINVAL`, and so do these functions.
//! Functions that change mappings at an address passed to them are `unsafe`, all for the same
//! reason, which their `# Safety` sections call *ownership*: the caller must own the range, that
//! is, it has obtained the range from [`reserve`] or [`reserve_at`] and not unmapped it, and no
//! Rust reference into it may be alive that the change would contradict.
//!
//! A failed call is a [`SysError`], which names the call, its arguments and the errno, and
//! allocates nothing: it may be made in a signal handler.

mod advise;
mod cgroup;
mod end;
mod error;
mod file;
mod futex;
mod images;
#[cfg(feature = "inject")]
pub mod inject;
mod limit;
mod map;
mod membarrier;
mod memory;
mod pagemap;
mod patience;
mod process;
mod sched;
mod signal;
mod stalls;
mod thread;
mod time;
mod uffd;

/// Stub for `inject`, which is not compiled in: no call is refused.
#[cfg(not(feature = "inject"))]
mod inject {
    #[inline(always)]
    pub(crate) const fn refused(_name: &'static str) -> bool {
        false
    }
}

pub(crate) use inject::refused;

pub use advise::{
    collapse, collapse_supported, discard, dont_fork, dump, huge, no_huge, populate_write, populate_write_supported,
};
pub use end::end_process;
pub use error::SysError;
pub use file::HeapFile;
pub use futex::{futex_wait, futex_wake};
pub use images::images_end;
pub use limit::{address_limit, below_address_limit, file_size_limit};
pub use map::{
    Access, Destination, MoveError, map_file_at, map_private_at, mirror_at, move_mapping, move_page_tables, protect,
    release_to_reservation, remap_file_pages, reserve, reserve_at, reserve_writable, unlock, unmap,
};
pub use membarrier::{Membarrier, membarrier, membarrier_register};
pub use memory::{
    MemoryLimit, anonymous_huge_pages, available_memory, huge_mapped_bytes, kernel_release, max_map_count,
    memory_limit, page_size, shmem_huge_pages, total_memory,
};
pub use pagemap::{Pagemap, committed_pages, present_pages};
pub use patience::Patience;
pub use process::{Process, shared_state};
pub use sched::{RunDelay, affinity, set_affinity, set_thread_slice, set_timer_slack, thread_sleeps};
pub use signal::{
    AlternateStack, OldHandler, SIGBUS, SIGSEGV, SignalContext, SignalFlags, SignalHandler, SignalInfo, absent_page,
    alternate_stack, alternate_stack_minimum, block_signal, install_signal_handler, preserve_errno,
    set_alternate_stack, signal_is_blocked, unblock_signal,
};
pub use stalls::memory_stalls;
pub use thread::{ThreadName, ThreadState, processor_time, spawn_thread, this_thread, thread_state};
pub use time::{monotonic_ns, process_cpu_time, thread_cpu_time, tick_length};
pub use uffd::{
    RegisterMode, UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_MISSING_SHMEM, UFFD_FEATURE_MOVE, UFFD_FEATURE_SIGBUS, Uffd,
    UffdAnswer, UffdSource, open_uffd, uffd_api, uffd_continue, uffd_copy, uffd_move, uffd_register, uffd_unregister,
    uffd_wake, wait_for_fault,
};
