//! How markers share work: who calls the helpers, and gives to those that are idle.

use super::Marker;
use crate::collector::mark_queue::{CHUNK, Found, SharedMarkQueue};

/// Objects marked before the helpers are called, and between two wake-ups of a sleeper: a wake-up
/// costs as much as marking about a hundred objects.
const CALL_AFTER: u64 = 2048;

/// Objects marked between two times that a marker shares.
const SHARE_EVERY: u64 = 64;

/// Ends the round for the other markers when this one panics.
struct AbortOnPanic<'a>(&'a SharedMarkQueue<'a>);

impl Drop for AbortOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.crew.give_up();
        }
    }
}

impl<const MANY: bool> Marker<'_, MANY> {
    /// Shares half of this marker's work with idle markers.
    #[cold]
    #[inline(never)]
    pub(super) fn share(&mut self) {
        let crew = &self.shared.crew;
        if crew.all_hungry_sleep() && self.objects < self.wake_from {
            return;
        }
        self.share_from = self.objects + SHARE_EVERY;
        // Until helpers have come, and while roots are left, they take roots.
        if self.call() || self.shared.roots.any_left() {
            return;
        }
        if self.queues.chunks.is_empty() {
            let Some(chunk) = self.shared.take_chunk() else { return };
            self.put(chunk, (self.stack.len() / 2).min(CHUNK));
        }
        self.wake_from = self.objects + CALL_AFTER;
        self.shared.crew.tell();
    }

    /// Calls the helpers, if this marker has to and has not done so.
    pub(in crate::collector) fn call(&mut self) -> bool {
        let uncalled = std::mem::take(&mut self.uncalled);
        if uncalled {
            self.shared.crew.called();
            self.inner.schedule.helpers.open();
        }
        uncalled
    }

    /// Works until no marker has work left, roots included, or one has panicked. All markers call
    /// it; the marker with `calls` calls the helpers as soon as there is work for several.
    pub(crate) fn drain_parallel(&mut self, calls: bool) {
        let shared = self.shared;
        let _abort = AbortOnPanic(shared);
        if MANY {
            self.uncalled = calls;
            self.share_from = self.objects + if calls { CALL_AFTER } else { 0 };
            self.wake_from = self.share_from;
        }
        loop {
            self.drain();
            if shared.roots.visit_next(self.inner, |slot| self.visit(slot)) {
                if MANY && self.objects >= self.share_from && shared.roots.any_left() {
                    self.call();
                }
                continue;
            }
            if !MANY {
                return;
            }
            match shared.crew.seek(|| shared.steal(self.queues.seat)) {
                Some(Found::Chunk(chunk)) => self.load(chunk),
                Some(Found::Rest(rest)) => self.scan_piece(rest),
                Some(Found::Grey(block)) => self.scan_again(block),
                None => break,
            }
        }
        self.uncalled = false;
    }

    /// Called by a marker that leaves before the marking ends.
    pub(crate) fn leave(self) {
        self.shared.give_queues(self.queues);
    }
}
