//! Descriptors of [`userfaultfd(2)`](https://man7.org/linux/man-pages/man2/userfaultfd.2.html) and
//! their ioctls, each under its own name.
//!
//! The structures and constants are those of `<linux/userfaultfd.h>`, which `linux-raw-sys` ships.
//! The `userfaultfd` crate is the second opinion on each of these calls, in `tests/sys/`; a heap
//! does not depend on it, because it needs libclang to build.

use super::SysError;
use super::inject::refused;
use linux_raw_sys::general as raw;
use linux_raw_sys::ioctl::{UFFDIO_API, UFFDIO_CONTINUE, UFFDIO_COPY, UFFDIO_REGISTER, UFFDIO_UNREGISTER, UFFDIO_WAKE};
use std::fs::OpenOptions;
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A feature of [`uffd_api`]: an absent page raises `SIGBUS` in the thread that touches it instead
/// of blocking the thread (Linux 4.14).
pub const UFFD_FEATURE_SIGBUS: u64 = raw::UFFD_FEATURE_SIGBUS as u64;
/// A feature of [`uffd_api`]: [`RegisterMode::MISSING`] on shared memory (Linux 4.11).
pub const UFFD_FEATURE_MISSING_SHMEM: u64 = raw::UFFD_FEATURE_MISSING_SHMEM as u64;
/// A feature of [`uffd_api`]: [`RegisterMode::MINOR`] on shared memory (Linux 5.14).
pub const UFFD_FEATURE_MINOR_SHMEM: u64 = raw::UFFD_FEATURE_MINOR_SHMEM as u64;
/// A feature of [`uffd_api`]: [`uffd_move`] (Linux 6.8).
pub const UFFD_FEATURE_MOVE: u64 = raw::UFFD_FEATURE_MOVE as u64;

/// A userfaultfd descriptor. Closing it, which dropping does, ends all its registrations and wakes
/// the threads that wait for their pages.
#[derive(Debug)]
pub struct Uffd(OwnedFd);

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Uffd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Which faults of a range go to the descriptor, for [`uffd_register`]; `|` joins them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegisterMode(u64);

impl RegisterMode {
    /// Faults of pages that do not exist: private memory never written (Linux 4.3), holes of a file
    /// in shared memory (4.11).
    pub const MISSING: RegisterMode = RegisterMode(raw::UFFDIO_REGISTER_MODE_MISSING as u64);
    /// Faults of pages that the file has and this range does not map; shared memory from Linux
    /// 5.14.
    pub const MINOR: RegisterMode = RegisterMode(raw::UFFDIO_REGISTER_MODE_MINOR as u64);
}

impl BitOr for RegisterMode {
    type Output = RegisterMode;

    fn bitor(self, other: RegisterMode) -> RegisterMode {
        RegisterMode(self.0 | other.0)
    }
}

/// Where a descriptor comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UffdSource {
    /// `/dev/userfaultfd` (Linux 6.1), governed by the permissions of that file.
    Device,
    /// The system call, with faults of user mode and of the kernel (Linux 4.3): needs
    /// `CAP_SYS_PTRACE` or `vm.unprivileged_userfaultfd=1`.
    SystemCall,
    /// The system call, with faults of user mode only (`UFFD_USER_MODE_ONLY`, Linux 5.11): needs no
    /// privilege.
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

/// Opens a descriptor, close-on-exec and non-blocking; [`uffd_api`] must follow before anything
/// else.
///
/// `int userfaultfd(int flags)` ([`userfaultfd(2)`], Linux 4.3), or
/// `int ioctl(int device, USERFAULTFD_IOC_NEW, int flags)` on `/dev/userfaultfd` (Linux 6.1).
///
/// # Errors
/// `EPERM` where privilege or a seccomp filter forbids it, `ENOSYS` from a kernel without it,
/// `EINVAL` from the system call of a kernel that does not know `UFFD_USER_MODE_ONLY`, `EMFILE` and
/// `ENFILE` where the process or the system has no descriptor left, `ENOENT` and `EACCES` for the
/// device.
///
/// [`userfaultfd(2)`]: https://man7.org/linux/man-pages/man2/userfaultfd.2.html
pub fn open_uffd(source: UffdSource) -> Result<Uffd, SysError> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    let user_mode_only = flags | raw::UFFD_USER_MODE_ONLY as i32;
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
            let call = "ioctl(USERFAULTFD_IOC_NEW)";
            // SAFETY: the ioctl takes flags, no pointer.
            let open = || unsafe { libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW, user_mode_only) };
            (call, if refused(call) { -1 } else { open().into() })
        }
        UffdSource::SystemCall => ("userfaultfd", userfaultfd("userfaultfd", flags)),
        UffdSource::SystemCallUserModeOnly => {
            ("userfaultfd(USER_MODE_ONLY)", userfaultfd("userfaultfd(USER_MODE_ONLY)", user_mode_only))
        }
    };
    if fd < 0 {
        return Err(SysError::last(call, &[]));
    }
    // SAFETY: the kernel has just made this descriptor for us, nobody else has it.
    Ok(Uffd(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

fn userfaultfd(call: &'static str, flags: i32) -> i64 {
    // SAFETY: the call takes flags, no pointer.
    if refused(call) { -1 } else { unsafe { libc::syscall(libc::SYS_userfaultfd, flags) } }
}

/// `_IO(0xAA, 0)`, of `/dev/userfaultfd`.
const USERFAULTFD_IOC_NEW: libc::Ioctl = (raw::USERFAULTFD_IOC << 8) as libc::Ioctl;

/// `_IOWR(UFFDIO, _UFFDIO_MOVE, struct uffdio_move)`, which `linux-raw-sys` leaves out.
const UFFDIO_MOVE: u32 = 3 << 30 | (size_of::<raw::uffdio_move>() as u32) << 16 | raw::UFFDIO << 8 | raw::_UFFDIO_MOVE;
// The header writes these with a cast, `((__u64)1<<0)`, which the generated bindings drop.
const UFFDIO_CONTINUE_MODE_DONTWAKE: u64 = 1 << 0;
const UFFDIO_MOVE_MODE_DONTWAKE: u64 = 1 << 0;

/// Makes one ioctl of a descriptor, unless `inject` refuses it, and returns whether it succeeded;
/// otherwise `errno` is set. It allocates nothing: a signal handler may call it.
///
/// # Safety
/// `argument` is the structure that `request` reads and writes, and the caller owns the range that
/// the request changes.
unsafe fn ioctl<T>(uffd: &Uffd, call: &'static str, request: u32, argument: &mut T) -> bool {
    // SAFETY: the kernel reads and writes one `T`, which the caller lends.
    !refused(call) && unsafe { libc::ioctl(uffd.as_raw_fd(), request as libc::Ioctl, &raw mut *argument) } >= 0
}

/// Agrees with the kernel on `features` (a set of `UFFD_FEATURE_*`), once per descriptor.
///
/// `int ioctl(int fd, UFFDIO_API, struct uffdio_api *)` ([`UFFDIO_API(2const)`], Linux 4.3).
///
/// # Errors
/// `EINVAL` where one of the features is unknown to the kernel, or where the descriptor has agreed
/// on features before; `EPERM` for a feature that needs privilege.
///
/// [`UFFDIO_API(2const)`]: https://man7.org/linux/man-pages/man2/UFFDIO_API.2const.html
pub fn uffd_api(uffd: &Uffd, features: u64) -> Result<UffdAnswer, SysError> {
    let call = "ioctl(UFFDIO_API)";
    let mut api = raw::uffdio_api { api: raw::UFFD_API.into(), features, ioctls: 0 };
    // SAFETY: the request's own structure; it changes no range.
    if !unsafe { ioctl(uffd, call, UFFDIO_API, &mut api) } {
        return Err(SysError::last(call, &[("features", features as usize)]));
    }
    Ok(UffdAnswer { features: api.features, ioctls: api.ioctls })
}

/// Registers a range, which must lie in one VMA: its absent pages then fault to this descriptor. 1
/// to 3 us at any size.
///
/// `int ioctl(int fd, UFFDIO_REGISTER, struct uffdio_register *)` ([`UFFDIO_REGISTER(2const)`],
/// Linux 4.3).
///
/// # Errors
/// `EINVAL` where the memory or the kernel does not support the mode, the range has no mapping or
/// is not whole pages; `EBUSY` where another descriptor has the range; `EPERM` where the mapping is
/// of a file that may not be written; `ENOMEM` where the kernel cannot split the mapping.
///
/// # Safety
/// Ownership (see the [module](super)). Every access to the range must be served: an absent page
/// blocks the accessing thread, or raises `SIGBUS` if that feature was enabled.
///
/// [`UFFDIO_REGISTER(2const)`]: https://man7.org/linux/man-pages/man2/UFFDIO_REGISTER.2const.html
pub unsafe fn uffd_register(uffd: &Uffd, address: usize, len: usize, mode: RegisterMode) -> Result<(), SysError> {
    let call = "ioctl(UFFDIO_REGISTER)";
    let mut register = raw::uffdio_register { range: range(address, len), mode: mode.0, ioctls: 0 };
    // SAFETY: the request's own structure; the caller owns the range.
    let done = unsafe { ioctl(uffd, call, UFFDIO_REGISTER, &mut register) };
    of_range(done, call, address, len)
}

/// Ends the registration of a range; threads that wait for a page of it are woken and fault as
/// usual. 1 to 5 us at any size.
///
/// `int ioctl(int fd, UFFDIO_UNREGISTER, struct uffdio_range *)` ([`UFFDIO_UNREGISTER(2const)`],
/// Linux 4.3).
///
/// # Errors
/// `EINVAL` where the range has no mapping, has one that can never be registered, or is not whole
/// pages; `ENOMEM` where the kernel cannot split the mapping. A range that is not registered is no
/// error.
///
/// # Safety
/// Ownership (see the [module](super)).
///
/// [`UFFDIO_UNREGISTER(2const)`]: https://man7.org/linux/man-pages/man2/UFFDIO_UNREGISTER.2const.html
pub unsafe fn uffd_unregister(uffd: &Uffd, address: usize, len: usize) -> Result<(), SysError> {
    let call = "ioctl(UFFDIO_UNREGISTER)";
    // SAFETY: the request's own structure; the caller owns the range.
    let done = unsafe { ioctl(uffd, call, UFFDIO_UNREGISTER, &mut range(address, len)) };
    of_range(done, call, address, len)
}

/// Maps the pages that the file already has in a range registered in minor mode, and returns how
/// many bytes it mapped: fewer than `len` if the kernel stopped early. 0.34 us for a page, 0.09 us
/// a page from 64 KiB on. `wake` wakes the threads that wait for them; with the `SIGBUS` feature
/// none do.
///
/// `int ioctl(int fd, UFFDIO_CONTINUE, struct uffdio_continue *)` ([`UFFDIO_CONTINUE(2const)`],
/// Linux 5.13; shared memory 5.14).
///
/// # Errors
/// `EEXIST` where the first page is there already (success for most), `ENOENT` where the range is
/// not registered as one, `EAGAIN` while mappings change, `EFAULT` over a hole of the file,
/// `EINVAL` where the range is empty or not whole pages, `ENOMEM` where the kernel has no memory
/// for page tables, `ESRCH` where the process that made the descriptor has ended.
///
/// # Safety
/// Ownership (see the [module](super)); the bytes of the pages are valid for every thread that may
/// access them.
///
/// [`UFFDIO_CONTINUE(2const)`]: https://man7.org/linux/man-pages/man2/UFFDIO_CONTINUE.2const.html
pub unsafe fn uffd_continue(uffd: &Uffd, address: usize, len: usize, wake: bool) -> Result<usize, SysError> {
    let call = "ioctl(UFFDIO_CONTINUE)";
    let mode = if wake { 0 } else { UFFDIO_CONTINUE_MODE_DONTWAKE };
    let mut bring = raw::uffdio_continue { range: range(address, len), mode, mapped: 0 };
    // SAFETY: the request's own structure; the caller owns the range.
    let done = unsafe { ioctl(uffd, call, UFFDIO_CONTINUE, &mut bring) };
    brought_in(done, bring.mapped, call, &[("addr", address), ("len", len)])
}

/// Fills absent pages of a range registered in missing mode with a copy of `from..from + len`, and
/// returns how many bytes it filled: fewer than `len` if the kernel stopped early. The kernel
/// allocates the page, copies, and only then maps it: no thread sees a partial copy. `wake` as in
/// [`uffd_continue`].
///
/// `int ioctl(int fd, UFFDIO_COPY, struct uffdio_copy *)` ([`UFFDIO_COPY(2const)`], Linux 4.3;
/// shared memory 4.11).
///
/// # Errors
/// `EEXIST` where the first page is there already (another thread won; success for most), `ENOENT`
/// where the range is not registered as one, `EAGAIN` while mappings change, `EFAULT` where the
/// source cannot be read, `ENOSPC` where the file has no more room, `EINVAL` where a range is empty
/// or not whole pages, `ENOMEM` where there is no memory for the page, `ESRCH` where the process
/// that made the descriptor has ended.
///
/// # Safety
/// Ownership of `to..to + len` (see the [module](super)); the bytes are valid for every thread that
/// may access them. The source is read by the kernel, which checks it.
///
/// [`UFFDIO_COPY(2const)`]: https://man7.org/linux/man-pages/man2/UFFDIO_COPY.2const.html
pub unsafe fn uffd_copy(uffd: &Uffd, to: usize, from: usize, len: usize, wake: bool) -> Result<usize, SysError> {
    let call = "ioctl(UFFDIO_COPY)";
    let mode = if wake { 0 } else { raw::UFFDIO_COPY_MODE_DONTWAKE.into() };
    let mut copy = raw::uffdio_copy { dst: to as u64, src: from as u64, len: len as u64, mode, copy: 0 };
    // SAFETY: the request's own structure; the caller owns the destination.
    let done = unsafe { ioctl(uffd, call, UFFDIO_COPY, &mut copy) };
    brought_in(done, copy.copy, call, &[("to", to), ("from", from), ("len", len)])
}

/// Moves the pages of `from..from + len` to absent pages of a range registered in missing mode,
/// without copying, and returns how many bytes it moved; the source is then absent. Private
/// anonymous memory of one process only. 0.036 us a page 2 MiB at once, 1.2 us one page. `wake` as
/// in [`uffd_continue`].
///
/// `UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES` is not used. The kernel's loop over the pages keeps the
/// `EAGAIN` of a page that it tries again (Linux 6.18), and goes on when that page is moved: it
/// then finds it present in the destination, and the call ends with `EEXIST` though nothing was
/// there before. With the flag, a hole that was tried again keeps the call in the kernel for ever,
/// and only a fatal signal ends it. A page is tried again when `madvise(MADV_DONTNEED)` of 2 MiB of
/// either range frees its page table meanwhile.
///
/// `int ioctl(int fd, UFFDIO_MOVE, struct uffdio_move *)` ([kernel documentation], Linux 6.8).
///
/// # Errors
/// `EEXIST` where the first page is there already, `ENOENT` where the source has no page or the
/// destination is not registered, `EAGAIN` while mappings change, `EBUSY` where a source page is
/// shared with another process (after `fork(2)`) or pinned, `EINVAL` for other memory than
/// anonymous and from an older kernel, `ENOMEM` where the kernel has no memory for page tables,
/// `ESRCH` where the process that made the descriptor has ended.
///
/// # Safety
/// Ownership of both ranges (see the [module](super)); the bytes are valid for every thread that
/// may access the destination.
///
/// [kernel documentation]: https://docs.kernel.org/admin-guide/mm/userfaultfd.html
pub unsafe fn uffd_move(uffd: &Uffd, to: usize, from: usize, len: usize, wake: bool) -> Result<usize, SysError> {
    let call = "ioctl(UFFDIO_MOVE)";
    let mode = if wake { 0 } else { UFFDIO_MOVE_MODE_DONTWAKE };
    let mut moved = raw::uffdio_move { dst: to as u64, src: from as u64, len: len as u64, mode, move_: 0 };
    // SAFETY: the request's own structure; the caller owns both ranges.
    let done = unsafe { ioctl(uffd, call, UFFDIO_MOVE, &mut moved) };
    brought_in(done, moved.move_, call, &[("to", to), ("from", from), ("len", len)])
}

/// Wakes the threads that sleep on a fault in the range. With the `SIGBUS` feature none do.
///
/// `int ioctl(int fd, UFFDIO_WAKE, struct uffdio_range *)` ([`UFFDIO_WAKE(2const)`], Linux 4.3).
///
/// # Errors
/// `EINVAL` where the range is empty or not whole pages.
///
/// [`UFFDIO_WAKE(2const)`]: https://man7.org/linux/man-pages/man2/UFFDIO_WAKE.2const.html
pub fn uffd_wake(uffd: &Uffd, address: usize, len: usize) -> Result<(), SysError> {
    let call = "ioctl(UFFDIO_WAKE)";
    // SAFETY: the request's own structure; it changes no range.
    let done = unsafe { ioctl(uffd, call, UFFDIO_WAKE, &mut range(address, len)) };
    of_range(done, call, address, len)
}

/// Waits until a descriptor without the `SIGBUS` feature has a fault to read, at most for
/// `timeout`; `false` if the timeout expired or a signal arrived.
///
/// `int poll(struct pollfd *, nfds_t, int timeout)` ([`poll(2)`]).
///
/// # Errors
/// `ENOMEM` where the kernel has no memory for its tables.
///
/// [`poll(2)`]: https://man7.org/linux/man-pages/man2/poll.2.html
pub fn wait_for_fault(uffd: &Uffd, timeout: Duration) -> Result<bool, SysError> {
    let mut ready = libc::pollfd { fd: uffd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = timeout.as_millis().min(i32::MAX as u128) as i32;
    // SAFETY: one `pollfd`, a value of this frame.
    let found = if refused("poll") { -1 } else { unsafe { libc::poll(&mut ready, 1, timeout) } };
    if found < 0 {
        let error = SysError::last("poll", &[]);
        return if error.errno() == libc::EINTR { Ok(false) } else { Err(error) };
    }
    Ok(found > 0)
}

fn range(address: usize, len: usize) -> raw::uffdio_range {
    raw::uffdio_range { start: address as u64, len: len as u64 }
}

/// The result of a call on one range.
fn of_range(done: bool, call: &'static str, address: usize, len: usize) -> Result<(), SysError> {
    if done { Ok(()) } else { Err(SysError::last(call, &[("addr", address), ("len", len)])) }
}

/// What CONTINUE, COPY and MOVE answer: all, or `EAGAIN` with the bytes that came before it, or
/// nothing.
fn brought_in(
    done: bool,
    bytes: i64,
    call: &'static str,
    arguments: &[(&'static str, usize)],
) -> Result<usize, SysError> {
    if done || bytes > 0 { Ok(bytes as usize) } else { Err(SysError::last(call, arguments)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ioctl_numbers_are_the_kernels() {
        assert_eq!(USERFAULTFD_IOC_NEW, 0xaa00);
        assert_eq!(UFFDIO_MOVE, 0xc028_aa05);
    }
}
