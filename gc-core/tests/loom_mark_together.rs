//! Several markers drain together, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! When a marker is told that the round is over, everything that was to be marked is, and each
//! object has been scanned once (or more often, where stacks were full). `Crew`, `GreyBlocks` and
//! `MarkBitmap` are the code that ships. What `crossbeam`'s deque does is taken for granted: here
//! it is a queue under a lock.
#![cfg(loom)]

mod support;

use gc_core::bitmap::MarkBitmap;
use gc_core::crew::Crew;
use gc_core::grey::GreyBlocks;
use gc_core::sync::atomic::{AtomicUsize, Ordering};
use gc_core::units::{Block, Granule};
use loom::sync::Mutex;
use loom::thread;
use std::collections::VecDeque;
use std::sync::Arc;
use support::check;

/// What a model can leave out, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    /// A marker takes what its own queue holds before it looks at the others'.
    own_first: bool,
    /// Markers share work.
    share: bool,
    /// Objects are below this.
    objects: usize,
    /// The most that a stack holds.
    stack: usize,
    /// A full stack marks, and adds the block after; not the other way round.
    mark_then_add: bool,
    /// A marker takes grey blocks before it looks at the others' queues.
    greys_first: bool,
}

const ALL: Rules =
    Rules { own_first: true, share: true, objects: OBJECTS, stack: usize::MAX, mark_then_add: true, greys_first: true };

/// Stacks that hold nothing at all, and three objects.
const FULL: Rules = Rules { objects: 4, stack: 0, ..ALL };

/// The most objects, a tree: object `n` refers to `2n` and `2n + 1`.
const OBJECTS: usize = 8;
/// A marker shares when it has more than this.
const SHARE_ABOVE: usize = 1;
/// Objects of a block.
const BLOCK: usize = 2;

/// `Pool`, and what the markers share beside it.
struct Pool {
    rules: Rules,
    crew: Crew,
    queues: [Mutex<VecDeque<usize>>; 2],
    /// `Roots`: each is taken once.
    roots: [usize; 2],
    next_root: AtomicUsize,
    greys: GreyBlocks,
    marks: MarkBitmap,
    scanned: AtomicUsize,
}

impl Pool {
    fn new(rules: Rules, roots: [usize; 2]) -> Arc<Pool> {
        let pool = Pool {
            rules,
            crew: Crew::new(),
            queues: Default::default(),
            roots,
            next_root: AtomicUsize::new(0),
            greys: GreyBlocks::new(OBJECTS / BLOCK).unwrap(),
            marks: MarkBitmap::new(64).unwrap(),
            scanned: AtomicUsize::new(0),
        };
        pool.crew.begin(false);
        Arc::new(pool)
    }

    /// `Marker::push`, and `Marker::overflow` where there is no room.
    fn push(&self, stack: &mut Vec<usize>, object: usize) {
        if stack.len() < self.rules.stack {
            return stack.push(object);
        }
        if !self.rules.mark_then_add {
            self.greys.add(Block::new(object / BLOCK));
            self.marks.set(Granule::new(object));
        } else if self.marks.set(Granule::new(object)) {
            self.greys.add(Block::new(object / BLOCK));
        }
    }

    /// `Marker::scan`.
    fn scan(&self, stack: &mut Vec<usize>, object: usize) {
        self.scanned.fetch_add(1 << (4 * object), Ordering::Relaxed);
        for child in [2 * object, 2 * object + 1] {
            if child < self.rules.objects {
                self.push(stack, child);
            }
        }
    }

    /// `Marker::drain`, without the prefetch queue.
    fn drain(&self, own: usize, stack: &mut Vec<usize>) {
        loop {
            while let Some(object) = stack.pop() {
                if self.marks.set(Granule::new(object)) {
                    self.scan(stack, object);
                }
                if self.rules.share && stack.len() > SHARE_ABOVE && self.crew.is_hungry() {
                    self.queues[own].lock().unwrap().push_back(stack.remove(0));
                    self.crew.tell();
                }
            }
            let next = if self.rules.own_first { self.queues[own].lock().unwrap().pop_back() } else { None };
            if let Some(next) = next {
                stack.push(next);
            } else if let Some(block) = self.rules.greys_first.then(|| self.greys.take(Block::new(0))).flatten() {
                let block = block.number();
                (block * BLOCK..(block + 1) * BLOCK).filter(|&object| self.marks.get(Granule::new(object))).for_each(
                    |object| {
                        self.scan(stack, object);
                    },
                );
            } else {
                return;
            }
        }
    }

    /// `Marker::drain_parallel`.
    fn drain_together(&self, own: usize) {
        let mut stack = Vec::new();
        loop {
            self.drain(own, &mut stack);
            // `Roots::next`.
            let root = self.next_root.load(Ordering::Relaxed);
            if root < self.roots.len() {
                if let Some(&object) = self.roots.get(self.next_root.fetch_add(1, Ordering::Relaxed)) {
                    self.push(&mut stack, object);
                }
                continue;
            }
            match self.crew.seek(|| self.queues[1 - own].lock().unwrap().pop_front()) {
                Some(object) => self.push(&mut stack, object),
                None => return,
            }
        }
    }
}

/// The thread that begins, and a helper that comes at any time. (Where three look for work, two
/// starve the third in loom's schedules.)
fn mark(rules: Rules, roots: [usize; 2]) {
    let pool = Pool::new(rules, roots);
    let helper = {
        let pool = Arc::clone(&pool);
        thread::spawn(move || {
            if pool.crew.join() {
                pool.drain_together(1);
            }
        })
    };
    pool.drain_together(0);
    // The helper, if it has joined, has nothing left either: it may only not have heard so yet.
    let done = |object: usize| {
        pool.marks.get(Granule::new(object)) && pool.scanned.load(Ordering::Relaxed) >> (4 * object) & 15 != 0
    };
    let first = roots[0].min(roots[1]);
    let all = (first..rules.objects).all(done);
    assert!(all, "marking work was left");
    helper.join().unwrap();
    assert!(!pool.crew.join(), "who comes late is told");
    if rules.stack == usize::MAX {
        let scanned = pool.scanned.load(Ordering::Relaxed);
        assert!((first..rules.objects).all(|object| scanned >> (4 * object) & 15 == 1), "each object is scanned once");
    }
}

#[test]
fn two_markers_leave_no_work() {
    check(2, || mark(ALL, [1, 1]));
}

#[test]
fn two_markers_take_roots_in_pieces() {
    check(2, || mark(ALL, [2, 3]));
}

#[test]
#[should_panic(expected = "marking work was left")]
fn a_marker_that_looks_elsewhere_with_work_of_its_own_leaves_it() {
    check(3, || mark(Rules { own_first: false, ..ALL }, [1, 1]));
}

#[test]
fn markers_that_share_nothing_end_too() {
    check(3, || mark(Rules { share: false, ..ALL }, [1, 1]));
}

#[test]
fn stacks_that_hold_one_object_leave_no_work() {
    check(2, || mark(Rules { stack: 1, ..FULL }, [1, 1]));
}

#[test]
fn stacks_that_hold_nothing_leave_no_work() {
    check(2, || mark(FULL, [2, 3]));
}

#[test]
#[should_panic(expected = "marking work was left")]
fn a_block_that_is_added_before_the_mark_is_set_is_scanned_too_early() {
    check(3, || mark(Rules { mark_then_add: false, ..FULL }, [2, 3]));
}

#[test]
#[should_panic(expected = "marking work was left")]
fn a_marker_must_take_grey_blocks_before_it_leaves() {
    check(2, || mark(Rules { greys_first: false, ..FULL }, [1, 1]));
}
