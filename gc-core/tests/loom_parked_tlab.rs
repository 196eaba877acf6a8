//! A parked thread's block, taken up by the thread or taken by the collector, under every
//! interleaving: `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test loom_parked_tlab`.
//!
//! The block is a `loom` cell: the thread that has it writes to it. loom panics where two threads
//! have it at a time, or where one gets it before what the other wrote in it is ordered. First the
//! real deposit, then a transcription with each rule removed.
#![cfg(loom)]

mod support;

use gc_core::parked_tlab::ParkedTlab;
use gc_core::sync::atomic::{AtomicU64, Ordering};
use gc_core::units;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use support::check;

/// What lies in a block: the number of objects that were made in it.
struct Block(UnsafeCell<usize>);

// SAFETY: whether two write to it at a time is what loom checks.
unsafe impl Sync for Block {}
// SAFETY: as above.
unsafe impl Send for Block {}

impl Block {
    fn make_object(&self) {
        // SAFETY: only who has the block; loom checks it.
        self.0.with_mut(|objects| unsafe { *objects += 1 });
    }

    fn objects(&self) -> usize {
        // SAFETY: as above.
        self.0.with(|objects| unsafe { *objects })
    }
}

trait Puts: Send + Sync + 'static {
    fn put(&self, filled: usize);
    fn take(&self) -> Option<usize>;
    fn collect(&self) -> Option<usize>;
}

impl Puts for ParkedTlab {
    fn put(&self, filled: usize) {
        ParkedTlab::put(self, units::Block::new(5), filled);
    }

    fn take(&self) -> Option<usize> {
        ParkedTlab::take(self).map(|(_, filled)| filled)
    }

    fn collect(&self) -> Option<usize> {
        self.take_if(|block| block == units::Block::new(5)).map(|(_, filled)| filled)
    }
}

/// A thread allocates, parks and leaves, twice; the collector looks twice. Each object is in the
/// block when it is closed, which happens once.
fn parks_and_leaves(deposit: impl Puts) {
    let shared = Arc::new((deposit, Block(UnsafeCell::new(0))));
    let collector = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            let (deposit, block) = &*shared;
            (0..2).filter_map(|_| deposit.collect()).map(|filled| assert_eq!(block.objects(), filled)).count()
        })
    };
    let (deposit, block) = &*shared;
    let mut mine = Some(0);
    for _ in 0..2 {
        let Some(filled) = mine else { break };
        block.make_object();
        deposit.put(filled + 1);
        mine = deposit.take();
    }
    if let Some(filled) = mine {
        assert_eq!(block.objects(), filled);
    }
    let taken = collector.join().unwrap();
    assert_eq!(taken + usize::from(mine.is_some()), 1, "the block has one owner");
}

#[test]
fn one_of_the_two_gets_the_block() {
    check(3, || parks_and_leaves(ParkedTlab::default()));
}

/// The deposit with rules that can be removed; the word is the filled part plus 1.
struct Removed {
    word: AtomicU64,
    put: Ordering,
    collector_compares: bool,
}

impl Puts for Removed {
    fn put(&self, filled: usize) {
        self.word.store(filled as u64 + 1, self.put);
    }

    fn take(&self) -> Option<usize> {
        (self.word.swap(0, Ordering::AcqRel) as usize).checked_sub(1)
    }

    fn collect(&self) -> Option<usize> {
        let word = self.word.load(Ordering::Acquire);
        let filled = (word as usize).checked_sub(1)?;
        if self.collector_compares {
            self.word.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        } else {
            self.word.store(0, Ordering::Release);
        }
        Some(filled)
    }
}

fn removed(put: Ordering, collector_compares: bool) {
    check(3, move || parks_and_leaves(Removed { word: AtomicU64::new(0), put, collector_compares }));
}

#[test]
fn the_transcription_is_sound() {
    removed(Ordering::Release, true);
}

#[test]
#[should_panic]
fn put_down_without_release_what_was_allocated_is_not_seen() {
    removed(Ordering::Relaxed, true);
}

#[test]
#[should_panic]
fn taken_without_a_comparison_the_block_has_two_owners() {
    removed(Ordering::Release, false);
}
