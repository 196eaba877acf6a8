//! What reading the clock costs: it is in every sample that lies between two reads.

use std::time::Instant;

/// Nanoseconds between two reads of the clock with nothing between them: the median of many.
pub(crate) fn pair_ns() -> f64 {
    let mut samples: Vec<f64> = (0..10_001)
        .map(|_| {
            let began = Instant::now();
            began.elapsed().as_nanos() as f64
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_clock_takes_time() {
        assert!((0.0..1e6).contains(&super::pair_ns()));
    }
}
