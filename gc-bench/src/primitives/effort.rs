//! How often things are measured, and the clock.

use std::thread;
use std::time::{Duration, Instant};

use gc_core::sys::SysError;

use super::memory::Spinner;

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Samples of a row, at most: a power of two.
    pub(super) samples: usize,
    /// When to stop repeating, once there are [`Effort::LEAST`] samples.
    pub(super) budget: Duration,
    /// Whether smaller ranges and fewer sizes will do.
    pub(super) quick: bool,
}

impl Effort {
    /// Repeats that are made however long they take.
    const LEAST: usize = 3;

    pub(super) fn new(quick: bool) -> Self {
        if quick {
            Self { samples: 512, budget: Duration::from_millis(40), quick }
        } else {
            Self { samples: 4096, budget: Duration::from_millis(400), quick }
        }
    }

    /// Repeats `once`, which tells the nanoseconds of its measured part. The first repeat warms up
    /// and does not count.
    pub(super) fn repeat(self, mut once: impl FnMut() -> Result<f64, SysError>) -> Result<Vec<f64>, SysError> {
        once()?;
        let began = Instant::now();
        let mut samples = Vec::with_capacity(self.samples);
        while samples.len() < self.samples && (samples.len() < Self::LEAST || began.elapsed() < self.budget) {
            samples.push(once()?);
        }
        Ok(samples)
    }

    /// As [`repeat`](Self::repeat), where `once` may find that a repeat does not count. There may
    /// be none that does.
    pub(super) fn repeat_some(
        self,
        mut once: impl FnMut() -> Result<Option<f64>, SysError>,
    ) -> Result<Vec<f64>, SysError> {
        once()?;
        let began = Instant::now();
        let (mut samples, mut tries) = (Vec::with_capacity(self.samples), 0);
        while samples.len() < self.samples && (tries < Self::LEAST || began.elapsed() < self.budget) {
            samples.extend(once()?);
            tries += 1;
        }
        Ok(samples)
    }

    /// Repeats `round`, which adds a sample for each of many small things, until there are enough.
    /// The first round counts: its many samples outweigh its start.
    pub(super) fn rounds(
        self,
        mut round: impl FnMut(&mut Vec<f64>) -> Result<(), SysError>,
    ) -> Result<Vec<f64>, SysError> {
        let began = Instant::now();
        let mut samples = Vec::new();
        loop {
            let before = samples.len();
            round(&mut samples)?;
            if samples.len() == before || samples.len() >= self.samples || began.elapsed() >= self.budget {
                return Ok(samples);
            }
        }
    }
}

/// Nanoseconds of a call that may fail.
#[inline]
pub(super) fn timed<T>(call: impl FnOnce() -> Result<T, SysError>) -> Result<f64, SysError> {
    let began = Instant::now();
    let result = call();
    let took = began.elapsed();
    result.map(|_| took.as_nanos() as f64)
}

/// Nanoseconds of a call before and after which another thread ran beside this one; `None` where it
/// did not.
#[inline]
pub(super) fn timed_beside<T>(
    other: &Spinner,
    call: impl FnOnce() -> Result<T, SysError>,
) -> Result<Option<f64>, SysError> {
    let mut before = other.runs_now();
    if !before {
        // Both may be on one processor: a sleeper leaves it, and may wake on another.
        thread::sleep(Duration::from_micros(100));
        before = other.runs_now();
    }
    let took = timed(call)?;
    Ok((before && other.runs_now()).then_some(took))
}

/// Nanoseconds of what cannot fail.
#[inline]
pub(super) fn time(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_nanos() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_stop_at_the_count_or_the_time_but_never_before_three() {
        let effort = Effort { samples: 5, budget: Duration::from_secs(60), quick: true };
        let mut calls = 0;
        let samples = effort.repeat(|| {
            calls += 1;
            Ok(f64::from(calls))
        });
        assert_eq!(samples.unwrap(), [2.0, 3.0, 4.0, 5.0, 6.0], "the first does not count");
        let hurried = Effort { budget: Duration::ZERO, ..effort };
        assert_eq!(hurried.repeat(|| Ok(1.0)).unwrap().len(), 3);
        let mut rounds = 0;
        let samples = effort.rounds(|to| {
            rounds += 1;
            to.extend([1.0; 4]);
            Ok(())
        });
        assert_eq!((samples.unwrap().len(), rounds), (8, 2));
        assert_eq!(effort.rounds(|_| Ok(())).unwrap().len(), 0, "rounds without samples end");
        assert_eq!(
            hurried
                .rounds(|to| {
                    to.push(1.0);
                    Ok(())
                })
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn a_clock_takes_time() {
        assert!(time(|| std::thread::sleep(Duration::from_millis(2))) >= 2e6);
    }
}
