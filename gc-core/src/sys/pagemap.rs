//! The look at this process's own page tables that tells which pages of a range are there.

use super::inject::refused;
use super::{SysError, page_size};
use linux_raw_sys::general::{PAGE_IS_PFNZERO, PAGE_IS_PRESENT, PAGE_IS_SWAPPED, page_region, pm_scan_arg};
use std::fs::File;
use std::os::fd::AsRawFd;

/// `_IOWR('f', 16, struct pm_scan_arg)`, of `/proc/PID/pagemap`.
const PAGEMAP_SCAN: libc::Ioctl = (3 << 30 | (size_of::<pm_scan_arg>() as u32) << 16 | (b'f' as u32) << 8 | 16) as _;

/// How many pages of a range have an entry in this process's page tables, [`PAGEMAP_SCAN`] (Linux
/// 6.7). A page of the file that this range has not mapped yet does not count.
///
/// # Errors
/// `ENOTTY` from an older kernel, `EINVAL` for a range that does not end, and what opening
/// `/proc/self/pagemap` gives.
///
/// [`PAGEMAP_SCAN`]: https://docs.kernel.org/admin-guide/mm/pagemap.html
pub fn present_pages(address: usize, len: usize) -> Result<usize, SysError> {
    pages_that(address, len, PAGE_IS_PRESENT, 0)
}

/// As [`present_pages`], without those that are the page of zeroes that all processes share: memory
/// that was read and never written.
///
/// # Errors
/// As [`present_pages`].
pub fn committed_pages(address: usize, len: usize) -> Result<usize, SysError> {
    pages_that(address, len, PAGE_IS_PRESENT, PAGE_IS_PFNZERO)
}

/// How many pages are all that `are` says, and nothing that `are_not` says.
fn pages_that(address: usize, len: usize, are: u32, are_not: u32) -> Result<usize, SysError> {
    let pagemap = Pagemap::open()?;
    let mut regions = [page_region { start: 0, end: 0, categories: 0 }; 32];
    let mut scan = scan_of(address, len)?;
    scan.category_inverted = are_not.into();
    scan.category_mask = (are | are_not).into();
    scan.return_mask = are.into();
    let mut bytes = 0;
    while scan.start < scan.end {
        let found = pagemap.scan(&mut scan, &mut regions)?;
        bytes += found.iter().map(|region| region.end - region.start).sum::<u64>();
        // The kernel says how far it came: to the end, or to where the regions ran out.
        scan.start = scan.walk_end;
    }
    Ok(bytes as usize / page_size())
}

/// A look at all pages of a range.
fn scan_of(address: usize, len: usize) -> Result<pm_scan_arg, SysError> {
    let no_range = SysError::new("ioctl(PAGEMAP_SCAN)", &[("addr", address), ("len", len)], libc::EINVAL);
    let end = address.checked_add(len).ok_or(no_range)?;
    Ok(pm_scan_arg {
        size: size_of::<pm_scan_arg>() as u64,
        flags: 0,
        start: address as u64,
        end: end as u64,
        walk_end: 0,
        vec: 0,
        vec_len: 0,
        max_pages: 0,
        category_inverted: 0,
        category_mask: 0,
        category_anyof_mask: 0,
        return_mask: 0,
    })
}

/// The page tables of this process, to be asked more than once. A child of `fork(2)` that keeps it
/// asks for those of its parent.
#[derive(Debug)]
pub struct Pagemap {
    file: File,
}

impl Pagemap {
    /// Opens `/proc/self/pagemap`.
    ///
    /// # Errors
    /// `ENOENT` and others where `/proc` is not mounted or not to be read.
    pub fn open() -> Result<Pagemap, SysError> {
        let call = "open(/proc/self/pagemap)";
        if refused(call) {
            return Err(SysError::last(call, &[]));
        }
        match File::open("/proc/self/pagemap") {
            Ok(file) => Ok(Pagemap { file }),
            Err(error) => Err(SysError::from_io(call, &[], &error)),
        }
    }

    /// The address of the first page of a range that has memory, present or swapped out. Allocates
    /// nothing. 1 us, and 2 us for each GiB without page tables.
    ///
    /// # Errors
    /// `ENOTTY` from a kernel older than 6.7, `EINVAL` for a range that does not end or is not
    /// whole pages.
    pub fn first_page(&self, address: usize, len: usize) -> Result<Option<usize>, SysError> {
        let mut regions = [page_region { start: 0, end: 0, categories: 0 }];
        let mut scan = scan_of(address, len)?;
        scan.max_pages = 1;
        scan.category_anyof_mask = (PAGE_IS_PRESENT | PAGE_IS_SWAPPED).into();
        scan.return_mask = scan.category_anyof_mask;
        Ok(self.scan(&mut scan, &mut regions)?.first().map(|region| region.start as usize))
    }

    /// Fills `regions`, and returns those that were found.
    fn scan<'r>(&self, scan: &mut pm_scan_arg, regions: &'r mut [page_region]) -> Result<&'r [page_region], SysError> {
        let call = "ioctl(PAGEMAP_SCAN)";
        (scan.vec, scan.vec_len) = (regions.as_mut_ptr().expose_provenance() as u64, regions.len() as u64);
        // SAFETY: the kernel reads and writes one `pm_scan_arg` and at most `vec_len` regions, both
        // borrowed for this call alone.
        let look = |scan: *mut pm_scan_arg| unsafe { libc::ioctl(self.file.as_raw_fd(), PAGEMAP_SCAN, scan) };
        let found = if refused(call) { -1 } else { look(scan) };
        if found < 0 {
            return Err(SysError::last(
                call,
                &[("addr", scan.start as usize), ("len", (scan.end - scan.start) as usize)],
            ));
        }
        Ok(&regions[..found as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ioctl_number_is_the_kernels() {
        assert_eq!(PAGEMAP_SCAN, 0xc060_6610);
    }
}
