//! Several markers drain together, under every interleaving: `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release
//! --test 'loom_*'`.
//!
//! When the last marker is done, everything that was to be marked is. (One may leave while another has just taken the last
//! chunk and does not count as busy again yet. That one goes on alone: time is lost, and no work, since who shares work
//! looks for it before it leaves.) What `crossbeam`'s injector does is taken for
//! granted: here it is a queue under a lock.
#![cfg(loom)]

mod support;

use gc_core::bitmap::MarkBitmap;
use gc_core::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::Mutex;
use loom::thread;
use std::sync::Arc;
use support::check;

/// What a model can leave out, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    /// A marker that finds all others idle looks for shared work before it gives up, not only after.
    look_then_leave: bool,
    /// Markers share work only where somebody is idle.
    share: bool,
}

const ALL: Rules = Rules { look_then_leave: true, share: true };

/// Objects, a tree: object `n` refers to `2n` and `2n + 1`.
const OBJECTS: usize = 8;
/// A marker shares when it has more than this.
const SHARE_ABOVE: usize = 1;

/// `Pool`, and what the markers share beside it.
struct Pool {
    rules: Rules,
    chunks: Mutex<Vec<Vec<usize>>>,
    idle: AtomicUsize,
    markers: AtomicUsize,
    marks: MarkBitmap,
    scanned: AtomicUsize,
}

impl Pool {
    fn new(rules: Rules, markers: usize) -> Arc<Pool> {
        Arc::new(Pool {
            rules,
            chunks: Mutex::new(Vec::new()),
            idle: AtomicUsize::new(0),
            markers: AtomicUsize::new(markers),
            marks: MarkBitmap::new(64),
            scanned: AtomicUsize::new(0),
        })
    }

    /// `Marker::drain`, without the prefetch queue.
    fn drain(&self, stack: &mut Vec<usize>) {
        while let Some(object) = stack.pop() {
            if self.marks.set(object) {
                self.scanned.fetch_add(1, Ordering::Relaxed);
                stack.extend([2 * object, 2 * object + 1].into_iter().filter(|&child| child < OBJECTS));
            }
            if self.rules.share && stack.len() > SHARE_ABOVE && self.idle.load(Ordering::Relaxed) > 0 {
                self.chunks.lock().unwrap().push(stack.drain(..1).collect());
            }
        }
    }

    /// `Pool::all_are_idle`.
    fn all_are_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire) == self.markers.load(Ordering::Relaxed)
    }

    /// `Marker::drain_together`.
    fn drain_together(&self, mut stack: Vec<usize>) {
        loop {
            self.drain(&mut stack);
            self.idle.fetch_add(1, Ordering::AcqRel);
            loop {
                if !self.rules.look_then_leave && self.all_are_idle() {
                    return;
                }
                let stolen = self.chunks.lock().unwrap().pop();
                if let Some(chunk) = stolen {
                    self.idle.fetch_sub(1, Ordering::AcqRel);
                    stack.extend(chunk);
                    break;
                }
                if self.rules.look_then_leave && self.all_are_idle() {
                    return;
                }
                thread::yield_now();
            }
        }
    }
}

/// Two markers, of which the first has the root. (Where three spin, two starve the third in loom's schedules.)
fn mark(rules: Rules) {
    mark_by(rules, 2);
}

/// As `mark`, of so many that were asked for. Beyond the second the system refuses them: `Pool::one_less`.
fn mark_by(rules: Rules, markers: usize) {
    let pool = Pool::new(rules, markers);
    let helper = {
        let pool = Arc::clone(&pool);
        thread::spawn(move || pool.drain_together(Vec::new()))
    };
    for _ in 2..markers {
        pool.markers.fetch_sub(1, Ordering::Relaxed);
    }
    pool.drain_together(vec![1]);
    helper.join().unwrap();
    assert!((1..OBJECTS).all(|object| pool.marks.get(object)), "marking work was left");
    assert_eq!(pool.scanned.load(Ordering::Acquire), OBJECTS - 1, "each object is scanned once");
}

#[test]
fn two_markers_leave_no_work() {
    check(3, || mark(ALL));
}

#[test]
#[should_panic(expected = "marking work was left")]
fn a_marker_that_leaves_without_a_last_look_leaves_work() {
    check(2, || mark(Rules { look_then_leave: false, ..ALL }));
}

#[test]
fn a_marker_that_there_is_no_thread_for_is_not_waited_for() {
    check(2, || mark_by(ALL, 3));
}

#[test]
fn markers_that_share_nothing_end_too() {
    check(3, || mark(Rules { share: false, ..ALL }));
}
