//! What the models share: how they are run, the kernel's futex, and (in [`world`]) both sides of
//! stops and handshakes.

// Each model uses a part of this.
#![allow(dead_code)]

pub(crate) mod marking;
pub(crate) mod words;
pub(crate) mod world;

use gc_core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Runs a model under every interleaving with at most `preemptions` switches away from a thread
/// that could go on.
pub(crate) fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    if builder.preemption_bound.is_none() {
        builder.preemption_bound = Some(preemptions);
    }
    builder.max_branches = 10_000;
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&runs);
    builder.check(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    // Seen with `--nocapture`.
    println!("{} interleavings", runs.load(std::sync::atomic::Ordering::Relaxed));
}

/// A store of this ordering that comes after all that has happened to the word so far: a swap. For
/// loom a plain store may come before a compare-and-swap that has not seen it.
pub(crate) fn store(word: &AtomicU64, value: u64, order: Ordering) {
    word.swap(value, order);
}

/// The kernel's side of one futex word.
#[derive(Default)]
pub(crate) struct Futex {
    queue: Mutex<()>,
    woken: Condvar,
}

impl Futex {
    /// `futex_wait` without a timeout: what is never woken is a deadlock, which loom reports.
    pub(crate) fn wait(&self, word: &AtomicU32, expected: u32) {
        // The kernel has a full barrier between counting the sleeper and reading the word, under
        // the queue's lock.
        fence(Ordering::SeqCst);
        let queue = self.queue.lock().unwrap();
        if word.load(Ordering::Relaxed) == expected {
            drop(self.woken.wait(queue).unwrap());
        }
    }

    /// `futex_wake` of all.
    pub(crate) fn wake(&self) {
        drop(self.queue.lock().unwrap());
        self.woken.notify_all();
    }
}
