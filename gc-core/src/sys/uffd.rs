//! Descriptors of [`userfaultfd(2)`](https://man7.org/linux/man-pages/man2/userfaultfd.2.html), and the look at page
//! tables that goes with them.
//!
//! The `userfaultfd` crate (0.9) opens `/dev/userfaultfd` without falling back to the system call and drops the kernel's
//! answer about features, so both are done here; what it wraps well (register, continue, copy, wake) is used as it is.

use super::inject::refused;
use super::map::at;
use super::{SysError, page_size};
use linux_raw_sys::general::{
    PAGE_IS_PRESENT, UFFD_API, page_region, pm_scan_arg, uffdio_api, uffdio_copy, uffdio_move,
};
use linux_raw_sys::ioctl::{UFFDIO_API, UFFDIO_COPY};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;
use userfaultfd::{Event, FaultKind, ReadWrite, RegisterMode, Uffd};

/// Where a descriptor comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UffdSource {
    /// `/dev/userfaultfd` (Linux 6.1), governed by the permissions of that file.
    Device,
    /// The system call, with faults of user mode and of the kernel (Linux 4.3): needs `CAP_SYS_PTRACE` or
    /// `vm.unprivileged_userfaultfd=1`.
    SystemCall,
    /// The system call, with faults of user mode only (`UFFD_USER_MODE_ONLY`, Linux 5.11): needs no privilege.
    SystemCallUserModeOnly,
}

impl UffdSource {
    /// All of them, in the order to try: least privilege first.
    pub const ALL: [UffdSource; 3] = [UffdSource::SystemCallUserModeOnly, UffdSource::Device, UffdSource::SystemCall];
}

/// What the kernel answered to [`uffd_api`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UffdAnswer {
    /// Every feature the kernel has, a set of `UFFD_FEATURE_*`.
    pub features: u64,
    /// The ioctls of the descriptor, bits of their numbers.
    pub ioctls: u64,
}

/// Opens a descriptor, close-on-exec and non-blocking; [`uffd_api`] must follow before anything else.
///
/// # Errors
/// `EPERM` where privilege or a seccomp filter forbids it, `ENOSYS` from a kernel without it, `EINVAL` from the system
/// call of a kernel that does not know `UFFD_USER_MODE_ONLY`, `ENOENT` and `EACCES` for the device.
pub fn open_uffd(source: UffdSource) -> Result<Uffd, SysError> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    let (call, fd) = match source {
        UffdSource::Device => {
            if refused("open(/dev/userfaultfd)") {
                return Err(SysError::last("open(/dev/userfaultfd)", &[]));
            }
            let device = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/userfaultfd")
                .map_err(|error| SysError::from_io("open(/dev/userfaultfd)", &[], &error))?;
            let (call, flags) = ("ioctl(USERFAULTFD_IOC_NEW)", flags | userfaultfd_sys::UFFD_USER_MODE_ONLY as i32);
            // SAFETY: the ioctl takes flags, no pointer.
            let open = || unsafe { libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW, flags) };
            (call, if refused(call) { -1 } else { open().into() })
        }
        UffdSource::SystemCall => ("userfaultfd", userfaultfd("userfaultfd", flags)),
        UffdSource::SystemCallUserModeOnly => {
            let flags = flags | userfaultfd_sys::UFFD_USER_MODE_ONLY as i32;
            ("userfaultfd(USER_MODE_ONLY)", userfaultfd("userfaultfd(USER_MODE_ONLY)", flags))
        }
    };
    if fd < 0 {
        return Err(SysError::last(call, &[]));
    }
    // SAFETY: the kernel has just made this descriptor for us, nobody else has it.
    Ok(unsafe { Uffd::from_raw_fd(fd as i32) })
}

fn userfaultfd(call: &'static str, flags: i32) -> i64 {
    // SAFETY: the call takes flags, no pointer.
    if refused(call) { -1 } else { unsafe { libc::syscall(libc::SYS_userfaultfd, flags) } }
}

/// `_IO(0xAA, 0)`, of `/dev/userfaultfd`.
const USERFAULTFD_IOC_NEW: libc::Ioctl = (userfaultfd_sys::USERFAULTFD_IOC << 8) as libc::Ioctl;

/// Agrees with the kernel on `features` (a set of `UFFD_FEATURE_*`), once per descriptor.
///
/// # Errors
/// `EINVAL` where one of the features is unknown to the kernel.
pub fn uffd_api(uffd: &Uffd, features: u64) -> Result<UffdAnswer, SysError> {
    let mut api = uffdio_api { api: UFFD_API.into(), features, ioctls: 0 };
    // SAFETY: the kernel reads and writes one `uffdio_api`, a value of this frame.
    let mut agree = || unsafe { libc::ioctl(uffd.as_raw_fd(), UFFDIO_API as libc::Ioctl, &raw mut api) };
    if refused("ioctl(UFFDIO_API)") || agree() < 0 {
        return Err(SysError::last("ioctl(UFFDIO_API)", &[("features", features as usize)]));
    }
    Ok(UffdAnswer { features: api.features, ioctls: api.ioctls })
}

/// What the crate's calls fail with. Nothing is allocated, so that a signal handler may ask.
fn from_uffd(call: &'static str, address: usize, len: usize, error: &userfaultfd::Error) -> SysError {
    let errno = match error {
        userfaultfd::Error::SystemError(errno) => *errno as i32,
        // The crate keeps other shapes for calls that are not made here.
        _ => libc::EIO,
    };
    SysError::new(call, &[("addr", address), ("len", len)], errno)
}

/// Registers a range, which must lie in one VMA: its absent pages then fault to this descriptor. 1 to 3 us at any size.
///
/// # Errors
/// `EINVAL` where the memory or the kernel does not support the mode, `EBUSY` where another descriptor has the range.
///
/// # Safety
/// Ownership (see the [module](super)). Whoever touches the range must be served: pages that are not there block the
/// thread, or raise `SIGBUS` where that feature was agreed on.
pub unsafe fn uffd_register(uffd: &Uffd, address: usize, len: usize, mode: RegisterMode) -> Result<(), SysError> {
    if refused("ioctl(UFFDIO_REGISTER)") {
        return Err(SysError::last("ioctl(UFFDIO_REGISTER)", &[("addr", address), ("len", len)]));
    }
    match uffd.register_with_mode(at(address), len, mode) {
        Ok(_) => Ok(()),
        Err(error) => Err(from_uffd("ioctl(UFFDIO_REGISTER)", address, len, &error)),
    }
}

/// Ends the registration of a range; who waits for a page of it is woken and faults as usual. 1 to 5 us at any size.
///
/// # Safety
/// Ownership (see the [module](super)).
pub unsafe fn uffd_unregister(uffd: &Uffd, address: usize, len: usize) -> Result<(), SysError> {
    if refused("ioctl(UFFDIO_UNREGISTER)") {
        return Err(SysError::last("ioctl(UFFDIO_UNREGISTER)", &[("addr", address), ("len", len)]));
    }
    uffd.unregister(at(address), len).map_err(|error| from_uffd("ioctl(UFFDIO_UNREGISTER)", address, len, &error))
}

/// Maps the pages that the file already has in a range registered in minor mode, and tells how many bytes came in: fewer
/// than `len` where the kernel stopped on the way. 0.34 us for a page, 0.09 us a page from 64 KiB on. `wake` wakes the
/// threads that wait for them; with the `SIGBUS` feature none do.
///
/// # Errors
/// `EEXIST` where the first page is there already (success for most), `ENOENT` where the range is not registered as one,
/// `EAGAIN` while mappings change, `EFAULT` over a hole of the file.
///
/// # Safety
/// Ownership (see the [module](super)); the bytes of the pages are fit to be seen by whoever touches them.
pub unsafe fn uffd_continue(uffd: &Uffd, address: usize, len: usize, wake: bool) -> Result<usize, SysError> {
    if refused("ioctl(UFFDIO_CONTINUE)") {
        return Err(SysError::last("ioctl(UFFDIO_CONTINUE)", &[("addr", address), ("len", len)]));
    }
    match uffd.r#continue(at(address), len, wake) {
        Ok(mapped) => Ok(mapped as usize),
        Err(error) => Err(from_uffd("ioctl(UFFDIO_CONTINUE)", address, len, &error)),
    }
}

/// Fills absent pages of a range registered in missing mode with a copy of `from..from + len`, and tells how many bytes came
/// in: fewer than `len` where the kernel stopped on the way. `UFFDIO_COPY` (Linux 4.3; shared memory 4.11). The kernel
/// allocates the page, copies, and only then maps it: nobody sees half of it. `wake` as in [`uffd_continue`].
///
/// # Errors
/// `EEXIST` where the first page is there already (another thread won; success for most), `ENOENT` where the range is not
/// registered as one, `EAGAIN` while mappings change, `EFAULT` where the source cannot be read, `ENOSPC` where the file
/// has no more room.
///
/// # Safety
/// Ownership of `to..to + len` (see the [module](super)); the bytes are fit to be seen by whoever touches them. The source
/// is read by the kernel, which checks it.
pub unsafe fn uffd_copy(uffd: &Uffd, to: usize, from: usize, len: usize, wake: bool) -> Result<usize, SysError> {
    let mode = if wake { 0 } else { userfaultfd_sys::UFFDIO_COPY_MODE_DONTWAKE };
    let mut copy = uffdio_copy { dst: to as u64, src: from as u64, len: len as u64, mode, copy: 0 };
    // SAFETY: the kernel reads and writes one `uffdio_copy`, a value of this frame; the caller owns the destination.
    let mut fill = || unsafe { libc::ioctl(uffd.as_raw_fd(), UFFDIO_COPY as libc::Ioctl, &raw mut copy) };
    let call = "ioctl(UFFDIO_COPY)";
    let done = if refused(call) { -1 } else { fill() };
    brought_in(done, copy.copy, Call { call, to, from, len })
}

/// Moves the pages of `from..from + len` to absent pages of a range registered in missing mode, without copying, and tells
/// how many bytes came over; the source is then absent. `UFFDIO_MOVE` (Linux 6.8), private anonymous memory of one process
/// only. 0.036 us a page 2 MiB at once, 1.2 us one page. `holes`: pages that the source does not have are passed over, and
/// count as moved; else they are errors. `wake` as in [`uffd_continue`].
///
/// # Errors
/// `EEXIST` where the first page is there already, `ENOENT` where the source has no page or the destination is not
/// registered, `EAGAIN` while mappings change, `EBUSY` where a source page is not only this process's (after `fork(2)`) or
/// pinned, `EINVAL` for other memory than anonymous and from an older kernel.
///
/// # Safety
/// Ownership of both ranges (see the [module](super)); the bytes are fit to be seen by whoever touches the destination.
pub unsafe fn uffd_move(
    uffd: &Uffd,
    to: usize,
    from: usize,
    len: usize,
    wake: bool,
    holes: bool,
) -> Result<usize, SysError> {
    let quiet = if wake { 0 } else { userfaultfd_sys::UFFDIO_MOVE_MODE_DONTWAKE };
    let mode = quiet | if holes { userfaultfd_sys::UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES } else { 0 };
    let mut moved = uffdio_move { dst: to as u64, src: from as u64, len: len as u64, mode, move_: 0 };
    let request = userfaultfd_sys::UFFDIO_MOVE as libc::Ioctl;
    // SAFETY: the kernel reads and writes one `uffdio_move`, a value of this frame; the caller owns both ranges.
    let mut bring = || unsafe { libc::ioctl(uffd.as_raw_fd(), request, &raw mut moved) };
    let call = "ioctl(UFFDIO_MOVE)";
    let done = if refused(call) { -1 } else { bring() };
    brought_in(done, moved.move_, Call { call, to, from, len })
}

/// Wakes the threads that sleep on a fault in the range (Linux 4.3). With the `SIGBUS` feature none do.
///
/// # Errors
/// `EINVAL` where the range is no whole pages.
pub fn uffd_wake(uffd: &Uffd, address: usize, len: usize) -> Result<(), SysError> {
    if refused("ioctl(UFFDIO_WAKE)") {
        return Err(SysError::last("ioctl(UFFDIO_WAKE)", &[("addr", address), ("len", len)]));
    }
    uffd.wake(at(address), len).map_err(|error| from_uffd("ioctl(UFFDIO_WAKE)", address, len, &error))
}

/// A fault that a thread sleeps on, as the descriptor tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The page's address; with `UFFD_FEATURE_EXACT_ADDRESS` (Linux 5.18) that of the access.
    pub address: usize,
    /// Whether the access was a write.
    pub write: bool,
    /// Whether the file has the page, so that [`uffd_continue`] lets it in; else it is missing.
    pub minor: bool,
}

/// Waits for a fault of a descriptor without the `SIGBUS` feature, at most for `timeout`; `None` where the time is over or
/// something other than a fault was told. [`poll(2)`](https://man7.org/linux/man-pages/man2/poll.2.html) and `read(2)`.
///
/// # Errors
/// `EIO` for what the descriptor should never say.
pub fn next_fault(uffd: &Uffd, timeout: Duration) -> Result<Option<Fault>, SysError> {
    let mut ready = libc::pollfd { fd: uffd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = timeout.as_millis().min(i32::MAX as u128) as i32;
    // SAFETY: one `pollfd`, a value of this frame.
    let found = if refused("poll") { -1 } else { unsafe { libc::poll(&mut ready, 1, timeout) } };
    if found < 0 {
        let error = SysError::last("poll", &[]);
        return if error.errno() == libc::EINTR { Ok(None) } else { Err(error) };
    }
    if found == 0 {
        return Ok(None);
    }
    if refused("read(userfaultfd)") {
        return Err(SysError::last("read(userfaultfd)", &[]));
    }
    match uffd.read_event().map_err(|error| from_uffd("read(userfaultfd)", 0, 0, &error))? {
        Some(Event::Pagefault { kind, rw, addr, .. }) => Ok(Some(Fault {
            address: addr.expose_provenance(),
            write: rw == ReadWrite::Write,
            minor: kind == FaultKind::Minor,
        })),
        _ => Ok(None),
    }
}

/// The call that a count of bytes belongs to.
struct Call {
    call: &'static str,
    to: usize,
    from: usize,
    len: usize,
}

/// What COPY and MOVE answer: all, or EAGAIN with the bytes that came before it, or nothing.
fn brought_in(done: i32, bytes: i64, of: Call) -> Result<usize, SysError> {
    if done == 0 || bytes > 0 {
        return Ok(bytes as usize);
    }
    Err(SysError::last(of.call, &[("to", of.to), ("from", of.from), ("len", of.len)]))
}

/// `_IOWR('f', 16, struct pm_scan_arg)`, of `/proc/PID/pagemap`.
const PAGEMAP_SCAN: libc::Ioctl = (3 << 30 | (size_of::<pm_scan_arg>() as u32) << 16 | (b'f' as u32) << 8 | 16) as _;

/// How many pages of a range have an entry in this process's page tables, [`PAGEMAP_SCAN`] (Linux 6.7). A page of the
/// file that this range has not mapped yet does not count.
///
/// # Errors
/// `ENOTTY` from an older kernel, `EINVAL` for a range that does not end, and what opening `/proc/self/pagemap` gives.
///
/// [`PAGEMAP_SCAN`]: https://docs.kernel.org/admin-guide/mm/pagemap.html
pub fn present_pages(address: usize, len: usize) -> Result<usize, SysError> {
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
        category_inverted: 0,
        category_mask: PAGE_IS_PRESENT.into(),
        category_anyof_mask: 0,
        return_mask: PAGE_IS_PRESENT.into(),
    };
    let mut bytes = 0;
    while scan.start < end {
        // SAFETY: the kernel reads and writes one `pm_scan_arg` and at most `vec_len` regions, values of this frame.
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
    fn the_ioctl_numbers_are_the_kernels() {
        assert_eq!(PAGEMAP_SCAN, 0xc060_6610);
        assert_eq!(USERFAULTFD_IOC_NEW, 0xaa00);
    }
}
