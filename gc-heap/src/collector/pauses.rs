//! How a cycle stops the world: for each pause by itself, or once, around all of it.

use crate::events::PauseKind;
use crate::inner::HeapInner;
use crate::inner::pending_pause::VmOperation;

/// What a phase asks of the mutators. Phases are generic over this: those that need a stopped world
/// take a [`Stopped`], those that must not run in one take a [`Concurrent`].
pub(super) trait Pauses<'a>: Copy {
    fn inner(self) -> &'a HeapInner;

    /// Runs an operation while all mutators are stopped. Returns its result.
    fn run(self, op: VmOperation, kind: PauseKind) -> bool;

    /// Every mutator publishes its log and reloads its phase; waits until all have.
    fn handshake(self);

    /// Calls `work` while all mutators are stopped.
    fn with_world_stopped<R>(self, kind: PauseKind, work: impl FnOnce(Stopped<'_>) -> R) -> R;

    /// Delivers events, where mutators do not wait for that.
    fn deliver_events(self);
}

/// Mutators run, and each pause stops them.
#[derive(Clone, Copy)]
pub(super) struct Concurrent<'a>(&'a HeapInner);

impl Concurrent<'_> {
    /// Only the collector thread may call it, outside pauses.
    pub(super) fn new(inner: &HeapInner) -> Concurrent<'_> {
        Concurrent(inner)
    }
}

impl<'a> Pauses<'a> for Concurrent<'a> {
    fn inner(self) -> &'a HeapInner {
        self.0
    }

    fn run(self, op: VmOperation, kind: PauseKind) -> bool {
        self.0.stop(op, kind)
    }

    fn handshake(self) {
        self.0.handshake();
    }

    fn with_world_stopped<R>(self, kind: PauseKind, work: impl FnOnce(Stopped<'_>) -> R) -> R {
        self.0.with_world_stopped(kind, |inner| work(Stopped(inner)))
    }

    fn deliver_events(self) {
        self.0.gather_losses();
        self.0.report.events.deliver();
    }
}

/// All mutators are stopped as long as this exists: only [`Concurrent::held`] makes one, and it
/// lives no longer than that call.
#[derive(Clone, Copy)]
pub(super) struct Stopped<'a>(&'a HeapInner);

impl<'a> Pauses<'a> for Stopped<'a> {
    fn inner(self) -> &'a HeapInner {
        self.0
    }

    fn run(self, op: VmOperation, _: PauseKind) -> bool {
        self.0.apply(op)
    }

    /// Mutators published their logs when they stopped, and reload their phase before they go on.
    fn handshake(self) {}

    fn with_world_stopped<R>(self, _: PauseKind, work: impl FnOnce(Stopped<'_>) -> R) -> R {
        work(self)
    }

    fn deliver_events(self) {}
}
