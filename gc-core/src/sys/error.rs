//! The error of a failed system call.

use crate::zeroed::{ALLOCATION, NoMemory};
use std::ffi::CStr;
use std::{fmt, io};

/// A system call that failed: its name, its arguments and the errno. `Display` gives one line, such
/// as `mremap(from=0x7f0000000000, len=0x200000): Invalid argument (os error 22)`.
///
/// It is `Copy` and owns no memory, so that it can be created where allocation is forbidden.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SysError {
    call: &'static str,
    arguments: [(&'static str, usize); 4],
    errno: i32,
    /// There were more arguments. (It occupies padding, and leaves niche values for the tags of
    /// enclosing enums.)
    more: bool,
}

impl SysError {
    /// The error of `call` with `errno`; at most four arguments are kept.
    pub(crate) fn new(call: &'static str, arguments: &[(&'static str, usize)], errno: i32) -> SysError {
        let mut kept = [("", 0); 4];
        for (to, from) in kept.iter_mut().zip(arguments) {
            *to = *from;
        }
        SysError { call, arguments: kept, errno, more: arguments.len() > kept.len() }
    }

    /// The error of `call` with the errno that this thread's last failed call left behind.
    pub(crate) fn last(call: &'static str, arguments: &[(&'static str, usize)]) -> SysError {
        SysError::from_io(call, arguments, &io::Error::last_os_error())
    }

    /// The error of `call`, from an error of the standard library or of a crate that made the call.
    /// `EIO` if that carries no errno.
    pub(crate) fn from_io(call: &'static str, arguments: &[(&'static str, usize)], error: &io::Error) -> SysError {
        SysError::new(call, arguments, error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// The name of the call, as in its manual page.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// The error number, `errno(3)`.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// The arguments that were kept, by name.
    pub fn arguments(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.arguments.into_iter().filter(|(name, _)| !name.is_empty())
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.call)?;
        for (i, (name, value)) in self.arguments().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:#x}")?;
        }
        f.write_str(if self.more { ", ...): " } else { "): " })?;
        let mut text = [0; 128];
        // SAFETY: the call writes at most as many bytes as it is told, a C string, into an array of
        // this frame. (`io::Error` would allocate one.)
        let told = unsafe { libc::strerror_r(self.errno, text.as_mut_ptr().cast(), text.len()) } == 0;
        let text = CStr::from_bytes_until_nul(&text).ok().and_then(|text| text.to_str().ok()).filter(|_| told);
        write!(f, "{} (os error {})", text.unwrap_or("an error of no name"), self.errno)
    }
}

impl fmt::Debug for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SysError({self})")
    }
}

impl std::error::Error for SysError {}

impl From<NoMemory> for SysError {
    fn from(no: NoMemory) -> SysError {
        SysError::new(ALLOCATION, &[("bytes", no.bytes())], libc::ENOMEM)
    }
}

impl From<SysError> for io::Error {
    fn from(error: SysError) -> io::Error {
        io::Error::new(io::Error::from_raw_os_error(error.errno).kind(), error)
    }
}
