//! Pacing: a cycle begins when the free memory will just last until it has freed some.

use crate::config::Barrier;
use crate::shared::Shared;
use crate::space::BLOCK_BYTES;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What recent cycles and the allocation between them were like.
pub(crate) struct Pacing {
    /// Blocks taken a second: smoothed, and in the last interval.
    rate: f64,
    last_rate: f64,
    /// Seconds from the beginning of a cycle to its end: smoothed, and its deviation.
    duration: f64,
    deviation: f64,
    measured: Option<(Instant, usize)>,
    begun: Instant,
}

/// Share of a new measurement in a smoothed value.
const NEW: f64 = 0.3;

/// Seconds of allocation kept in hand for what the prediction does not see: a late wake-up, a burst.
const MARGIN_S: f64 = 0.010;

impl Pacing {
    pub(crate) fn new(_shared: &Shared) -> Pacing {
        Pacing { rate: 0.0, last_rate: 0.0, duration: 0.0, deviation: 0.0, measured: None, begun: Instant::now() }
    }

    /// Before anything has been measured: half of the heap is used first.
    pub(crate) fn first_trigger(&self, shared: &Shared) -> usize {
        match shared.config.barrier {
            Barrier::Load | Barrier::Page => shared.blocks.len() / 2,
            Barrier::StopTheWorld => least(shared),
        }
    }

    pub(crate) fn cycle_begins(&mut self, shared: &Shared) {
        self.begun = Instant::now();
        self.measure(shared);
    }

    fn measure(&mut self, shared: &Shared) {
        let (now, taken) = (Instant::now(), shared.free.taken());
        if let Some((then, before)) = self.measured {
            let seconds = now.duration_since(then).as_secs_f64();
            if seconds < 0.001 {
                return;
            }
            self.last_rate = (taken - before) as f64 / seconds;
            self.rate = if self.rate == 0.0 { self.last_rate } else { self.rate + NEW * (self.last_rate - self.rate) };
        }
        self.measured = Some((now, taken));
    }

    /// The number of free blocks below which the next cycle begins.
    pub(crate) fn cycle_ended(&mut self, shared: &Shared) -> usize {
        self.measure(shared);
        let seconds = self.begun.elapsed().as_secs_f64();
        if self.duration == 0.0 {
            self.duration = seconds;
        }
        self.deviation += NEW * ((seconds - self.duration).abs() - self.deviation);
        self.duration += NEW * (seconds - self.duration);
        if shared.config.barrier == Barrier::StopTheWorld {
            return least(shared);
        }
        let rate = self.rate.max(self.last_rate);
        let expected = rate * (self.duration + 2.0 * self.deviation + MARGIN_S);
        let wanted = expected as usize + least(shared);
        let most = shared.blocks.len() * 3 / 4;
        if shared.pages.is_none() {
            return wanted.min(most);
        }
        // While more than this is free a plan relocates nothing, and where no block dies whole the cycle was for nothing.
        let live = shared.free.live_bytes() as usize / BLOCK_BYTES;
        let useless = shared.blocks.len().saturating_sub(live) / 100 * super::plan::ENOUGH_FREE;
        (wanted + destinations(shared, expected)).min(most).min(useless.max(wanted))
    }
}

/// Page barrier: free blocks that a flip needs to copy to, if it is to gain what will be allocated until the next one.
///
/// `D` blocks take in sources of density `r` and gain `D (1/r - 1)`. Never more than a quarter of the heap is kept for this:
/// where that does not do, cycles follow one another, and in the end a compaction in a stop.
fn destinations(shared: &Shared, expected: f64) -> usize {
    let Some(pages) = &shared.pages else { return 0 };
    let density = f64::from(pages.density.load(Ordering::Relaxed)) / 1000.0;
    let wanted = expected * density / (1.0 - density).max(0.05);
    (wanted as usize).min(shared.blocks.len() / 4)
}

/// Blocks that must be left in any case: the reserve, and a few for each mutator so that none stalls on its way.
fn least(shared: &Shared) -> usize {
    let mutators = shared.mutators.lock().len();
    let few = (shared.free.reserve() + 3 * mutators.max(1) + 1).min(shared.blocks.len() / 4);
    debug_assert!(few * BLOCK_BYTES <= shared.config.max_bytes);
    few
}
