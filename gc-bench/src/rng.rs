//! The workloads' random numbers.

/// Marsaglia's xorshift, as the peers have it.
#[derive(Debug, Clone)]
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

/// Steele, Lea and Flood's SplitMix64 (OOPSLA 2014): any seed gives a good sequence, a small one
/// too.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n` - 1; `n` is not 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// Puts a list into a random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_is_any_order_as_often_and_a_seed_is_an_order() {
        let mut counts = std::collections::BTreeMap::new();
        let mut random = SplitMix::new(1);
        assert_eq!(SplitMix::new(1_234_567).next(), 6_457_827_717_110_365_317, "the published sequence");
        for _ in 0..6000 {
            let mut list = [1, 2, 3];
            random.shuffle(&mut list);
            *counts.entry(list).or_insert(0u32) += 1;
        }
        assert!(counts.len() == 6 && counts.values().all(|n| (850..1150).contains(n)), "{counts:?}");
        let order = |seed| {
            let mut list: Vec<u32> = (0..20).collect();
            SplitMix::new(seed).shuffle(&mut list);
            list
        };
        assert_eq!(order(3), order(3));
        assert_ne!(order(3), order(4));
    }
}
