//! Where the program and its libraries are loaded.

use std::ffi::{c_int, c_void};

/// The end of the highest segment of the program and of the libraries that are loaded now, as
/// [`dl_iterate_phdr(3)`] tells them: all `static`s are below. Takes a lock of the dynamic loader.
///
/// A library that is loaded later, or a mapping whose address nobody asks for, lies below 2^47 on
/// x86-64 also where the kernel has five levels of page tables ([kernel documentation]), and below
/// 2^48 on AArch64.
///
/// [`dl_iterate_phdr(3)`]: https://man7.org/linux/man-pages/man3/dl_iterate_phdr.3.html
/// [kernel documentation]: https://docs.kernel.org/arch/x86/x86_64/5level-paging.html
#[must_use]
pub fn images_end() -> usize {
    unsafe extern "C" fn each(info: *mut libc::dl_phdr_info, _size: usize, end: *mut c_void) -> c_int {
        // SAFETY: `info` describes a loaded image during this call, its headers included, and `end`
        // is the pointer that `images_end` passes, which nothing else uses meanwhile.
        let (info, headers, end) = unsafe {
            let info = &*info;
            (info, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)), &mut *end.cast::<usize>())
        };
        for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD) {
            let segment = info.dlpi_addr.wrapping_add(header.p_vaddr).saturating_add(header.p_memsz);
            *end = (*end).max(segment as usize);
        }
        0
    }
    let mut end = 0;
    // SAFETY: `each` keeps to the contract of the callback, does not unwind, and gets the pointer
    // to a `usize` that it expects.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut end).cast()) };
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statics_of_the_program_and_of_libraries_lie_below_the_end() {
        static HERE: u8 = 1;
        let end = images_end();
        let libc = libc::getpid as *const () as usize;
        assert!((std::ptr::from_ref(&HERE) as usize) < end && libc < end, "{end:#x}");
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(maps.lines().any(|line| {
            let (start, rest) = line.split_once('-').unwrap();
            let [start, top] =
                [start, rest.split(' ').next().unwrap()].map(|hex| usize::from_str_radix(hex, 16).unwrap());
            (start..=top).contains(&end) && start != end
        }));
    }
}
