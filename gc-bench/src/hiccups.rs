//! What the machine does to a program without a heap: the loop of a workload (a little work, a read
//! of the clock), in as many threads, before the run's heap is built.
//!
//! A gap between two clock reads is time that the kernel, the hypervisor or another program took;
//! Tene's [jHiccup] has the idea. What is seen here will be in the run's figures as well.
//!
//! [jHiccup]: https://github.com/giltene/jHiccup

use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::recorder::nanos;

/// Gaps from here on are hiccups: far above what a round of the loop takes.
pub(crate) const HICCUP_NS: u64 = 100_000;

/// The gaps of all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hiccups {
    pub(crate) threads: u64,
    /// How long each thread looked.
    pub(crate) seconds: f64,
    /// A gap that is shorter is none.
    pub(crate) threshold_ns: u64,
    pub(crate) count: u64,
    pub(crate) total_ns: u64,
    pub(crate) max_ns: u64,
    /// `total_ns` over the time of all threads.
    pub(crate) share: f64,
}

/// Gaps as one thread counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Gaps {
    count: u64,
    total_ns: u64,
    max_ns: u64,
}

impl Gaps {
    #[inline]
    fn see(&mut self, ns: u64) {
        if ns >= HICCUP_NS {
            self.count += 1;
            self.total_ns += ns;
            self.max_ns = self.max_ns.max(ns);
        }
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.total_ns += other.total_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }
}

/// Words of the array that the loop touches: 64 KiB.
const WORDS: usize = 8192;

/// The loop of one thread: random words of an array, then the clock.
fn look(length: Duration) -> Gaps {
    let (mut array, mut random, mut gaps) = (vec![1u64; WORDS], 88_172_645_463_325_252u64, Gaps::default());
    let mut last = Instant::now();
    let end = last + length;
    while last < end {
        for _ in 0..8 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            array[random as usize % WORDS] ^= random;
        }
        let now = Instant::now();
        gaps.see(nanos(last, now));
        last = now;
    }
    std::hint::black_box(array);
    gaps
}

/// Looks for that long, in so many threads at once.
pub(crate) fn calibrate(threads: u64, length: Duration) -> Hiccups {
    let gaps = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(|| look(length))).collect();
        let mut all = Gaps::default();
        for handle in handles {
            all.add(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    let looked_ns = length.as_nanos() as f64 * threads as f64;
    Hiccups {
        threads,
        seconds: length.as_secs_f64(),
        threshold_ns: HICCUP_NS,
        count: gaps.count,
        total_ns: gaps.total_ns,
        max_ns: gaps.max_ns,
        share: if looked_ns > 0.0 { (gaps.total_ns as f64 / looked_ns).min(1.0) } else { 0.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_below_the_threshold_are_none() {
        let mut gaps = Gaps::default();
        [99_999, 100_000, 4_050_000, 30].into_iter().for_each(|ns| gaps.see(ns));
        assert_eq!(gaps, Gaps { count: 2, total_ns: 4_150_000, max_ns: 4_050_000 });
    }

    /// Twice as many threads as processors: each waits while another runs.
    #[test]
    fn threads_that_share_a_processor_have_hiccups() {
        let processors = thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let found = calibrate(2 * processors + 1, Duration::from_millis(150));
        assert!(found.count > 0 && found.max_ns >= HICCUP_NS && found.total_ns >= found.max_ns, "{found:?}");
        assert!(found.share > 0.05 && found.share <= 1.0, "{found:?}");
        assert_eq!((found.threads, found.seconds, found.threshold_ns), (2 * processors + 1, 0.15, HICCUP_NS));
    }
}
