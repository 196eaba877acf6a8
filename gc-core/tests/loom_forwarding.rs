//! An object of the relocation set is published once, under every interleaving of two copiers with
//! the release and the reuse of its block:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! The evacuated block's words are atomic, since who reuses it may write them while a slow copier
//! still reads. A copy's fields are `loom` cells: loom panics where somebody reads a copy whose
//! writing is not ordered before.
#![cfg(loom)]

mod support;

use gc_core::forwarding::{BLOCK_MARK_WORDS, Entry, Forwarding, before_reuse};
use gc_core::sync::atomic::{AtomicU64, Ordering, fence};
use gc_core::units::{BlockGranule, Granule};
use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::thread;
use std::sync::Arc;
use support::{check, store};

/// What a model can leave out, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    /// The header is believed only if the entry is still empty after it was read.
    reread: bool,
    /// A full fence of loads stands between the two.
    fence: bool,
    /// Who takes a block fences (Release) before writing to it.
    fence_when_taken: bool,
    /// A block is released only when all its entries are published.
    release_late: bool,
    /// The loser takes the winner's copy.
    take_winner: bool,
}

const ALL: Rules = Rules { reread: true, fence: true, fence_when_taken: true, release_late: true, take_winner: true };

/// The only object of the evacuated block, and its header.
const OLD: usize = 1;
const HEADER: u64 = 0xa;
/// What the block holds there once it is used again.
const REUSED: u64 = 0xb;
/// Its field.
const FIELD: u64 = 7;
const WRITTEN: u64 = 8;

/// Granules of the copiers' places. `None`: there is no memory to copy to.
type Place = Option<usize>;
const PLACES: [Place; 2] = [Some(2), Some(3)];

struct Heap {
    rules: Rules,
    forwarding: Forwarding,
    header: AtomicU64,
    field: AtomicU64,
    /// The field of the copies, by granule.
    copies: [UnsafeCell<u64>; 4],
    /// `FreeSpace`: whether the evacuated block is in it.
    free: Mutex<bool>,
}

// SAFETY: a copy is written before it is published; that this is enough is what loom checks.
unsafe impl Sync for Heap {}
// SAFETY: as above.
unsafe impl Send for Heap {}

impl Heap {
    fn new(rules: Rules) -> Arc<Heap> {
        let mut bits = [0; BLOCK_MARK_WORDS];
        bits[0] = 1 << OLD;
        Arc::new(Heap {
            rules,
            forwarding: Forwarding::new(bits).unwrap(),
            header: AtomicU64::new(HEADER),
            field: AtomicU64::new(FIELD),
            copies: [0; 4].map(UnsafeCell::new),
            free: Mutex::new(false),
        })
    }

    fn entry(&self) -> Entry<'_> {
        self.forwarding.entry(BlockGranule::new(OLD)).unwrap()
    }

    /// `relocate_object`, where the entry was empty. Gives the object's granule.
    fn relocate_object(&self, entry: Entry<'_>, place: Place) -> usize {
        let read = || self.header.load(Ordering::Relaxed);
        let header = if self.rules.reread && self.rules.fence {
            match entry.read_unmoved(read) {
                Ok(header) => header,
                Err(found) => return found.number(),
            }
        } else {
            let header = read();
            if self.rules.fence {
                fence(Ordering::Acquire);
            }
            if self.rules.reread
                && let Some(found) = entry.destination()
            {
                return found.number();
            }
            header
        };
        assert_eq!(header, HEADER, "a copier believes a header of somebody else's");
        let Some(to) = place else {
            return entry.publish(Granule::new(OLD)).map_or_else(Granule::number, |()| OLD);
        };
        let field = self.field.load(Ordering::Relaxed);
        // SAFETY: the place is this thread's own until it is published.
        self.copies[to].with_mut(|copy| unsafe { *copy = field });
        match entry.publish(Granule::new(to)) {
            Ok(()) => to,
            Err(winner) if self.rules.take_winner => winner.number(),
            Err(_) => to,
        }
    }

    /// What `Mutator::resolve` and `evacuate` do with an entry.
    fn resolve(&self, place: Place) -> usize {
        let entry = self.entry();
        entry.destination().map(Granule::number).unwrap_or_else(|| self.relocate_object(entry, place))
    }

    /// `evacuate` and `relocate` for the block: it is released if nothing stays in it.
    fn evacuate(&self, place: Place) -> usize {
        if !self.rules.release_late {
            *self.free.lock().unwrap() = true;
        }
        let found = self.resolve(place);
        if found != OLD {
            *self.free.lock().unwrap() = true;
        }
        found
    }

    /// A mutator that allocates: takes the block, if it is free, and makes an object at the same
    /// place.
    fn reuse(&self) -> bool {
        let taken = std::mem::take(&mut *self.free.lock().unwrap());
        if taken {
            if self.rules.fence_when_taken {
                before_reuse();
            }
            store(&self.header, REUSED, Ordering::Relaxed);
            store(&self.field, REUSED, Ordering::Relaxed);
        }
        taken
    }

    fn field(&self, granule: usize) -> u64 {
        if granule == OLD {
            return self.field.load(Ordering::Acquire);
        }
        // SAFETY: the copy is published; loom checks it.
        self.copies[granule].with(|copy| unsafe { *copy })
    }
}

fn spawn<T: 'static>(heap: &Arc<Heap>, work: impl FnOnce(&Heap) -> T + 'static) -> thread::JoinHandle<T> {
    let heap = Arc::clone(heap);
    thread::spawn(move || work(&heap))
}

/// A mutator resolves a stale word while the collector evacuates its block and another mutator
/// takes the block.
fn resolve_evacuate_reuse(rules: Rules) {
    let heap = Heap::new(rules);
    let mutator = spawn(&heap, |heap| {
        let found = heap.resolve(PLACES[0]);
        assert_eq!(heap.field(found), FIELD, "the object is not what it was");
        found
    });
    let reuser = spawn(&heap, Heap::reuse);
    let found = heap.evacuate(PLACES[1]);
    reuser.join().unwrap();
    assert_eq!(mutator.join().unwrap(), found, "the object is in two places");
    assert_eq!(heap.entry().destination(), Some(Granule::new(found)));
    assert_eq!(heap.field(found), FIELD, "the object is not what it was");
}

#[test]
fn an_object_is_published_once_and_whole_while_its_block_is_reused() {
    check(4, || resolve_evacuate_reuse(ALL));
}

#[test]
#[should_panic(expected = "a copier believes a header of somebody else's")]
fn a_header_is_believed_too_early_without_the_second_look() {
    check(3, || resolve_evacuate_reuse(Rules { reread: false, ..ALL }));
}

#[test]
#[should_panic(expected = "a copier believes a header of somebody else's")]
fn the_second_look_may_come_first_without_the_fence() {
    check(3, || resolve_evacuate_reuse(Rules { fence: false, ..ALL }));
}

#[test]
#[should_panic(expected = "a copier believes a header of somebody else's")]
fn the_second_look_finds_nothing_without_a_fence_when_a_block_is_taken() {
    check(3, || resolve_evacuate_reuse(Rules { fence_when_taken: false, ..ALL }));
}

#[test]
#[should_panic(expected = "the object is in two places")]
fn a_loser_that_keeps_its_copy_splits_the_object() {
    check(3, || resolve_evacuate_reuse(Rules { take_winner: false, ..ALL }));
}

#[test]
#[should_panic]
fn a_block_released_early_is_overwritten_before_it_is_copied() {
    check(3, || resolve_evacuate_reuse(Rules { release_late: false, ..ALL }));
}

/// One copier has no place: the object stays, or the other's copy wins. The thread that has
/// resolved it writes to it at once, and its block may be released.
fn kept_or_copied(rules: Rules) {
    let heap = Heap::new(rules);
    let mutator = spawn(&heap, |heap| {
        let found = heap.resolve(None);
        if found == OLD {
            store(&heap.field, WRITTEN, Ordering::Release);
        } else {
            // SAFETY: only this mutator writes to the object; loom checks it.
            heap.copies[found].with_mut(|copy| unsafe { *copy = WRITTEN });
        }
        found
    });
    let found = heap.evacuate(PLACES[1]);
    assert_eq!(heap.reuse(), found != OLD, "a block in which an object stays is not released");
    assert_eq!(mutator.join().unwrap(), found, "the object is in two places");
    assert_eq!(heap.field(found), WRITTEN, "a write went to a copy that lost");
}

#[test]
fn an_object_is_kept_in_place_or_copied_never_both() {
    check(4, || kept_or_copied(ALL));
}

#[test]
#[should_panic(expected = "two places")]
fn an_object_kept_in_place_is_split_by_a_loser_that_keeps_its_copy() {
    check(3, || kept_or_copied(Rules { take_winner: false, ..ALL }));
}

/// The bump region of a copier, as far as the loser's rewinding goes: a place may be used again by
/// who lost with it, and by nobody else.
#[test]
fn nobody_has_seen_a_place_that_is_rewound() {
    check(4, || {
        let heap = Heap::new(ALL);
        let rivals = PLACES.map(|place| {
            spawn(&heap, move |heap| {
                let found = heap.resolve(place);
                if Some(found) != place {
                    // SAFETY: rewound, and bumped for the next object; loom checks that nobody
                    // reads it.
                    heap.copies[place.unwrap()].with_mut(|copy| unsafe { *copy = WRITTEN });
                }
                heap.field(found)
            })
        });
        for rival in rivals {
            assert_eq!(rival.join().unwrap(), FIELD);
        }
    });
}
