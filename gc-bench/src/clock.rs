//! What reading the clock costs: it is in every sample that lies between two reads.

use std::time::Instant;

use gc_core::sys::monotonic_ns;

/// Nanoseconds between two reads of the clock with nothing between them: the median of many. By
/// [`Instant`]s, as the samples of primitives are taken.
pub(crate) fn pair_ns() -> f64 {
    median_of(|| {
        let began = Instant::now();
        began.elapsed().as_nanos() as u64
    })
}

/// The same as the heap reads it, without an [`Instant`]: what each of its timed slow paths pays.
pub(crate) fn heap_pair_ns() -> f64 {
    median_of(|| {
        let began_ns = monotonic_ns();
        monotonic_ns() - began_ns
    })
}

fn median_of(pair_ns: impl Fn() -> u64) -> f64 {
    let mut samples: Vec<f64> = (0..10_001).map(|_| pair_ns() as f64).collect();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_clock_takes_time() {
        for pair_ns in [super::pair_ns(), super::heap_pair_ns()] {
            assert!((0.0..1e6).contains(&pair_ns));
        }
    }
}
