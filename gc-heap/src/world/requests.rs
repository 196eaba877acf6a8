//! Requests for cycles, the threads that wait for them, and the automatic start of a cycle.

use crate::inner::HeapInner;
use crate::inner::control::Ticket;
use std::sync::atomic::Ordering;

impl HeapInner {
    pub(crate) fn request_cycle(&self) -> Ticket {
        self.schedule.requests.request()
    }

    pub(crate) fn request_compaction(&self, needed_run: usize) -> Ticket {
        let mut state = self.schedule.requests.state.lock();
        let number = state.compactions_started + 1;
        state.compactions_requested = state.compactions_requested.max(number);
        state.needed_run = state.needed_run.max(needed_run);
        drop(state);
        self.schedule.requests.work.notify_one();
        Ticket::Compaction(number)
    }

    /// Runs a cycle that begins after the call, and waits for its end, or until the collector
    /// fails: see `check_collector`. The caller is parked or not attached.
    pub(crate) fn collect(&self) {
        self.schedule.requests.wait(self.request_cycle());
    }

    /// Waits for the end of the cycle with this number, or until the collector fails: see
    /// `check_collector`. The caller is parked or not attached.
    pub(crate) fn wait_for_cycle(&self, number: u64) {
        self.schedule.requests.request_number(number);
        self.schedule.requests.wait(Ticket::Cycle(number));
    }

    /// Whether mutators should yield to the collector: it is working, and memory is short. While a
    /// marking runs the throttle knows whether what is left lasts, and a yield may take as long as
    /// the kernel's tick.
    pub(crate) fn is_short(&self) -> bool {
        let control = &self.schedule.requests;
        !self.schedule.throttle.runs()
            && control.running.load(Ordering::Relaxed)
            && self.memory.free.free() < control.short.load(Ordering::Relaxed)
    }

    /// Whether a mutator that takes blocks may have to wait before, if only for its processor.
    pub(crate) fn may_wait(&self) -> bool {
        self.schedule.throttle.runs() || self.is_short()
    }

    /// Called after a mutator allocated blocks: requests a cycle if few are left.
    #[inline]
    pub(crate) fn after_taking(&self) {
        if self.memory.free.free() < self.schedule.requests.attention.load(Ordering::Relaxed) {
            self.attend();
        }
    }

    #[cold]
    fn attend(&self) {
        // A running cycle sets the trigger when it ends.
        if !self.is_due() && !self.schedule.requests.running.load(Ordering::Relaxed) {
            self.pace_look();
        }
        self.request_if_due();
    }

    fn is_due(&self) -> bool {
        self.memory.free.free() < self.schedule.requests.trigger.load(Ordering::Relaxed)
    }

    /// Requests the next cycle if few blocks are left.
    pub(crate) fn request_if_due(&self) {
        if self.is_due() && self.schedule.requests.request_soon() {
            // In a pause all threads wait for it, without a stall.
            self.has_worked(self.relocation.stops_the_world());
        }
    }
}
