//! A brake and threads that wait at it, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! In a model no wait ends by its time. So loom panics at a deadlock where a thread waits although
//! the brake is off: outside of a model it would wait its whole time for nothing.
#![cfg(loom)]

mod support;

use gc_core::brake::Brake;
use gc_core::rules::{Rule, without};
use loom::thread;
use std::sync::Arc;
use std::time::Duration;
use support::check;

const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// Markings that come one after the other, and threads that wait once where they find one.
fn markings(count: usize, threads: usize) {
    let brake = Arc::new(Brake::new());
    let waiters: Vec<_> = (0..threads)
        .map(|_| {
            let brake = Arc::clone(&brake);
            thread::spawn(move || {
                if brake.is_on() {
                    brake.wait(FOR_EVER);
                }
            })
        })
        .collect();
    for _ in 0..count {
        brake.put_on();
        brake.take_off();
    }
    for waiter in waiters {
        waiter.join().unwrap();
    }
    assert!(!brake.is_on());
}

#[test]
fn nobody_waits_where_the_brake_is_off() {
    check(3, || markings(1, 2));
}

#[test]
fn nobody_waits_after_the_last_of_two_markings() {
    check(3, || markings(2, 2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_thread_between_its_look_and_its_wait_is_not_woken_without_the_lock() {
    without(Rule::LockBeforeWaking, || check(3, || markings(1, 1)));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_thread_that_does_not_look_under_the_lock_waits_for_a_wake_up_that_has_been() {
    without(Rule::LookBeforeWaiting, || check(3, || markings(1, 1)));
}
