//! The kernel's futexes, for models: one queue for all words, so that a woken thread may find that
//! its own word has not changed. A thread that is never woken is a deadlock, which `loom` reports.

use super::atomic::{AtomicU32, Ordering, fence};
use loom::sync::{Condvar, Mutex};

#[derive(Default)]
struct Queue {
    lock: Mutex<()>,
    woken: Condvar,
}

loom::lazy_static! {
    static ref QUEUE: Queue = Queue::default();
}

/// `futex_wait` without a timeout.
pub fn wait(word: &AtomicU32, expected: u32) {
    // The kernel has a full barrier between counting the sleeper and reading the word, under the
    // queue's lock.
    fence(Ordering::SeqCst);
    let queue = QUEUE.lock.lock().unwrap();
    if word.load(Ordering::Relaxed) == expected {
        drop(QUEUE.woken.wait(queue).unwrap());
    }
}

/// `futex_wake` of all.
pub fn wake_all(_word: &AtomicU32) {
    drop(QUEUE.lock.lock().unwrap());
    QUEUE.woken.notify_all();
}
