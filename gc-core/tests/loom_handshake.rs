//! Handshakes under every interleaving, against threads that park, leave, attach and detach:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! Each mutator has a cell that it writes while the phase it knows is the old one; the collector
//! reads the cells after the handshake. loom panics where the two are not ordered: somebody has not
//! answered. It panics at a deadlock: the collector is not woken.
#![cfg(loom)]

mod support;

use gc_core::rules::{Rule, without};
use gc_core::sync::atomic::Ordering;
use gc_core::word::Word;
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;
use support::check;
use support::world::{Mutator, Rules, World};

/// Words that one mutator has logged while it knew the old phase.
struct Logged(UnsafeCell<usize>);

// SAFETY: its mutator writes it before it answers, the collector reads it after; loom checks it.
unsafe impl Sync for Logged {}
// SAFETY: as above.
unsafe impl Send for Logged {}

impl Logged {
    fn new() -> Arc<Logged> {
        Arc::new(Logged(UnsafeCell::new(0)))
    }

    fn read(&self) -> usize {
        // SAFETY: after the handshake; loom checks it.
        self.0.with(|count| unsafe { *count })
    }
}

/// What a running mutator does: it logs, as long as the phase it knows is the old one.
fn work(mutator: &mut Mutator, logged: &Logged) {
    if mutator.resolving {
        // SAFETY: the collector has not been answered; loom checks it.
        logged.0.with_mut(|count| unsafe { *count += 1 });
        mutator.log.get_mut().push(Word::new(1));
    }
}

/// The old phase is `resolving`.
fn old_phase(rules: Rules) -> Arc<World> {
    let world = World::new(rules);
    world.phase.resolving.store(true, Ordering::SeqCst);
    world
}

/// The collector ends the old phase, and sees afterwards all that was done in it.
fn end_old_phase(world: &World, logged: &[Arc<Logged>]) {
    world.phase.resolving.store(false, Ordering::SeqCst);
    world.handshake();
    let count: usize = logged.iter().map(|logged| logged.read()).sum();
    assert_eq!(world.log.lock().unwrap().len(), count, "a log was not handed over");
}

/// A thread that enters, works around a safepoint, and leaves the heap, `times` times.
fn spawn_worker(mut mutator: Mutator, logged: &Arc<Logged>, times: usize) -> thread::JoinHandle<Mutator> {
    let logged = Arc::clone(logged);
    thread::spawn(move || {
        for _ in 0..times {
            mutator.unpark();
            work(&mut mutator, &logged);
            mutator.safepoint();
            work(&mut mutator, &logged);
            mutator.park();
        }
        mutator
    })
}

fn pending(world: &World) -> u32 {
    world.handshake.pending().load(Ordering::Acquire)
}

/// A handshake against so many threads.
fn handshake<const MUTATORS: usize>(rules: Rules, times: usize) {
    let world = old_phase(rules);
    let logged = [(); MUTATORS].map(|()| Logged::new());
    let workers = [0; MUTATORS].map(|_| World::attach(&world));
    let mut index = 0;
    let workers = workers.map(|mutator| {
        index += 1;
        spawn_worker(mutator, &logged[index - 1], times)
    });
    end_old_phase(&world, &logged);
    for worker in workers {
        let mutator = worker.join().unwrap();
        assert!(!mutator.record.state.handshake_waits(), "a flag was left behind");
    }
    assert_eq!(pending(&world), 0, "each mutator is counted once");
}

#[test]
fn each_mutator_answers_once_or_is_parked() {
    check(2, || handshake::<2>(Rules::ALL, 1));
}

#[test]
fn a_thread_that_parks_and_leaves_again_knows_the_new_phase() {
    check(3, || handshake::<1>(Rules::ALL, 2));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn who_reads_the_phase_before_leaving_works_on_in_the_old_one() {
    without(Rule::RefreshAfterLeaving, || check(3, || handshake::<1>(Rules::ALL, 1)));
}

#[test]
#[should_panic(expected = "deadlock")]
fn who_parks_without_answering_is_waited_for_in_vain() {
    without(Rule::AnswerWhenParking, || check(3, || handshake::<1>(Rules::ALL, 1)));
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_collector_sleeps_on_if_the_last_to_answer_does_not_wake_it() {
    without(Rule::WakeAfterAnswer, || check(3, || handshake::<1>(Rules::ALL, 1)));
}

#[test]
#[should_panic(expected = "a log was not handed over")]
fn who_does_not_hand_its_log_over_loses_it() {
    check(3, || handshake::<1>(Rules { publish: false, ..Rules::ALL }, 1));
}

#[test]
fn two_handshakes_in_a_row_do_not_mix() {
    check(2, || {
        let world = old_phase(Rules::ALL);
        let logged = Logged::new();
        let worker = spawn_worker(World::attach(&world), &logged, 1);
        end_old_phase(&world, &[logged]);
        world.handshake();
        worker.join().unwrap();
        assert_eq!(pending(&world), 0, "each mutator is counted once a handshake");
    });
}

#[test]
fn who_attaches_meanwhile_knows_the_new_phase_or_is_asked() {
    check(2, || {
        let world = old_phase(Rules::ALL);
        let logged = Logged::new();
        let newcomer = {
            let (world, logged) = (Arc::clone(&world), Arc::clone(&logged));
            thread::spawn(move || {
                let mut mutator = World::attach(&world);
                mutator.unpark();
                work(&mut mutator, &logged);
                mutator.safepoint();
                mutator.park();
                mutator.detach();
            })
        };
        end_old_phase(&world, &[logged]);
        newcomer.join().unwrap();
        assert_eq!(pending(&world), 0, "each mutator is counted once");
    });
}
