//! Which calls are refused, how, and when.

use libc::*;

/// Barriers, and what each is made of.
pub(crate) const BARRIERS: [&str; 4] = ["load", "stw", "page", "anonymous"];

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) barrier: &'static str,
    pub(crate) call: String,
    pub(crate) errno: i32,
    /// Calls of this name that are made before.
    pub(crate) skip: u64,
    /// Calls that are refused; `u64::MAX`: all.
    pub(crate) count: u64,
}

/// What a call can fail with by its manual page, as far as it can happen to a heap, and what a
/// sandbox may answer. The first is what it does most.
fn errnos(call: &str) -> &'static [i32] {
    const SANDBOX: [i32; 2] = [EPERM, ENOSYS];
    match call {
        "mmap" => &[ENOMEM, EAGAIN, EPERM, EINTR],
        "munmap" => &[ENOMEM, EINVAL, EINTR],
        "mprotect" => &[ENOMEM, EACCES, EINTR],
        "madvise(COLLAPSE)" => &[EAGAIN, ENOMEM, EBUSY, EINVAL, EINTR],
        "madvise(POPULATE_WRITE)" => &[ENOMEM, EFAULT, EAGAIN, EINTR],
        "memfd_create(MFD_NOEXEC_SEAL)" => &[EMFILE, ENOMEM, EINVAL, EPERM, ENOSYS, EINTR],
        "ftruncate" => &[EINTR, ENOMEM, EFBIG, EPERM],
        "fallocate(PUNCH_HOLE)" => &[EINTR, ENOMEM, ENOSPC, EPERM, EOPNOTSUPP],
        "ioctl(UFFDIO_API)" => &[EINVAL, EPERM, EINTR],
        "ioctl(UFFDIO_REGISTER)" => &[ENOMEM, EBUSY, EINVAL, EINTR],
        "ioctl(UFFDIO_UNREGISTER)" => &[ENOMEM, EINVAL, EINTR],
        "ioctl(UFFDIO_CONTINUE)" => &[ENOMEM, EAGAIN, EFAULT, EINTR, ENOENT, EINVAL, EPERM],
        "ioctl(UFFDIO_MOVE)" => &[ENOMEM, EAGAIN, EFAULT, EINTR, ENOENT, EBUSY, EINVAL, EPERM, ESRCH],
        "ioctl(UFFDIO_COPY)" => &[ENOMEM, EAGAIN, EFAULT, EINTR, ENOENT, ENOSPC, EPERM, ESRCH],
        // An allocator says no more than that.
        "alloc(table)" => &[ENOMEM],
        "pthread_create" => &[EAGAIN, EPERM],
        "sigaltstack" => &[ENOMEM, EPERM, EINTR],
        // Its word is there and aligned, and the time valid; what else it says is no refusal.
        "futex(FUTEX_WAIT)" => &[EINTR, EAGAIN],
        // Cannot fail for a word that is there, and a lock of the standard library would hang as
        // well.
        "futex(FUTEX_WAKE)" => &[],
        call if call.starts_with("mremap") => &[ENOMEM, EFAULT, EINVAL, EAGAIN, EPERM, EINTR],
        call if call.starts_with("madvise") => &[EINVAL, ENOMEM, EAGAIN, EINTR],
        call if call.starts_with("open") || call.starts_with("read") => &[EACCES, ENOENT, EMFILE, EINTR],
        call if call.starts_with("userfaultfd") => &[EPERM, ENOSYS, EMFILE, EINTR],
        call if call.starts_with("sched") || call.starts_with("membarrier") => &SANDBOX,
        _ => &[EPERM, ENOSYS, EINVAL, ENOMEM, EINTR],
    }
}

/// The cases of a barrier, whose workload makes these calls.
pub(crate) fn of(barrier: &'static str, made: &[(String, u64)]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (call, times) in made {
        for &errno in errnos(call) {
            let mut skips = vec![0, 1, 2, times / 4, times / 2, times - 1];
            skips.retain(|skip| skip < times);
            skips.sort_unstable();
            skips.dedup();
            for skip in skips {
                let mut add = |count| cases.push(Case { barrier, call: call.clone(), errno, skip, count });
                add(1);
                // More than are tried again, and all.
                add(3);
                add(u64::MAX);
            }
        }
    }
    cases
}

/// `count` of the cases, the same for the same seed.
pub(crate) fn some(mut cases: Vec<Case>, count: usize, seed: u64) -> Vec<Case> {
    if count < cases.len() {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        // The front of a shuffle (Fisher and Yates), with xorshift.
        for index in 0..count {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let from = index + (random >> 16) as usize % (cases.len() - index);
            cases.swap(index, from);
        }
        cases.truncate(count);
    }
    cases
}
