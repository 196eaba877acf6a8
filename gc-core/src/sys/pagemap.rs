//! The look at this process's own page tables that tells which pages of a range are there.

use super::inject::refused;
use super::{SysError, page_size};
use linux_raw_sys::general::{PAGE_IS_PFNZERO, PAGE_IS_PRESENT, page_region, pm_scan_arg};
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
    if refused("open(/proc/self/pagemap)") {
        return Err(SysError::last("open(/proc/self/pagemap)", &[]));
    }
    let pagemap =
        File::open("/proc/self/pagemap").map_err(|error| SysError::from_io("open(/proc/self/pagemap)", &[], &error))?;
    let no_range = SysError::new("ioctl(PAGEMAP_SCAN)", &[("addr", address), ("len", len)], libc::EINVAL);
    let end = address.checked_add(len).ok_or(no_range)? as u64;
    let mut regions = [page_region { start: 0, end: 0, categories: 0 }; 32];
    let mut scan = pm_scan_arg {
        size: size_of::<pm_scan_arg>() as u64,
        flags: 0,
        start: address as u64,
        end,
        walk_end: 0,
        vec: regions.as_mut_ptr().expose_provenance() as u64,
        vec_len: regions.len() as u64,
        max_pages: 0,
        category_inverted: are_not.into(),
        category_mask: (are | are_not).into(),
        category_anyof_mask: 0,
        return_mask: are.into(),
    };
    let mut bytes = 0;
    while scan.start < end {
        // SAFETY: the kernel reads and writes one `pm_scan_arg` and at most `vec_len` regions,
        // values of this frame.
        let mut look = || unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut scan) };
        let found = if refused("ioctl(PAGEMAP_SCAN)") { -1 } else { look() };
        if found < 0 {
            return Err(SysError::last("ioctl(PAGEMAP_SCAN)", &[("addr", address), ("len", len)]));
        }
        bytes += regions[..found as usize].iter().map(|region| region.end - region.start).sum::<u64>();
        // The kernel says how far it came: to the end, or to where the regions ran out.
        scan.start = scan.walk_end;
    }
    Ok(bytes as usize / page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ioctl_number_is_the_kernels() {
        assert_eq!(PAGEMAP_SCAN, 0xc060_6610);
    }
}
