//! The layout and the numbers against values written down from `<linux/userfaultfd.h>` on x86-64,
//! independent of how the crate computes them, and against what `linux-raw-sys` knows on its own.

use std::mem::{offset_of, size_of};
use userfaultfd_sys::*;

#[test]
fn structures_have_the_kernels_sizes() {
    assert_eq!(size_of::<uffdio_api>(), 24);
    assert_eq!(size_of::<uffdio_range>(), 16);
    assert_eq!(size_of::<uffdio_register>(), 32);
    assert_eq!(size_of::<uffdio_copy>(), 40);
    assert_eq!(size_of::<uffdio_zeropage>(), 32);
    assert_eq!(size_of::<uffdio_writeprotect>(), 24);
    assert_eq!(size_of::<uffdio_continue>(), 32);
    assert_eq!(size_of::<uffdio_poison>(), 32);
    assert_eq!(size_of::<uffdio_move>(), 40);
    assert_eq!(size_of::<uffd_msg>(), 32, "the kernel reads and writes messages of exactly 32 bytes");
}

#[test]
fn fields_stand_where_the_kernel_looks_for_them() {
    assert_eq!(offset_of!(uffdio_api, features), 8);
    assert_eq!(offset_of!(uffdio_register, mode), 16);
    assert_eq!(offset_of!(uffdio_copy, src), 8);
    assert_eq!(offset_of!(uffdio_copy, copy), 32);
    assert_eq!(offset_of!(uffdio_continue, mapped), 24);
    assert_eq!(offset_of!(uffd_msg, arg), 8);
}

#[test]
fn ioctl_numbers_are_the_kernels() {
    assert_eq!(UFFDIO_API, 0xc018_aa3f);
    assert_eq!(UFFDIO_REGISTER, 0xc020_aa00);
    assert_eq!(UFFDIO_UNREGISTER, 0x8010_aa01);
    assert_eq!(UFFDIO_WAKE, 0x8010_aa02);
    assert_eq!(UFFDIO_COPY, 0xc028_aa03);
    assert_eq!(UFFDIO_ZEROPAGE, 0xc020_aa04);
    assert_eq!(UFFDIO_MOVE, 0xc028_aa05);
    assert_eq!(UFFDIO_WRITEPROTECT, 0xc018_aa06);
    assert_eq!(UFFDIO_CONTINUE, 0xc020_aa07);
    assert_eq!(UFFDIO_POISON, 0xc020_aa08);
}

#[test]
fn ioctl_numbers_agree_with_linux_raw_sys() {
    use linux_raw_sys::ioctl;
    assert_eq!(UFFDIO_API, ioctl::UFFDIO_API);
    assert_eq!(UFFDIO_REGISTER, ioctl::UFFDIO_REGISTER);
    assert_eq!(UFFDIO_UNREGISTER, ioctl::UFFDIO_UNREGISTER);
    assert_eq!(UFFDIO_WAKE, ioctl::UFFDIO_WAKE);
    assert_eq!(UFFDIO_COPY, ioctl::UFFDIO_COPY);
    assert_eq!(UFFDIO_ZEROPAGE, ioctl::UFFDIO_ZEROPAGE);
    assert_eq!(UFFDIO_WRITEPROTECT, ioctl::UFFDIO_WRITEPROTECT);
    assert_eq!(UFFDIO_CONTINUE, ioctl::UFFDIO_CONTINUE);
}

#[test]
fn constants_are_the_headers() {
    assert_eq!(UFFD_API, 0xaa);
    assert_eq!(UFFDIO, 0xaa);
    assert_eq!(USERFAULTFD_IOC, 0xaa);
    assert_eq!(UFFD_EVENT_PAGEFAULT, 0x12);
    assert_eq!(UFFD_EVENT_UNMAP, 0x16);
    assert_eq!(UFFD_FEATURE_SIGBUS, 1 << 7);
    assert_eq!(UFFD_FEATURE_MINOR_SHMEM, 1 << 10);
    assert_eq!(UFFD_FEATURE_MOVE, 1 << 16);
    assert_eq!(UFFDIO_REGISTER_MODE_MINOR, 1 << 2);
    assert_eq!(UFFD_API_IOCTLS, 1 << 63 | 0b11);
    assert_eq!(UFFD_API_RANGE_IOCTLS, 0b1101_1100);
}
