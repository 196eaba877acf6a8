//! Resource limits of the process,
//! [`getrlimit(2)`](https://man7.org/linux/man-pages/man2/getrlimit.2.html).

use super::inject::refused;
use super::{SysError, page_size, reserve, unmap};

/// The soft limit of a resource; `None`: unlimited.
fn limit(resource: libc::__rlimit_resource_t) -> Result<Option<usize>, SysError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`, a value of this frame.
    if refused("getrlimit") || unsafe { libc::getrlimit(resource, &raw mut limit) } < 0 {
        return Err(SysError::last("getrlimit", &[("resource", resource as usize)]));
    }
    Ok((limit.rlim_cur != libc::RLIM_INFINITY).then(|| usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)))
}

/// Maximum size in bytes of a file of this process (`RLIMIT_FSIZE`), a memfd too: making one longer
/// raises `SIGXFSZ`, which kills. `None`: no limit.
///
/// # Errors
/// As [`getrlimit(2)`](https://man7.org/linux/man-pages/man2/getrlimit.2.html).
pub fn file_size_limit() -> Result<Option<usize>, SysError> {
    limit(libc::RLIMIT_FSIZE)
}

/// Maximum bytes of address space of this process (`RLIMIT_AS`). `None`: no limit.
///
/// # Errors
/// As [`getrlimit(2)`](https://man7.org/linux/man-pages/man2/getrlimit.2.html).
pub fn address_limit() -> Result<Option<usize>, SysError> {
    limit(libc::RLIMIT_AS)
}

/// Whether the process is below its limit of addresses (`RLIMIT_AS`), which may be lowered below
/// what it uses. To be checked before a mapping is replaced, because the kernel unmaps the old one
/// before it checks the limit. One call of 0.1 us if there is no limit; otherwise it maps a page to
/// find out.
///
/// # Errors
/// `ENOMEM` if the process is at or above the limit.
pub fn below_address_limit() -> Result<(), SysError> {
    // If a sandbox refuses `getrlimit`, find out by mapping a page.
    if matches!(address_limit(), Ok(None)) {
        return Ok(());
    }
    let page = reserve(page_size(), page_size())?;
    // SAFETY: the page was mapped just now, and nobody knows of it.
    unsafe { unmap(page, page_size()) }
}
