//! Private memory for root stacks.

use crate::sys::{self, Access, Patience, SysError};
use std::mem::ManuallyDrop;
use std::ptr;

/// A private reservation, without access at first: it counts neither as data (`RLIMIT_DATA`) nor as
/// committed memory (`vm.overcommit_memory=2`), and `mlockall(MCL_FUTURE)` commits nothing of it.
/// Parts are [opened](RootRegion::open) when needed; their pages are committed when first touched,
/// and zero. Root stacks live in such regions, or in parts of one, which never move. Dropping a
/// region unmaps it.
#[derive(Debug)]
pub struct RootRegion {
    address: usize,
    len: usize,
}

impl RootRegion {
    /// Reserves `bytes`, rounded up to whole pages.
    ///
    /// # Errors
    /// `EINVAL` for zero bytes, `ENOMEM` if no address range is free.
    pub fn reserve(bytes: usize) -> Result<RootRegion, SysError> {
        let len = bytes.checked_next_multiple_of(sys::page_size()).filter(|len| *len > 0).ok_or(SysError::new(
            "mmap",
            &[("len", bytes)],
            libc::EINVAL,
        ))?;
        let region = RootRegion { address: sys::reserve(len, sys::page_size())?, len };
        // A stack that holds a few words would take 2 MiB where the system's setting is `always`. A
        // kernel that refuses this has small pages only.
        // SAFETY: the mapping is ours, and the advice changes no byte.
        let _ = unsafe { sys::no_huge(region.address, region.len) };
        Ok(region)
    }

    /// Makes `offset..offset + len`, whole pages, readable and writable; parts that are open
    /// already do not change. About 2 us.
    ///
    /// # Errors
    /// `ENOMEM` above `RLIMIT_DATA`, at the overcommit limit, and near `vm.max_map_count`; `EINVAL`
    /// if the offset is no multiple of the page size.
    ///
    /// # Panics
    /// If the range is not in the region.
    pub fn open(&self, offset: usize, len: usize) -> Result<(), SysError> {
        self.check(offset, len);
        // SAFETY: the range is in our mapping; more access invalidates no pointer.
        unsafe {
            sys::protect(self.address + offset, len, Access::ReadWrite)?;
            // Reservations are excluded from dumps; an open part is included. A refusal is ignored:
            // it only affects dumps.
            let _ = sys::dump(self.address + offset, len, true);
        }
        Ok(())
    }

    /// Uncommits `offset..offset + len`, whole pages, and removes access, as before
    /// [`open`](RootRegion::open).
    ///
    /// # Errors
    /// As [`open`](RootRegion::open), near `vm.max_map_count`: the part is then still open.
    ///
    /// # Panics
    /// If the range is not in the region.
    pub fn close(&self, offset: usize, len: usize) -> Result<(), SysError> {
        self.discard(offset, len)?;
        // SAFETY: the range is in our mapping. Safe code gets only raw pointers into it; code that
        // dereferences them argues why the part is open.
        unsafe {
            sys::protect(self.address + offset, len, Access::None)?;
            let _ = sys::dump(self.address + offset, len, false);
        }
        Ok(())
    }

    /// The first byte, page-aligned. Valid for reads and writes of what is open of
    /// [`len`](RootRegion::len) bytes while the region lives; the caller synchronises the accesses.
    pub fn as_ptr(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.address)
    }

    /// Bytes, a multiple of the page size.
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Unmaps the region, and returns its length.
    ///
    /// # Errors
    /// The unchanged region, if the kernel refuses: near `vm.max_map_count`, because its neighbours
    /// may be one mapping with it.
    pub fn unmap(self) -> Result<usize, RootRegion> {
        let region = ManuallyDrop::new(self);
        // SAFETY: the mapping is ours and ends here, as when it is dropped.
        match unsafe { sys::unmap(region.address, region.len) } {
            Ok(()) => Ok(region.len),
            Err(_) => Err(ManuallyDrop::into_inner(region)),
        }
    }

    /// Uncommits the whole pages in `offset..offset + len`; they read as zeroes afterwards.
    ///
    /// # Errors
    /// `EINVAL` where `offset` is no multiple of the page size.
    ///
    /// # Panics
    /// If the range is not in the region.
    pub fn discard(&self, offset: usize, len: usize) -> Result<(), SysError> {
        self.check(offset, len);
        // The kernel would round the length up, and discard bytes outside the range.
        let whole = len / sys::page_size() * sys::page_size();
        // SAFETY: the range is in our mapping. Safe code gets only raw pointers into it; for their
        // users this is a write by the region's owner.
        unsafe { sys::discard(self.address + offset, whole) }
    }

    #[track_caller]
    fn check(&self, offset: usize, len: usize) {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(fits, "{len:#x} bytes at {offset:#x} are not in a region of {:#x}", self.len);
    }
}

impl Drop for RootRegion {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and ends here; its users borrow the region or promised to be
        // gone. If that is refused (near `vm.max_map_count`), the addresses stay mapped and unused.
        let _ = Patience::short().with(|| unsafe { sys::unmap(self.address, self.len) });
    }
}
