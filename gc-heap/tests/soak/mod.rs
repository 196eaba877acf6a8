//! Several mutators on one shared graph, for as long as wanted, with invariants that hold in spite
//! of their races.
//!
//! - *Tokens*: each number exists once, at every moment in one of: a lock-free stack
//!   (compare-exchange), an array (swap), a process-wide root in a mailbox, a root stack in a
//!   mailbox, a mutator's hand. Counted in each round. A token's object is renewed now and then;
//!   the weak slot in the registry must always give the present one.
//! - *Records*: hash chains. Each mutator changes its own and has a model of them; all read all. A
//!   record's payload belongs to the record, whichever thread looks.

mod records;
mod tokens;

use crate::random::Random;
use gc_heap::{
    AllocSize, Array, Backing, Barrier, Heap, HeapStats, Mirror, Mutator, Root, RootStack, Slot, SlotArray, Stress,
};
use gc_heap::{Tagged, Trace, WeakSlot};
use records::{Owned, Record};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokens::{Cell, Token};

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) barrier: Barrier,
    pub(crate) backing: Backing,
    pub(crate) generations: bool,
    pub(crate) mirror: Mirror,
    pub(crate) workers: usize,
    pub(crate) mutators: usize,
    pub(crate) max_bytes: usize,
    pub(crate) verify: bool,
    pub(crate) single_view: bool,
    pub(crate) stress: Stress,
    pub(crate) seed: u64,
}

/// Bytes of records that all mutators keep together, out of the heap's: the rest is for garbage.
const RECORDS: (usize, usize) = (2, 5);
const TOKENS: usize = 3000;
const STACKS: usize = 8;
const SWAPS: usize = 64;

/// Steps of a mutator between two meetings.
const ROUND: usize = 2000;

#[derive(Trace)]
#[trace(tail = u8)]
pub(crate) struct Blob {
    id: u64,
}

#[derive(Trace)]
struct World {
    stacks: Slot<SlotArray<Option<Cell>>>,
    swaps: Slot<SlotArray<Option<Token>>>,
    registry: Slot<Array<WeakSlot<Token>>>,
    chains: Slot<SlotArray<Option<Record>>>,
}

fn pattern(id: u64, index: usize) -> u8 {
    (id.wrapping_mul(0x9e37_79b9) >> 8) as u8 ^ index as u8
}

fn fill(id: u64, len: usize) -> Vec<u8> {
    (0..len).map(|index| pattern(id, index)).collect()
}

fn check_blob(blob: gc_heap::Gc<'_, Blob>, id: u64) {
    assert_eq!(blob.id, id, "a payload of another object");
    let wrong = blob.tail().iter().enumerate().find(|&(index, &byte)| byte != pattern(id, index));
    assert_eq!(wrong, None, "a byte has changed");
}

/// Where mutators wait for each other, unless one has failed.
struct Meeting {
    state: Mutex<(usize, u64, bool)>,
    changed: Condvar,
    members: usize,
}

impl Meeting {
    /// Waits for all; the last to come runs `last` while the others wait.
    fn meet(&self, last: impl FnOnce()) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        if state.0 == self.members {
            last();
            state.0 = 0;
            state.1 += 1;
            self.changed.notify_all();
        } else {
            let round = state.1;
            while state.1 == round && !state.2 {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        assert!(!state.2, "another mutator has failed");
    }
}

/// A mutator that fails tells the others.
struct Failing<'a>(&'a Meeting);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state.lock().unwrap_or_else(PoisonError::into_inner).2 = true;
            self.0.changed.notify_all();
        }
    }
}

/// What mutators share outside the heap.
struct Shared {
    heap: Heap,
    world: Root<World>,
    roots: Mutex<Vec<Root<Token>>>,
    root_stacks: Mutex<Vec<RootStack<Tagged>>>,
    meeting: Meeting,
    plan: Plan,
}

/// Runs rounds until `enough` says so, which sees the heap's counters after each.
///
/// # Panics
/// If anything does not hold.
pub(crate) fn run(plan: &Plan, enough: impl Fn(&HeapStats) -> bool + Sync) -> HeapStats {
    let heap = Heap::builder()
        .barrier(plan.barrier)
        .backing(plan.backing)
        .generations(plan.generations)
        .mirror(plan.mirror)
        .workers(plan.workers)
        .max_bytes(plan.max_bytes)
        .verify(plan.verify)
        .single_view(plan.single_view)
        .uncommit_delay(Some(Duration::from_millis(20)))
        .stress(Stress { seed: plan.seed, ..plan.stress })
        .build()
        .expect("a heap");
    let world = heap.enter(make_world).expect("nobody has entered");
    let meeting = Meeting { state: Mutex::default(), changed: Condvar::new(), members: plan.mutators };
    let shared = Shared {
        heap: heap.clone(),
        world,
        roots: Mutex::default(),
        root_stacks: Mutex::default(),
        meeting,
        plan: plan.clone(),
    };
    let shared = Arc::new(shared);
    let over = Mutex::new(false);
    std::thread::scope(|scope| {
        for number in 0..plan.mutators {
            let (shared, over, enough) = (&shared, &over, &enough);
            scope.spawn(move || {
                let _failing = Failing(&shared.meeting);
                mutate(shared, number, over, enough);
            });
        }
    });
    heap.stats()
}

fn make_world(m: &mut Mutator<'_>) -> Root<World> {
    let tokens = tokens::make(m, TOKENS);
    let chains = AllocSize::tail::<SlotArray<Option<Record>>>(records::CHAINS);
    let room = AllocSize::of::<World>() + AllocSize::tail::<SlotArray<Option<Token>>>(SWAPS) + chains;
    let m = m.reserve(room + AllocSize::tail::<SlotArray<Option<Cell>>>(STACKS)).expect("room for the world");
    let (first, registry) = tokens.get(m);
    let stacks = m.place_array::<SlotArray<Option<Cell>>>((), STACKS, None);
    stacks.tail()[0].set(m, first);
    let swaps = m.place_array::<SlotArray<Option<Token>>>((), SWAPS, None);
    let chains = m.place_array::<SlotArray<Option<Record>>>((), records::CHAINS, None);
    Root::new(m, m.place(WorldInit { stacks, swaps, registry, chains }))
}

fn mutate(shared: &Shared, number: usize, over: &Mutex<bool>, enough: &(impl Fn(&HeapStats) -> bool + Sync)) {
    let mut random = Random::new(shared.plan.seed.wrapping_add(number as u64));
    let budget = shared.plan.max_bytes / RECORDS.1 * RECORDS.0 / shared.plan.mutators;
    let mut owned = Owned::new(number, shared.plan.mutators, budget);
    let mut thread = shared.heap.thread().expect("address space");
    loop {
        if random.below(4) == 0 {
            // Another place in the heap from now on.
            thread = shared.heap.thread().expect("address space");
        }
        let round = |m: &mut Mutator<'_>| {
            for _ in 0..ROUND {
                let m = &mut *m.frame();
                match random.below(100) {
                    0..30 => tokens::step(m, shared, &mut random),
                    30..70 => owned.replace(m, shared, &mut random),
                    70..95 => owned.look(m, shared, &mut random),
                    95..98 => m.safepoint(),
                    98 => m.blocking(|| std::thread::sleep(Duration::from_micros(50))),
                    _ if random.below(40) == 0 => m.collect(),
                    _ if random.below(40) == 0 => drop(shared.heap.release_memory()),
                    _ => {}
                }
            }
            owned.check(m, shared);
        };
        thread.enter(round).expect("this thread has left");
        // Tokens are counted while nobody holds one.
        shared.meeting.meet(|| shared.heap.enter(|m| tokens::count(m, shared)).expect("this thread has left"));
        shared.meeting.meet(|| *over.lock().unwrap_or_else(PoisonError::into_inner) = enough(&shared.heap.stats()));
        if *over.lock().unwrap_or_else(PoisonError::into_inner) {
            return;
        }
    }
}
