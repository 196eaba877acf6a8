//! A desk and its helpers, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! What a call borrows is a cell that helpers read and write, and that the caller writes after the
//! call: loom panics where a helper is not done with it by then. It panics at a deadlock, which is
//! what "nobody sleeps for ever" means.
#![cfg(loom)]

mod support;

use gc_core::desk::Desk;
use gc_core::rules::{Rule, without};
use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::thread;
use std::cell::RefCell;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::check;

/// Calls of a model, at most.
const CALLS: usize = 2;

/// What the calls borrow.
#[derive(Default)]
struct Borrowed {
    /// Of each call, while it lasts: read by all helpers.
    cells: [UnsafeCell<usize>; CALLS],
    /// How often helpers took part in each. Not of loom: it orders nothing.
    helped: [AtomicUsize; CALLS],
    /// Helpers that began and did not end. One would panic in between if loom objects to what it
    /// does, and the desk catches panics.
    inside: AtomicUsize,
    /// The threads that helped with each call.
    helpers: Mutex<Vec<(usize, thread::ThreadId)>>,
}

std::thread_local! {
    /// What the work refers to. A closure that really borrowed it would be a dangling one where a
    /// model without a rule runs it late. loom runs all threads of a model on one.
    static BORROWED: RefCell<Option<Arc<Borrowed>>> = const { RefCell::new(None) };
}

fn borrowed() -> Arc<Borrowed> {
    BORROWED.with_borrow(|borrowed| Arc::clone(borrowed.as_ref().unwrap()))
}

/// A helper's part in a call.
fn help<const CALL: usize>() {
    let borrowed = borrowed();
    borrowed.inside.fetch_add(1, Ordering::Relaxed);
    // SAFETY: loom checks that no thread writes meanwhile.
    borrowed.cells[CALL].with(|cell| assert_eq!(unsafe { *cell }, CALL));
    borrowed.helpers.lock().unwrap().push((CALL, thread::current().id()));
    borrowed.cells[CALL].with(|cell| assert_eq!(unsafe { *cell }, CALL));
    borrowed.helped[CALL].fetch_add(1, Ordering::Relaxed);
    borrowed.inside.fetch_sub(1, Ordering::Relaxed);
}

/// The caller writes what helpers read, before the call and after.
fn call<const CALL: usize>(desk: &Desk, seats: usize) {
    let write = |value| {
        // SAFETY: loom checks that nobody else reads or writes meanwhile.
        borrowed().cells[CALL].with_mut(|cell| unsafe { *cell = value });
    };
    write(CALL);
    let own = || {
        assert_eq!(desk.unopened(), Some(seats));
        desk.open();
        assert_eq!(desk.unopened(), None);
    };
    assert!(desk.call(seats, own, help::<CALL>).is_ok());
    write(usize::MAX);
    assert!(borrowed().helped[CALL].load(Ordering::Relaxed) <= seats, "more helpers than seats");
}

/// Helpers that come when they like, some calls, and the end.
fn calls(helpers: usize, caller: impl FnOnce(&Desk)) {
    BORROWED.set(Some(Arc::default()));
    let desk = Arc::new(Desk::new());
    let helpers: Vec<_> = (0..helpers)
        .map(|_| {
            let desk = Arc::clone(&desk);
            thread::spawn(move || desk.help())
        })
        .collect();
    caller(&desk);
    desk.close();
    for helper in helpers {
        helper.join().unwrap();
    }
    let borrowed = BORROWED.take().unwrap();
    assert_eq!(borrowed.inside.load(Ordering::Relaxed), 0, "a helper was stopped");
    let mut helpers = borrowed.helpers.lock().unwrap().clone();
    let parts = helpers.len();
    helpers.sort_by_key(|(call, helper)| (*call, format!("{helper:?}")));
    helpers.dedup();
    assert_eq!(helpers.len(), parts, "a helper took part twice");
}

/// One seat for two helpers.
fn one_call() {
    calls(2, |desk| call::<0>(desk, 1));
}

/// Two calls, whose work is not the same.
fn two_calls() {
    calls(1, |desk| {
        call::<0>(desk, 1);
        call::<1>(desk, 2);
    });
}

#[test]
fn work_is_done_with_when_its_call_ends() {
    check(3, one_call);
}

#[test]
fn a_helper_takes_part_in_each_call_once() {
    check(3, two_calls);
}

#[test]
fn several_helpers_take_part_in_one_call() {
    check(2, || calls(2, |desk| call::<0>(desk, 2)));
}

/// The call returns the payload where a helper took part at all, and the helper goes on.
#[test]
fn a_helper_that_panics_is_heard_of_by_the_end_of_the_call() {
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    check(3, move || {
        calls(1, |desk| {
            let panicked = AtomicUsize::new(0);
            let help = || {
                panicked.fetch_add(1, Ordering::Relaxed);
                resume_unwind(Box::new("a helper's words"));
            };
            let outcome = desk.call(1, || desk.open(), help);
            assert_eq!(outcome.is_err(), panicked.load(Ordering::Relaxed) == 1);
            count.fetch_add(panicked.into_inner(), Ordering::Relaxed);
            call::<1>(desk, 1);
        });
    });
    assert_ne!(heard.load(Ordering::Relaxed), 0, "no helper came in time in any interleaving");
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_call_that_does_not_wait_ends_under_its_helpers() {
    without(Rule::WaitForHelpers, || check(3, one_call));
}

#[test]
#[should_panic(expected = "a helper was stopped")]
fn work_that_is_not_taken_back_is_run_after_its_call() {
    without(Rule::TakeWorkBack, || check(3, one_call));
}

#[test]
#[should_panic(expected = "a helper took part twice")]
fn a_helper_that_does_not_know_the_call_takes_part_twice() {
    without(Rule::HelpOnce, || check(3, two_calls));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_call_that_is_not_woken_waits_for_ever() {
    without(Rule::WakeCall, || check(3, one_call));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_helper_that_is_not_woken_at_the_close_waits_for_ever() {
    without(Rule::WakeAtClose, || check(3, one_call));
}
