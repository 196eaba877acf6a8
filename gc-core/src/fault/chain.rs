//! The handlers that were there before ours, and which of them is to have a signal.

use crate::sys::{self, OldHandler, SIGBUS, SignalContext, SignalFlags, SignalHandler, SignalInfo, SysError};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Handlers that are kept: of those found later the last is.
const MOST: usize = 16;

/// What was found when ours was installed, oldest first. Written inside [`sys::shared_state`]; what was put there stays for good, as a
/// handler of ours may be using it. (Release: with the Acquire of `hand_on`.)
static FOUND: [AtomicPtr<OldHandler>; MOST] = [const { AtomicPtr::new(ptr::null_mut()) }; MOST];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Has `handler` be what happens at a `SIGBUS`. Whatever did, and is not `handler` itself, is handed what `handler` does not serve.
/// Inside [`sys::shared_state`].
pub(super) fn install(handler: SignalHandler) -> Result<(), SysError> {
    // Not deferred: while an old handler runs that we chain to, a fault in one of our ranges is still served.
    let flags = SignalFlags { on_stack: true, no_defer: true };
    // SAFETY: `on_sigbus` keeps to what a handler may do.
    let found = unsafe { sys::install_signal_handler(SIGBUS, handler, flags) }?;
    // A signal that comes now is handed to the one found before this: the moment is as good as the one before the installation.
    if !found.is(handler) {
        let count = COUNT.load(Ordering::Relaxed);
        let newest = count.checked_sub(1).map(|index| FOUND[index].load(Ordering::Relaxed));
        // SAFETY: what was put there stays.
        let again = newest.is_some_and(|newest| unsafe { (*newest).is_same_code(&found) });
        let index = if again || count == MOST { count - 1 } else { count };
        FOUND[index].store(Box::into_raw(Box::new(found)), Ordering::Release);
        COUNT.store(index + 1, Ordering::Release);
    }
    Ok(())
}

/// A signal that is being handed on.
#[derive(Clone, Copy)]
struct Handed {
    /// How many have been asked.
    asked: usize,
    /// Of what the kernel told, the address: that of another signal which came meanwhile is another.
    info: usize,
    /// Where on the stack: what comes back through the handler that was asked stands below this. (A handler may jump out, and
    /// the next signal's `info` then be at the same address; but that stands where this did.)
    frame: usize,
}

thread_local! {
    /// Constant and without a destructor, so that a signal handler may use it.
    static HANDED: Cell<Option<Handed>> = const { Cell::new(None) };
}

/// Hands a signal to the newest of the handlers found; one that comes back from there, to the one before it.
///
/// # Safety
/// The pointers are those that a handler of the signal was given; the code of a handler that was installed once is there.
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
    // SAFETY: what was put there stays; the rest is the caller's.
    unsafe {
        match found {
            Some(found) => (*found).chain(info, context),
            // All have handed it back.
            None => OldHandler::default_of(SIGBUS).chain(info, context),
        }
    }
    HANDED.set(before);
}
