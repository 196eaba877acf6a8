//! A desk at which a thread lays work out that borrows from its stack, and from which others take
//! it for as long as the call lasts.
//!
//! One call at a time. A helper takes part in each call once, and only while the call is open; the
//! end of the call waits for those that take part. So the work is never run after it has ended,
//! although the desk keeps it without its lifetime. See "Helpers" in `docs/protocol.md`;
//! `loom_desk` runs these functions.

use crate::rules::{Rule, kept};
use crate::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
use crate::sys::thread_cpu_time;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::time::Duration;

/// Models have no system calls.
#[cfg(loom)]
fn thread_cpu_time() -> Duration {
    Duration::ZERO
}

/// The work of a call. It lives until the call has ended.
type Work = &'static (dyn Fn() + Sync);

#[derive(Default)]
struct State {
    /// The work of the call, for so many helpers.
    work: Option<(Work, usize)>,
    is_open: bool,
    /// Number of the call: a helper takes part in each call once.
    call: u64,
    /// Helpers that run a call's work.
    running: usize,
    /// Processor time that helpers have taken for calls, since somebody asked last.
    used: Duration,
    panic: Option<Box<dyn Any + Send>>,
    ended: bool,
}

/// Where work is laid out. See the [module](self).
pub struct Desk {
    /// Held by a call from its beginning to its end.
    calling: Mutex<()>,
    state: Mutex<State>,
    opened: Condvar,
    done: Condvar,
}

impl Default for Desk {
    fn default() -> Desk {
        Desk::new()
    }
}

/// A panic while the lock is held leaves no half-changed state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// A desk with no call.
    #[must_use]
    pub fn new() -> Desk {
        Desk {
            calling: Mutex::new(()),
            state: Mutex::new(State::default()),
            opened: Condvar::new(),
            done: Condvar::new(),
        }
    }

    /// Runs `own`, and after [`open`](Desk::open) `help` on up to `seats` threads that
    /// [help](Desk::help). Returns when all of them have ended; `own` must not begin another call.
    ///
    /// # Errors
    /// The payload of the first panic of `help`.
    pub fn call(&self, seats: usize, own: impl FnOnce(), help: impl Fn() + Sync) -> Result<(), Box<dyn Any + Send>> {
        let _calling = lock(&self.calling);
        let work: &(dyn Fn() + Sync) = &help;
        // SAFETY: only the lifetime changes. Helpers take the work from the state, where it lies
        // until `EndOfCall` takes it out, which then waits for those that have taken it. That comes
        // before `help` is dropped, also where `own` panics; and no other call changes the state
        // meanwhile.
        let work = unsafe { std::mem::transmute::<&(dyn Fn() + Sync), Work>(work) };
        let end = EndOfCall(self);
        lock(&self.state).work = (seats > 0).then_some((work, seats));
        own();
        drop(end);
        lock(&self.state).panic.take().map_or(Ok(()), Err)
    }

    /// How many helpers the call takes, if it has not been opened yet.
    pub fn unopened(&self) -> Option<usize> {
        let state = lock(&self.state);
        state.work.filter(|_| !state.is_open).map(|(_, seats)| seats)
    }

    /// Lets helpers take part in the call.
    pub fn open(&self) {
        let mut state = lock(&self.state);
        state.is_open = true;
        state.call += 1;
        drop(state);
        self.opened.notify_all();
    }

    /// The loop of a helper thread, until the desk is [closed](Desk::close).
    pub fn help(&self) {
        let mut last = 0;
        let mut state = lock(&self.state);
        while !state.ended {
            let is_new = state.is_open && (state.call != last || !kept(Rule::HelpOnce));
            let work = &mut state.work;
            let Some((work, seats)) = work.as_mut().filter(|(_, seats)| is_new && *seats > 0) else {
                state = self.opened.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            *seats -= 1;
            let work = *work;
            last = state.call;
            state.running += 1;
            drop(state);
            let before = thread_cpu_time();
            let outcome = catch_unwind(AssertUnwindSafe(work));
            let used = thread_cpu_time().saturating_sub(before);
            state = lock(&self.state);
            state.used += used;
            state.running -= 1;
            if let Err(why) = outcome {
                state.panic.get_or_insert(why);
            }
            if state.running == 0 && kept(Rule::WakeCall) {
                drop(state);
                self.done.notify_one();
                state = lock(&self.state);
            }
        }
    }

    /// Ends the loops of helpers.
    pub fn close(&self) {
        lock(&self.state).ended = true;
        if kept(Rule::WakeAtClose) {
            self.opened.notify_all();
        }
    }

    /// Processor time that helpers have used for the calls that ended since the last call of this.
    pub fn take_used(&self) -> Duration {
        std::mem::take(&mut lock(&self.state).used)
    }
}

/// Ends a call when dropped.
struct EndOfCall<'a>(&'a Desk);

impl Drop for EndOfCall<'_> {
    /// Accepts no more helpers, and waits for those that take part.
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if kept(Rule::TakeWorkBack) {
            (state.work, state.is_open) = (None, false);
        }
        while state.running > 0 && kept(Rule::WaitForHelpers) {
            state = self.0.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
