//! A local is read relaxed while the marker heals it, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! An object has moved: its copy was made by another mutator or by the collector. The marker stores
//! its new place into a thread's local; the thread loads that relaxed and reads the object. Its
//! fields are a `loom` cell: loom panics where they are read and their writing is not ordered
//! before. What orders it is the stop of mark start alone: every copy comes before it, and no local
//! is healed by another thread before it.
#![cfg(loom)]

mod support;

use gc_core::forwarding::{BLOCK_MARK_WORDS, Forwarding};
use gc_core::slot::{self, Barriers, Remap};
use gc_core::sync::atomic::AtomicU64;
use gc_core::units::{BlockGranule, Granule, Offset};
use gc_core::word::{GoodWord, Word};
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;
use support::check;
use support::words::{good, granule, is_bad, stale};
use support::world::{Rules as Stops, VmOperation, World};

/// What a model can leave out, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    /// Marking begins with a stop.
    stop: bool,
}

const ALL: Rules = Rules { stop: true };

/// Granules: the object before it is moved, and the places of the copiers.
const OLD: usize = 1;
const PLACES: [usize; 3] = [2, 3, 4];
const FIELD: u64 = 7;

struct Heap {
    world: Arc<World>,
    forwarding: Forwarding,
    /// The thread's local.
    slot: AtomicU64,
    fields: [UnsafeCell<u64>; 5],
}

// SAFETY: a copy is written before it is published; that this is enough is what loom checks.
unsafe impl Sync for Heap {}
// SAFETY: as above.
unsafe impl Send for Heap {}

impl Heap {
    fn new() -> Arc<Heap> {
        let mut bits = [0; BLOCK_MARK_WORDS];
        bits[0] = 1 << OLD;
        Arc::new(Heap {
            world: World::new(Stops::ALL),
            forwarding: Forwarding::new(bits).unwrap(),
            slot: AtomicU64::new(stale(OLD).bits()),
            fields: [FIELD; 5].map(UnsafeCell::new),
        })
    }

    /// Where the object is, copied to `place` if nobody has copied it.
    fn resolve(&self, place: usize) -> usize {
        let entry = self.forwarding.entry(BlockGranule::new(OLD)).unwrap();
        entry.destination().map(Granule::number).unwrap_or_else(|| {
            // SAFETY: this thread's own until it is published; loom checks it.
            self.fields[place].with_mut(|fields| unsafe { *fields = FIELD });
            entry.publish(Granule::new(place)).map_or_else(Granule::number, |()| place)
        })
    }

    /// The thread loads its local and reads the object.
    fn get(&self, place: usize) {
        let word = slot::load_own(&self.slot, &Copier(self, place), || ());
        // SAFETY: the object is published; loom checks it.
        assert_eq!(self.fields[granule(word)].with(|fields| unsafe { *fields }), FIELD);
    }
}

/// The local's thread, which copies to a place. A stale local is left as it is: the marker heals
/// it.
struct Copier<'a>(&'a Heap, usize);

impl Barriers for Copier<'_> {
    fn is_bad(&self, word: Word) -> bool {
        is_bad(word)
    }

    fn heal(&self, _slot: &AtomicU64, word: Word) -> GoodWord {
        self.resolve(word)
    }

    fn resolve(&self, _word: Word) -> GoodWord {
        good(self.0.resolve(self.1))
    }

    fn is_logging(&self) -> bool {
        false
    }

    fn log(&self, _word: Word) {
        unreachable!("nothing is stored");
    }
}

impl Remap for Heap {
    fn is_reference(&self, word: Word) -> bool {
        !word.is_null()
    }

    fn is_bad(&self, word: Word) -> bool {
        is_bad(word)
    }

    fn place(&self, word: GoodWord) -> Offset {
        Granule::new(granule(word)).offset()
    }

    fn remap(&self, _word: Word) -> Offset {
        self.forwarding.entry(BlockGranule::new(OLD)).unwrap().destination().expect("published before").offset()
    }

    fn good(&self, place: Offset) -> GoodWord {
        good(place.granule().number())
    }
}

/// The local's thread gets before and after a safepoint; another copies; the collector completes
/// the relocation and marks.
fn get_while_healed(rules: Rules, parked: bool) {
    let heap = Heap::new();
    let owner = {
        let mut mutator = World::attach(&heap.world);
        if !parked {
            mutator.unpark();
        }
        let heap = Arc::clone(&heap);
        thread::spawn(move || {
            if parked {
                mutator.unpark();
            }
            mutator.safepoint();
            heap.get(PLACES[0]);
            mutator.park();
        })
    };
    let copier = (!parked).then(|| {
        let heap = Arc::clone(&heap);
        thread::spawn(move || heap.resolve(PLACES[1]))
    });
    // The end of the relocation: publishes what nobody has, and has seen (Acquire) what somebody
    // has.
    heap.resolve(PLACES[2]);
    if rules.stop {
        assert!(heap.world.stop(VmOperation::MarkStart));
    }
    slot::visit(&heap.slot, &*heap);
    owner.join().unwrap();
    copier.map(|copier| copier.join().unwrap());
}

#[test]
fn a_healed_local_leads_to_a_copy_that_is_there() {
    check(2, || get_while_healed(ALL, false));
}

#[test]
fn also_where_its_thread_comes_back_from_waiting() {
    check(3, || get_while_healed(ALL, true));
}

#[test]
#[should_panic]
fn without_the_stop_of_mark_start_it_would_have_to_be_loaded_acquire() {
    check(2, || get_while_healed(Rules { stop: false }, false));
}
