//! Stops and handshakes as `gc-heap` runs them, on the gate and the state words of `gc-core`. Each function here carries
//! the name of the one it transcribes, without what does not touch the protocol (times, counters, TLABs, spinning).

use super::Futex;
use gc_core::stop::{Handshake, Held, MutatorState, StopGate};
use gc_core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use loom::cell::UnsafeCell;
use loom::sync::{Mutex, MutexGuard};
use loom::thread;
use std::cell::RefCell;
use std::sync::Arc;

/// The rules that a model can leave out, to show that it finds what they prevent.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// A thread that parks while a stop holds it counts as arrived there.
    pub(crate) arrive_when_parking: bool,
    /// A thread that parks answers a handshake that was asked meanwhile.
    pub(crate) answer_when_parking: bool,
    /// A thread that leaves the parked state reads the phase after its compare-and-swap.
    pub(crate) refresh_after_leaving: bool,
    /// A thread attaches under the lock that a stop holds.
    pub(crate) attach_under_lock: bool,
    /// Whoever arrives last waits for the end of the stop too, if the collector works in it.
    pub(crate) last_waits: bool,
    /// The allocation limit is set first, and then it is looked for what the collector wants.
    pub(crate) arm_then_look: bool,
    /// A woken thread checks whether the pause is over, and sleeps again if not: a signal wakes
    /// too.
    pub(crate) look_when_woken: bool,
    /// Who sleeps until a stop is over is counted before.
    pub(crate) count_sleepers: bool,
    /// A full fence stands between ending a stop and looking for sleepers.
    pub(crate) fence_then_look: bool,
    /// The last to answer a handshake wakes the collector.
    pub(crate) wake_after_answer: bool,
    /// The collector gives up looking on by a compare-and-swap.
    pub(crate) withdraw_by_cas: bool,
    /// A thread hands its log over before it arrives, answers or parks.
    pub(crate) publish: bool,
    /// Mark end fails while a log holds anything.
    pub(crate) mark_end_looks: bool,
}

impl Rules {
    pub(crate) const ALL: Rules = Rules {
        arrive_when_parking: true,
        answer_when_parking: true,
        refresh_after_leaving: true,
        attach_under_lock: true,
        last_waits: true,
        arm_then_look: true,
        look_when_woken: true,
        count_sleepers: true,
        fence_then_look: true,
        wake_after_answer: true,
        withdraw_by_cas: true,
        publish: true,
        mark_end_looks: true,
    };
}

/// `StopOp`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopOp {
    MarkStart,
    MarkEnd,
    Hold,
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

    fn poll(&self) {
        self.end.store(0, Ordering::SeqCst);
    }
}

/// `duty`.
const LAST: u8 = 0;
const LOOKS: u8 = 1;
const HANDED: u8 = 2;

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
    pub(crate) log: Mutex<Vec<u64>>,
    op: AtomicU8,
    done: AtomicBool,
    duty: AtomicU8,
    holds: AtomicU32,
    sleepers: AtomicU32,
    gate_futex: Futex,
    holds_futex: Futex,
    handshake_futex: Futex,
    /// Stands for the heap: mutators read it while they run, a stop writes it. loom panics where the two are not ordered.
    heap: UnsafeCell<u32>,
}

// SAFETY: `heap` is the only field that is not `Sync`; that mutators and stops never meet there is what loom checks.
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
            duty: AtomicU8::new(LAST),
            holds: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
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
    fn apply(&self, op: StopOp) -> bool {
        // SAFETY: all mutators are stopped; loom checks it.
        self.heap.with_mut(|heap| unsafe { *heap += 1 });
        match op {
            StopOp::MarkStart => {
                self.phase.epoch.fetch_add(1, Ordering::SeqCst);
                self.phase.logging.store(true, Ordering::SeqCst);
            }
            StopOp::MarkEnd => {
                if self.rules.mark_end_looks && !self.log.lock().unwrap().is_empty() {
                    return false;
                }
                self.phase.logging.store(false, Ordering::SeqCst);
                self.phase.resolving.store(true, Ordering::SeqCst);
            }
            StopOp::Hold => {}
        }
        true
    }

    /// Stops run so far. For a thread that may read the heap.
    pub(crate) fn stops(&self) -> u32 {
        // SAFETY: the caller is a running mutator, or alone; loom checks it.
        self.heap.with(|heap| unsafe { *heap })
    }

    /// `HeapInner::execute_pause`.
    fn run_stop(&self) {
        if self.duty.compare_exchange(LOOKS, HANDED, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return;
        }
        match self.op.load(Ordering::Relaxed) {
            0 => self.done.store(self.apply(StopOp::MarkStart), Ordering::Relaxed),
            1 => self.done.store(self.apply(StopOp::MarkEnd), Ordering::Relaxed),
            _ => {
                self.holds.fetch_add(1, Ordering::SeqCst);
                self.holds_futex.wake();
                return;
            }
        }
        self.finish_stop();
    }

    /// `HeapInner::finish_stop`.
    fn finish_stop(&self) {
        self.gate.finish();
        if self.rules.fence_then_look {
            fence(Ordering::SeqCst);
        }
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            self.gate.wake(|_, _| {
                self.gate_futex.wake();
                0
            });
        }
    }

    /// `HeapInner::wait_for_stop` and `PendingPause::sleep`, without the time of looking on.
    fn wait_for_stop(&self, held: Held) {
        while !self.gate.is_over(held) {
            let (word, unfinished) = self.gate.word(held);
            let counted = u32::from(self.rules.count_sleepers);
            self.sleepers.fetch_add(counted, Ordering::SeqCst);
            if !self.gate.is_over(held) {
                self.gate_futex.wait(word, unfinished);
            }
            self.sleepers.fetch_sub(counted, Ordering::SeqCst);
            if !self.rules.look_when_woken {
                return;
            }
        }
    }

    /// A signal: whoever sleeps until a stop is over wakes, though it is not.
    pub(crate) fn signal(&self) {
        self.gate_futex.wake();
    }

    /// `HeapInner::arm`.
    fn arm(&self, mutators: &[Arc<Record>], op: StopOp) -> bool {
        self.op.store(op as u8, Ordering::Relaxed);
        self.gate.arm(mutators.iter().map(|record| &record.state), |index| mutators[index].poll())
    }

    fn lock_out(&self) -> (MutexGuard<'_, ()>, Vec<Arc<Record>>) {
        let attaching = self.attaching.lock().unwrap();
        let mutators = self.mutators.lock().unwrap().clone();
        (attaching, mutators)
    }

    /// `HeapInner::stop`.
    pub(crate) fn stop(&self, op: StopOp) -> bool {
        let (_attaching, mutators) = self.lock_out();
        let held = self.gate.next();
        if self.arm(&mutators, op) {
            self.run_stop();
        } else {
            while !self.gate.is_over(held) {
                self.wait_for_stop(held);
            }
        }
        self.done.load(Ordering::Relaxed)
    }

    /// `HeapInner::stop` for a flip: the collector runs it, if all have arrived before it stops looking.
    pub(crate) fn flip(&self, op: StopOp) -> bool {
        let (_attaching, mutators) = self.lock_out();
        let held = self.gate.next();
        self.duty.store(LOOKS, Ordering::Relaxed);
        if self.arm(&mutators, op) {
            self.duty.store(LAST, Ordering::Relaxed);
            self.run_stop();
        } else if self.look_on() {
            self.duty.store(LAST, Ordering::Relaxed);
            self.done.store(self.apply(op), Ordering::Relaxed);
            self.finish_stop();
        } else {
            while !self.gate.is_over(held) {
                self.wait_for_stop(held);
            }
        }
        self.done.load(Ordering::Relaxed)
    }

    /// `HeapInner::spin_for_last`, twice at most.
    fn look_on(&self) -> bool {
        for _ in 0..2 {
            if self.duty.load(Ordering::Acquire) == HANDED {
                break;
            }
            thread::yield_now();
        }
        if self.rules.withdraw_by_cas {
            self.duty.compare_exchange(LOOKS, LAST, Ordering::AcqRel, Ordering::Acquire).is_err()
        } else {
            let handed = self.duty.load(Ordering::Acquire) == HANDED;
            self.duty.swap(LAST, Ordering::AcqRel);
            handed
        }
    }

    /// `HeapInner::hold`: the collector works while everybody is held.
    pub(crate) fn hold(&self) {
        let (_attaching, mutators) = self.lock_out();
        let before = self.holds.load(Ordering::SeqCst);
        if !self.arm(&mutators, StopOp::Hold) {
            while self.holds.load(Ordering::SeqCst) == before {
                self.holds_futex.wait(&self.holds, before);
            }
        }
        self.apply(StopOp::Hold);
        self.finish_stop();
    }

    /// `HeapInner::handshake`.
    pub(crate) fn handshake(&self) {
        let all_parked = {
            let mutators = self.mutators.lock().unwrap();
            self.handshake.ask(mutators.iter().map(|record| &record.state), |index| mutators[index].poll())
        };
        if all_parked {
            return;
        }
        loop {
            let left = self.handshake.pending().load(Ordering::Acquire);
            if left == 0 {
                return;
            }
            self.handshake_futex.wait(self.handshake.pending(), left);
        }
    }

    /// `HeapInner::handshake_done`.
    fn handshake_done(&self) {
        if self.handshake.done() && self.rules.wake_after_answer {
            self.handshake_futex.wake();
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
    pub(crate) log: RefCell<Vec<u64>>,
}

impl Mutator {
    /// What a running mutator does: it reads the heap. Gives the stops it has seen.
    pub(crate) fn touch(&self) -> u32 {
        self.world.stops()
    }

    /// `Mutator::safepoint` and `safepoint_slow`.
    pub(crate) fn safepoint(&mut self) {
        if self.record.end.load(Ordering::Relaxed) == 0 {
            self.poll();
            self.arm();
        }
    }

    /// `Mutator::poll`.
    fn poll(&mut self) {
        loop {
            if self.record.state.take_handshake() {
                self.publish();
                self.refresh();
                self.world.handshake_done();
            } else if let Some(held) = self.record.state.held(&self.world.gate) {
                self.publish();
                if self.world.gate.arrive() {
                    self.world.run_stop();
                    if self.world.rules.last_waits {
                        self.world.wait_for_stop(held);
                    }
                } else {
                    self.world.wait_for_stop(held);
                }
                self.refresh();
            } else {
                break;
            }
        }
    }

    fn wanted(&self) -> bool {
        self.record.state.held(&self.world.gate).is_some() || self.record.state.handshake_waits()
    }

    /// `Mutator::arm`.
    pub(crate) fn arm(&self) {
        if self.world.rules.arm_then_look {
            self.record.end.store(LIMIT, Ordering::SeqCst);
            if self.wanted() {
                self.record.end.store(0, Ordering::SeqCst);
            }
        } else {
            let wanted = self.wanted();
            self.record.end.store(if wanted { 0 } else { LIMIT }, Ordering::SeqCst);
        }
    }

    /// `Mutator::publish` and `flush_log`.
    fn publish(&mut self) {
        if self.world.rules.publish && !self.log.get_mut().is_empty() {
            self.world.log.lock().unwrap().append(self.log.get_mut());
        }
    }

    /// `Mutator::refresh`.
    fn refresh(&mut self) {
        let phase = &self.world.phase;
        self.logging = phase.logging.load(Ordering::SeqCst);
        self.resolving = phase.resolving.load(Ordering::SeqCst);
        self.epoch = phase.epoch.load(Ordering::SeqCst);
    }

    /// `Mutator::park`.
    pub(crate) fn park(&mut self) {
        self.publish();
        let world = &self.world;
        let held = self.record.state.park(&world.gate).is_some();
        if held && world.rules.arrive_when_parking && world.gate.arrive() {
            world.run_stop();
        }
        if world.rules.answer_when_parking && self.record.state.take_handshake_parked() {
            world.handshake_done();
        }
    }

    /// `Mutator::unpark`.
    pub(crate) fn unpark(&mut self) {
        if !self.world.rules.refresh_after_leaving {
            self.refresh();
        }
        while let Err(held) = self.record.state.leave(&self.world.gate) {
            self.world.wait_for_stop(held);
        }
        if self.world.rules.refresh_after_leaving {
            self.refresh();
        }
        self.arm();
    }

    /// `HeapThread::drop`, of a parked thread. A stop that is under way has its own list.
    pub(crate) fn detach(self) {
        self.world.mutators.lock().unwrap().retain(|record| !Arc::ptr_eq(record, &self.record));
    }
}
