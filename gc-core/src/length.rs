//! The length of an array that grows where it is.
//!
//! It is a word of the array, which mutators and the collector read at any time, and it only
//! becomes larger. The thread that grows the array makes the new elements first, and then stores
//! the length. See `docs/protocol.md`, "An array that grows".

use crate::rules::{Rule, kept, order};
use crate::sync::atomic::{AtomicU64, Ordering};

/// Elements of the array. Acquire: a thread that reads a length sees all elements below it made.
#[inline(always)]
pub fn read(length: &AtomicU64) -> usize {
    length.load(order(Rule::LengthAcquire, Ordering::Acquire)) as usize
}

/// Makes an array longer, unless it is as long already. `make` is called with the length so far,
/// and makes the elements from there on.
///
/// The caller holds the lock under which arrays grow: of two threads, the later would make elements
/// anew that others have stored to meanwhile.
pub fn grow(length: &AtomicU64, to: usize, make: impl FnOnce(usize)) {
    // Relaxed: only holders of the lock write it.
    let from = length.load(Ordering::Relaxed) as usize;
    if from >= to {
        return;
    }
    let publish = || length.store(to as u64, order(Rule::LengthRelease, Ordering::Release));
    if kept(Rule::MakeThenGrow) {
        make(from);
        publish();
    } else {
        publish();
        make(from);
    }
}
