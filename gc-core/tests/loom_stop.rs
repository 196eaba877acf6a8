//! Stops under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! A mutator reads a cell while it runs, a stop writes it: loom panics where the two are not
//! ordered, which is what "nobody runs during a stop" means. It panics at a deadlock, which is what
//! "nobody is lost" means.
#![cfg(loom)]

mod support;

use gc_core::rules::{Rule, without};
use gc_core::sync::atomic::Ordering;
use loom::thread;
use std::sync::Arc;
use support::check;
use support::world::{Mutator, Rules, VmOperation, World};

/// A thread that enters the heap, runs over a safepoint, and leaves the heap. A stop that it has
/// seen, it sees later too.
fn enter(mutator: &mut Mutator) {
    mutator.unpark();
    let seen = mutator.touch();
    mutator.safepoint();
    assert!(mutator.touch() >= seen);
    mutator.park();
}

fn spawn_entering(mut mutator: Mutator) -> thread::JoinHandle<Mutator> {
    thread::spawn(move || {
        enter(&mut mutator);
        mutator
    })
}

/// One stop against two threads that enter, run and park.
fn one_stop(rules: Rules) {
    let world = World::new(rules);
    let others = [World::attach(&world), World::attach(&world)].map(spawn_entering);
    assert!(world.stop(VmOperation::MarkStart));
    for other in others {
        other.join().unwrap();
    }
    assert_eq!(world.stops(), 1);
}

#[test]
fn nobody_runs_during_a_stop_and_nobody_is_lost() {
    check(2, || one_stop(Rules::ALL));
}

#[test]
#[should_panic(expected = "deadlock")]
fn who_parks_without_arriving_is_waited_for_in_vain() {
    without(Rule::ArriveWhenParking, || check(2, || one_stop(Rules::ALL)));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_sleeper_that_is_not_counted_is_not_woken() {
    without(Rule::CountSleepers, || check(2, || one_stop(Rules::ALL)));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_sleeper_is_overlooked_without_the_fence() {
    without(Rule::FenceThenLook, || check(2, || one_stop(Rules::ALL)));
}

/// Two stops in a row against one thread that parks and leaves again: the hold of the first is void
/// in the second.
#[test]
fn a_hold_is_void_after_its_stop() {
    check(2, || {
        let world = World::new(Rules::ALL);
        let mut mutator = World::attach(&world);
        let other = thread::spawn(move || {
            enter(&mut mutator);
            enter(&mut mutator);
            mutator
        });
        for _ in 0..2 {
            assert!(world.stop(VmOperation::MarkStart));
        }
        other.join().unwrap();
        assert_eq!(world.stops(), 2);
    });
}

#[test]
fn a_parked_thread_sees_what_stops_have_changed_when_it_leaves() {
    check(3, || {
        let world = World::new(Rules::ALL);
        let mut mutator = World::attach(&world);
        let stopper = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.stop(VmOperation::MarkStart))
        };
        mutator.unpark();
        // The phase and the heap are of one side of the stop.
        assert_eq!(u32::from(mutator.logging), mutator.touch());
        mutator.park();
        assert!(stopper.join().unwrap());
    });
}

/// A stop against a thread that attaches and one that detaches.
fn attach_and_detach(rules: Rules) {
    let world = World::new(rules);
    let old = World::attach(&world);
    let newcomer = {
        let world = Arc::clone(&world);
        thread::spawn(move || {
            let mut mutator = World::attach(&world);
            enter(&mut mutator);
            mutator.detach();
        })
    };
    let leaver = thread::spawn(move || {
        let mut old = old;
        enter(&mut old);
        old.detach();
    });
    assert!(world.stop(VmOperation::MarkStart));
    newcomer.join().unwrap();
    leaver.join().unwrap();
    assert_eq!(world.stops(), 1);
}

#[test]
fn threads_attach_and_detach_before_a_stop_or_after_it() {
    check(2, || attach_and_detach(Rules::ALL));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn who_attaches_past_the_lock_runs_into_the_stop() {
    check(2, || attach_and_detach(Rules { attach_under_lock: false, ..Rules::ALL }));
}

/// A thread re-arms its allocation limit while the collector arms a stop: either it sees the hold,
/// or its limit is zero afterwards, and so it comes to a safepoint.
fn re_arming(rules: Rules) {
    let world = World::new(rules);
    let mut mutator = World::attach(&world);
    mutator.unpark();
    let stopper = {
        let world = Arc::clone(&world);
        thread::spawn(move || world.stop(VmOperation::MarkStart))
    };
    mutator.arm_allocation_limit();
    // A loop that allocates: it runs into the limit sooner or later, if that is zero.
    while mutator.touch() == 0 {
        if mutator.record.end.fetch_or(0, Ordering::Relaxed) == 0 {
            mutator.safepoint();
        }
        thread::yield_now();
    }
    stopper.join().unwrap();
    mutator.park();
}

#[test]
fn no_poll_is_lost() {
    check(3, || re_arming(Rules::ALL));
}

#[test]
#[should_panic(expected = "exceeded maximum number of branches")]
fn a_poll_is_lost_on_who_looks_before_arming() {
    without(Rule::ArmThenLook, || check(3, || re_arming(Rules::ALL)));
}

/// The collector works in a pause itself, and a second pause follows at once.
fn hold_then_stop(rules: Rules) {
    let world = World::new(rules);
    let others = [World::attach(&world), World::attach(&world)].map(|mut mutator| {
        mutator.unpark();
        spawn_running(mutator)
    });
    world.with_world_stopped();
    assert!(world.stop(VmOperation::MarkStart));
    for other in others {
        other.join().unwrap();
    }
    assert_eq!(world.stops(), 2);
}

/// A running thread that meets a safepoint or two, and leaves the heap.
fn spawn_running(mut mutator: Mutator) -> thread::JoinHandle<Mutator> {
    thread::spawn(move || {
        mutator.touch();
        mutator.safepoint();
        mutator.touch();
        mutator.park();
        mutator
    })
}

#[test]
fn the_collector_works_in_a_hold_while_everybody_is_held() {
    check(2, || hold_then_stop(Rules::ALL));
}

/// It arrives a second time, for the hold that is not over yet; if the collector has begun the next
/// stop meanwhile, that one takes the arrival for another thread's, or for its own guard.
#[test]
#[should_panic(expected = "deadlock")]
fn the_last_to_arrive_at_a_hold_arrives_at_the_next_stop_too_if_it_does_not_wait() {
    without(Rule::LastWaits, || check(2, || hold_then_stop(Rules::ALL)));
}

/// A pause that the collector runs if it is still spinning when all have arrived.
fn handed_over(rules: Rules) {
    let world = World::new(rules);
    let others = [World::attach(&world), World::attach(&world)].map(|mut mutator| {
        mutator.unpark();
        spawn_running(mutator)
    });
    assert!(world.flip(VmOperation::MarkStart));
    for other in others {
        other.join().unwrap();
    }
    assert_eq!(world.stops(), 1);
}

#[test]
fn a_stop_is_run_by_the_collector_or_by_the_last_to_arrive() {
    check(2, || handed_over(Rules::ALL));
}

#[test]
#[should_panic(expected = "deadlock")]
fn nobody_runs_a_stop_that_the_collector_withdraws_from_without_a_compare_and_swap() {
    without(Rule::WithdrawByCas, || check(2, || handed_over(Rules::ALL)));
}

/// A signal wakes a thread that sleeps in a pause while another thread has not arrived yet. A late
/// wake-up from the previous pause does the same: the thread that ends a pause wakes the sleepers
/// afterwards, and a thread that spun instead of sleeping may sleep in the next pause by then.
fn signal_in_a_stop(rules: Rules) {
    let world = World::new(rules);
    let others = [World::attach(&world), World::attach(&world)].map(|mut mutator| {
        mutator.unpark();
        spawn_running(mutator)
    });
    let signals = {
        let world = Arc::clone(&world);
        thread::spawn(move || world.signal())
    };
    assert!(world.stop(VmOperation::MarkStart));
    signals.join().unwrap();
    for other in others {
        other.join().unwrap();
    }
    assert_eq!(world.stops(), 1);
}

#[test]
fn a_signal_does_not_make_a_thread_arrive_twice() {
    check(2, || signal_in_a_stop(Rules::ALL));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_thread_that_a_signal_wakes_arrives_twice_if_it_does_not_look() {
    without(Rule::LookWhenWoken, || check(2, || signal_in_a_stop(Rules::ALL)));
}
