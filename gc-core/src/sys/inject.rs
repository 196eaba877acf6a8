//! Fault injection: makes system calls fail, to test how the project handles refusals by the
//! kernel. The feature `inject` enables it, for tests and for the sweep
//! (`cargo run -p gc-heap --example sweep`) only. Without it the hook is a constant function that
//! returns `false`.
//!
//! Every call that this crate makes consults this module first, under the name that its
//! [`SysError`](super::SysError) has, and is counted; so is every allocation of a table
//! ([`zeroed`](crate::zeroed)). A call that is to be refused is not made:
//! `errno` is set, and it fails as if the kernel had refused it. What the kernel does before it
//! refuses (a failed `mremap` may have unmapped the place that it was to fill) is not imitated.
//!
//! It applies to all threads of the process. It takes no lock and allocates nothing, so calls of
//! signal handlers are counted and refused like others.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Capacity; larger than the number of names of calls.
const MAX_CALLS: usize = 128;

struct Call {
    /// Set once, by the first thread that makes the call or has it refused.
    name: OnceLock<&'static str>,
    made: AtomicU64,
    refused: AtomicU64,
    errno: AtomicI32,
    /// Range of call numbers, from 0, that are refused.
    from: AtomicU64,
    until: AtomicU64,
}

static CALLS: [Call; MAX_CALLS] = [const {
    Call {
        name: OnceLock::new(),
        made: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        errno: AtomicI32::new(0),
        from: AtomicU64::new(0),
        until: AtomicU64::new(0),
    }
}; MAX_CALLS];

fn call(name: &'static str) -> &'static Call {
    CALLS.iter().find(|call| *call.name.get_or_init(|| name) == name).expect("fewer names than places")
}

/// Whether the call that is about to be made fails; then `errno` is set.
pub(crate) fn refused(name: &'static str) -> bool {
    let call = call(name);
    let number = call.made.fetch_add(1, Ordering::SeqCst);
    let refused = number >= call.from.load(Ordering::SeqCst) && number < call.until.load(Ordering::SeqCst);
    if refused {
        call.refused.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the C library's address of the calling thread's own `errno`, valid as long as the
        // thread is.
        unsafe { libc::__errno_location().write(call.errno.load(Ordering::SeqCst)) };
    }
    refused
}

/// Makes calls fail with `errno`: from now on `skip` more calls of this name succeed, then `count`
/// (`u64::MAX`: all) are refused. One such rule per name; a later one replaces it.
///
/// `name` is what [`SysError::call`](super::SysError::call) says, such as `madvise(DONTNEED)`;
/// [`made`] lists those of a run.
///
/// # Panics
/// If more names are used than the table holds.
pub fn refuse(name: &'static str, errno: i32, skip: u64, count: u64) {
    let call = call(name);
    call.until.store(0, Ordering::SeqCst);
    let from = call.made.load(Ordering::SeqCst).saturating_add(skip);
    call.errno.store(errno, Ordering::SeqCst);
    call.from.store(from, Ordering::SeqCst);
    call.until.store(from.saturating_add(count), Ordering::SeqCst);
}

/// Removes every rule: no call is refused any more.
pub fn refuse_nothing() {
    CALLS.iter().for_each(|call| call.until.store(0, Ordering::SeqCst));
}

/// The number of calls so far by name, including refused ones. Names without a call are omitted.
pub fn made() -> Vec<(&'static str, u64)> {
    counts(|call| &call.made)
}

/// The number of refused calls by name, as in [`made`].
pub fn refusals() -> Vec<(&'static str, u64)> {
    counts(|call| &call.refused)
}

fn counts(of: fn(&Call) -> &AtomicU64) -> Vec<(&'static str, u64)> {
    let named = CALLS.iter().filter_map(|call| Some((*call.name.get()?, of(call).load(Ordering::SeqCst))));
    named.filter(|(_, count)| *count > 0).collect()
}
