//! Objects whose death is announced: what the collector knows of finalizer and resource queues.

use crate::roots::table::RootCell;
use std::sync::Arc;

/// What happens to a registered object when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDeath {
    /// It is revived, and queued.
    Revive,
    /// It is freed, and its value is queued.
    Release,
}

/// A registered object.
pub(crate) struct Registration {
    /// A weak reference.
    pub(crate) cell: RootCell,
    pub(crate) end: OnDeath,
    pub(crate) queue: Arc<dyn FinalizerTarget>,
    pub(crate) key: usize,
}

/// The queue's interface for the collector. Only this crate implements it.
pub(crate) trait FinalizerTarget: Send + Sync {
    /// The object with this key has died; if it is revived, `root` refers to it.
    fn publish(&self, key: usize, revived: Option<RootCell>);
    /// The heap has ended, and all its objects with it.
    fn close(&self);
    /// The collector has failed: nobody will publish any more.
    fn fail(&self, why: &str);
}
