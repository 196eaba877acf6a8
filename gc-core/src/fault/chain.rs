//! The `SIGBUS` handlers installed before ours, and the choice of the one that receives a signal.

use crate::sys::{self, OldHandler, SIGBUS, SignalContext, SignalFlags, SignalHandler, SignalInfo, SysError};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Maximum number of handlers kept; beyond it, the last slot holds the newest.
const MOST: usize = 16;

/// The handlers found whenever ours was installed, oldest first. Written under
/// [`sys::shared_state`]; an entry is never freed, because a running handler of ours may be using
/// it. (Release: with the Acquire of `hand_on`.)
static FOUND: [AtomicPtr<OldHandler>; MOST] = [const { AtomicPtr::new(ptr::null_mut()) }; MOST];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Installs `handler` for `SIGBUS`. The previous handler, unless it is `handler` itself, receives
/// the signals that `handler` does not serve. Called under [`sys::shared_state`].
pub(super) fn install(handler: SignalHandler) -> Result<(), SysError> {
    // `SA_NODEFER`: while an old handler runs that we chain to, a fault in one of our ranges is
    // still served.
    let flags = SignalFlags { on_stack: true, no_defer: true };
    // SAFETY: `on_sigbus` is async-signal-safe.
    let found = unsafe { sys::install_signal_handler(SIGBUS, handler, flags) }?;
    // A signal that arrives now is passed to the handler found before this one, as if it had
    // arrived just before the installation.
    if !found.is(handler) {
        let count = COUNT.load(Ordering::Relaxed);
        let newest = count.checked_sub(1).map(|index| FOUND[index].load(Ordering::Relaxed));
        // SAFETY: entries are never freed.
        let again = newest.is_some_and(|newest| unsafe { (*newest).is_same_code(&found) });
        let index = if again || count == MOST { count - 1 } else { count };
        FOUND[index].store(Box::into_raw(Box::new(found)), Ordering::Release);
        COUNT.store(index + 1, Ordering::Release);
    }
    Ok(())
}

/// A signal that is being passed on.
#[derive(Clone, Copy)]
struct Handed {
    /// Number of handlers that it was passed to.
    asked: usize,
    /// Address of the signal's `info`: another signal that arrives meanwhile has another one.
    info: usize,
    /// The stack address: a frame that comes back through the called handler lies below this one.
    /// (A handler may jump out, and the next signal's `info` may then be at the same address; but
    /// its frame lies where this one did.)
    frame: usize,
}

thread_local! {
    /// Const-initialized and without a destructor, so that a signal handler may use it.
    static HANDED: Cell<Option<Handed>> = const { Cell::new(None) };
}

/// Passes a signal to the newest of the handlers found; a signal that comes back from a handler, to
/// the one before it.
///
/// # Safety
/// The pointers are those that the kernel passed to a handler of the signal; the code of every
/// handler that was ever installed is still mapped.
#[inline(never)]
pub(super) unsafe fn hand_on(info: *mut SignalInfo, context: *mut SignalContext) {
    let here = 0_u8;
    let frame = ptr::from_ref(&here).addr();
    let before = HANDED.get();
    let asked =
        before.filter(|handed| handed.info == info.addr() && frame < handed.frame).map_or(0, |handed| handed.asked);
    HANDED.set(Some(Handed { asked: asked + 1, info: info.addr(), frame }));
    let index = COUNT.load(Ordering::Acquire).checked_sub(asked + 1);
    let found = index.map(|index| FOUND[index].load(Ordering::Acquire));
    // SAFETY: entries are never freed; the caller ensures the rest.
    unsafe {
        match found {
            Some(found) => (*found).chain(info, context),
            // Every handler has passed it back.
            None => OldHandler::default_of(SIGBUS).chain(info, context),
        }
    }
    HANDED.set(before);
}
