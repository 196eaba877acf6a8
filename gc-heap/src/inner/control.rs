//! Requests to the collector thread: what was asked for, and what is done.

use crate::events::CycleKind;
use crate::lock::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Memory is short if less than this fraction of what should be free is left while a cycle runs.
const SHORT: usize = 3;

/// A request: done when that many of its kind have finished.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ticket {
    Cycle(u64),
    Compaction(u64),
}

/// Work for the collector.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Cycle {
        kind: CycleKind,
        /// Whether it packs what lives: somebody wants memory back.
        packs: bool,
    },
    /// Stop-the-world compaction, for a run of that many blocks.
    Compaction(usize),
    /// No request: time for idle work.
    Idle,
    Shutdown,
}

#[derive(Default)]
pub(crate) struct State {
    /// Whole cycles, by number.
    requested: u64,
    started: u64,
    /// A cycle of the kind that comes next is wanted.
    wanted: bool,
    /// The next whole cycle packs what lives.
    packs: bool,
    pub(crate) compactions_requested: u64,
    pub(crate) compactions_started: u64,
    pub(crate) needed_run: usize,
    /// The kind of work that was begun last.
    compacted: bool,
    shutdown: bool,
}

/// Requests to the collector thread.
pub(crate) struct Control {
    pub(crate) state: Mutex<State>,
    pub(crate) work: Condvar,
    finished: Condvar,
    cycles_finished: AtomicU64,
    compactions_finished: AtomicU64,
    /// A mutator that leaves fewer free blocks than this requests a cycle.
    pub(crate) trigger: AtomicUsize,
    /// A mutator that leaves fewer than this requests a cycle or updates the pacing. Not below the
    /// trigger.
    pub(crate) attention: AtomicUsize,
    /// Memory is short if a running cycle leaves fewer.
    pub(crate) short: AtomicUsize,
    triggered: AtomicBool,
    /// Whether the next cycle is young, unless somebody asks for a whole one.
    next_is_young: AtomicBool,
    pub(crate) running: AtomicBool,
    shut: AtomicBool,
    /// Why the collector gave up, if it did.
    failure: Mutex<Option<String>>,
}

impl Control {
    pub(crate) fn new(blocks: usize) -> Control {
        Control {
            state: Mutex::default(),
            work: Condvar::new(),
            finished: Condvar::new(),
            cycles_finished: AtomicU64::new(0),
            compactions_finished: AtomicU64::new(0),
            trigger: AtomicUsize::new(blocks / 2),
            attention: AtomicUsize::new(blocks / 2),
            short: AtomicUsize::new(blocks / 2 / SHORT),
            triggered: AtomicBool::new(false),
            next_is_young: AtomicBool::new(false),
            running: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    pub(crate) fn is_done(&self, ticket: Ticket) -> bool {
        match ticket {
            Ticket::Cycle(number) => self.cycles_finished.load(Ordering::Acquire) >= number,
            Ticket::Compaction(number) => self.compactions_finished.load(Ordering::Acquire) >= number,
        }
    }

    /// Whether the collector has given up. SeqCst: see
    /// [`Mutator::arm_allocation_limit`](crate::Mutator::arm_allocation_limit).
    pub(crate) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::SeqCst)
    }

    /// The collector's reason for giving up.
    pub(crate) fn failure(&self) -> Option<String> {
        self.is_shut().then(|| self.failure.lock().clone()).flatten()
    }

    pub(crate) fn fail(&self, why: String) {
        *self.failure.lock() = Some(why);
        self.shut.store(true, Ordering::SeqCst);
        drop(self.state.lock());
        self.finished.notify_all();
    }

    /// Holds the lock.
    #[cfg(test)]
    pub(crate) fn locked(&self) -> impl Sized {
        self.state.lock()
    }

    /// Requests a whole cycle.
    pub(crate) fn request(&self) -> Ticket {
        let mut state = self.state.lock();
        // A running cycle may have begun marking before the caller's garbage became unreachable.
        let number = state.started + 1;
        state.requested = state.requested.max(number);
        // Unlock before notifying; otherwise the woken thread blocks on the lock at once.
        drop(state);
        self.work.notify_one();
        Ticket::Cycle(number)
    }

    /// As [`request`](Self::request): the cycle packs what lives.
    pub(crate) fn request_packing(&self) -> Ticket {
        self.state.lock().packs = true;
        self.request()
    }

    /// The end of the whole cycle that runs, if one does.
    pub(crate) fn running_whole(&self) -> Option<Ticket> {
        let number = self.state.lock().started;
        Some(Ticket::Cycle(number)).filter(|&ticket| !self.is_done(ticket))
    }

    /// The number of the next whole cycle that begins.
    pub(crate) fn next_cycle(&self) -> u64 {
        self.state.lock().started + 1
    }

    /// Requests the whole cycle with this number, which is at most that of the next one. Does
    /// nothing if that cycle has begun.
    pub(crate) fn request_number(&self, number: u64) {
        let mut state = self.state.lock();
        let new = number > state.requested;
        state.requested = state.requested.max(number);
        drop(state);
        if new {
            self.work.notify_one();
        }
    }

    /// Requests a cycle of the kind that comes next. Nobody waits for its end.
    pub(crate) fn request_next(&self) {
        self.state.lock().wanted = true;
        self.work.notify_one();
    }

    /// Requests a cycle of the kind that comes next, unless one was asked for in this way since the
    /// last one ended. Returns whether it did.
    pub(crate) fn request_soon(&self) -> bool {
        let first = self.is_first();
        if first {
            self.request_next();
        }
        first
    }

    /// As [`request_soon`](Self::request_soon), for a whole cycle.
    pub(crate) fn request_whole_soon(&self) {
        if self.is_first() {
            self.request();
        }
    }

    fn is_first(&self) -> bool {
        // SeqCst: see `External::add`.
        !self.triggered.load(Ordering::SeqCst) && !self.triggered.swap(true, Ordering::SeqCst)
    }

    /// Says of what kind the next cycle is. Called by the collector, while none runs.
    pub(crate) fn set_next(&self, kind: CycleKind) {
        self.next_is_young.store(kind == CycleKind::Young, Ordering::Relaxed);
    }

    /// Of what kind the next cycle is, as far as is known.
    pub(crate) fn next_kind(&self) -> CycleKind {
        if self.next_is_young.load(Ordering::Relaxed) { CycleKind::Young } else { CycleKind::Whole }
    }

    pub(crate) fn shutdown(&self) {
        self.state.lock().shutdown = true;
        self.work.notify_one();
    }

    /// Waits for work, at most `timeout`.
    pub(crate) fn wait_for_work(&self, timeout: Duration) -> Work {
        let mut state = self.state.lock();
        for waited in [false, true] {
            if state.shutdown {
                return Work::Shutdown;
            }
            // Alternate cycles and compactions so that neither starves the other.
            let whole = state.requested > state.started;
            let cycle = whole || state.wanted;
            let compaction = state.compactions_requested > state.compactions_started;
            if compaction && (!cycle || !state.compacted) {
                state.compactions_started += 1;
                state.compacted = true;
                return Work::Compaction(std::mem::take(&mut state.needed_run));
            }
            if cycle {
                let kind = if whole { CycleKind::Whole } else { self.next_kind() };
                if kind == CycleKind::Whole {
                    state.started += 1;
                    state.requested = state.requested.max(state.started);
                }
                let packs = whole && std::mem::take(&mut state.packs);
                state.wanted = false;
                state.compacted = false;
                // Whoever asked for it: what it leaves free says whether another one is needed.
                self.triggered.store(true, Ordering::SeqCst);
                self.running.store(true, Ordering::Relaxed);
                return Work::Cycle { kind, packs };
            }
            if !waited {
                state = self.work.wait_for(state, timeout);
            }
        }
        Work::Idle
    }

    /// Sets the number of free blocks below which mutators request a cycle, of which so many lie
    /// beyond what the heap tries to make do with, and the number below which they update the
    /// pacing.
    pub(crate) fn set_trigger(&self, trigger: usize, beyond: usize, look: usize) {
        self.trigger.store(trigger, Ordering::Relaxed);
        self.short.store((trigger - beyond) / SHORT, Ordering::Relaxed);
        self.attention.store(trigger.max(look), Ordering::Relaxed);
    }

    pub(crate) fn cycle_finished(&self, kind: CycleKind) {
        self.triggered.store(false, Ordering::SeqCst);
        self.running.store(false, Ordering::Relaxed);
        // A young cycle is none of those that threads wait for.
        if kind == CycleKind::Young {
            return;
        }
        let state = self.state.lock();
        self.cycles_finished.fetch_add(1, Ordering::Release);
        drop(state);
        self.finished.notify_all();
    }

    pub(crate) fn compaction_finished(&self) {
        let state = self.state.lock();
        self.compactions_finished.fetch_add(1, Ordering::Release);
        drop(state);
        self.finished.notify_all();
    }

    pub(crate) fn wait(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        while !self.is_done(ticket) && !self.is_shut() {
            state = self.finished.wait(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Work = Work::Cycle { kind: CycleKind::Whole, packs: false };
    const YOUNG: Work = Work::Cycle { kind: CycleKind::Young, packs: false };

    /// Otherwise a thread that is out of memory waits as long as others request cycles, and so do
    /// all threads behind it in the queue.
    #[test]
    fn cycles_do_not_keep_a_compaction_waiting() {
        let control = Control::new(64);
        let begun = || {
            control.request();
            control.wait_for_work(Duration::ZERO)
        };
        assert_eq!(begun(), WHOLE);
        control.state.lock().compactions_requested = 1;
        assert_eq!(begun(), Work::Compaction(0));
        control.state.lock().compactions_requested = 2;
        assert_eq!(begun(), WHOLE, "nor the other way round");
        assert_eq!(begun(), Work::Compaction(0));
    }

    #[test]
    fn the_cycle_that_runs_is_known() {
        let control = Control::new(64);
        assert!(control.running_whole().is_none());
        control.request();
        assert!(control.running_whole().is_none(), "it has not begun");
        assert_eq!(control.wait_for_work(Duration::ZERO), WHOLE);
        assert!(matches!(control.running_whole(), Some(Ticket::Cycle(1))));
        control.cycle_finished(CycleKind::Whole);
        assert!(control.running_whole().is_none());
    }

    /// A thread that waits for memory has asked for it, and others take the little that is left
    /// meanwhile.
    #[test]
    fn who_finds_little_while_a_cycle_runs_asks_for_no_other() {
        let control = Control::new(64);
        control.request();
        assert_eq!(control.wait_for_work(Duration::ZERO), WHOLE);
        assert!(!control.request_soon());
        control.request_whole_soon();
        control.cycle_finished(CycleKind::Whole);
        assert_eq!(control.wait_for_work(Duration::ZERO), Work::Idle);
        assert!(control.request_soon(), "what it has left is little, too");
        assert_eq!(control.wait_for_work(Duration::ZERO), WHOLE);
    }

    /// Otherwise a thread that wants all dead objects gone goes on when the young ones are.
    #[test]
    fn a_young_cycle_is_not_the_one_that_a_thread_waits_for() {
        let control = Control::new(64);
        control.set_next(CycleKind::Young);
        control.request_next();
        assert_eq!(control.wait_for_work(Duration::ZERO), YOUNG);
        let ticket = control.request();
        control.cycle_finished(CycleKind::Young);
        assert!(!control.is_done(ticket));
        // That which comes next is whole, and the one that another thread has asked for as well.
        control.request_next();
        assert_eq!(control.wait_for_work(Duration::ZERO), WHOLE);
        control.cycle_finished(CycleKind::Whole);
        assert!(control.is_done(ticket));
        assert_eq!(control.wait_for_work(Duration::ZERO), Work::Idle);
        control.set_next(CycleKind::Whole);
        control.request_next();
        assert_eq!(control.wait_for_work(Duration::ZERO), WHOLE);
        assert_eq!(control.next_cycle(), 3);
    }

    #[test]
    fn one_whole_cycle_packs_for_all_that_want_it() {
        let control = Control::new(64);
        control.set_next(CycleKind::Young);
        control.request_next();
        assert_eq!(control.wait_for_work(Duration::ZERO), YOUNG);
        let tickets = [control.request_packing(), control.request_packing()];
        assert_eq!(control.wait_for_work(Duration::ZERO), Work::Cycle { kind: CycleKind::Whole, packs: true });
        let late = control.request_packing();
        control.cycle_finished(CycleKind::Whole);
        assert_eq!([tickets[0], tickets[1], late].map(|ticket| control.is_done(ticket)), [true, true, false]);
        assert_eq!(control.wait_for_work(Duration::ZERO), Work::Cycle { kind: CycleKind::Whole, packs: true });
        control.request();
        assert_eq!(control.wait_for_work(Duration::ZERO), WHOLE, "and the next one does not");
    }
}
