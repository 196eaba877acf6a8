//! The memory of a heap: an anonymous file in memory.

use super::inject::refused;
use super::{SysError, file_size_limit, page_size};
use memfd::{FileSeal, Memfd, MemfdOptions};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A memfd of fixed size that backs a heap,
/// [`memfd_create(2)`](https://man7.org/linux/man-pages/man2/memfd_create.2.html) (Linux 3.17).
///
/// It is close-on-exec and sealed against growing, shrinking, further seals and, where the kernel
/// supports it (Linux 6.3), execution. Pages are committed when first touched and read as zeroes.
#[derive(Debug)]
pub struct HeapFile {
    file: File,
    bytes: usize,
    no_exec: bool,
}

impl HeapFile {
    /// Makes a file of `bytes`, a multiple of the page size; no memory is committed. `name` (at
    /// most 249 bytes, no NUL) shows in `/proc/self/maps`.
    ///
    /// # Errors
    /// `EINVAL` for a bad name or size, `EFBIG` above `RLIMIT_FSIZE`, `EMFILE`, `ENFILE`, `ENOMEM`;
    /// `EACCES` where `vm.memfd_noexec` is 2 and the kernel refuses the fallback of a kernel before
    /// 6.3; `EPERM` or `ENOSYS` where a sandbox refuses the call.
    pub fn new(name: &str, bytes: usize) -> Result<HeapFile, SysError> {
        let arguments = [("bytes", bytes)];
        if bytes == 0 || !bytes.is_multiple_of(page_size()) || i64::try_from(bytes).is_err() {
            return Err(SysError::new("ftruncate", &arguments, libc::EINVAL));
        }
        // If a sandbox refuses `getrlimit`, the limit is not checked here.
        if file_size_limit().ok().flatten().is_some_and(|limit| limit < bytes) {
            // `ftruncate` above the limit raises `SIGXFSZ`, which kills the process.
            return Err(SysError::new("ftruncate", &arguments, libc::EFBIG));
        }
        let (memfd, no_exec) = create(name)?;
        uninterrupted(|| {
            if refused("ftruncate") {
                return Err(SysError::last("ftruncate", &arguments));
            }
            memfd.as_file().set_len(bytes as u64).map_err(|error| SysError::from_io("ftruncate", &arguments, &error))
        })?;
        let call = "fcntl(F_ADD_SEALS)";
        if refused(call) {
            return Err(SysError::last(call, &[]));
        }
        memfd
            .add_seals(&[FileSeal::SealGrow, FileSeal::SealShrink, FileSeal::SealSeal])
            .map_err(|error| from_memfd(call, &[], &error))?;
        Ok(HeapFile { file: memfd.into_file(), bytes, no_exec })
    }

    /// The size in bytes; it never changes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the kernel sealed the file against execution (`MFD_NOEXEC_SEAL`, Linux 6.3).
    pub fn is_no_exec(&self) -> bool {
        self.no_exec
    }

    /// The seals as `fcntl(F_GET_SEALS)` gives them, a set of `libc::F_SEAL_*`.
    pub fn seals(&self) -> Result<i32, SysError> {
        // SAFETY: F_GET_SEALS takes no pointer; the descriptor is ours and open.
        let ask = || unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GET_SEALS) };
        let seals = if refused("fcntl(F_GET_SEALS)") { -1 } else { ask() };
        if seals < 0 { Err(SysError::last("fcntl(F_GET_SEALS)", &[])) } else { Ok(seals) }
    }

    /// Bytes of memory the file holds now, in any view or in none (`st_blocks` of `fstat(2)`;
    /// swapped-out pages count).
    pub fn committed_bytes(&self) -> Result<usize, SysError> {
        use std::os::unix::fs::MetadataExt;
        if refused("fstat") {
            return Err(SysError::last("fstat", &[]));
        }
        let metadata = self.file.metadata().map_err(|error| SysError::from_io("fstat", &[], &error))?;
        Ok(metadata.blocks() as usize * 512)
    }

    /// Uncommits the memory of `offset..offset + len`; every view then reads as zeroes there. Whole
    /// pages only: the kernel zeroes the parts of pages at the ends and keeps those. 135 us per 2
    /// MiB of small pages.
    ///
    /// `fallocate(2)` with `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE` (on shared memory since
    /// Linux 3.5).
    pub fn punch_hole(&self, offset: usize, len: usize) -> Result<(), SysError> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let call = "fallocate(PUNCH_HOLE)";
        // SAFETY: the call takes no pointer. The caller wants the bytes discarded in every view,
        // and no safe Rust reference points into a view.
        let punch = || unsafe { libc::fallocate(self.file.as_raw_fd(), mode, offset as i64, len as i64) };
        uninterrupted(|| {
            let failed = refused(call) || punch() < 0;
            if failed { Err(SysError::last(call, &[("offset", offset), ("len", len)])) } else { Ok(()) }
        })
    }
}

impl AsFd for HeapFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for HeapFile {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Creates the file; returns whether it is sealed against execution.
fn create(name: &str) -> Result<(Memfd, bool), SysError> {
    match create_no_exec(name) {
        Ok(memfd) => Ok((memfd, true)),
        // A kernel before 6.3 knows no such flag.
        Err(error) if error.errno() == libc::EINVAL => {
            let call = "memfd_create";
            if refused(call) {
                return Err(SysError::last(call, &[]));
            }
            let made = MemfdOptions::new().close_on_exec(true).allow_sealing(true).create(name);
            made.map(|memfd| (memfd, false)).map_err(|error| from_memfd(call, &[], &error))
        }
        Err(error) => Err(error),
    }
}

/// The `memfd` crate (0.6) does not know `MFD_NOEXEC_SEAL`, so the call is made here and the crate
/// takes over the descriptor.
fn create_no_exec(name: &str) -> Result<Memfd, SysError> {
    let call = "memfd_create(MFD_NOEXEC_SEAL)";
    let name = CString::new(name).map_err(|_| SysError::new(call, &[], libc::EINVAL))?;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | libc::MFD_NOEXEC_SEAL;
    // SAFETY: `name` is a C string that outlives the call.
    let create = || unsafe { libc::memfd_create(name.as_ptr(), flags) };
    let fd = if refused(call) { -1 } else { create() };
    if fd < 0 {
        return Err(SysError::last(call, &[("flags", flags as usize)]));
    }
    // SAFETY: the kernel has just made this descriptor for us, nobody else has it.
    let mut fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // The crate reads the seals, and if that is refused it returns the descriptor without the
    // errno: so the call is repeated here.
    let call = "fcntl(F_GET_SEALS)";
    for _ in 0..INTERRUPTIONS {
        fd = match Memfd::try_from_fd(fd) {
            Ok(memfd) => return Ok(memfd),
            Err(fd) => fd,
        };
        // SAFETY: F_GET_SEALS takes no pointer; the descriptor is ours and open.
        if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) } < 0 {
            return Err(SysError::last(call, &[]));
        }
    }
    Err(SysError::new(call, &[], libc::EINTR))
}

fn from_memfd(call: &'static str, arguments: &[(&'static str, usize)], error: &memfd::Error) -> SysError {
    let (memfd::Error::Create(io) | memfd::Error::AddSeals(io) | memfd::Error::GetSeals(io)) = error;
    SysError::from_io(call, arguments, io)
}

/// Repeats a call that a signal has interrupted (`EINTR`), up to a limit.
fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, SysError>) -> Result<T, SysError> {
    for _ in 0..INTERRUPTIONS {
        match call() {
            Err(error) if error.errno() == libc::EINTR => {}
            done => return done,
        }
    }
    call()
}

/// A profiler's timer fires a thousand times a second, and the calls here take less than a
/// millisecond each: more interruptions than this are no accident.
const INTERRUPTIONS: usize = 100;
