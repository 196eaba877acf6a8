//! The workloads' random numbers.

/// Marsaglia's xorshift, as the peers have it.
pub(crate) struct Rng(u64);

/// The seed the peer measurements use.
pub(crate) const PEER_SEED: u64 = 88_172_645_463_325_252;

impl Rng {
    /// Each thread its own sequence. A state of 0 would stay 0.
    pub(crate) fn new(seed: u64, thread: u64) -> Self {
        Self(seed.wrapping_add(thread.wrapping_mul(7919)).max(1))
    }

    #[inline(always)]
    pub(crate) fn next(&mut self) -> u64 {
        let mut x = self.0;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0 = x;
        x
    }
}
