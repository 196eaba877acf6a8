//! Pauses: prepared by the collector, run by the last mutator to arrive.
//!
//! A pause changes a few words of the heap, whatever its size; each mutator copies them when it
//! continues.

use super::late::{Awaited, Patience, Watched};
use crate::events::probes::probe;
use crate::events::{Event, Pause, PauseKind};
use crate::inner::HeapInner;
use crate::inner::pending_pause::VmOperation;
use crate::inner::record::MutatorRecord;
use gc_core::pause::{Reached, Runs};
use gc_core::stop::Held;
use gc_core::sys::{futex_wait, futex_wake};
use std::cell::{Cell, OnceCell, RefCell};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// How long the collector spins for the end of a pause or handshake before it blocks, if a
/// processor is idle. Longer than a mutator needs to its next safepoint; short, because the mutator
/// may need the processor after all.
const SPIN_NS: u64 = 10_000;

/// The same at a flip. The kernel flushes translations on every processor that ran the program
/// last, idle ones too; a sleeping processor of a virtual machine takes about 50 us to answer, a
/// spinning one 13 us; and the spinning collector then runs the flip itself.
const LOOK_ON_NS: u64 = 500_000;

/// How long a held mutator spins before it sleeps: waking a sleeper costs about 70 µs, more than
/// most pauses.
const SPINS: u32 = 2000;

impl HeapInner {
    /// Runs the prepared pause, or hands it to the spinning collector. Called by the last mutator
    /// to arrive, while all others are stopped; or by the collector, if all were parked.
    pub(crate) fn execute_pause(&self, last: Option<&MutatorRecord>) {
        let slot = &self.world.pause;
        slot.reached(self.report.events.now(), last);
        let op = slot.op();
        let wake = |word: &AtomicU32| _ = futex_wake(word, u32::MAX);
        if self.world.gate.all_arrived(op == VmOperation::Work, wake) == Runs::This {
            self.run(op);
        }
    }

    fn run(&self, op: VmOperation) {
        self.world.pause.done.store(self.apply(op), Ordering::Relaxed);
        self.finish_stop();
    }

    fn finish_stop(&self) {
        let slot = &self.world.pause;
        let end_ns = self.report.events.now();
        slot.end_ns.store(end_ns, Ordering::Relaxed);
        // Read before the pause ends: after that the next one may be prepared.
        let kind = slot.kind.load(Ordering::Relaxed);
        let start_ns = slot.start_ns.load(Ordering::Relaxed);
        let reach_ns = slot.reached_ns.load(Ordering::Relaxed).saturating_sub(start_ns);
        let last = slot.last[0].load(Ordering::Relaxed);
        let ended = || probe!(pause_end, kind, reach_ns, end_ns.saturating_sub(start_ns), last);
        self.world.gate.end(ended, |word| _ = futex_wake(word, u32::MAX));
    }

    /// Executes the operation of a pause: O(1). `false`: marking cannot end yet.
    pub(crate) fn apply(&self, op: VmOperation) -> bool {
        match op {
            VmOperation::MarkStart => self.start_marking(false),
            VmOperation::YoungMarkStart => self.start_marking(true),
            VmOperation::MarkEnd => {
                // Every mutator has published its log by arriving or parking.
                if !self.world.log.is_empty() {
                    return false;
                }
                self.world.phase.set_logging(false);
                self.world.phase.set_resolving(true);
                self.roots.wide_stacks.lock().iter().for_each(|stack| stack.lower());
            }
            VmOperation::RelocateStart => return self.relocation.start(self),
            VmOperation::Work => {}
        }
        true
    }

    fn begin_pause(&self, op: VmOperation, kind: PauseKind) {
        probe!(pause_begin, kind as u8);
        self.world.pause.op.store(op as u8, Ordering::Relaxed);
        self.world.pause.kind.store(kind as u8, Ordering::Relaxed);
        self.world.pause.start_ns.store(self.report.events.now(), Ordering::Relaxed);
    }

    fn report(&self, kind: PauseKind, watched: Option<&Watched>) {
        let start_ns = self.world.pause.start_ns.load(Ordering::Relaxed);
        let since = |ns: u64| ns.saturating_sub(start_ns);
        let pause = Pause {
            kind,
            start_ns,
            reach_ns: since(self.world.pause.reached_ns.load(Ordering::Relaxed)),
            total_ns: since(self.world.pause.end_ns.load(Ordering::Relaxed)),
            last: self.world.pause.last(),
            last_off_ns: watched.and_then(|watched| watched.last_off_ns(self)),
        };
        if let Some(last) = &pause.last {
            let off_ns = pause.last_off_ns.unwrap_or(u64::MAX);
            probe!(laggard, kind as u8, last.mutator, last.thread, pause.reach_ns, off_ns, last.name.as_ptr());
        }
        self.report.pauses.lock().add(&pause);
        self.report.events.push(Event::Pause(pause));
    }

    /// Pauses all mutators for one operation, and returns its result; on return the mutators run
    /// again.
    pub(crate) fn stop(&self, op: VmOperation, kind: PauseKind) -> bool {
        // Held until the pause is over: no thread attaches meanwhile.
        let attaching = self.world.attaching.lock();
        let mutators = self.world.mutators.lock().clone();
        // With as many mutators as processors, spinning costs one of them a time slice.
        let spins = op == VmOperation::RelocateStart
            && self.relocation.rehearses_start()
            && mutators.iter().filter(|record| record.state.is_running()).count() < processors();
        self.begin_pause(op, kind);
        let running = Cell::new(0);
        let poll = |index: usize| {
            running.set(running.get() + 1);
            mutators[index].request_safepoint();
        };
        let watched = OnceCell::new();
        let watch = || _ = watched.get_or_init(|| Watched::new(self, &mutators, self.world.gate.next()));
        let spin = spins.then_some(|handed: &dyn Fn() -> bool| {
            self.spin(SPIN_NS, handed);
            if !handed() {
                watch();
                self.spin(LOOK_ON_NS, handed);
            }
        });
        let run = |reached| match reached {
            Reached::AllParked => self.execute_pause(None),
            Reached::HandedOver => self.run(op),
        };
        let wait = |held| {
            if running.get() < processors() {
                self.spin(SPIN_NS, || self.world.gate.is_over(held));
            }
            if self.world.gate.is_over(held) {
                return;
            }
            watch();
            let patience = RefCell::new(Patience::new(self, Awaited::Stop { kind, held, mutators: &mutators }));
            let sleep = |word: &AtomicU32, value| _ = futex_wait(word, value, patience.borrow().left());
            self.world.gate.wait_until_over(held, sleep, || patience.borrow_mut().look());
        };
        self.world.gate.stop_all(mutators.iter().map(|record| &record.state), poll, spin, run, wait);
        drop(attaching);
        self.report(kind, watched.get());
        self.world.pause.done.load(Ordering::Relaxed)
    }

    /// Pauses all mutators, runs `work` on this thread, and resumes them.
    pub(crate) fn with_world_stopped<R>(&self, kind: PauseKind, work: impl FnOnce(&HeapInner) -> R) -> R {
        let attaching = self.world.attaching.lock();
        let mutators = self.world.mutators.lock().clone();
        self.begin_pause(VmOperation::Work, kind);
        let states = mutators.iter().map(|record| &record.state);
        let (mut patience, watched) = (None, OnceCell::new());
        let all_parked = self.world.gate.hold_all(
            states,
            |index| mutators[index].request_safepoint(),
            |word, value| {
                let held = self.world.gate.next();
                let awaited = Awaited::Stop { kind, held, mutators: &mutators };
                watched.get_or_init(|| Watched::new(self, &mutators, held));
                let patience = patience.get_or_insert_with(|| Patience::new(self, awaited));
                futex_wait(word, value, patience.left());
                patience.look();
            },
        );
        if all_parked {
            self.world.pause.reached(self.report.events.now(), None);
        }
        /// Resumes the mutators also when `work` panics: they find the failure at their next
        /// safepoint.
        struct Finish<'a>(&'a HeapInner);
        impl Drop for Finish<'_> {
            fn drop(&mut self) {
                self.0.finish_stop();
            }
        }
        let finish = Finish(self);
        let result = work(self);
        drop(finish);
        drop(attaching);
        self.report(kind, watched.get());
        result
    }

    /// Handshake: every mutator publishes its log and reloads its phase; waits until all have.
    pub(crate) fn handshake(&self) {
        let mut running = 0;
        let all_parked = {
            let mutators = self.world.mutators.lock();
            self.world.handshake.ask(mutators.iter().map(|record| &record.state), |index| {
                running += 1;
                mutators[index].request_safepoint();
            })
        };
        if all_parked {
            return;
        }
        let pending = self.world.handshake.pending();
        if running < processors() {
            self.spin(SPIN_NS, || pending.load(Ordering::Acquire) == 0);
        }
        let mut patience = Patience::new(self, Awaited::Handshake);
        self.world.handshake.wait(|pending, left| {
            futex_wait(pending, left, Some(Duration::from_millis(1)));
            patience.look();
        });
    }

    fn spin(&self, longest_ns: u64, done: impl Fn() -> bool) {
        let start = self.report.events.now();
        while !done() && self.report.events.now() - start < longest_ns {
            std::hint::spin_loop();
        }
    }
}

impl HeapInner {
    /// Waits until the pause that holds the caller is over: spins for a while, then sleeps.
    pub(crate) fn wait_for_stop(&self, held: Held) {
        for spin in 0..SPINS {
            if self.world.gate.is_over(held) {
                return;
            }
            if spin % 64 == 63 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        self.world.gate.wait_until_over(held, |word, value| _ = futex_wait(word, value, None), || ());
    }
}

pub(crate) fn processors() -> usize {
    static PROCESSORS: AtomicUsize = AtomicUsize::new(0);
    match PROCESSORS.load(Ordering::Relaxed) {
        0 => {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            PROCESSORS.store(processors, Ordering::Relaxed);
            processors
        }
        known => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Barrier, Heap, MIN_HEAP_BYTES, Stress};
    use std::sync::atomic::AtomicBool;

    /// Otherwise it could reload its phase while the collector is changing it, and continue with
    /// that if the hold then ends.
    #[test]
    fn the_last_to_arrive_at_a_hold_goes_on_after_it_only() {
        nobody_goes_on_in_a_hold(200, |_| std::thread::sleep(Duration::from_micros(500)));
    }

    extern "C" fn nothing(_: i32) {}

    /// As above; and it could arrive a second time.
    #[test]
    fn a_signal_wakes_nobody_before_a_hold_is_over() {
        let action = nothing as extern "C" fn(i32);
        // SAFETY: a handler that does nothing, for a signal that nothing else here uses. Without
        // SA_RESTART, which `signal` would set: it makes the kernel sleep on.
        unsafe {
            let mut new: libc::sigaction = std::mem::zeroed();
            new.sa_sigaction = action as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR2, &raw const new, std::ptr::null_mut()), 0);
        }
        nobody_goes_on_in_a_hold(50, |mutator| {
            // The mutator spins for a while, and then sleeps.
            for _ in 0..4 {
                std::thread::sleep(Duration::from_millis(1));
                // SAFETY: the thread waits for this one.
                unsafe { libc::pthread_kill(mutator, libc::SIGUSR2) };
            }
            std::thread::sleep(Duration::from_millis(1));
        });
    }

    /// A pause waits only for mutators attached when it was armed.
    #[test]
    fn nobody_attaches_in_a_hold() {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        let entered = AtomicBool::new(false);
        std::thread::scope(|scope| {
            heap.inner().with_world_stopped(PauseKind::Collection, |_| {
                scope.spawn(|| heap.enter(|_| entered.store(true, Ordering::SeqCst)).unwrap());
                for _ in 0..100 {
                    std::thread::sleep(Duration::from_micros(200));
                    assert!(!entered.load(Ordering::SeqCst), "a thread is inside the heap during a pause");
                }
            });
        });
        assert!(entered.into_inner());
    }

    fn nobody_goes_on_in_a_hold(rounds: u32, disturb: impl Fn(libc::pthread_t) + Sync) {
        let stress = Stress { cycle_every: 0, delay_one_in: 1, seed: 1 };
        let heap =
            Heap::builder().max_bytes(MIN_HEAP_BYTES).barrier(Barrier::StopTheWorld).stress(stress).build().unwrap();
        // SAFETY: it cannot fail.
        let mutator = unsafe { libc::pthread_self() };
        heap.enter(|m| {
            let inner = heap.inner();
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let holds = scope.spawn(|| {
                    let mut early = 0;
                    for _ in 0..rounds {
                        inner.with_world_stopped(PauseKind::Collection, |inner| {
                            // As mark start does. A mutator that continues records that it has seen
                            // it.
                            inner.apply(VmOperation::MarkStart);
                            disturb(mutator);
                            early += u32::from(inner.world.mutators.lock()[0].has_begun(inner.world.phase.epoch()));
                            inner.apply(VmOperation::MarkEnd);
                            inner.world.phase.set_resolving(false);
                        });
                    }
                    over.store(true, Ordering::Relaxed);
                    early
                });
                let mut stale = 0;
                while !over.load(Ordering::Relaxed) {
                    m.safepoint();
                    stale += u32::from(m.is_marking_or_resolving());
                }
                m.blocking(|| assert_eq!((holds.join().unwrap(), stale), (0, 0)));
            });
        })
        .unwrap();
    }
}
