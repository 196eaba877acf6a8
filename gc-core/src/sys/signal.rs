//! Signals, for faults that the faulting thread handles itself: [`sigaction(2)`],
//! [`sigaltstack(2)`] and the signal mask.
//!
//! Every function here may be called in a signal handler: each is one or two system calls that
//! [`signal-safety(7)`](https://man7.org/linux/man-pages/man7/signal-safety.7.html) lists or that
//! the C library passes on as they are, and none allocates or takes a lock. They are as old as
//! Linux 2.2.
//!
//! [`sigaction(2)`]: https://man7.org/linux/man-pages/man2/sigaction.2.html
//! [`sigaltstack(2)`]: https://man7.org/linux/man-pages/man2/sigaltstack.2.html

use super::SysError;
use super::inject::refused;
use super::map::at;
use std::mem::MaybeUninit;
use std::{mem, ptr};

/// The signal of an access to a page that cannot be mapped; with `UFFD_FEATURE_SIGBUS`, of a
/// userfaultfd fault.
pub use libc::SIGBUS;
/// The signal of an access that the mapping forbids, or to an address without a mapping.
pub use libc::SIGSEGV;
/// Information about a signal, `siginfo_t`; [`absent_page`] reads it.
pub use libc::siginfo_t as SignalInfo;
/// The state of the interrupted thread, `ucontext_t`.
pub use libc::ucontext_t as SignalContext;

/// A handler as for `SA_SIGINFO`: its arguments are the signal, its information, and the thread's
/// state.
pub type SignalHandler = extern "C" fn(i32, *mut SignalInfo, *mut SignalContext);

/// Flags of a handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalFlags {
    /// Run on the thread's alternate stack, if it has one ([`set_alternate_stack`]), otherwise on
    /// the interrupted one: `SA_ONSTACK`.
    pub on_stack: bool,
    /// Leave the signal itself unblocked, so that the handler may raise it again: `SA_NODEFER`.
    /// Without it a fault inside the handler kills the process.
    pub no_defer: bool,
}

/// The previous action of a signal for which a handler was installed. It can be called from the new
/// handler ([`OldHandler::chain`]).
#[derive(Clone, Copy)]
pub struct OldHandler {
    signal: i32,
    action: libc::sigaction,
}

// A `sigaction` is plain data: an address of code, a mask and flags.
impl std::fmt::Debug for OldHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let handler = match self.action.sa_sigaction {
            libc::SIG_DFL => "default",
            libc::SIG_IGN => "ignored",
            _ => "a handler",
        };
        f.debug_struct("OldHandler").field("signal", &self.signal).field("action", &handler).finish()
    }
}

/// `sigaction`: optionally sets the action of a signal, and returns the previous one.
fn sigaction(signal: i32, new: Option<&libc::sigaction>) -> Result<libc::sigaction, SysError> {
    let mut old = MaybeUninit::uninit();
    // SAFETY: `new` is null or a whole action that outlives the call, `old` holds one.
    let failed = refused("sigaction")
        || unsafe { libc::sigaction(signal, new.map_or(ptr::null(), ptr::from_ref), old.as_mut_ptr()) } < 0;
    if failed {
        return Err(SysError::last("sigaction", &[("signal", signal as usize)]));
    }
    // SAFETY: the call succeeded, so it has written the old action.
    Ok(unsafe { old.assume_init() })
}

/// A set of signals with none in it.
fn no_signals() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call initialises the set, and cannot fail.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Installs `handler` for `signal` in the whole process, and returns the previous action.
/// Interrupted system calls are restarted where possible (`SA_RESTART`).
///
/// # Errors
/// `EINVAL` for a signal that does not exist or cannot be caught.
///
/// # Safety
/// `handler` is async-signal-safe, `signal-safety(7)`: it takes no lock, does not allocate, does
/// not unwind, and leaves `errno` as it found it ([`preserve_errno`]). If it returns from a fault
/// whose cause remains, the access faults again.
pub unsafe fn install_signal_handler(
    signal: i32,
    handler: SignalHandler,
    flags: SignalFlags,
) -> Result<OldHandler, SysError> {
    let mut bits = libc::SA_SIGINFO | libc::SA_RESTART;
    if flags.on_stack {
        bits |= libc::SA_ONSTACK;
    }
    if flags.no_defer {
        bits |= libc::SA_NODEFER;
    }
    let action = libc::sigaction {
        sa_sigaction: handler as *const () as usize,
        sa_mask: no_signals(),
        sa_flags: bits,
        sa_restorer: None,
    };
    sigaction(signal, Some(&action)).map(|action| OldHandler { signal, action })
}

fn default_action() -> libc::sigaction {
    libc::sigaction { sa_sigaction: libc::SIG_DFL, sa_mask: no_signals(), sa_flags: 0, sa_restorer: None }
}

/// Restores the default action of a signal: for a fault, it ends the process.
fn restore_default(signal: i32) {
    let action = default_action();
    // It fails only for signals that cannot be caught, and those have no handler that could have
    // called this.
    let _ = sigaction(signal, Some(&action));
}

impl OldHandler {
    /// The default action of a signal.
    pub fn default_of(signal: i32) -> OldHandler {
        OldHandler { signal, action: default_action() }
    }

    /// Whether this action is `handler`.
    pub fn is(&self, handler: SignalHandler) -> bool {
        self.action.sa_sigaction == handler as *const () as usize
    }

    /// Whether the other action has the same code address.
    pub fn is_same_code(&self, other: &OldHandler) -> bool {
        self.action.sa_sigaction == other.action.sa_sigaction
    }

    /// Runs the previous action of the signal; to be called from the new handler, with its
    /// arguments. An old handler runs with the signals blocked that it requested, on the stack of
    /// the caller.
    ///
    /// If the previous action is the default, it is installed again, and the caller must then
    /// return: the access faults again and the process ends as it would have without us, with a
    /// core file that shows the access. A signal that another process sent is raised again, because
    /// returning would not repeat it. If the previous action was to ignore the signal, a sent
    /// signal is ignored; a fault cannot be ignored (the kernel ends the process).
    ///
    /// # Safety
    /// The pointers are the arguments of the running handler, and the code of the old handler is
    /// still mapped.
    pub unsafe fn chain(&self, info: *mut SignalInfo, context: *mut SignalContext) {
        // Codes of faults are above 0, those of kill(2) and its like are not: sigaction(2).
        // SAFETY: the caller passes the handler's own pointer.
        let sent = unsafe { (*info).si_code } <= 0;
        match self.action.sa_sigaction {
            libc::SIG_IGN if sent => {}
            libc::SIG_IGN | libc::SIG_DFL => {
                restore_default(self.signal);
                if sent {
                    // SAFETY: raising a signal touches no memory.
                    unsafe { libc::raise(self.signal) };
                }
            }
            // SAFETY: as this function's.
            code => unsafe { self.call(code, info, context) },
        }
    }

    /// Calls the old handler as the kernel would have.
    ///
    /// # Safety
    /// As [`OldHandler::chain`], and `code` is the address of the handler.
    unsafe fn call(&self, code: usize, info: *mut SignalInfo, context: *mut SignalContext) {
        let flags = self.action.sa_flags;
        if flags & libc::SA_RESETHAND != 0 {
            restore_default(self.signal);
        }
        let mut blocked = self.action.sa_mask;
        if flags & libc::SA_NODEFER == 0 {
            // SAFETY: `blocked` is a whole set of this frame.
            unsafe { libc::sigaddset(&mut blocked, self.signal) };
        }
        let before = change_mask(libc::SIG_BLOCK, &blocked);
        if flags & libc::SA_SIGINFO != 0 {
            // SAFETY: the flag says that the address is one of a function of three arguments.
            let handler = unsafe { mem::transmute::<usize, SignalHandler>(code) };
            handler(self.signal, info, context);
        } else {
            // SAFETY: without the flag the address is one of a function of one argument.
            let handler = unsafe { mem::transmute::<usize, extern "C" fn(i32)>(code) };
            handler(self.signal);
        }
        if let Ok(before) = before {
            let _ = change_mask(libc::SIG_SETMASK, &before);
        }
    }
}

/// The address whose access raised a `SIGBUS` because its page is not there (`BUS_ADRERR`), as
/// exact as the kernel reports it: that of the access, not of its page. `None` for every other
/// `SIGBUS`: a signal that was sent has no address (the field holds something else), and a memory
/// failure (`BUS_MCEERR_AR`) cannot be repaired.
///
/// # Safety
/// `info` is the argument of a running handler of `SIGBUS`.
pub unsafe fn absent_page(info: *const SignalInfo) -> Option<usize> {
    // SAFETY: the caller passes a handler's own pointer; the address is read only if the code says
    // that the signal has one.
    unsafe { ((*info).si_code == libc::BUS_ADRERR).then(|| (*info).si_addr().addr()) }
}

/// Changes the calling thread's signal mask, and returns the old one.
fn change_mask(how: i32, set: &libc::sigset_t) -> Result<libc::sigset_t, SysError> {
    let arguments = [("how", how as usize)];
    if refused("pthread_sigmask") {
        return Err(SysError::last("pthread_sigmask", &arguments));
    }
    let mut old = no_signals();
    // SAFETY: both sets are whole and outlive the call.
    match unsafe { libc::pthread_sigmask(how, set, &mut old) } {
        0 => Ok(old),
        // `pthread_sigmask` returns the error number, and does not set `errno`.
        errno => Err(SysError::new("pthread_sigmask", &arguments, errno)),
    }
}

/// A set with one signal in it.
fn only(signal: i32) -> Result<libc::sigset_t, SysError> {
    let mut set = no_signals();
    // SAFETY: the set is a whole one of this frame.
    let done = unsafe { libc::sigaddset(&mut set, signal) };
    if done < 0 { Err(SysError::last("sigaddset", &[("signal", signal as usize)])) } else { Ok(set) }
}

fn contains(set: &libc::sigset_t, signal: i32) -> bool {
    // SAFETY: the set is whole.
    unsafe { libc::sigismember(set, signal) == 1 }
}

/// Whether the calling thread has a signal blocked. A fault whose signal is blocked kills the
/// process, handler or not.
///
/// # Errors
/// If a sandbox refuses the call.
pub fn signal_is_blocked(signal: i32) -> Result<bool, SysError> {
    Ok(contains(&change_mask(libc::SIG_BLOCK, &no_signals())?, signal))
}

/// Unblocks a signal in the calling thread, and returns whether it was blocked.
///
/// # Errors
/// `EINVAL` for a signal that does not exist.
pub fn unblock_signal(signal: i32) -> Result<bool, SysError> {
    Ok(contains(&change_mask(libc::SIG_UNBLOCK, &only(signal)?)?, signal))
}

/// Blocks a signal in the calling thread, and returns whether it was blocked already.
///
/// # Errors
/// `EINVAL` for a signal that does not exist.
pub fn block_signal(signal: i32) -> Result<bool, SysError> {
    Ok(contains(&change_mask(libc::SIG_BLOCK, &only(signal)?)?, signal))
}

/// A thread's stack for handlers that were installed with [`SignalFlags::on_stack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlternateStack {
    /// Its lowest address.
    pub base: usize,
    /// Its length in bytes; at least [`alternate_stack_minimum`] plus what the handler itself uses.
    pub len: usize,
}

/// The alternate stack of the calling thread. Rust's standard library gives its threads a small
/// one, for the message that says that a stack overflowed.
///
/// # Errors
/// If a sandbox refuses the call.
pub fn alternate_stack() -> Result<Option<AlternateStack>, SysError> {
    sigaltstack(None)
}

/// Sets the alternate stack of the calling thread, or removes it with `None`, and returns the old
/// one.
///
/// # Errors
/// `EPERM` while the thread runs on its alternate stack, `ENOMEM` if it is too small even for the
/// registers that the kernel saves.
///
/// # Safety
/// The range is writable memory that nothing else uses until another stack is set or the thread has
/// ended. The caller ensures that no handler overruns it: with a guard page below it, an overrun
/// faults.
pub unsafe fn set_alternate_stack(stack: Option<AlternateStack>) -> Result<Option<AlternateStack>, SysError> {
    let new = match stack {
        Some(AlternateStack { base, len }) => libc::stack_t { ss_sp: at(base), ss_flags: 0, ss_size: len },
        None => libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 },
    };
    sigaltstack(Some(&new))
}

fn sigaltstack(new: Option<&libc::stack_t>) -> Result<Option<AlternateStack>, SysError> {
    let mut old = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: 0, ss_size: 0 };
    // SAFETY: `new` is null or a whole description that outlives the call, which does not touch the
    // range until a handler runs; `old` holds one.
    let failed =
        refused("sigaltstack") || unsafe { libc::sigaltstack(new.map_or(ptr::null(), ptr::from_ref), &mut old) } < 0;
    if failed {
        let (base, len) = new.map_or((0, 0), |new| (new.ss_sp.addr(), new.ss_size));
        return Err(SysError::last("sigaltstack", &[("addr", base), ("len", len)]));
    }
    let none = old.ss_flags & libc::SS_DISABLE != 0;
    Ok((!none).then(|| AlternateStack { base: old.ss_sp.expose_provenance(), len: old.ss_size }))
}

/// Bytes of a stack that the kernel itself needs to call a handler, registers of wide vectors
/// included (`AT_MINSIGSTKSZ` of
/// [`getauxval(3)`](https://man7.org/linux/man-pages/man3/getauxval.3.html), Linux 5.14; before,
/// `MINSIGSTKSZ`).
pub fn alternate_stack_minimum() -> usize {
    // SAFETY: reads a number that the kernel gave the process at its start.
    let told = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    told.max(libc::MINSIGSTKSZ)
}

/// Runs `work` and leaves the calling thread's `errno` as it was: the interrupted code may be about
/// to read it.
#[inline]
pub fn preserve_errno<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: the C library's address of the calling thread's own `errno`, valid as long as the
    // thread is.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; only this thread uses it.
    let saved = unsafe { errno.read() };
    let result = work();
    // SAFETY: as above.
    unsafe { errno.write(saved) };
    result
}
