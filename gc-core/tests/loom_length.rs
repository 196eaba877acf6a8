//! The length of an array that grows while other threads read it, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test loom_length`.
//!
//! The words behind the array hold what was there before: stale references, which no thread may
//! take for elements.
#![cfg(loom)]

mod support;

use gc_core::length;
use gc_core::rules::{Rule, without};
use gc_core::sync::atomic::{AtomicU64, Ordering};
use loom::sync::Mutex;
use loom::thread;
use std::sync::Arc;
use support::check;

const STALE: u64 = 13;
const EMPTY: u64 = 0;
const STORED: u64 = 7;
/// The longest that it gets.
const MOST: usize = 3;

struct Array {
    length: AtomicU64,
    elements: [AtomicU64; MOST],
    growing: Mutex<()>,
}

impl Array {
    fn new() -> Arc<Array> {
        let elements = [EMPTY, STALE, STALE].map(AtomicU64::new);
        Arc::new(Array { length: AtomicU64::new(1), elements, growing: Mutex::new(()) })
    }

    /// As `Mutator::grow_in_place`, of which this is the part under the lock.
    fn grow(&self, to: usize, under_lock: bool) {
        let guard = under_lock.then(|| self.growing.lock().unwrap());
        length::grow(&self.length, to, |from| {
            self.elements[from..to].iter().for_each(|element| element.store(EMPTY, Ordering::Relaxed));
        });
        drop(guard);
    }

    /// As a marker, or a mutator that looks at all elements.
    fn read(&self) {
        let len = length::read(&self.length);
        for element in &self.elements[..len] {
            assert_ne!(element.load(Ordering::Relaxed), STALE, "an element was read before it was made");
        }
    }
}

/// One thread grows the array, two others read it.
fn grows_under_readers() {
    let array = Array::new();
    let readers = [1, 2].map(|_| {
        let array = Arc::clone(&array);
        thread::spawn(move || array.read())
    });
    array.grow(2, true);
    array.grow(MOST, true);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

/// Two threads grow the array, and each stores to what it has grown.
fn two_grow(under_lock: bool) {
    let array = Array::new();
    let other = {
        let array = Arc::clone(&array);
        thread::spawn(move || {
            array.grow(MOST, under_lock);
            array.elements[2].store(STORED, Ordering::Relaxed);
            array.read();
        })
    };
    array.grow(2, under_lock);
    array.elements[1].store(STORED, Ordering::Relaxed);
    other.join().unwrap();
    array.read();
    assert_eq!(length::read(&array.length), MOST, "a growth was lost");
    assert!(array.elements[1..].iter().all(|element| element.load(Ordering::Relaxed) == STORED), "a store was lost");
}

#[test]
fn elements_are_made_before_they_are_seen() {
    check(3, grows_under_readers);
}

#[test]
fn two_threads_grow_an_array() {
    check(3, || two_grow(true));
}

#[test]
#[should_panic(expected = "an element was read before it was made")]
fn a_length_that_is_stored_before_the_elements_are_made_shows_stale_ones() {
    check(3, || without(Rule::MakeThenGrow, grows_under_readers));
}

#[test]
#[should_panic(expected = "an element was read before it was made")]
fn a_length_that_is_stored_relaxed_shows_stale_elements() {
    check(3, || without(Rule::LengthRelease, grows_under_readers));
}

#[test]
#[should_panic(expected = "an element was read before it was made")]
fn a_length_that_is_read_relaxed_shows_stale_elements() {
    check(3, || without(Rule::LengthAcquire, grows_under_readers));
}

#[test]
#[should_panic(expected = "was lost")]
fn two_threads_that_grow_an_array_without_a_lock_lose_stores() {
    check(3, || two_grow(false));
}
