//! The embedder's listeners for events.
//!
//! They are the only code of the embedder that runs on the collector thread: between phases, when
//! no mutator is stopped and no lock is held. While one runs, the thread counts as inside a heap,
//! so that entering a heap is refused instead of waiting for ever.

use super::Event;
use crate::active::as_if_inside;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

struct Listener<F: ?Sized> {
    /// Whether it has panicked: then it is not called any more.
    failed: AtomicBool,
    f: F,
}

type AnyListener = Listener<dyn Fn(&Event) + Send + Sync>;

/// In the order of registration.
#[derive(Clone, Default)]
pub(crate) struct Listeners(Vec<Arc<AnyListener>>);

impl Listeners {
    pub(crate) fn add(&mut self, f: impl Fn(&Event) + Send + Sync + 'static) {
        self.0.push(Arc::new(Listener { failed: AtomicBool::new(false), f }));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn tell(&self, event: &Event) {
        for listener in &self.0 {
            if listener.failed.load(Ordering::Relaxed) {
                continue;
            }
            // Unwind safety: a panic can leave only the listener's own state inconsistent, and it
            // is not called again.
            let called = catch_unwind(AssertUnwindSafe(|| as_if_inside(|| (listener.f)(event))));
            if let Err(panic) = called {
                listener.failed.store(true, Ordering::Relaxed);
                // Dropping the panic payload may panic.
                std::mem::forget(panic);
            }
        }
    }
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} listeners", self.0.len())
    }
}
