//! What pacing knows: recent cycles, and the allocation between them. `world::pacing` begins cycles
//! by it.

mod model;
mod throttle;

use self::model::Model;
pub(crate) use self::throttle::Throttle;
use std::time::{Duration, Instant};

/// An interval shorter than this, in seconds, says nothing of a rate.
const SHORTEST: f64 = 0.001;

/// If dead blocks alone give this share, in percent, nothing is relocated: no flip, and no slot
/// becomes stale.
pub(crate) const ENOUGH_FREE: usize = 60;

/// Model of recent cycles and of the allocation between them. Under a lock of its own, which is
/// held briefly.
pub(crate) struct Pacing {
    /// Of whole cycles, and of young ones.
    pub(crate) whole: Model,
    pub(crate) young: Model,
    /// When blocks were counted last, and how many had been allocated for new objects: what the
    /// collector takes to copy to is no allocation of the program's, and free again soon.
    measured: (Instant, usize),
    pub(crate) begun: Instant,
    /// Blocks allocated when the last whole marking began, and the last one.
    pub(crate) allocated_by_whole: usize,
    pub(crate) allocated: usize,
    /// Blocks that mutators had taken for copies when the last cycle began.
    pub(crate) copied: usize,
    /// Blocks in use when the last cycle ended, and those of them that were allocated before it.
    pub(crate) used: usize,
    pub(crate) lasting: usize,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Pacing {
    pub(crate) fn new(blocks: usize) -> Pacing {
        let now = Instant::now();
        let (whole, young) = (Model::new(blocks), Model::new(blocks));
        let [allocated_by_whole, allocated, copied, used, lasting] = [0; 5];
        Pacing {
            whole,
            young,
            measured: (now, 0),
            begun: now,
            allocated_by_whole,
            allocated,
            copied,
            used,
            lasting,
            took: Duration::ZERO,
        }
    }

    pub(crate) fn measure(&mut self, allocated: usize) {
        let (then, before) = self.measured;
        let now = Instant::now();
        let seconds = now.duration_since(then).as_secs_f64();
        if seconds >= SHORTEST {
            let blocks = (allocated - before) as f64;
            self.whole.took(blocks, seconds);
            self.young.took(blocks, seconds);
            self.measured = (now, allocated);
        }
    }
}
