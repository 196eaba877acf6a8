//! Advice about ranges: [`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html).

use super::inject::refused;
use super::map::{at, reserve_writable, unmap};
use super::{SysError, page_size};
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

/// `madvise`.
///
/// # Safety
/// Ownership, for advice that changes bytes or mappings.
unsafe fn madvise(call: &'static str, address: usize, len: usize, advice: i32) -> Result<(), SysError> {
    // SAFETY: the caller owns the range.
    let failed = refused(call) || unsafe { libc::madvise(at(address), len, advice) } < 0;
    if failed { Err(SysError::last(call, &[("addr", address), ("len", len)])) } else { Ok(()) }
}

/// Drops the pages of a range from this mapping: private memory reads as zeroes afterwards, a view
/// of a file maps the file's page again at the next access. `MADV_DONTNEED`, 51 ms per populated
/// GiB.
///
/// # Safety
/// Ownership (see the [module](super)).
pub unsafe fn discard(address: usize, len: usize) -> Result<(), SysError> {
    // SAFETY: the caller owns the range.
    unsafe { madvise("madvise(DONTNEED)", address, len, libc::MADV_DONTNEED) }
}

/// Excludes a range from children made by `fork(2)`. `MADV_DONTFORK` (Linux 2.6.16).
///
/// # Safety
/// Ownership (see the [module](super)).
pub unsafe fn dont_fork(address: usize, len: usize) -> Result<(), SysError> {
    // SAFETY: the caller owns the range.
    unsafe { madvise("madvise(DONTFORK)", address, len, libc::MADV_DONTFORK) }
}

/// Excludes a range from core dumps, or includes it again: `MADV_DONTDUMP`, `MADV_DODUMP` (Linux
/// 3.4).
///
/// # Errors
/// `ENOMEM` near `vm.max_map_count`, where a part of a mapping becomes one of its own.
///
/// # Safety
/// Ownership (see the [module](super)).
pub unsafe fn dump(address: usize, len: usize, dump: bool) -> Result<(), SysError> {
    let (call, advice) =
        if dump { ("madvise(DODUMP)", libc::MADV_DODUMP) } else { ("madvise(DONTDUMP)", libc::MADV_DONTDUMP) };
    // SAFETY: the caller owns the range.
    unsafe { madvise(call, address, len, advice) }
}

/// Asks for 2 MiB pages when a range is touched. `MADV_HUGEPAGE`; for shared memory (Linux 4.8) it
/// has an effect only where [`shmem_huge_pages`](super::shmem_huge_pages) is `advise` or more.
///
/// # Errors
/// `EINVAL` from a kernel built without transparent huge pages.
///
/// # Safety
/// Ownership (see the [module](super)).
pub unsafe fn huge(address: usize, len: usize) -> Result<(), SysError> {
    // SAFETY: the caller owns the range.
    unsafe { madvise("madvise(HUGEPAGE)", address, len, libc::MADV_HUGEPAGE) }
}

/// Prevents huge pages in a range, whatever the system's setting. `MADV_NOHUGEPAGE` (Linux 2.6.38).
///
/// # Errors
/// `EINVAL` from a kernel built without transparent huge pages, which has small ones only.
///
/// # Safety
/// Ownership (see the [module](super)).
pub unsafe fn no_huge(address: usize, len: usize) -> Result<(), SysError> {
    // SAFETY: the caller owns the range.
    unsafe { madvise("madvise(NOHUGEPAGE)", address, len, libc::MADV_NOHUGEPAGE) }
}

/// Collapses the small pages of a range into 2 MiB pages, synchronously and whatever the system's
/// setting. `MADV_COLLAPSE` (Linux 6.1; read and write mappings of shared memory too). 2.9 s per
/// GiB: not in a pause.
///
/// # Errors
/// `EINVAL` from an older kernel and for memory that was never touched, `ENOMEM` or `EAGAIN` if no
/// huge page is available now, `EBUSY` while the pages are in use elsewhere.
///
/// # Safety
/// Ownership (see the [module](super)).
pub unsafe fn collapse(address: usize, len: usize) -> Result<(), SysError> {
    // SAFETY: the caller owns the range.
    unsafe { madvise("madvise(COLLAPSE)", address, len, libc::MADV_COLLAPSE) }
}

/// Whether the kernel knows `MADV_COLLAPSE`: asked of no bytes, which changes nothing and takes no
/// huge page.
///
/// # Errors
/// `EINVAL` from a kernel before Linux 6.1, or one built without transparent huge pages.
pub fn collapse_supported() -> Result<(), SysError> {
    // SAFETY: the range is empty.
    unsafe { collapse(0, 0) }
}

/// Commits and maps the pages of a writable range, keeping their bytes. `MADV_POPULATE_WRITE`
/// (Linux 5.14), 0.27 us a page of a second view; on older kernels it touches each page (0.91 us).
///
/// # Errors
/// `ENOMEM` where there is no memory, or part of the range is not mapped; `EFAULT` where a touch
/// would raise a signal, `EINVAL` where it may not be written. On an older kernel these are the
/// signals themselves.
///
/// # Safety
/// Ownership (see the [module](super)). The range is mapped and writable.
pub unsafe fn populate_write(address: usize, len: usize) -> Result<(), SysError> {
    if populate_write_supported() {
        // SAFETY: the caller owns the range.
        return unsafe { madvise("madvise(POPULATE_WRITE)", address, len, libc::MADV_POPULATE_WRITE) };
    }
    // SAFETY: the caller owns the range, which is mapped and writable.
    unsafe { touch(address, len) };
    Ok(())
}

/// Writes each page without changing it.
///
/// # Safety
/// The range is owned by the caller, mapped and writable.
unsafe fn touch(address: usize, len: usize) {
    for page in (address..address + len).step_by(page_size()) {
        // SAFETY: the byte is mapped and writable, and an atomic addition of zero loses no write of
        // another thread.
        let byte = unsafe { AtomicU8::from_ptr(ptr::with_exposed_provenance_mut(page)) };
        // `black_box`: with a constant zero the compiler would emit a load, or nothing at all.
        byte.fetch_add(black_box(0), Ordering::Relaxed);
    }
}

/// Whether the kernel knows `MADV_POPULATE_WRITE` (Linux 5.14): tried about once per process, on
/// one private page.
pub fn populate_write_supported() -> bool {
    const UNKNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;
    static SUPPORTED: AtomicU8 = AtomicU8::new(UNKNOWN);
    let mut known = SUPPORTED.load(Ordering::Relaxed);
    if known == UNKNOWN {
        let len = page_size();
        let Ok(page) = reserve_writable(len) else { return false };
        // SAFETY: the page was mapped here and nobody else knows of it.
        unsafe {
            let answer = madvise("madvise(POPULATE_WRITE)", page, len, libc::MADV_POPULATE_WRITE);
            // If the page cannot be unmapped, one page leaks, once.
            let _ = unmap(page, len);
            known = if answer.is_ok() { YES } else { NO };
        }
        SUPPORTED.store(known, Ordering::Relaxed);
    }
    known == YES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Access, HeapFile, map_file_at, reserve};

    #[test]
    fn touching_commits_pages_and_keeps_their_bytes() {
        let pages = 3;
        let file = HeapFile::new("touch", pages * page_size()).unwrap();
        let base = reserve(file.bytes(), page_size()).unwrap();
        // SAFETY: the reservation is this test's own; the byte written lies in the mapping.
        unsafe {
            map_file_at(base, &file, 0, file.bytes(), Access::ReadWrite).unwrap();
            let byte = ptr::with_exposed_provenance_mut::<u8>(base + page_size());
            byte.write(7);
            touch(base, file.bytes());
            assert_eq!(byte.read(), 7);
            assert_eq!(file.committed_bytes().unwrap(), file.bytes());
            unmap(base, file.bytes()).unwrap();
        }
    }
}
