//! A heap of stops and handshakes alone: what `gc-heap` gives to the functions of `pause.rs`,
//! without what does not touch the protocol (times, counters, TLABs, spinning).

use super::Futex;
use gc_core::pause::{self, Reached, Runs, Safepoints};
use gc_core::stop::{Handshake, Held, MutatorState, StopGate};
use gc_core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use gc_core::word::Word;
use loom::cell::UnsafeCell;
use loom::sync::{Mutex, MutexGuard};
use loom::thread;
use std::cell::RefCell;
use std::sync::Arc;

/// The rules that a model can leave out beside those of the functions.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// A thread attaches under the lock that a stop holds.
    pub(crate) attach_under_lock: bool,
    /// A thread hands its log over before it arrives, answers or parks.
    pub(crate) publish: bool,
    /// Mark end fails while a log holds anything.
    pub(crate) mark_end_looks: bool,
}

impl Rules {
    pub(crate) const ALL: Rules = Rules { attach_under_lock: true, publish: true, mark_end_looks: true };
}

/// `VmOperation`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum VmOperation {
    MarkStart,
    MarkEnd,
    Work,
}

/// `MutatorRecord`: what the collector sees of a mutator.
pub(crate) struct Record {
    pub(crate) state: MutatorState,
    pub(crate) end: AtomicU64,
}

/// An allocation limit that does not ask for a safepoint.
const LIMIT: u64 = 1;

impl Record {
    fn new() -> Arc<Record> {
        Arc::new(Record { state: MutatorState::new(), end: AtomicU64::new(LIMIT) })
    }

    fn request_safepoint(&self) {
        self.end.store(0, Ordering::SeqCst);
    }
}

/// `PhaseWords`.
pub(crate) struct PhaseWords {
    pub(crate) logging: AtomicBool,
    pub(crate) resolving: AtomicBool,
    pub(crate) epoch: AtomicU32,
}

/// `HeapInner`.
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) gate: StopGate,
    pub(crate) handshake: Handshake,
    attaching: Mutex<()>,
    mutators: Mutex<Vec<Arc<Record>>>,
    pub(crate) phase: PhaseWords,
    /// Words that mutators overwrote while marking ran.
    pub(crate) log: Mutex<Vec<Word>>,
    op: AtomicU8,
    done: AtomicBool,
    gate_futex: Futex,
    holds_futex: Futex,
    handshake_futex: Futex,
    /// Stands for the heap: mutators read it while they run, a stop writes it. loom panics where
    /// the two are not ordered.
    heap: UnsafeCell<u32>,
}

// SAFETY: `heap` is the only field that is not `Sync`; that mutators and stops never meet there is
// what loom checks.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

impl World {
    pub(crate) fn new(rules: Rules) -> Arc<World> {
        let phase =
            PhaseWords { logging: AtomicBool::new(false), resolving: AtomicBool::new(false), epoch: AtomicU32::new(1) };
        Arc::new(World {
            rules,
            gate: StopGate::new(),
            handshake: Handshake::new(),
            attaching: Mutex::new(()),
            mutators: Mutex::new(Vec::new()),
            phase,
            log: Mutex::new(Vec::new()),
            op: AtomicU8::new(0),
            done: AtomicBool::new(false),
            gate_futex: Futex::default(),
            holds_futex: Futex::default(),
            handshake_futex: Futex::default(),
            heap: UnsafeCell::new(0),
        })
    }

    /// `HeapThread::attach`: a parked mutator.
    pub(crate) fn attach(world: &Arc<World>) -> Mutator {
        let record = Record::new();
        let attaching = world.rules.attach_under_lock.then(|| world.attaching.lock().unwrap());
        world.mutators.lock().unwrap().push(Arc::clone(&record));
        drop(attaching);
        Mutator {
            world: Arc::clone(world),
            record,
            logging: false,
            resolving: false,
            epoch: 0,
            log: RefCell::default(),
        }
    }

    /// `HeapInner::apply`.
    fn apply(&self, op: VmOperation) -> bool {
        // SAFETY: all mutators are stopped; loom checks it.
        self.heap.with_mut(|heap| unsafe { *heap += 1 });
        match op {
            VmOperation::MarkStart => {
                self.phase.epoch.fetch_add(1, Ordering::SeqCst);
                self.phase.logging.store(true, Ordering::SeqCst);
            }
            VmOperation::MarkEnd => {
                if self.rules.mark_end_looks && !self.log.lock().unwrap().is_empty() {
                    return false;
                }
                self.phase.logging.store(false, Ordering::SeqCst);
                self.phase.resolving.store(true, Ordering::SeqCst);
            }
            VmOperation::Work => {}
        }
        true
    }

    /// Stops run so far. For a thread that may read the heap.
    pub(crate) fn stops(&self) -> u32 {
        // SAFETY: the caller is a running mutator, or alone; loom checks it.
        self.heap.with(|heap| unsafe { *heap })
    }

    fn op(&self) -> VmOperation {
        match self.op.load(Ordering::Relaxed) {
            0 => VmOperation::MarkStart,
            1 => VmOperation::MarkEnd,
            _ => VmOperation::Work,
        }
    }

    /// All have arrived.
    fn execute_pause(&self) {
        let op = self.op();
        if self.gate.all_arrived(op == VmOperation::Work, |_| self.holds_futex.wake()) == Runs::This {
            self.run(op);
        }
    }

    fn run(&self, op: VmOperation) {
        self.done.store(self.apply(op), Ordering::Relaxed);
        self.end();
    }

    fn end(&self) {
        self.gate.end(|| (), |_| self.gate_futex.wake());
    }

    fn wait_for_stop(&self, held: Held) {
        self.gate.wait_until_over(held, |word, value| self.gate_futex.wait(word, value), || ());
    }

    /// A signal: the threads that sleep until a stop is over wake, though it is not.
    pub(crate) fn signal(&self) {
        self.gate_futex.wake();
    }

    fn lock_out(&self) -> (MutexGuard<'_, ()>, Vec<Arc<Record>>) {
        let attaching = self.attaching.lock().unwrap();
        let mutators = self.mutators.lock().unwrap().clone();
        (attaching, mutators)
    }

    /// Stops all for an operation.
    pub(crate) fn stop(&self, op: VmOperation) -> bool {
        self.stop_or_flip(op, None::<fn(&dyn Fn() -> bool)>)
    }

    /// As a flip: the collector runs it, if all have arrived before it stops spinning.
    pub(crate) fn flip(&self, op: VmOperation) -> bool {
        let twice_at_most = |handed: &dyn Fn() -> bool| {
            for _ in 0..2 {
                if handed() {
                    break;
                }
                thread::yield_now();
            }
        };
        self.stop_or_flip(op, Some(twice_at_most))
    }

    fn stop_or_flip(&self, op: VmOperation, spin: Option<impl FnOnce(&dyn Fn() -> bool)>) -> bool {
        let (_attaching, mutators) = self.lock_out();
        self.op.store(op as u8, Ordering::Relaxed);
        let states = mutators.iter().map(|record| &record.state);
        let run = |reached| match reached {
            Reached::AllParked => self.execute_pause(),
            Reached::HandedOver => self.run(op),
        };
        let wait = |held| {
            while !self.gate.is_over(held) {
                self.wait_for_stop(held);
            }
        };
        self.gate.stop_all(states, |index| mutators[index].request_safepoint(), spin, run, wait);
        self.done.load(Ordering::Relaxed)
    }

    /// The collector works while all are held.
    pub(crate) fn with_world_stopped(&self) {
        let (_attaching, mutators) = self.lock_out();
        self.op.store(VmOperation::Work as u8, Ordering::Relaxed);
        let states = mutators.iter().map(|record| &record.state);
        let wait = |word: &AtomicU32, value| self.holds_futex.wait(word, value);
        self.gate.hold_all(states, |index| mutators[index].request_safepoint(), wait);
        self.apply(VmOperation::Work);
        self.end();
    }

    pub(crate) fn handshake(&self) {
        let all_parked = {
            let mutators = self.mutators.lock().unwrap();
            self.handshake.ask(mutators.iter().map(|record| &record.state), |index| mutators[index].request_safepoint())
        };
        if !all_parked {
            self.handshake.wait(|pending, left| self.handshake_futex.wait(pending, left));
        }
    }
}

/// `Mutator`: one thread's side.
pub(crate) struct Mutator {
    pub(crate) world: Arc<World>,
    pub(crate) record: Arc<Record>,
    pub(crate) logging: bool,
    pub(crate) resolving: bool,
    epoch: u32,
    pub(crate) log: RefCell<Vec<Word>>,
}

impl Mutator {
    /// What a running mutator does: it reads the heap. Gives the stops it has seen.
    pub(crate) fn touch(&self) -> u32 {
        self.world.stops()
    }

    pub(crate) fn safepoint(&mut self) {
        if self.record.end.load(Ordering::Relaxed) == 0 {
            pause::run_safepoint(self);
            self.arm_allocation_limit();
        }
    }

    pub(crate) fn arm_allocation_limit(&self) {
        pause::arm_poll_word(self, LIMIT);
    }

    pub(crate) fn park(&mut self) {
        pause::park(self);
    }

    pub(crate) fn unpark(&mut self) {
        pause::unpark(self, |_| ());
        self.arm_allocation_limit();
    }

    /// `HeapThread::drop`, of a parked thread. A stop that is under way has its own list.
    pub(crate) fn detach(self) {
        self.world.mutators.lock().unwrap().retain(|record| !Arc::ptr_eq(record, &self.record));
    }
}

impl Safepoints for Mutator {
    fn state(&self) -> &MutatorState {
        &self.record.state
    }

    fn gate(&self) -> &StopGate {
        &self.world.gate
    }

    fn poll_word(&self) -> &AtomicU64 {
        &self.record.end
    }

    fn publish(&mut self, _parks: bool) {
        if self.world.rules.publish && !self.log.get_mut().is_empty() {
            self.world.log.lock().unwrap().append(self.log.get_mut());
        }
    }

    fn reload_phase(&mut self) {
        let phase = &self.world.phase;
        self.logging = phase.logging.load(Ordering::SeqCst);
        self.resolving = phase.resolving.load(Ordering::SeqCst);
        self.epoch = phase.epoch.load(Ordering::SeqCst);
    }

    fn arrives(&self, _held: Held) {}

    fn execute_pause(&self) {
        self.world.execute_pause();
    }

    fn wait_for_stop(&self, held: Held) {
        self.world.wait_for_stop(held);
    }

    fn answer_handshake(&self) {
        self.world.handshake.answer(|_| self.world.handshake_futex.wake());
    }
}
