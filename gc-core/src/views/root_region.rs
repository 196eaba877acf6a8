//! Private memory for root stacks.

use crate::sys::{self, Access, Patience, SysError};
use std::mem::ManuallyDrop;
use std::ptr;

/// Private addresses, without access at first: they count neither as data (`RLIMIT_DATA`) nor as promised memory
/// (`vm.overcommit_memory=2`), and `mlockall(MCL_FUTURE)` brings in nothing of them. Parts are [opened](RootRegion::open) as they are
/// wanted: they have memory when touched, zeroes at first. Root stacks live in such regions, or in pieces of one, which never
/// move; dropping one unmaps it.
#[derive(Debug)]
pub struct RootRegion {
    address: usize,
    len: usize,
}

impl RootRegion {
    /// Reserves `bytes`, rounded up to whole pages.
    ///
    /// # Errors
    /// `EINVAL` for zero bytes, `ENOMEM` where there are no such addresses.
    pub fn reserve(bytes: usize) -> Result<RootRegion, SysError> {
        let len = bytes.checked_next_multiple_of(sys::page_size()).filter(|len| *len > 0).ok_or(SysError::new(
            "mmap",
            &[("len", bytes)],
            libc::EINVAL,
        ))?;
        Ok(RootRegion { address: sys::reserve(len, sys::page_size())?, len })
    }

    /// Makes `offset..offset + len`, whole pages, readable and writable; what is so already stays as it is. Some 2 us.
    ///
    /// # Errors
    /// `ENOMEM` above `RLIMIT_DATA`, where the system promises no more memory, and near `vm.max_map_count`; `EINVAL` where the offset is
    /// no multiple of the page size.
    ///
    /// # Panics
    /// If the range is not in the region.
    pub fn open(&self, offset: usize, len: usize) -> Result<(), SysError> {
        self.check(offset, len);
        // SAFETY: the range is in our mapping; to allow more of it contradicts nothing.
        unsafe {
            sys::protect(self.address + offset, len, Access::ReadWrite)?;
            // What is reserved is not dumped. Roots that a dump lacks are no reason to be without them.
            let _ = sys::dump(self.address + offset, len, true);
        }
        Ok(())
    }

    /// Gives the memory of `offset..offset + len`, whole pages, back and takes the access away, as it was before
    /// [`open`](RootRegion::open).
    ///
    /// # Errors
    /// As [`open`](RootRegion::open), near `vm.max_map_count`: the part is then open still.
    ///
    /// # Panics
    /// If the range is not in the region.
    pub fn close(&self, offset: usize, len: usize) -> Result<(), SysError> {
        self.discard(offset, len)?;
        // SAFETY: the range is in our mapping. Only raw pointers into it were handed out, and who uses them says why the part is open.
        unsafe {
            sys::protect(self.address + offset, len, Access::None)?;
            let _ = sys::dump(self.address + offset, len, false);
        }
        Ok(())
    }

    /// The first byte, page-aligned. Valid for reads and writes of what is open of [`len`](RootRegion::len) bytes while the region
    /// lives; who writes where is the caller's to order.
    pub fn as_ptr(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.address)
    }

    /// Bytes, a multiple of the page size.
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Unmaps the region, and says how long it was.
    ///
    /// # Errors
    /// The region as it was, where the kernel refuses: near `vm.max_map_count`, since what lies before it and behind it may be
    /// one mapping with it.
    pub fn unmap(self) -> Result<usize, RootRegion> {
        let region = ManuallyDrop::new(self);
        // SAFETY: the mapping is ours and ends here, as when it is dropped.
        match unsafe { sys::unmap(region.address, region.len) } {
            Ok(()) => Ok(region.len),
            Err(_) => Err(ManuallyDrop::into_inner(region)),
        }
    }

    /// Gives the memory of the whole pages in `offset..offset + len` back; they read as zeroes afterwards.
    ///
    /// # Errors
    /// `EINVAL` where `offset` is no multiple of the page size.
    ///
    /// # Panics
    /// If the range is not in the region.
    pub fn discard(&self, offset: usize, len: usize) -> Result<(), SysError> {
        self.check(offset, len);
        // The kernel would round the length up, and take bytes that were not named.
        let whole = len / sys::page_size() * sys::page_size();
        // SAFETY: the range is in our mapping. Only raw pointers into it were handed out: to their users this is a write by
        // the region's owner.
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
        // SAFETY: the mapping is ours and ends here; its users borrow the region or promised to be gone.
        // Where that is refused (near `vm.max_map_count`) the addresses stay taken, and nobody's.
        let _ = Patience::short().with(|| unsafe { sys::unmap(self.address, self.len) });
    }
}
