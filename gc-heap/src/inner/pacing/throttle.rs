//! The throttle: while a marking runs, mutators take free blocks no faster than what is left of
//! them lasts until the marking ends.
//!
//! Pacing begins a cycle early enough for what it expects. Where there is more to mark than that,
//! or the marker gets less of the processors, the threads that allocate would take the last free
//! block and then wait for all the rest of the marking. With the throttle they wait a little before
//! each block instead: free memory divided by what remains to be marked is the rate at which they
//! may take blocks, as the marker's progress shows it. (Go lets such a thread mark, in proportion
//! to what it allocates; Shenandoah's pacing lets it wait, as this does.)

use super::Model;
use crate::space::BLOCK_BYTES;
use gc_core::brake::Brake;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A thread waits when it is so far ahead: for less, sleeping and waking up would cost as much.
const LEAST_NS: u64 = 200_000;

/// The longest wait for one request.
const MOST_NS: u64 = 500_000;

/// Time in which no thread took a block counts for later ones up to this.
const CREDIT_NS: u64 = 200_000;

/// The marking is taken to end in this part of the time that it would take at the speed so far: it
/// gets faster when the threads that allocate wait, as they leave it processors and caches.
/// Measured (binary-trees, 2 threads on 2 processors, load barrier): with the whole time, threads
/// wait 1.6 times as long as without a throttle, and the program takes a tenth longer; with the
/// half it takes as long as without.
const SOONER: u64 = 2;

/// A marking that is past what was expected is taken to find so many times as much again as it is
/// past it by: free memory then shrinks more slowly than the marking goes on, however many times
/// the live memory has grown.
const MORE: u64 = 3;

/// What is expected of a marking, and how far it has come. Bytes, and nanoseconds since the heap
/// was built.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// On while a marking runs, beside mutators.
    brake: Brake,
    begun_ns: AtomicU64,
    /// Memory in use at the begin.
    used: AtomicU64,
    /// Blocks that mutators may not take.
    kept: AtomicUsize,
    /// Bytes that it is expected to mark, and for how long.
    expected: AtomicU64,
    expected_ns: AtomicU64,
    /// Time after it until the first block is free.
    rest_ns: AtomicU64,
    /// Bytes marked so far.
    marked: AtomicU64,
    /// When the next block may be taken.
    next_ns: AtomicU64,
}

/// Begun by the collector, ended by it, and asked by mutators between. The figures are hints, and a
/// mutator that reads those of the marking before waits too long or too short once: Relaxed.
impl Throttle {
    /// A marking begins, with so many blocks in use, and so many of the free ones kept from
    /// mutators.
    pub(crate) fn begin(&self, now_ns: u64, model: &Model, used: usize, kept: usize) {
        let (live, seconds, rest) = model.expects();
        let ns = |seconds: f64| (seconds * 1e9) as u64;
        self.begun_ns.store(now_ns, Ordering::Relaxed);
        self.used.store((used * BLOCK_BYTES) as u64, Ordering::Relaxed);
        self.kept.store(kept, Ordering::Relaxed);
        self.expected.store((live * BLOCK_BYTES as f64) as u64, Ordering::Relaxed);
        self.expected_ns.store(ns(seconds), Ordering::Relaxed);
        self.rest_ns.store(ns(rest), Ordering::Relaxed);
        self.marked.store(0, Ordering::Relaxed);
        self.next_ns.store(now_ns, Ordering::Relaxed);
        self.brake.put_on();
    }

    /// A marker has marked so many bytes more.
    pub(crate) fn advance(&self, bytes: u64) {
        self.marked.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Blocks are about to be freed: nobody waits any longer.
    pub(crate) fn end(&self) {
        self.brake.take_off();
    }

    pub(crate) fn runs(&self) -> bool {
        self.brake.is_on()
    }

    /// A thread takes `count` of the free blocks: how long it has to wait before. `None`: it does
    /// not.
    pub(crate) fn take(&self, now_ns: u64, count: usize, free: usize) -> Option<Duration> {
        if !self.runs() {
            return None;
        }
        let left = free.saturating_sub(self.kept.load(Ordering::Relaxed)).max(1);
        let each = self.remaining_ns(now_ns) / SOONER / left as u64;
        let takes = each.saturating_mul(count as u64);
        // At most so far ahead: of a large object the next request is dearer anyway, as less is
        // free.
        let next = |next: u64| next.max(now_ns.saturating_sub(CREDIT_NS)).saturating_add(takes).min(now_ns + MOST_NS);
        let before = self.next_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| Some(next(at)));
        let ahead = next(before.unwrap_or_else(|at| at)).saturating_sub(now_ns);
        (ahead >= LEAST_NS).then(|| Duration::from_nanos(ahead))
    }

    /// Waits so long, or until blocks are about to be freed. The caller is parked.
    pub(crate) fn wait(&self, time: Duration) {
        self.brake.wait(time);
    }

    /// Time until blocks are freed, as far as is known: what is left to mark at the speed so far,
    /// at first mixed with the speed that was expected.
    fn remaining_ns(&self, now_ns: u64) -> u64 {
        let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let (marked, expected) = (load(&self.marked), load(&self.expected));
        let elapsed = now_ns.saturating_sub(load(&self.begun_ns));
        let foreseen = if marked < expected { expected - marked } else { MORE * (marked - expected) };
        let left = foreseen.min(load(&self.used).saturating_sub(marked));
        // A quarter of what was expected weighs as much as as much that was marked.
        let known = (expected / 4).max(BLOCK_BYTES as u64);
        let known_ns = load(&self.expected_ns).saturating_mul(known) / expected.max(BLOCK_BYTES as u64);
        let ns = u128::from(left) * u128::from(elapsed + known_ns) / u128::from(marked + known);
        u64::try_from(ns).unwrap_or(u64::MAX).saturating_add(load(&self.rest_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: usize = 8192;

    /// Threads that allocate without end take a block each so many nanoseconds together, while a
    /// marker marks `live` blocks at so many nanoseconds each, of which `expected` were expected,
    /// with so many free. It gets no faster when they wait.
    struct Program {
        each_ns: u64,
        free: usize,
        expected: f64,
        live: f64,
        block_ns: u64,
    }

    #[derive(Debug)]
    struct Outcome {
        /// Blocks left when the marking ended, the time that threads waited, and the longest wait.
        left: usize,
        waited_ns: u64,
        longest_ns: u64,
        /// The rest of the marking, when nothing was left: a stall.
        stall_ns: u64,
    }

    impl Program {
        fn run(&self) -> Outcome {
            let mut model = Model::new(BLOCKS);
            for _ in 0..50 {
                model.marks(4000.0);
                model.ended(self.expected * self.block_ns as f64 / 1e9, self.expected, self.expected);
            }
            model.marks(1000.0);
            let throttle = Throttle::default();
            throttle.begin(0, &model, BLOCKS - self.free, 0);
            let (mut now, mut left, mut told) = (0, self.free, 0);
            let mut outcome = Outcome { left: 0, waited_ns: 0, longest_ns: 0, stall_ns: 0 };
            let end = (self.live * self.block_ns as f64) as u64;
            while now < end && left > 0 {
                let marked = now * BLOCK_BYTES as u64 / self.block_ns;
                throttle.advance(marked - told);
                told = marked;
                if let Some(wait) = throttle.take(now, 1, left) {
                    let wait = wait.as_nanos() as u64;
                    now += wait;
                    outcome.waited_ns += wait;
                    outcome.longest_ns = outcome.longest_ns.max(wait);
                }
                now += self.each_ns;
                left -= 1;
            }
            (outcome.left, outcome.stall_ns) = (left, end.saturating_sub(now));
            outcome
        }
    }

    #[test]
    fn who_has_enough_for_what_is_expected_does_not_wait() {
        // 20 ms, in which 1000 blocks are taken.
        let program = Program { each_ns: 20_000, free: 2000, expected: 1000.0, live: 1000.0, block_ns: 20_000 };
        let outcome = program.run();
        assert_eq!((outcome.left, outcome.waited_ns), (1000, 0), "{outcome:?}");
    }

    /// 30 ms, in which 1500 blocks would be taken.
    #[test]
    fn what_is_left_lasts_until_the_end_of_a_marking_that_was_foreseen() {
        for free in [1200, 1000, 500, 200] {
            let program = Program { each_ns: 20_000, free, expected: 1000.0, live: 1000.0, block_ns: 30_000 };
            let outcome = program.run();
            let short = 30_000_000 - free as u64 * 20_000;
            assert!(outcome.longest_ns <= MOST_NS && outcome.stall_ns < 3_000_000, "{free}: {outcome:?}");
            // And nobody waits for nothing.
            assert!(outcome.waited_ns < short + short / 4 && outcome.left < free / 8, "{free}: {outcome:?}");
        }
    }

    /// The first deep tree of a program that has kept nothing until then.
    #[test]
    fn a_live_set_many_times_as_large_as_expected_is_no_long_wait() {
        // Without a throttle all is taken after 30 ms.
        for (expected, live, most_ms) in [(100.0, 1000.0, 0), (50.0, 800.0, 0), (400.0, 1600.0, (96 - 30) / 2)] {
            let outcome = Program { each_ns: 20_000, free: 1500, expected, live, block_ns: 60_000 }.run();
            let is_short = outcome.stall_ns <= most_ms * 1_000_000;
            assert!(is_short && outcome.longest_ns <= MOST_NS, "{expected} {live}: {outcome:?}");
        }
    }

    #[test]
    fn nobody_waits_after_the_end() {
        let (throttle, mut model) = (Throttle::default(), Model::new(BLOCKS));
        model.marks(4000.0);
        assert_eq!(throttle.take(0, 1000, 1), None, "before the first");
        throttle.begin(0, &model, 4000, 0);
        let wait = throttle.take(1, 1000, 1).unwrap();
        assert_eq!(wait, Duration::from_nanos(MOST_NS));
        std::thread::scope(|scope| {
            let begun = std::time::Instant::now();
            let waits = scope.spawn(|| throttle.wait(Duration::from_secs(100)));
            throttle.end();
            waits.join().unwrap();
            assert!(begun.elapsed() < Duration::from_secs(50));
        });
        assert_eq!(throttle.take(1, 1000, 1), None);
        throttle.wait(Duration::from_secs(100));
    }
}
