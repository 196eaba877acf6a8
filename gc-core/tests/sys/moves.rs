//! Private memory that is let in where only some of its pages exist.

use crate::trials::{Test, named};
use gc_core::sys;
use gc_core::views::{Gate, InstallResult, MIN_SPAN, Views};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PAGE: usize = 4096;

/// Private memory of `chunks` chunks, all of it open. Why its pages cannot be moved, if so.
fn gated(chunks: usize) -> Result<(Views, Gate), String> {
    let all = 0..chunks * MIN_SPAN;
    let views = Views::anonymous_in_parts(all.end, &[all]).map_err(|error| error.to_string())?;
    let gate = Gate::new(&views).map_err(|error| error.to_string())?;
    match gate.no_move() {
        Some(refused) => Err(refused.to_string()),
        None => Ok((views, gate)),
    }
}

fn word(address: usize) -> *mut u64 {
    ptr::with_exposed_provenance_mut(address)
}

/// Pages alone, runs of them, the first and the last of a chunk: they come with their bytes, and
/// what lies between them stays absent in both views.
fn what_exists_is_let_in_and_nothing_else() {
    const EXISTING: [usize; 9] = [0, 3, 4, 5, 300, 511, 512, 700, 1535];
    let (_views, gate) = gated(3).unwrap();
    for page in EXISTING {
        // SAFETY: the view is this test's, open, and not gated yet.
        unsafe { word(gate.view() + page * PAGE).write_volatile(page as u64 + 1) };
    }
    // SAFETY: nobody else is in this heap.
    unsafe { gate.prepare().and_then(|()| gate.flip(0..0, 1).map_err(|refused| *refused.error)) }.unwrap();
    // SAFETY: the pages are as they were.
    assert_eq!(unsafe { gate.install_existing(0, 3 * MIN_SPAN) }, InstallResult::Present);
    for page in EXISTING {
        // SAFETY: the page was let in, and is read as it was written.
        assert_eq!(unsafe { word(gate.view() + page * PAGE).read_volatile() }, page as u64 + 1);
    }
    for view in [gate.view(), gate.repair_base()] {
        let left = if view == gate.view() { EXISTING.len() } else { 0 };
        assert_eq!(sys::present_pages(view, 3 * MIN_SPAN).unwrap(), left);
    }
}

/// The kernel frees the page tables of holes that are given back, and a call that skips holes then
/// may go on for ever inside the kernel, where no signal but a fatal one ends it.
fn holes_are_passed_over_while_they_are_given_back() {
    let (views, gate) = gated(1).unwrap();
    // SAFETY: nobody else is in this heap.
    unsafe { gate.prepare().and_then(|()| gate.flip(0..0, 1).map_err(|refused| *refused.error)) }.unwrap();
    let (is_over, rounds, ended) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicBool::new(false));
    let shared = Arc::new((views, gate, is_over, rounds, ended));
    // A thread that never ends is not joined: the end of the process ends it.
    let letting_in = Arc::clone(&shared);
    std::thread::spawn(move || {
        let (_, gate, is_over, rounds, ended) = &*letting_in;
        while !is_over.load(Ordering::Relaxed) {
            // SAFETY: the range has no page.
            unsafe { gate.install_existing(0, MIN_SPAN) };
            rounds.fetch_add(1, Ordering::Relaxed);
        }
        ended.store(true, Ordering::Release);
    });
    let (_, gate, is_over, rounds, ended) = &*shared;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        for _ in 0..1000 {
            // The view too, where a refusal that was overcome has left a page of zeroes.
            for range in [gate.view(), gate.repair_base()] {
                // SAFETY: the range is this test's, and holds nothing.
                unsafe { sys::discard(range, MIN_SPAN) }.unwrap();
            }
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let stopped = Instant::now();
    while !ended.load(Ordering::Acquire) {
        let rounds = rounds.load(Ordering::Relaxed);
        assert!(stopped.elapsed() < Duration::from_secs(20), "the call after {rounds} others has not come back");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(rounds.load(Ordering::Relaxed) > 0);
}

pub(crate) fn trials() -> Vec<Test> {
    let cannot = sys::present_pages(0, PAGE).map_err(|error| error.to_string()).and_then(|_| gated(1).map(drop)).err();
    let tests =
        [named!(what_exists_is_let_in_and_nothing_else), named!(holes_are_passed_over_while_they_are_given_back)];
    tests.map(|(name, body)| (name, body, cannot.clone())).into()
}
