//! Private memory for root stacks.

use crate::sys::{self, Patience, SysError};
use std::mem::ManuallyDrop;
use std::ptr;

/// A private mapping, readable and writable: addresses at once, memory when touched, zeroes at first. Root stacks live in
/// such regions, or in pieces of one, which never move; dropping one unmaps it.
#[derive(Debug)]
pub struct RootRegion {
    address: usize,
    len: usize,
}

impl RootRegion {
    /// Maps `bytes`, rounded up to whole pages.
    ///
    /// # Errors
    /// `EINVAL` for zero bytes, `ENOMEM` where there are no such addresses.
    pub fn reserve(bytes: usize) -> Result<RootRegion, SysError> {
        let len = bytes.checked_next_multiple_of(sys::page_size()).filter(|len| *len > 0).ok_or(SysError::new(
            "mmap",
            &[("len", bytes)],
            libc::EINVAL,
        ))?;
        Ok(RootRegion { address: sys::reserve_writable(len)?, len })
    }

    /// The first byte, page-aligned. Valid for reads and writes of [`len`](RootRegion::len) bytes while the region lives;
    /// who writes where is the caller's to order.
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
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(fits, "{len:#x} bytes at {offset:#x} are not in a region of {:#x}", self.len);
        // The kernel would round the length up, and take bytes that were not named.
        let whole = len / sys::page_size() * sys::page_size();
        // SAFETY: the range is in our mapping. Only raw pointers into it were handed out: to their users this is a write by
        // the region's owner.
        unsafe { sys::discard(self.address + offset, whole) }
    }
}

impl Drop for RootRegion {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and ends here; its users borrow the region or promised to be gone.
        // Where that is refused (near `vm.max_map_count`) the addresses stay taken, and nobody's.
        let _ = Patience::short().with(|| unsafe { sys::unmap(self.address, self.len) });
    }
}
