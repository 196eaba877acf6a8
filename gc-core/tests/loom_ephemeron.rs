//! Ephemerons against the end of marking, resolution and freeing, under every interleaving: `RUSTFLAGS="--cfg loom" cargo
//! test -p gc-core --release --test 'loom_*'`.
//!
//! Two pairs in a live object form a chain: the value of the first is the key of the second. The first key is reachable
//! through a weak slot only. A mutator upgrades it, reads along the chain, replaces and removes pairs. What it keeps is
//! not freed, what it stores is not lost, and the marker never follows a value that nobody vouches for.
#![cfg(loom)]

mod support;

use gc_core::bitmap::MarkBitmap;
use gc_core::forwarding::{BLOCK_MARK_WORDS, Forwarding};
use gc_core::sync::atomic::{AtomicU64, Ordering};
use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::thread;
use std::sync::Arc;
use support::words::{good, granule, is_bad, stale};
use support::world::{Mutator, Rules as WorldRules, StopOp, World};
use support::{check, store};

/// What a model can leave out, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    /// Every mark after the first pass looks for pairs that wait for its object.
    look: bool,
    /// Who removes or replaces a pair logs its value, while marking runs.
    log: bool,
    /// A load that gives the key logs it.
    log_key: bool,
    /// A new value is written before its key.
    value_first: bool,
    /// A dead pair is cleared by compare-and-swap.
    clear_by_cas: bool,
    /// A dead pair is cleared by its key alone; its value is left as it is.
    clear_key_alone: bool,
    /// Handshakes between resolution and what comes after it.
    handshakes: usize,
    /// Several markers: whether the key is marked is looked at under the lock of its list.
    look_under_lock: bool,
}

const ALL: Rules = Rules {
    look: true,
    log: true,
    log_key: true,
    value_first: true,
    clear_by_cas: true,
    clear_key_alone: true,
    handshakes: 1,
    look_under_lock: true,
};

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
    fn new(key: u64, value: u64) -> Pair {
        Pair { key: AtomicU64::new(key), value: AtomicU64::new(value) }
    }
}

struct Heap {
    rules: Rules,
    world: Arc<World>,
    marks: MarkBitmap,
    forwarding: Forwarding,
    /// Read by who looks into the forwarding, written by who drops it: loom panics where the two are not ordered.
    forwarding_memory: UnsafeCell<()>,
    weak: AtomicU64,
    pairs: [Pair; 2],
    /// Pairs that wait for their key's mark.
    waiting: Mutex<Vec<(usize, usize)>>,
    /// Bit by bit the objects that were found dead, and whose memory was given away.
    freed: AtomicU64,
}

// SAFETY: the cell is written when no thread can hold a stale word; that this is so is what loom checks.
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
        let forwarding = Forwarding::new(bits);
        forwarding.entry(BEFORE).unwrap().publish(KEY).unwrap();
        let marks = MarkBitmap::new(64);
        marks.set_alone(YOUNG_KEY);
        marks.set_alone(YOUNG_VALUE);
        Arc::new(Heap {
            rules,
            world,
            marks,
            forwarding,
            forwarding_memory: UnsafeCell::new(()),
            weak: AtomicU64::new(good(KEY)),
            pairs,
            waiting: Mutex::new(Vec::new()),
            freed: AtomicU64::new(0),
        })
    }

    /// The chain: KEY leads to MIDDLE leads to VALUE. The first key is stale.
    fn chain(rules: Rules) -> Arc<Heap> {
        Heap::new(rules, [Pair::new(stale(BEFORE), good(MIDDLE)), Pair::new(good(MIDDLE), good(VALUE))])
    }

    /// `remap`, and `Mutator::resolve` where all entries are published.
    fn resolve(&self, word: u64) -> u64 {
        if !is_bad(word) {
            return word;
        }
        self.forwarding_memory.with(|_| ());
        good(self.forwarding.entry(granule(word)).unwrap().destination().unwrap())
    }

    /// `weak::load` and `weak::load_slow`. `log`: the caller is given the object.
    fn load_weak(&self, mutator: &mut Mutator, slot: &AtomicU64, log: bool) -> u64 {
        let word = slot.load(Ordering::Acquire);
        if word == 0 || !is_bad(word) && !mutator.logging && !mutator.resolving {
            return word;
        }
        let found = self.resolve(word);
        if mutator.resolving && !self.marks.get(granule(found)) {
            return 0;
        }
        if found != word {
            let _ = slot.compare_exchange(word, found, Ordering::Release, Ordering::Relaxed);
        }
        if log {
            self.log(mutator, found);
        }
        found
    }

    /// `Mutator::log`.
    fn log(&self, mutator: &mut Mutator, word: u64) {
        if mutator.logging && word != 0 && (is_bad(word) || !self.marks.get(granule(word))) {
            mutator.log.get_mut().push(word);
        }
    }

    /// `Ephemeron::get`.
    fn get(&self, mutator: &mut Mutator, pair: &Pair) -> Option<(u64, u64)> {
        let key = self.load_weak(mutator, &pair.key, self.rules.log_key);
        (key != 0).then(|| (key, self.resolve(pair.value.load(Ordering::Acquire))))
    }

    /// `Ephemeron::value_of`: of a key that the caller has.
    fn value_of(&self, pair: &Pair, key: u64) -> Option<u64> {
        let found = self.resolve(pair.key.load(Ordering::Acquire));
        (found == key).then(|| self.resolve(pair.value.load(Ordering::Acquire)))
    }

    /// `Ephemeron::set`.
    fn set(&self, mutator: &mut Mutator, pair: &Pair, new: Option<(u64, u64)>) {
        let old = pair.key.swap(0, Ordering::AcqRel);
        if old != 0 && self.rules.log {
            let word = pair.value.load(Ordering::Acquire);
            self.log(mutator, word);
        }
        let Some((key, value)) = new else { return };
        if self.rules.value_first {
            store(&pair.value, value, Ordering::Release);
            store(&pair.key, key, Ordering::Release);
        } else {
            store(&pair.key, key, Ordering::Release);
            store(&pair.value, value, Ordering::Release);
        }
    }

    /// `Marker::scan_pair`: the marker comes to a pair of a live object.
    fn discover(&self, index: usize) {
        let pair = &self.pairs[index];
        let word = pair.key.load(Ordering::Acquire);
        if word == 0 {
            return;
        }
        let key = self.resolve(word);
        if key != word {
            let _ = pair.key.compare_exchange(word, key, Ordering::Release, Ordering::Relaxed);
        }
        if self.marks.get(granule(key)) {
            return self.visit_value(index);
        }
        self.waiting.lock().unwrap().push((granule(key), index));
    }

    fn visit_value(&self, index: usize) {
        let word = self.pairs[index].value.load(Ordering::Acquire);
        if word != 0 {
            self.mark(granule(self.resolve(word)));
        }
    }

    /// `Marker::mark`.
    fn mark(&self, object: usize) {
        assert_ne!(object, UNDEFINED, "the marker follows the value of an empty pair");
        if self.marks.set(object) && self.rules.look {
            self.look(object);
        }
    }

    /// `PendingEphemerons::take`: the pairs that wait for an object that has just been marked.
    fn look(&self, object: usize) {
        let mut found = Vec::new();
        self.waiting.lock().unwrap().retain(|&(key, index)| {
            if key == object {
                found.push(index);
            }
            key != object
        });
        found.into_iter().for_each(|index| self.visit_value(index));
    }

    /// `Marking::drain_logs`.
    fn take_logs(&self) {
        for word in std::mem::take(&mut *self.world.log.lock().unwrap()) {
            self.mark(granule(self.resolve(word)));
        }
    }

    /// `resolve_slot`, of the keys of the pairs that still wait.
    fn clear(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap());
        for (_, index) in waiting {
            let Pair { key: slot, value } = &self.pairs[index];
            let mut word = slot.load(Ordering::Acquire);
            while word != 0 {
                let found = self.resolve(word);
                let resolved = if self.marks.get(granule(found)) { found } else { 0 };
                if resolved == word {
                    break;
                }
                if !self.rules.clear_by_cas {
                    store(slot, resolved, Ordering::Release);
                    break;
                }
                match slot.compare_exchange(word, resolved, Ordering::Release, Ordering::Acquire) {
                    Ok(_) => {
                        if resolved == 0 && !self.rules.clear_key_alone {
                            store(value, 0, Ordering::Release);
                        }
                        break;
                    }
                    Err(now) => word = now,
                }
            }
        }
    }

    /// `Cycle::with_load_barrier`, from the scan of the pairs to the clearing of marks.
    fn collect(&self) {
        (0..self.pairs.len()).for_each(|index| self.discover(index));
        loop {
            self.take_logs();
            if self.world.stop(StopOp::MarkEnd) {
                break;
            }
        }
        self.clear();
        // The weak slot, too; it is not what this model is about.
        if !self.marks.get(KEY) {
            let _ = self.weak.compare_exchange(good(KEY), 0, Ordering::Release, Ordering::Relaxed);
        }
        self.world.phase.resolving.store(false, Ordering::SeqCst);
        (0..self.rules.handshakes).for_each(|_| self.world.handshake());
        self.forwarding_memory.with_mut(|_| ());
        store(&self.freed, !self.marks.load(0), Ordering::Release);
        self.marks.store_words(0, 1, 0);
    }

    fn is_freed(&self, word: u64) -> bool {
        self.freed.load(Ordering::Acquire) >> granule(word) & 1 == 1
    }
}

/// Runs a mutator that enters, works and leaves, beside the collector; `work` gives what it keeps.
fn run(heap: Arc<Heap>, work: impl Fn(&Heap, &mut Mutator) -> Vec<u64> + Send + Sync + 'static) -> Arc<Heap> {
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
fn along(heap: &Heap, mutator: &mut Mutator) -> Vec<u64> {
    let key = heap.load_weak(mutator, &heap.weak, true);
    if key == 0 {
        return vec![];
    }
    mutator.safepoint();
    let middle = heap.value_of(&heap.pairs[0], key).expect("the pair of a live key vanished");
    let value = heap.value_of(&heap.pairs[1], middle).expect("the pair of a live key vanished");
    vec![key, middle, value]
}

#[test]
fn a_value_lives_as_long_as_its_key() {
    check(2, || drop(run(Heap::chain(ALL), along)));
}

#[test]
#[should_panic(expected = "was freed")]
fn a_key_that_comes_alive_late_must_be_looked_for() {
    check(2, || drop(run(Heap::chain(Rules { look: false, ..ALL }), along)));
}

/// Reads the first pair without having its key.
fn iterate(heap: &Heap, mutator: &mut Mutator) -> Vec<u64> {
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
    check(2, || drop(run(Heap::chain(Rules { log_key: false, ..ALL }), iterate)));
}

/// Reads a pair whose key is alive all the time, without having it.
fn see(heap: &Heap, mutator: &mut Mutator) -> Vec<u64> {
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

/// Keys are healed when the marker comes to them, so no pair needs the old forwarding after mark end; the marks it does.
#[test]
#[should_panic(expected = "the pair of a live key vanished")]
fn without_a_handshake_a_load_in_flight_tests_a_cleared_mark() {
    check(3, || drop(run(of_live_key(Rules { handshakes: 0, ..ALL }), see)));
}

/// Takes the value of a pair whose key is alive, and removes the pair.
fn remove(heap: &Heap, mutator: &mut Mutator) -> Vec<u64> {
    let value = heap.value_of(&heap.pairs[0], good(YOUNG_KEY)).unwrap();
    heap.set(mutator, &heap.pairs[0], None);
    mutator.safepoint();
    vec![value]
}

fn of_live_key(rules: Rules) -> Arc<Heap> {
    Heap::new(rules, [Pair::new(good(YOUNG_KEY), good(VALUE)), Pair::new(0, good(UNDEFINED))])
}

#[test]
fn a_value_that_was_removed_is_not_freed() {
    check(3, || drop(run(of_live_key(ALL), remove)));
}

#[test]
#[should_panic(expected = "was freed")]
fn who_removes_a_pair_must_log_its_value() {
    check(3, || drop(run(of_live_key(Rules { log: false, ..ALL }), remove)));
}

/// Fills an empty pair, and replaces one whose key is dying; both must stand afterwards.
fn fill(rules: Rules) {
    let heap = Heap::new(rules, [Pair::new(good(KEY), good(YOUNG_VALUE)), Pair::new(0, good(UNDEFINED))]);
    let heap = run(heap, |heap, mutator| {
        heap.set(mutator, &heap.pairs[1], Some((good(YOUNG_KEY), good(YOUNG_VALUE))));
        mutator.safepoint();
        heap.set(mutator, &heap.pairs[0], Some((good(YOUNG_KEY), good(YOUNG_VALUE))));
        vec![]
    });
    for pair in &heap.pairs {
        assert_eq!(pair.key.load(Ordering::Acquire), good(YOUNG_KEY), "a new pair was cleared");
        assert_eq!(pair.value.load(Ordering::Acquire), good(YOUNG_VALUE), "a new pair lost its value");
    }
}

#[test]
fn a_new_pair_stands() {
    check(2, || fill(ALL));
}

#[test]
#[should_panic(expected = "value of an empty pair")]
fn a_key_before_its_value_shows_the_marker_an_undefined_value() {
    check(2, || fill(Rules { value_first: false, ..ALL }));
}

#[test]
#[should_panic(expected = "a new pair was cleared")]
fn a_dead_pair_must_be_cleared_by_compare_and_swap() {
    check(3, || fill(Rules { clear_by_cas: false, ..ALL }));
}

#[test]
#[should_panic(expected = "a new pair lost its value")]
fn clearing_the_value_as_well_takes_that_of_a_new_pair() {
    check(3, || fill(Rules { clear_key_alone: false, ..ALL }));
}

/// Two markers: one comes to the pair, the other marks its key.
fn two_markers(rules: Rules) {
    let heap = Heap::new(rules, [Pair::new(good(MIDDLE), good(VALUE)), Pair::new(0, good(UNDEFINED))]);
    let other = {
        let heap = Arc::clone(&heap);
        thread::spawn(move || heap.mark(MIDDLE))
    };
    // `PendingEphemerons::wait_for`.
    if rules.look_under_lock {
        let mut waiting = heap.waiting.lock().unwrap();
        if heap.marks.get(MIDDLE) {
            drop(waiting);
            heap.visit_value(0);
        } else {
            waiting.push((MIDDLE, 0));
        }
    } else {
        heap.discover(0);
    }
    other.join().unwrap();
    assert!(heap.marks.get(VALUE), "the value of a marked key is not marked");
}

#[test]
fn a_pair_is_found_by_one_of_two_markers() {
    check(3, || two_markers(ALL));
}

#[test]
#[should_panic(expected = "the value of a marked key is not marked")]
fn looking_at_the_mark_before_the_lock_loses_a_pair() {
    check(3, || two_markers(Rules { look_under_lock: false, ..ALL }));
}
