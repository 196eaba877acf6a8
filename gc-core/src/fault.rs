//! Delivers a thread's faults on pages that a gate has unmapped to the server of the heap that they
//! belong to.
//!
//! One `SIGBUS` handler for the process, installed when a range is registered and left there: a
//! handler cannot be removed safely while other libraries chain to it. It looks the faulting
//! address up in a table of ranges without a lock, calls the range's [`Server`] on the thread that
//! faulted, and passes every other `SIGBUS` on to the handler installed before it: also a signal
//! sent by `kill(2)`, and a memory failure, which no repair can undo.
//!
//! # Handlers of others
//!
//! Each registration installs the handler again, so that a handler that another library has
//! installed since comes second, and receives the signals that are not ours. That library may pass
//! a signal that it does not know on to us, because ours was the handler before its own: then we
//! pass it to the handler installed before *ours*. So every handler found is kept, newest last, and
//! a signal that comes back through the handler that it was passed to goes to the one before that.
//!
//! # What runs in the handler
//!
//! Everything below [`Server::serve`] runs in a signal handler, on the thread's alternate stack, in
//! the middle of ordinary code: it allocates nothing, takes no lock that other code takes, does not
//! panic, and leaves `errno` alone
//! ([`signal-safety(7)`](https://man7.org/linux/man-pages/man7/signal-safety.7.html)).
//!
//! # The table
//!
//! An entry is two words: a key (start of the range, with the logarithm of its size in the low
//! bits) and a pointer to the server. The pointer is written before the key (Release) and read
//! after it (Acquire). An entry is removed when no thread can touch the range any more, so the
//! server of a range lives at least as long as any handler that has read the range's key. The table
//! changes only under [`sys::shared_state`], a lock that the handler does not take.

mod chain;

use crate::sys::{self, AlternateStack, SIGBUS, SignalContext, SignalInfo, SysError};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Outcome of handling a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The page is mapped: the access is retried.
    Yes,
    /// There was nothing to do, in the server's round of this number: the access is retried, and if
    /// it faults again in the same round the fault is not the server's.
    Nothing(u64),
    /// The fault is not the server's.
    No,
    /// The page cannot be mapped: the kernel refused this call for good. The process ends with a
    /// message, because an access that faults for ever can be neither completed nor undone.
    Refused(SysError),
}

/// Serves the faults of a range.
///
/// # Safety
/// [`serve`](Server::serve) is async-signal-safe ([module](self)): it allocates nothing, takes no
/// lock that other code takes, does not unwind. When it returns [`Served::Yes`] for an address of
/// its range, the page there is valid for the program to access.
pub unsafe trait Server: Send + Sync {
    /// Serves a fault at an address of the range. Runs in a signal handler: see the [module](self).
    fn serve(&self, address: usize) -> Served;
}

/// Maximum number of ranges registered at one time.
const MAX_RANGES: usize = 1024;

struct Entry {
    key: AtomicU64,
    /// Thin pointer to the fat one, which a signal handler must read in one piece.
    server: AtomicPtr<Arc<dyn Server>>,
    /// The registration that the entry holds, counted from the program's start.
    serial: AtomicU64,
}

static RANGES: [Entry; MAX_RANGES] = [const {
    Entry { key: AtomicU64::new(0), server: AtomicPtr::new(std::ptr::null_mut()), serial: AtomicU64::new(0) }
}; MAX_RANGES];

/// Registrations so far.
static SERIALS: AtomicU64 = AtomicU64::new(0);

/// Number of entries ever used; those from here on are empty.
static USED: AtomicUsize = AtomicUsize::new(0);

fn key(start: usize, len: usize) -> u64 {
    start as u64 | u64::from(len.trailing_zeros())
}

fn contains(key: u64, address: usize) -> bool {
    let (start, log) = (key & !0xfff, key & 0xfff);
    key != 0 && (address as u64).wrapping_sub(start) >> log == 0
}

/// A registered range; dropping it unregisters the range. By then no thread touches the range, as
/// the caller of [`register`] has promised. Forgetting it leaves the range registered for good.
#[derive(Debug)]
pub struct Registration {
    index: usize,
}

/// Why a range could not be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Too many ranges.
    #[error("more than 1024 heaps handle page faults in this process; drop some")]
    TooMany,
    /// The handler could not be installed.
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// Sends the faults of `start..start + len` to `server`; `len` is a power of two, and `start` a
/// multiple of a page.
///
/// # Errors
/// [`FaultError`].
///
/// # Panics
/// If `len` is not a power of two of at least a page, or `start` not page-aligned.
///
/// # Safety
/// - The caller owns the range ([`sys`]), and keeps it as long as it is registered: a fault of
///   other code there would be taken for the server's.
/// - When the [`Registration`] is dropped, no thread touches the range, and none that has is still
///   in the handler: nothing else keeps the server alive for the handler.
///
/// ```compile_fail,E0133
/// # use gc_core::fault::{Served, Server, register};
/// struct Thief;
/// // SAFETY: it does nothing.
/// unsafe impl Server for Thief {
///     fn serve(&self, _: usize) -> Served { Served::No }
/// }
/// // The faults of all heaps are not anybody's to take.
/// register(0, 1 << 47, std::sync::Arc::new(Thief));
/// ```
pub unsafe fn register(start: usize, len: usize, server: Arc<dyn Server>) -> Result<Registration, FaultError> {
    assert!(len.is_power_of_two() && len >= 4096 && start.is_multiple_of(4096), "a range of whole pages");
    let _changes = sys::shared_state();
    chain::install(on_sigbus)?;
    let index = (0..MAX_RANGES).find(|&i| RANGES[i].key.load(Ordering::Relaxed) == 0).ok_or(FaultError::TooMany)?;
    let entry = &RANGES[index];
    entry.server.store(Box::into_raw(Box::new(server)), Ordering::Relaxed);
    entry.serial.store(SERIALS.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    entry.key.store(key(start, len), Ordering::Release);
    USED.fetch_max(index + 1, Ordering::Release);
    Ok(Registration { index })
}

impl Drop for Registration {
    fn drop(&mut self) {
        let changes = sys::shared_state();
        let entry = &RANGES[self.index];
        entry.key.store(0, Ordering::Release);
        let server = entry.server.swap(std::ptr::null_mut(), Ordering::AcqRel);
        // Unlock first: the server's own `drop` may take this lock.
        drop(changes);
        // SAFETY: made by `Box::into_raw` in `register`, whose caller has promised that no thread
        // touches the range any more, so no handler reads it.
        drop(unsafe { Box::from_raw(server) });
    }
}

thread_local! {
    /// The last unresolved fault. Const-initialized and without a destructor, so that a signal
    /// handler may use it.
    static STRAY: Cell<Option<Stray>> = const { Cell::new(None) };
}

/// An unresolved fault: its address, the server's round, and the server's registration number. A
/// later server, of another heap at the same place, counts its rounds from the start again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stray {
    address: usize,
    round: u64,
    serial: u64,
}

extern "C" fn on_sigbus(_signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    sys::preserve_errno(|| {
        // SAFETY: the kernel's own pointer.
        let address = unsafe { sys::absent_page(info) };
        if !address.is_some_and(serve) {
            // SAFETY: the kernel's own pointers.
            unsafe { chain::hand_on(info, context) };
        }
    });
}

/// Whether to retry the access.
fn serve(address: usize) -> bool {
    let used = USED.load(Ordering::Acquire);
    let Some(entry) = RANGES[..used].iter().find(|entry| contains(entry.key.load(Ordering::Acquire), address)) else {
        return false;
    };
    // SAFETY: the pointer was written before the key, and the server is not dropped while a thread
    // touches the range, as this one does.
    let server = unsafe { &*entry.server.load(Ordering::Acquire) };
    match server.serve(address) {
        Served::Yes => {
            STRAY.set(None);
            true
        }
        Served::Nothing(round) => {
            let stray = Some(Stray { address, round, serial: entry.serial.load(Ordering::Relaxed) });
            STRAY.replace(stray) != stray
        }
        Served::No => false,
        Served::Refused(error) => {
            sys::end_process(format_args!("the heap page at {address:#x} cannot be mapped: {error}"))
        }
    }
}

/// Bytes of the alternate stack that [`FaultStack`] installs, above a guard page; larger where the
/// processor's registers need it.
pub const FAULT_STACK_BYTES: usize = 64 << 10;

/// Unblocks `SIGBUS` in the calling thread: a fault whose signal is blocked kills the process,
/// handler or not. One system call, some 0.1 us.
///
/// # Errors
/// Where a sandbox refuses the call.
pub fn unblock_faults() -> Result<(), SysError> {
    sys::unblock_signal(SIGBUS).map(|_| ())
}

/// Prepares a thread to handle its faults: unblocks `SIGBUS` (a fault whose signal is blocked kills
/// the process), and installs an alternate stack if the thread has none that is large enough.
/// Dropping it, on the same thread, removes that stack.
#[derive(Debug)]
pub struct FaultStack {
    /// The mapping of guard page and stack, and the thread's previous alternate stack.
    mapped: Option<(AlternateStack, Option<AlternateStack>)>,
    /// Not `Send`: it belongs to this thread.
    _thread: std::marker::PhantomData<*mut ()>,
}

impl FaultStack {
    /// Prepares the calling thread.
    ///
    /// # Errors
    /// `ENOMEM` if no address range is free; errors of `sigaltstack`.
    pub fn new() -> Result<FaultStack, SysError> {
        STRAY.set(None); // initializes the thread-local before a handler reads it
        unblock_faults()?;
        let old = sys::alternate_stack()?;
        let wanted = sys::alternate_stack_minimum() + FAULT_STACK_BYTES / 2;
        if old.is_some_and(|stack| stack.len >= wanted) {
            return Ok(FaultStack { mapped: None, _thread: std::marker::PhantomData });
        }
        let page = sys::page_size();
        // Half of it is for the handler, the rest for the registers that the kernel saves
        // (`AT_MINSIGSTKSZ`).
        let len = wanted.max(FAULT_STACK_BYTES).next_multiple_of(page);
        let base = sys::reserve_writable(page + len)?;
        let stack = AlternateStack { base: base + page, len };
        // SAFETY: the mapping was made for this.
        let set =
            unsafe { sys::protect(base, page, sys::Access::None).and_then(|()| sys::set_alternate_stack(Some(stack))) };
        match set {
            Ok(_) => Ok(FaultStack { mapped: Some((stack, old)), _thread: std::marker::PhantomData }),
            Err(error) => {
                // SAFETY: as above; no thread uses it as its stack.
                let _ = unsafe { sys::unmap(base, page + len) };
                Err(error)
            }
        }
    }
}

impl Drop for FaultStack {
    fn drop(&mut self) {
        if let Some((stack, old)) = self.mapped.take() {
            // Only if ours is still the thread's stack: another one set meanwhile stays. If the
            // kernel does not say, ours stays.
            let Ok(now) = sys::alternate_stack() else { return };
            let ours = now.is_some_and(|now| now.base == stack.base);
            let page = sys::page_size();
            // SAFETY: the old stack was the thread's before; ours ends, and no handler runs on it,
            // since this code runs.
            unsafe {
                if ours && sys::set_alternate_stack(old).is_err() {
                    return; // still in use: keep it and its memory
                }
                let _ = sys::unmap(stack.base - page, page + stack.len);
            }
        }
    }
}
