//! The constants and structures of `<linux/userfaultfd.h>`, with the API of the published
//! `userfaultfd-sys` 0.6.
//!
//! The published crate runs `bindgen` over the installed kernel headers and compiles a C file to
//! check the result. Both need tools that a Rust program otherwise does not: libclang, a C
//! compiler, headers that are new enough. This one takes what it can from `linux-raw-sys`, which
//! ships the bindings already generated, and computes the ioctl numbers that those bindings leave
//! out. A workspace uses it by a patch:
//!
//! ```toml
//! [patch.crates-io]
//! userfaultfd-sys = { path = "gc-core/userfaultfd-sys" }
//! ```
//!
//! Beyond the published API it names what came later: [`UFFDIO_MOVE`], [`UFFDIO_POISON`] and the
//! features up to [`UFFD_FEATURE_MOVE`] (Linux 6.8).
//!
//! Sources: `include/uapi/linux/userfaultfd.h`,
//! [`ioctl_userfaultfd(2)`](https://man7.org/linux/man-pages/man2/ioctl_userfaultfd.2.html).

#![no_std]
#![cfg(target_os = "linux")]

use linux_raw_sys::general as raw;

pub use raw::{
    uffd_msg, uffdio_api, uffdio_continue, uffdio_copy, uffdio_move, uffdio_poison, uffdio_range, uffdio_register,
    uffdio_writeprotect, uffdio_zeropage,
};

/// Takes constants over from `linux-raw-sys` with the integer type that the published crate gives
/// them.
macro_rules! constants {
    ($ty:ty, $about:literal: $($name:ident),+ $(,)?) => {
        $(
            #[doc = concat!("`", stringify!($name), "`: ", $about)]
            pub const $name: $ty = raw::$name as $ty;
        )+
    };
}

constants!(u64, "the version of the interface, the `api` of [`uffdio_api`].": UFFD_API);
constants!(u32, "the type byte of the ioctl of `/dev/userfaultfd` (Linux 6.1).": USERFAULTFD_IOC);
constants!(u32, "flag of `userfaultfd(2)`: faults of user mode only, which needs no privilege (Linux 5.11).": UFFD_USER_MODE_ONLY);
constants!(u8, "the type byte of the ioctls of a userfaultfd descriptor.": UFFDIO);
constants!(
    u64,
    "the number of an ioctl, and of its bit in the kernel's lists of supported ioctls.":
    _UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_UNREGISTER, _UFFDIO_WAKE, _UFFDIO_COPY, _UFFDIO_ZEROPAGE, _UFFDIO_MOVE,
    _UFFDIO_WRITEPROTECT, _UFFDIO_CONTINUE, _UFFDIO_POISON,
);
constants!(
    u8,
    "what a message read from the descriptor says, the `event` of [`uffd_msg`].":
    UFFD_EVENT_PAGEFAULT, UFFD_EVENT_FORK, UFFD_EVENT_REMAP, UFFD_EVENT_REMOVE, UFFD_EVENT_UNMAP,
);
constants!(
    u64,
    "what kind of fault a message reports.":
    UFFD_PAGEFAULT_FLAG_WRITE, UFFD_PAGEFAULT_FLAG_WP, UFFD_PAGEFAULT_FLAG_MINOR,
);
constants!(
    u64,
    "a feature, asked for and answered in the `features` of [`uffdio_api`].":
    UFFD_FEATURE_PAGEFAULT_FLAG_WP, UFFD_FEATURE_EVENT_FORK, UFFD_FEATURE_EVENT_REMAP, UFFD_FEATURE_EVENT_REMOVE,
    UFFD_FEATURE_MISSING_HUGETLBFS, UFFD_FEATURE_MISSING_SHMEM, UFFD_FEATURE_EVENT_UNMAP, UFFD_FEATURE_SIGBUS,
    UFFD_FEATURE_THREAD_ID, UFFD_FEATURE_MINOR_HUGETLBFS, UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_EXACT_ADDRESS,
    UFFD_FEATURE_WP_HUGETLBFS_SHMEM, UFFD_FEATURE_WP_UNPOPULATED, UFFD_FEATURE_POISON, UFFD_FEATURE_WP_ASYNC,
    UFFD_FEATURE_MOVE,
);
constants!(
    u64,
    "which faults of a range are ours, the `mode` of [`uffdio_register`].":
    UFFDIO_REGISTER_MODE_MISSING, UFFDIO_REGISTER_MODE_WP, UFFDIO_REGISTER_MODE_MINOR,
);
constants!(
    u64,
    "a flag in the `mode` of an ioctl.":
    UFFDIO_COPY_MODE_DONTWAKE, UFFDIO_COPY_MODE_WP, UFFDIO_ZEROPAGE_MODE_DONTWAKE,
);

// The header writes these with a cast, `((__u64)1<<0)`, which the generated bindings drop.
/// Flag of [`uffdio_writeprotect`]: protect instead of lifting the protection (Linux 5.7).
pub const UFFDIO_WRITEPROTECT_MODE_WP: u64 = 1 << 0;
/// Flag of [`uffdio_writeprotect`]: wake nobody (Linux 5.7).
pub const UFFDIO_WRITEPROTECT_MODE_DONTWAKE: u64 = 1 << 1;
/// Flag of [`uffdio_continue`]: wake nobody (Linux 5.13).
pub const UFFDIO_CONTINUE_MODE_DONTWAKE: u64 = 1 << 0;
/// Flag of [`uffdio_continue`]: map the pages write-protected (Linux 6.4).
pub const UFFDIO_CONTINUE_MODE_WP: u64 = 1 << 1;
/// Flag of [`uffdio_poison`]: wake nobody (Linux 6.6).
pub const UFFDIO_POISON_MODE_DONTWAKE: u64 = 1 << 0;
/// Flag of [`uffdio_move`]: wake nobody (Linux 6.8).
pub const UFFDIO_MOVE_MODE_DONTWAKE: u64 = 1 << 0;
/// Flag of [`uffdio_move`]: holes of the source are no error (Linux 6.8).
pub const UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES: u64 = 1 << 1;

// The numbers themselves. `linux-raw-sys` has most of them for most architectures; the layout of
// `_IOC` that counts is the generic one, which x86-64, AArch64 and RISC-V share.
const fn ioc(direction: u32, number: u64, size: usize) -> u32 {
    (direction << 30) | ((size as u32) << 16) | ((UFFDIO as u32) << 8) | number as u32
}

const READ: u32 = 2;
const READ_WRITE: u32 = 3;

/// Agrees on the version and the features of a new descriptor, [`uffdio_api`].
pub const UFFDIO_API: u32 = ioc(READ_WRITE, _UFFDIO_API, size_of::<uffdio_api>());
/// Registers a range, [`uffdio_register`].
pub const UFFDIO_REGISTER: u32 = ioc(READ_WRITE, _UFFDIO_REGISTER, size_of::<uffdio_register>());
/// Ends the registration of a range, [`uffdio_range`].
pub const UFFDIO_UNREGISTER: u32 = ioc(READ, _UFFDIO_UNREGISTER, size_of::<uffdio_range>());
/// Wakes the threads that wait for pages of a range, [`uffdio_range`].
pub const UFFDIO_WAKE: u32 = ioc(READ, _UFFDIO_WAKE, size_of::<uffdio_range>());
/// Fills missing pages with a copy, [`uffdio_copy`].
pub const UFFDIO_COPY: u32 = ioc(READ_WRITE, _UFFDIO_COPY, size_of::<uffdio_copy>());
/// Fills missing pages with zeroes, [`uffdio_zeropage`].
pub const UFFDIO_ZEROPAGE: u32 = ioc(READ_WRITE, _UFFDIO_ZEROPAGE, size_of::<uffdio_zeropage>());
/// Moves pages of anonymous memory into missing ones, [`uffdio_move`] (Linux 6.8).
pub const UFFDIO_MOVE: u32 = ioc(READ_WRITE, _UFFDIO_MOVE, size_of::<uffdio_move>());
/// Protects a range against writing or lifts that, [`uffdio_writeprotect`] (Linux 5.7).
pub const UFFDIO_WRITEPROTECT: u32 = ioc(READ_WRITE, _UFFDIO_WRITEPROTECT, size_of::<uffdio_writeprotect>());
/// Maps pages that the page cache already has, [`uffdio_continue`] (hugetlbfs Linux 5.13, shared
/// memory 5.14).
pub const UFFDIO_CONTINUE: u32 = ioc(READ_WRITE, _UFFDIO_CONTINUE, size_of::<uffdio_continue>());
/// Makes every access to a range raise `SIGBUS`, [`uffdio_poison`] (Linux 6.6).
pub const UFFDIO_POISON: u32 = ioc(READ_WRITE, _UFFDIO_POISON, size_of::<uffdio_poison>());

/// The features the published crate counts in.
pub const UFFD_API_FEATURES: u64 = UFFD_FEATURE_EVENT_FORK
    | UFFD_FEATURE_EVENT_REMAP
    | UFFD_FEATURE_EVENT_REMOVE
    | UFFD_FEATURE_EVENT_UNMAP
    | UFFD_FEATURE_MISSING_HUGETLBFS
    | UFFD_FEATURE_MISSING_SHMEM
    | UFFD_FEATURE_SIGBUS
    | UFFD_FEATURE_THREAD_ID;
/// The ioctls every descriptor answers, as bits of their numbers.
pub const UFFD_API_IOCTLS: u64 = 1 << _UFFDIO_REGISTER | 1 << _UFFDIO_UNREGISTER | 1 << _UFFDIO_API;
/// The ioctls of a registered range, as bits of their numbers.
pub const UFFD_API_RANGE_IOCTLS: u64 =
    1 << _UFFDIO_WAKE | 1 << _UFFDIO_COPY | 1 << _UFFDIO_ZEROPAGE | 1 << _UFFDIO_WRITEPROTECT | 1 << _UFFDIO_CONTINUE;
/// The ioctls of a registered range of huge pages, as bits of their numbers.
pub const UFFD_API_RANGE_IOCTLS_BASIC: u64 = 1 << _UFFDIO_WAKE | 1 << _UFFDIO_COPY;
