//! Mappings: [`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html) and
//! [`mremap(2)`](https://man7.org/linux/man-pages/man2/mremap.2.html).

use super::inject::refused;
use super::{HeapFile, Patience, SysError, dump, page_size};
use std::os::fd::AsRawFd;
use std::ptr;

/// Access rights of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: every access raises `SIGSEGV`.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    fn bits(self) -> i32 {
        match self {
            Access::None => libc::PROT_NONE,
            Access::Read => libc::PROT_READ,
            Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

pub(super) fn at(address: usize) -> *mut libc::c_void {
    ptr::with_exposed_provenance_mut(address)
}

/// `mmap` with the arguments as given.
///
/// # Safety
/// With `MAP_FIXED` in `flags`: ownership of the range (see the [module](super)).
unsafe fn mmap(
    address: usize,
    len: usize,
    access: Access,
    flags: i32,
    file: Option<(&HeapFile, usize)>,
) -> Result<usize, SysError> {
    let (fd, offset) = file.map_or((-1, 0), |(file, offset)| (file.as_raw_fd(), offset));
    // SAFETY: without MAP_FIXED the kernel never replaces a mapping; with it the caller owns the
    // range.
    let map = || unsafe { libc::mmap(at(address), len, access.bits(), flags, fd, offset as i64) };
    let mapped = if refused("mmap") { libc::MAP_FAILED } else { map() };
    if mapped == libc::MAP_FAILED {
        let offset = ("offset", offset);
        return Err(SysError::last("mmap", &[("addr", address), ("len", len), ("flags", flags as usize), offset]));
    }
    Ok(mapped.expose_provenance())
}

/// Reserves `bytes` of addresses, aligned to `align` (a power of two, at least a page), at an
/// address chosen by the kernel: without access, without memory, not counted against overcommit and
/// not in core dumps.
///
/// # Errors
/// `ENOMEM` where there are no such addresses, `RLIMIT_AS` forbids them, or the process has
/// `vm.max_map_count` mappings.
pub fn reserve(bytes: usize, align: usize) -> Result<usize, SysError> {
    let error = |errno| SysError::new("mmap(reserve)", &[("len", bytes), ("align", align)], errno);
    if !align.is_power_of_two() || align < page_size() || bytes == 0 || !bytes.is_multiple_of(page_size()) {
        return Err(error(libc::EINVAL));
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // The kernel aligns to pages only, so map more and unmap the excess at both ends.
    let asked = bytes.checked_add(align - page_size()).ok_or(error(libc::ENOMEM))?;
    // SAFETY: no MAP_FIXED.
    let start = unsafe { mmap(0, asked, Access::None, flags, None) }.map_err(|e| error(e.errno()))?;
    let base = start.next_multiple_of(align);
    let (before, after) = (base - start, start + asked - (base + bytes));
    // SAFETY: both ends belong to the reservation just made, and no other code knows of them.
    unsafe {
        if before > 0 {
            unmap(start, before)?;
        }
        if after > 0 {
            unmap(base + bytes, after)?;
        }
        not_dumped(base, bytes);
    }
    Ok(base)
}

/// Reserves exactly `address..address + bytes`, and fails if anything is mapped there
/// (`MAP_FIXED_NOREPLACE`, Linux 4.17; an older kernel treats the address as a hint, which the
/// returned address shows).
///
/// # Errors
/// `EEXIST` where the range is taken, `ENOMEM` as [`reserve`], `EPERM` below `vm.mmap_min_addr`.
pub fn reserve_at(address: usize, bytes: usize) -> Result<(), SysError> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: MAP_FIXED_NOREPLACE replaces nothing.
    let got = unsafe { mmap(address, bytes, Access::None, flags, None) }?;
    if got != address {
        // SAFETY: the kernel mapped this range instead, and no other code knows of it.
        unsafe { unmap(got, bytes) }?;
        return Err(SysError::new("mmap(MAP_FIXED_NOREPLACE)", &[("addr", address), ("len", bytes)], libc::EEXIST));
    }
    // SAFETY: the range was mapped just now, and no other code knows of it.
    unsafe { not_dumped(address, bytes) };
    Ok(())
}

/// Excludes a reservation from core dumps: `gcore` writes addresses without access as zeroes. A
/// refusal by the kernel is ignored; `gcore` then writes the zeroes.
///
/// # Safety
/// Ownership (see the [module](super)).
unsafe fn not_dumped(address: usize, len: usize) {
    // SAFETY: the caller owns the range.
    let _ = unsafe { dump(address, len, false) };
}

/// Maps `bytes` of private memory, zeroed when first touched, readable and writable, not counted
/// against overcommit.
///
/// # Errors
/// As [`reserve`].
pub fn reserve_writable(bytes: usize) -> Result<usize, SysError> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: no MAP_FIXED.
    unsafe { mmap(0, bytes, Access::ReadWrite, flags, None) }
}

/// Maps private memory at `address..address + len`, zeroed when first touched, in place of whatever
/// is mapped there. Without access it counts against no memory limit.
///
/// # Safety
/// Ownership of `address..address + len` (see the [module](super)).
pub unsafe fn map_private_at(address: usize, len: usize, access: Access) -> Result<(), SysError> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: the caller owns the range.
    unsafe { mmap(address, len, access, flags, None) }.map(|_| ())
}

/// Maps `len` bytes of `file` from `offset` at `address`, shared, in place of whatever is mapped
/// there. 3 us, any size.
///
/// # Safety
/// Ownership of `address..address + len` (see the [module](super)).
pub unsafe fn map_file_at(
    address: usize,
    file: &HeapFile,
    offset: usize,
    len: usize,
    access: Access,
) -> Result<(), SysError> {
    // NORESERVE: memory is committed page by page; the maximum heap size is a limit, not a
    // reservation.
    let flags = libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: the caller owns the range.
    unsafe { mmap(address, len, access, flags, Some((file, offset))) }.map(|_| ())
}

/// State of a move's destination range after the move was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The destination is mapped as before.
    Kept,
    /// A reservation as by [`reserve`]: the kernel had unmapped the destination.
    Reserved,
    /// Nothing: reserving it again was refused too, with this errno. The caller no longer owns the
    /// addresses; any mapping may take them.
    Lost(i32),
}

/// A move that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveError {
    call: &'static str,
    from: usize,
    len: usize,
    to: usize,
    errno: i32,
    /// State of the destination now.
    pub destination: Destination,
}

impl From<MoveError> for SysError {
    /// The worse of the two, if two calls were refused.
    fn from(refused: MoveError) -> SysError {
        let MoveError { call, from, len, to, errno, destination } = refused;
        match destination {
            Destination::Kept | Destination::Reserved => {
                SysError::new(call, &[("from", from), ("len", len), ("to", to)], errno)
            }
            Destination::Lost(errno) => {
                SysError::new("mmap(MAP_FIXED_NOREPLACE)", &[("addr", to), ("len", len)], errno)
            }
        }
    }
}

/// `mremap` to a fixed place.
///
/// # Safety
/// Ownership of both ranges.
unsafe fn mremap(
    call: &'static str,
    from: usize,
    old_len: usize,
    new_len: usize,
    flags: i32,
    to: usize,
) -> Result<(), MoveError> {
    // The fifth argument is in C's prototype a variadic one, documented for MREMAP_FIXED. The
    // kernel reads it for MREMAP_DONTUNMAP too, so it is always given.
    // SAFETY: the caller owns both ranges.
    let failed =
        refused(call) || unsafe { libc::mremap(at(from), old_len, new_len, flags, at(to)) } == libc::MAP_FAILED;
    if failed {
        let errno = SysError::last(call, &[]).errno();
        let destination = after_refusal(to, new_len);
        return Err(MoveError { call, from, len: new_len, to, errno, destination });
    }
    Ok(())
}

/// Restores the destination range after a refused call. Many kernels unmap the destination before
/// they check the rest, and leave a hole that any thread's `mmap` may fill. This reserves it again,
/// so that the caller still owns the range.
fn after_refusal(to: usize, len: usize) -> Destination {
    match Patience::long().with(|| if is_mapped(to, len) { Ok(false) } else { reserve_at(to, len).map(|()| true) }) {
        Ok(true) => Destination::Reserved,
        Ok(false) => Destination::Kept,
        // Nothing was unmapped. (Or another thread has mapped something there already, which cannot
        // be distinguished.)
        Err(taken) if taken.errno() == libc::EEXIST => Destination::Kept,
        Err(error) => Destination::Lost(error.errno()),
    }
}

/// Whether every page of a range is mapped: `msync(2)` with nothing to write returns `ENOMEM` if
/// one is not. Unknown counts as not mapped.
fn is_mapped(address: usize, len: usize) -> bool {
    // SAFETY: `MS_ASYNC` changes nothing (since Linux 2.6.19) and touches no memory.
    !refused("msync") && unsafe { libc::msync(at(address), len, libc::MS_ASYNC) } == 0
}

/// Maps the shared pages of `from..from + len` at `to` as well, as a second view (`mremap` with an
/// old size of 0). The source stays as it is. 8 us, any size.
///
/// # Errors
/// `EINVAL` for private memory (since Linux 4.14). The destination is then unchanged, or reserved
/// as by [`reserve`].
///
/// # Safety
/// Ownership of both ranges (see the [module](super)), which must not overlap.
pub unsafe fn mirror_at(from: usize, len: usize, to: usize) -> Result<(), SysError> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the caller owns both ranges.
    unsafe { mremap("mremap(old_size=0)", from, 0, len, flags, to) }.map_err(SysError::from)
}

/// Moves the page tables of `from..from + len` to `to`, and leaves the source mapped but empty: the
/// next access to it faults (`MREMAP_DONTUNMAP`: private memory Linux 5.7, shared memory 5.13). The
/// source must be one VMA.
///
/// 3 to 30 us at any size where both ends are aligned to 1 GiB.
///
/// # Errors
/// `EINVAL` from an older kernel, `EFAULT` where the source is not one VMA, `ENOMEM` near
/// `vm.max_map_count` and above `RLIMIT_AS`. The error gives the state of the [`Destination`].
///
/// # Safety
/// Ownership of both ranges (see the [module](super)), which must not overlap.
pub unsafe fn move_page_tables(from: usize, len: usize, to: usize) -> Result<(), MoveError> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    // SAFETY: the caller owns both ranges.
    unsafe { mremap("mremap(DONTUNMAP)", from, len, len, flags, to) }
}

/// Moves a mapping with its pages from `from..from + len` to `to`, and unmaps the source. 5 us for
/// 2 MiB of pages.
///
/// # Errors
/// `EFAULT` where the source is not one VMA, `ENOMEM` near `vm.max_map_count`. The destination is
/// then unchanged, or reserved as by [`reserve`].
///
/// # Safety
/// Ownership of both ranges (see the [module](super)), which must not overlap; that of the source
/// ends here.
pub unsafe fn move_mapping(from: usize, len: usize, to: usize) -> Result<(), SysError> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the caller owns both ranges.
    unsafe { mremap("mremap", from, len, len, flags, to) }.map_err(SysError::from)
}

/// Changes the access rights of a range, `mprotect(2)`. 6.6 ms per populated GiB.
///
/// # Safety
/// Ownership (see the [module](super)).
pub unsafe fn protect(address: usize, len: usize, access: Access) -> Result<(), SysError> {
    // SAFETY: the caller owns the range.
    let failed = refused("mprotect") || unsafe { libc::mprotect(at(address), len, access.bits()) } < 0;
    if failed { Err(SysError::last("mprotect", &[("addr", address), ("len", len)])) } else { Ok(()) }
}

/// Lets pages of a range be committed on demand and uncommitted, even if `mlockall(MCL_FUTURE)` was
/// in effect when it was mapped: `munlock(2)`.
///
/// # Errors
/// `ENOMEM` where a part of the range is not mapped, and near `vm.max_map_count`.
///
/// # Safety
/// Ownership (see the [module](super)).
pub unsafe fn unlock(address: usize, len: usize) -> Result<(), SysError> {
    // SAFETY: the caller owns the range.
    let failed = refused("munlock") || unsafe { libc::munlock(at(address), len) } < 0;
    if failed { Err(SysError::last("munlock", &[("addr", address), ("len", len)])) } else { Ok(()) }
}

/// Unmaps a range, `munmap(2)`. 25 ms per populated GiB.
///
/// # Safety
/// Ownership (see the [module](super)), which ends here.
pub unsafe fn unmap(address: usize, len: usize) -> Result<(), SysError> {
    // SAFETY: the caller owns the range.
    let failed = refused("munmap") || unsafe { libc::munmap(at(address), len) } < 0;
    if failed { Err(SysError::last("munmap", &[("addr", address), ("len", len)])) } else { Ok(()) }
}

/// Turns a range back into a reservation, as [`reserve`] made it: addresses without access and
/// without memory.
///
/// # Errors
/// `ENOMEM` near `vm.max_map_count` and above `RLIMIT_AS`. The error gives the state of the
/// [`Destination`].
///
/// # Safety
/// Ownership (see the [module](super)).
pub unsafe fn release_to_reservation(address: usize, len: usize) -> Result<(), MoveError> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: the caller owns the range.
    let mapped = unsafe { mmap(address, len, Access::None, flags, None) };
    mapped.map_err(|error| {
        let destination = after_refusal(address, len);
        MoveError { call: "mmap(reserve)", from: address, len, to: address, errno: error.errno(), destination }
    })?;
    // SAFETY: as above.
    unsafe { not_dumped(address, len) };
    Ok(())
}

/// Makes `address..address + len` of a shared mapping show its file from page `page_offset` on.
/// Deprecated since Linux 3.16 and emulated by a mapping of its own since 4.0: here for the probe
/// and for measurements; no heap uses it.
///
/// # Safety
/// Ownership (see the [module](super)).
pub unsafe fn remap_file_pages(address: usize, len: usize, page_offset: usize) -> Result<(), SysError> {
    // SAFETY: the caller owns the range.
    let failed =
        refused("remap_file_pages") || unsafe { libc::remap_file_pages(at(address), len, 0, page_offset, 0) } < 0;
    if failed { Err(SysError::last("remap_file_pages", &[("addr", address), ("len", len)])) } else { Ok(()) }
}
