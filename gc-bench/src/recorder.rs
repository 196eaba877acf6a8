//! Latency as a workload records it: a clock read and a few additions.
//!
//! A workload takes a sample for each operation, hundreds of millions of times, so the recorder is
//! a flat array of logarithmic buckets, 32 an octave (at most 3.2 % wide): the same the peer
//! measurements use, so that figures can be set beside theirs. What a bucket would blur and a
//! report must not (the largest sample, the sum, the time lost in samples of a millisecond and
//! more) is kept exactly. [`crate::stats`] turns it into a histogram afterwards.

use std::time::Instant;

/// Buckets an octave, as a power of two.
const SUB_BITS: u32 = 5;
const SUB: u64 = 1 << SUB_BITS;
const BUCKETS: usize = (64 - SUB_BITS as usize + 1) * SUB as usize;
/// Samples from here on are summed apart: the gaps that a person or a frame deadline notices.
pub(crate) const LONG_NS: u64 = 1_000_000;

/// Samples in nanoseconds.
#[derive(Clone)]
pub(crate) struct Recorder {
    counts: Box<[u64; BUCKETS]>,
    total_ns: u64,
    max_ns: u64,
    over_1ms_ns: u64,
}

/// Values below [`SUB`] are in the first octave, whose buckets are as wide as those of the second:
/// so there is no branch.
#[inline]
fn index(ns: u64) -> usize {
    let shift = (63 - (ns | SUB).leading_zeros()) - SUB_BITS;
    // The leading bit of what is left adds an octave.
    ((u64::from(shift) << SUB_BITS) + (ns >> shift)) as usize
}

/// The largest value that falls into bucket `i`.
fn upper(i: usize) -> u64 {
    let i = i as u64;
    if i < SUB {
        return i;
    }
    let shift = i / SUB - 1;
    let low = (SUB + i % SUB) << shift;
    low + ((1u64 << shift) - 1)
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let counts = vec![0; BUCKETS].into_boxed_slice().try_into().expect("the length is the array's");
        Self { counts, total_ns: 0, max_ns: 0, over_1ms_ns: 0 }
    }

    /// Adds one sample.
    #[inline]
    pub(crate) fn record(&mut self, ns: u64) {
        self.record_short(ns);
        self.add_long(ns);
    }

    /// A function of its own, so that what nearly every sample takes is a branch that is not taken
    /// and no store.
    #[cold]
    #[inline(never)]
    fn longest(&mut self, ns: u64) {
        self.max_ns = ns;
    }

    /// Adds a sample that is shorter than [`LONG_NS`], or whose time is added by
    /// [`add_long`](Self::add_long).
    #[inline]
    pub(crate) fn record_short(&mut self, ns: u64) {
        self.counts[index(ns)] += 1;
        self.total_ns = self.total_ns.wrapping_add(ns);
        if ns > self.max_ns {
            self.longest(ns);
        }
    }

    /// See [`record_short`](Self::record_short).
    pub(crate) fn add_long(&mut self, ns: u64) {
        if ns >= LONG_NS {
            self.over_1ms_ns += ns;
        }
    }

    /// Of samples that another program recorded in the same buckets: each with its number, and how
    /// many there are. `None` where there is no such bucket.
    pub(crate) fn of_buckets(buckets: &[(usize, u64)], total_ns: u64, max_ns: u64, over_1ms_ns: u64) -> Option<Self> {
        let mut recorder = Self { total_ns, max_ns, over_1ms_ns, ..Self::new() };
        for &(index, count) in buckets {
            *recorder.counts.get_mut(index)? = count;
        }
        Some(recorder)
    }

    /// Forgets all samples, and touches its memory.
    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        (self.total_ns, self.max_ns, self.over_1ms_ns) = (0, 0, 0);
    }

    /// Adds another thread's samples.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts.iter()) {
            *mine += theirs;
        }
        self.total_ns += other.total_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
        self.over_1ms_ns += other.over_1ms_ns;
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn total_ns(&self) -> u64 {
        self.total_ns
    }

    pub(crate) fn max_ns(&self) -> u64 {
        self.max_ns
    }

    pub(crate) fn over_1ms_ns(&self) -> u64 {
        self.over_1ms_ns
    }

    /// The buckets that hold samples: the largest value each stands for (never above the largest
    /// sample), and how many.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.counts.iter().enumerate().filter(|&(_, &n)| n > 0).map(|(i, &n)| (upper(i).min(self.max_ns), n))
    }
}

/// Nanoseconds from `from` to `to`, 0 where `to` is earlier.
#[inline]
pub(crate) fn nanos(from: Instant, to: Instant) -> u64 {
    // `Duration::as_nanos` multiplies in 128 bits; a bench run is shorter than the 584 years of 64.
    let d = to.saturating_duration_since(from);
    d.as_secs() * 1_000_000_000 + u64::from(d.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_adjacent_and_at_most_one_part_in_32_wide() {
        let mut below = upper(0);
        for i in 1..BUCKETS {
            let top = upper(i);
            assert_eq!(index(top), i);
            assert_eq!(index(below + 1), i, "bucket {i} begins where the last ended");
            assert!((top - below) as f64 <= (below.max(32) + 1) as f64 / 32.0 + 1.0);
            below = top;
        }
        assert_eq!(below, u64::MAX);
    }

    #[test]
    fn what_a_bucket_would_blur_is_exact() {
        let mut r = Recorder::new();
        for ns in [0, 31, 32, 33, 1_000_003, 7_654_321] {
            r.record(ns);
        }
        assert_eq!((r.count(), r.max_ns()), (6, 7_654_321));
        assert_eq!(r.total_ns(), 31 + 32 + 33 + 1_000_003 + 7_654_321);
        assert_eq!(r.over_1ms_ns(), 1_000_003 + 7_654_321);
        assert_eq!(r.buckets().last(), Some((7_654_321, 1)));
    }

    #[test]
    fn merging_is_recording_both() {
        let (mut a, mut b, mut both) = (Recorder::new(), Recorder::new(), Recorder::new());
        for ns in 0..10_000u64 {
            if ns % 3 == 0 { &mut a } else { &mut b }.record(ns * ns);
            both.record(ns * ns);
        }
        a.merge(&b);
        assert!(a.buckets().eq(both.buckets()));
        assert_eq!((a.count(), a.max_ns(), a.total_ns()), (both.count(), both.max_ns(), both.total_ns()));
    }
}
