//! Ephemerons against the end of marking, resolution and freeing, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! Two pairs in a live object form a chain: the value of the first is the key of the second. The
//! first key is reachable through a weak slot only. A mutator upgrades it, reads along the chain,
//! replaces and removes pairs. What it keeps is not freed, what it stores is not lost, and the
//! marker never follows a value that nobody vouches for.
#![cfg(loom)]

mod support;

use gc_core::bitmap::MarkBitmap;
use gc_core::ephemeron::{self, PendingEphemerons, Scan};
use gc_core::forwarding::{BLOCK_MARK_WORDS, Forwarding};
use gc_core::grey::GreyBlocks;
use gc_core::rules::{Rule, without};
use gc_core::slot::{self, Barriers, Remap};
use gc_core::sync::atomic::{AtomicU64, Ordering};
use gc_core::units::{Block, BlockGranule, Granule, Offset};
use gc_core::weak::{self, WeakBarriers};
use gc_core::word::{GoodWord, Word};
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;
use support::words::{good, granule, is_bad, must_log, slot as slot_of, stale};
use support::world::{Mutator, Rules as WorldRules, VmOperation, World};
use support::{check, store};

/// What a model can leave out beside the rules of the functions.
#[derive(Clone, Copy)]
struct Rules {
    /// Handshakes between resolution and what comes after it.
    handshakes: usize,
    /// Pairs that may wait.
    room: usize,
    /// The blocks of the others are passed over.
    passes: bool,
}

const ALL: Rules = Rules { handshakes: 1, room: 2, passes: true };

/// No pair may wait.
const NO_ROOM: Rules = Rules { room: 0, ..ALL };

/// Where the first key was before the last relocation, and the objects as they are.
const BEFORE: usize = 1;
const KEY: usize = 2;
const MIDDLE: usize = 3;
const VALUE: usize = 4;
/// What the value word of an empty pair refers to.
const UNDEFINED: usize = 5;
/// Allocated while marking runs, or alive for another reason: marked from the start.
const YOUNG_KEY: usize = 6;
const YOUNG_VALUE: usize = 7;

/// `Ephemeron`: empty where the key is 0, and then its value is undefined.
struct Pair {
    key: AtomicU64,
    value: AtomicU64,
}

impl Pair {
    fn new(key: impl Into<Word>, value: GoodWord) -> Pair {
        Pair { key: slot_of(key), value: slot_of(value) }
    }
}

struct Heap {
    rules: Rules,
    world: Arc<World>,
    marks: MarkBitmap,
    forwarding: Forwarding,
    /// A thread that looks into the forwarding reads it, the thread that drops the forwarding
    /// writes it: loom panics where the two are not ordered.
    forwarding_memory: UnsafeCell<()>,
    weak: AtomicU64,
    pairs: [Pair; 2],
    /// Pairs that wait for their key's mark.
    waiting: PendingEphemerons,
    /// Pairs for which there was no room: a block each.
    blocks: GreyBlocks,
    /// Bit by bit the objects that were found dead, and whose memory was given away.
    freed: AtomicU64,
}

// SAFETY: the cell is written when no thread can hold a stale word; that this is so is what loom
// checks.
unsafe impl Sync for Heap {}
// SAFETY: as above.
unsafe impl Send for Heap {}

impl Heap {
    /// A heap that is being marked.
    fn new(rules: Rules, pairs: [Pair; 2]) -> Arc<Heap> {
        let world = World::new(WorldRules::ALL);
        world.phase.logging.store(true, Ordering::SeqCst);
        let mut bits = [0; BLOCK_MARK_WORDS];
        bits[0] = 1 << BEFORE;
        let forwarding = Forwarding::new(bits).unwrap();
        forwarding.entry(BlockGranule::new(BEFORE)).unwrap().publish(Granule::new(KEY)).unwrap();
        let marks = MarkBitmap::new(64).unwrap();
        marks.set_alone(Granule::new(YOUNG_KEY));
        marks.set_alone(Granule::new(YOUNG_VALUE));
        Arc::new(Heap {
            rules,
            world,
            marks,
            forwarding,
            forwarding_memory: UnsafeCell::new(()),
            weak: slot_of(good(KEY)),
            pairs,
            waiting: PendingEphemerons::new(rules.room),
            blocks: GreyBlocks::new(64).unwrap(),
            freed: AtomicU64::new(0),
        })
    }

    /// The chain: KEY leads to MIDDLE leads to VALUE. The first key is stale.
    fn chain(rules: Rules) -> Arc<Heap> {
        Heap::new(rules, [Pair::new(stale(BEFORE), good(MIDDLE)), Pair::new(good(MIDDLE), good(VALUE))])
    }

    /// The good word. All entries are published.
    fn resolve(&self, word: Word) -> GoodWord {
        if is_bad(word) { good(self.remap(word).granule().number()) } else { GoodWord::new(word) }
    }

    fn load_weak(&self, mutator: &Mutator, slot: &AtomicU64) -> GoodWord {
        weak::load(slot, &Running(self, mutator))
    }

    fn get(&self, mutator: &Mutator, pair: &Pair) -> Option<(GoodWord, GoodWord)> {
        let mutator = Running(self, mutator);
        ephemeron::get(&pair.key, &pair.value, &mutator, &mutator)
    }

    /// Of a key that the caller has.
    fn value_of(&self, mutator: &Mutator, pair: &Pair, key: GoodWord) -> Option<GoodWord> {
        let mutator = Running(self, mutator);
        ephemeron::value_of(&pair.key, &pair.value, key, &mutator, &mutator)
    }

    fn set(&self, mutator: &Mutator, pair: &Pair, new: Option<(GoodWord, GoodWord)>) {
        ephemeron::set(&pair.key, &pair.value, new, &Running(self, mutator));
    }

    /// The marker comes to a pair of a live object, in the pass over all of them or after it.
    fn discover(&self, index: usize) {
        let is_live = |place: Offset| self.marks.get(place.granule());
        let pair = Granule::new(index).offset();
        match ephemeron::scan(&self.pairs[index].key, pair, self, is_live, Some(&self.waiting)) {
            Scan::Value => self.visit_value(index),
            Scan::Full => self.blocks.add(Block::new(index)),
            _ => {}
        }
    }

    /// `Passes::run`.
    fn pass_over_blocks(&self) {
        if !self.rules.passes {
            return;
        }
        loop {
            let before = self.marks.load(0);
            let pairs = (0..self.pairs.len()).filter(|&index| self.blocks.remove(Block::new(index)));
            pairs.for_each(|index| self.discover(index));
            if self.blocks.is_empty() || self.marks.load(0) == before {
                return;
            }
        }
    }

    fn visit_value(&self, index: usize) {
        if let Some(place) = slot::visit(&self.pairs[index].value, self) {
            self.mark(place.granule().number());
        }
    }

    /// `Marker::mark`, by one of several.
    fn mark(&self, object: usize) {
        assert_ne!(object, UNDEFINED, "the marker follows the value of an empty pair");
        if self.marks.set(Granule::new(object)) {
            let mut found = Vec::new();
            self.waiting.take(Granule::new(object).offset(), false, |pair| found.push(pair.granule().number()));
            found.into_iter().for_each(|index| self.visit_value(index));
        }
    }

    /// `Marking::drain_logs`.
    fn take_logs(&self) {
        for word in std::mem::take(&mut *self.world.log.lock().unwrap()) {
            self.mark(granule(self.resolve(word)));
        }
    }

    /// The pairs that still wait are resolved.
    fn clear(&self) {
        self.waiting.take_all(|pair| self.blocks.add(Block::new(pair.granule().number())));
        while let Some(index) = self.blocks.take(Block::new(0)).map(Block::number) {
            let Pair { key, value } = &self.pairs[index];
            let resolved = |word| {
                let found = self.resolve(word);
                if self.marks.get(Granule::new(granule(found))) { found } else { GoodWord::NULL }
            };
            ephemeron::resolve(key, value, |word| !word.is_null(), resolved);
        }
    }

    /// `Cycle::with_load_barrier`, from the scan of the pairs to the clearing of marks.
    fn collect(&self) {
        (0..self.pairs.len()).for_each(|index| self.discover(index));
        loop {
            self.take_logs();
            self.pass_over_blocks();
            if self.world.stop(VmOperation::MarkEnd) {
                break;
            }
        }
        self.clear();
        // The weak slot, too; it is not what this model is about.
        if !self.marks.get(Granule::new(KEY)) {
            let _ = self.weak.compare_exchange(good(KEY).bits(), 0, Ordering::Release, Ordering::Relaxed);
        }
        self.world.phase.resolving.store(false, Ordering::SeqCst);
        (0..self.rules.handshakes).for_each(|_| self.world.handshake());
        self.forwarding_memory.with_mut(|_| ());
        store(&self.freed, !self.marks.load(0), Ordering::Release);
        self.marks.store_words(0..1, 0);
    }

    fn is_freed(&self, word: GoodWord) -> bool {
        self.freed.load(Ordering::Acquire) >> granule(word) & 1 == 1
    }
}

/// The marker.
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

    fn remap(&self, word: Word) -> Offset {
        self.forwarding_memory.with(|_| ());
        self.forwarding.entry(BlockGranule::new(granule(word))).unwrap().destination().unwrap().offset()
    }

    fn good(&self, place: Offset) -> GoodWord {
        good(place.granule().number())
    }
}

/// A mutator inside the heap.
struct Running<'a>(&'a Heap, &'a Mutator);

impl Barriers for Running<'_> {
    fn is_bad(&self, word: Word) -> bool {
        is_bad(word)
    }

    fn heal(&self, slot: &AtomicU64, word: Word) -> GoodWord {
        let good = self.resolve(word);
        slot::heal(slot, word, good);
        good
    }

    fn resolve(&self, word: Word) -> GoodWord {
        self.0.resolve(word)
    }

    fn is_logging(&self) -> bool {
        self.1.logging
    }

    fn log(&self, word: Word) {
        if must_log(&self.0.marks, word) {
            self.1.log.borrow_mut().push(word);
        }
    }
}

impl WeakBarriers for Running<'_> {
    fn is_resolving(&self) -> bool {
        self.1.resolving
    }

    fn is_live(&self, good: GoodWord) -> bool {
        self.0.marks.get(Granule::new(granule(good)))
    }

    fn load_slow(&self, slot: &AtomicU64, word: Word) -> GoodWord {
        weak::load_slow(slot, word, self)
    }
}

/// Runs a mutator that enters, works and leaves, beside the collector; `work` gives what it keeps.
fn run(heap: Arc<Heap>, work: impl Fn(&Heap, &mut Mutator) -> Vec<GoodWord> + Send + Sync + 'static) -> Arc<Heap> {
    let mut mutator = World::attach(&heap.world);
    let worker = {
        let heap = Arc::clone(&heap);
        thread::spawn(move || {
            mutator.unpark();
            let kept = work(&heap, &mut mutator);
            mutator.park();
            kept
        })
    };
    heap.collect();
    for word in worker.join().unwrap() {
        assert!(!heap.is_freed(word), "the object at {} is kept, and was freed", granule(word));
    }
    heap
}

/// Upgrades the first key, and goes along the chain.
fn along(heap: &Heap, mutator: &mut Mutator) -> Vec<GoodWord> {
    let key = heap.load_weak(mutator, &heap.weak);
    if key.is_null() {
        return vec![];
    }
    mutator.safepoint();
    let middle = heap.value_of(mutator, &heap.pairs[0], key).expect("the pair of a live key vanished");
    let value = heap.value_of(mutator, &heap.pairs[1], middle).expect("the pair of a live key vanished");
    vec![key, middle, value]
}

#[test]
fn a_value_lives_as_long_as_its_key() {
    check(2, || drop(run(Heap::chain(ALL), along)));
}

#[test]
fn a_pair_without_room_to_wait_is_not_lost() {
    for room in [0, 1] {
        check(2, move || drop(run(Heap::chain(Rules { room, ..ALL }), along)));
    }
}

#[test]
#[should_panic(expected = "was freed")]
fn a_pair_without_room_to_wait_must_be_passed_over_again() {
    check(2, || drop(run(Heap::chain(Rules { passes: false, ..NO_ROOM }), along)));
}

#[test]
#[should_panic(expected = "was freed")]
fn a_key_that_comes_alive_late_must_be_looked_for() {
    without(Rule::LookAfterMark, || check(2, || drop(run(Heap::chain(ALL), along))));
}

/// Reads the first pair without having its key.
fn iterate(heap: &Heap, mutator: &mut Mutator) -> Vec<GoodWord> {
    let mut kept = heap.get(mutator, &heap.pairs[0]);
    mutator.safepoint();
    kept = kept.or_else(|| heap.get(mutator, &heap.pairs[0]));
    kept.map_or(vec![], |(key, value)| vec![key, value])
}

#[test]
fn a_pair_that_was_read_is_not_freed() {
    check(2, || drop(run(Heap::chain(ALL), iterate)));
}

#[test]
#[should_panic(expected = "was freed")]
fn a_pair_that_was_read_must_have_its_key_logged() {
    without(Rule::WeakLogs, || check(2, || drop(run(Heap::chain(ALL), iterate))));
}

/// Reads a pair whose key is alive all the time, without having it.
fn see(heap: &Heap, mutator: &mut Mutator) -> Vec<GoodWord> {
    for _ in 0..2 {
        let (key, value) = heap.get(mutator, &heap.pairs[0]).expect("the pair of a live key vanished");
        assert_eq!((key, value), (good(YOUNG_KEY), good(VALUE)));
        mutator.safepoint();
    }
    vec![good(VALUE)]
}

#[test]
fn a_pair_whose_key_lives_is_always_there() {
    check(3, || drop(run(of_live_key(ALL), see)));
}

/// Keys are healed when the marker comes to them, so no pair needs the old forwarding after mark
/// end; the marks it does.
#[test]
#[should_panic(expected = "the pair of a live key vanished")]
fn without_a_handshake_a_load_in_flight_tests_a_cleared_mark() {
    check(3, || drop(run(of_live_key(Rules { handshakes: 0, ..ALL }), see)));
}

/// Takes the value of a pair whose key is alive, and removes the pair.
fn remove(heap: &Heap, mutator: &mut Mutator) -> Vec<GoodWord> {
    let value = heap.value_of(mutator, &heap.pairs[0], good(YOUNG_KEY)).unwrap();
    heap.set(mutator, &heap.pairs[0], None);
    mutator.safepoint();
    vec![value]
}

fn of_live_key(rules: Rules) -> Arc<Heap> {
    Heap::new(rules, [Pair::new(good(YOUNG_KEY), good(VALUE)), Pair::new(GoodWord::NULL, good(UNDEFINED))])
}

#[test]
fn a_value_that_was_removed_is_not_freed() {
    check(3, || drop(run(of_live_key(ALL), remove)));
}

#[test]
#[should_panic(expected = "was freed")]
fn who_removes_a_pair_must_log_its_value() {
    without(Rule::LogStores, || check(3, || drop(run(of_live_key(ALL), remove))));
}

/// Fills an empty pair, and replaces one whose key is dying; both must stand afterwards.
fn fill(rules: Rules) {
    let heap = Heap::new(rules, [Pair::new(good(KEY), good(YOUNG_VALUE)), Pair::new(GoodWord::NULL, good(UNDEFINED))]);
    let heap = run(heap, |heap, mutator| {
        heap.set(mutator, &heap.pairs[1], Some((good(YOUNG_KEY), good(YOUNG_VALUE))));
        mutator.safepoint();
        heap.set(mutator, &heap.pairs[0], Some((good(YOUNG_KEY), good(YOUNG_VALUE))));
        vec![]
    });
    for pair in &heap.pairs {
        assert_eq!(pair.key.load(Ordering::Acquire), good(YOUNG_KEY).bits(), "a new pair was cleared");
        assert_eq!(pair.value.load(Ordering::Acquire), good(YOUNG_VALUE).bits(), "a new pair lost its value");
    }
}

#[test]
fn a_new_pair_stands() {
    check(2, || fill(ALL));
}

#[test]
#[should_panic(expected = "value of an empty pair")]
fn a_key_before_its_value_shows_the_marker_an_undefined_value() {
    without(Rule::ValueThenKey, || check(2, || fill(ALL)));
}

#[test]
#[should_panic(expected = "a new pair was cleared")]
fn a_dead_pair_must_be_cleared_by_compare_and_swap() {
    without(Rule::ClearByCas, || check(3, || fill(ALL)));
}

#[test]
#[should_panic(expected = "a new pair lost its value")]
fn clearing_the_value_as_well_takes_that_of_a_new_pair() {
    without(Rule::ClearKeyAlone, || check(3, || fill(ALL)));
}

/// Two markers: one comes to the pair, the other marks its key.
fn two_markers(rules: Rules) {
    let heap = Heap::new(rules, [Pair::new(good(MIDDLE), good(VALUE)), Pair::new(GoodWord::NULL, good(UNDEFINED))]);
    let other = {
        let heap = Arc::clone(&heap);
        thread::spawn(move || heap.mark(MIDDLE))
    };
    heap.discover(0);
    other.join().unwrap();
    heap.pass_over_blocks();
    assert!(heap.marks.get(Granule::new(VALUE)), "the value of a marked key is not marked");
}

#[test]
fn a_pair_is_found_by_one_of_two_markers() {
    check(3, || two_markers(ALL));
    check(3, || two_markers(NO_ROOM));
}

#[test]
#[should_panic(expected = "the value of a marked key is not marked")]
fn looking_at_the_mark_before_the_lock_loses_a_pair() {
    without(Rule::LookUnderLock, || check(3, || two_markers(ALL)));
}
