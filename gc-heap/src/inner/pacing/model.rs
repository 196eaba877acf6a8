//! The arithmetic of pacing. Memory in blocks, time in seconds.

/// Share of a new measurement in a smoothed value.
const NEW: f64 = 0.3;

/// Seconds of allocation kept free for what the prediction misses: a late wake-up, a burst. Limited
/// by [`Model::wanted`].
const MARGIN: f64 = 0.010;

/// Part of a processor that the collector may take for beginning earlier than expected: enough for
/// a cycle that takes twice as long, as one does that has to share its processor, where cycles are
/// short beside the time between them.
const CHEAP: f64 = 0.02;

/// Until something has been marked: what a block of live objects costs, at a nanosecond a byte.
const COST: f64 = 65.536e-6;

/// Number of live blocks above which a cycle's time says more about the cost per block than about
/// the fixed cost.
const ENOUGH_LIVE: f64 = 16.0;

pub(crate) struct Model {
    blocks: f64,
    /// Blocks allocated per second: smoothed, and in the last interval.
    rate: f64,
    last_rate: f64,
    /// A cycle takes `fixed`, and `cost` for each live block; and the deviation of that prediction.
    fixed: f64,
    cost: f64,
    deviation: f64,
    /// Fraction of the memory allocated between two markings by which the live memory grows: 0
    /// to 1.
    growth: f64,
    /// Confidence in the prediction from the cycles so far, 0 to 1; and confidence in the measured
    /// cost. A cycle before which hardly anything was allocated says little about growth, and one
    /// that finds nothing live says little about the cost.
    known: f64,
    cost_known: f64,
    /// Allocated between the last two markings.
    allocated: f64,
    /// Live at the last marking, and used at the end of its cycle.
    live: f64,
    used: f64,
    /// Blocks that mutators take in a cycle for objects that they evacuate: those are in use beside
    /// the blocks that they empty, until the collector has come to these.
    copied: f64,
}

/// Weight of a measurement against a prior estimate that counts as `prior`.
fn weight(measured: f64, prior: f64) -> f64 {
    measured / (measured + prior)
}

impl Model {
    pub(crate) fn new(blocks: usize) -> Model {
        Model {
            blocks: blocks as f64,
            rate: 0.0,
            last_rate: 0.0,
            fixed: 0.0,
            cost: COST,
            deviation: 0.0,
            growth: 1.0,
            known: 0.0,
            cost_known: 0.0,
            allocated: 0.0,
            live: 0.0,
            used: 0.0,
            copied: 0.0,
        }
    }

    /// Records that blocks were allocated in an interval of so many seconds, which are not 0.
    ///
    /// The rate is wanted for the time of a cycle, so an interval counts by its part of that time:
    /// one as long as a cycle counts six times as much as all before it together. (By number, a
    /// program that has become ten times slower would be taken for fast until ten intervals are
    /// over, and collected from end to end until then, because a cycle is one interval.)
    pub(crate) fn took(&mut self, blocks: f64, seconds: f64) {
        let rate = blocks / seconds;
        let cycle = (self.fixed + self.cost * self.live).max(MARGIN);
        let new = NEW.max(1.0 - (-2.0 * seconds / cycle).exp());
        self.rate = if self.rate == 0.0 { rate } else { self.rate + new * (rate - self.rate) };
        self.last_rate = rate;
    }

    /// Records that a marking begins, and how many blocks were allocated since the one before.
    pub(crate) fn marks(&mut self, allocated: f64) {
        self.allocated = allocated;
    }

    /// Records the end of a cycle: its duration, the live memory it found in blocks, and the blocks
    /// in use.
    pub(crate) fn ended(&mut self, seconds: f64, live: f64, used: f64) {
        let off = (seconds - self.fixed - self.cost * live).abs();
        self.deviation += NEW * self.known * (off - self.deviation);
        if live > 0.0 {
            let share = weight(live, ENOUGH_LIVE);
            let new = NEW.max(1.0 - self.cost_known);
            self.cost += share * new * ((seconds - self.fixed).max(0.0) / live - self.cost);
            self.cost_known += share * (1.0 - self.cost_known);
        }
        self.fixed += NEW * ((seconds - self.cost * live).max(0.0) - self.fixed);
        // Each thread allocates one block after a cycle, however little it needs.
        let telling = self.allocated - self.blocks / 64.0;
        if telling > 0.0 {
            let share = weight(telling, self.blocks / 4.0);
            let growth = ((live - self.live) / self.allocated).clamp(0.0, 1.0);
            self.growth += share * (growth - self.growth);
            self.known += share * (1.0 - self.known);
        }
        (self.live, self.used) = (live, used);
    }

    /// As [`ended`](Self::ended), of a young cycle: the next one does not mark again what has been
    /// promoted.
    pub(crate) fn ended_young(&mut self, seconds: f64, survived: f64, stays: f64, used: f64) {
        self.ended(seconds, survived, used);
        self.live = stays;
    }

    /// Records the blocks in use at the end of a cycle of another kind.
    pub(crate) fn uses(&mut self, used: f64) {
        self.used = used;
    }

    /// Records how many blocks mutators have taken for copies in a cycle.
    pub(crate) fn copied(&mut self, blocks: f64) {
        self.copied = blocks.max(self.copied + NEW * (blocks - self.copied));
    }

    /// Of the marking that begins: the live blocks that it is expected to find, the seconds that it
    /// will take for them, and those that a cycle takes besides.
    pub(super) fn expects(&self) -> (f64, f64, f64) {
        let live = self.live + self.growth * self.allocated;
        (live, self.cost * live, self.fixed)
    }

    /// The number of free blocks below which a cycle should begin, if `least` must be left at its
    /// end.
    ///
    /// While it runs it takes `rate * (fixed + cost * live)` blocks, and the later it begins, the
    /// more there is to mark: `live = self.live + growth * (blocks - wanted - used)`. The margin
    /// for prediction errors is at most half of the remaining free memory. So however long the
    /// margin is compared with a cycle, half of the free memory is used before the next one begins.
    /// It lasts for the time of a second cycle where that is cheap: who begins by a part of the
    /// time between cycles earlier has more of them by this part.
    pub(crate) fn wanted(&self, least: f64) -> f64 {
        let rate = self.rate.max(self.last_rate);
        let free = (self.blocks - self.used).max(0.0);
        let marks_all = rate * (self.fixed + self.cost * (self.live + self.growth * free));
        let allocates =
            (marks_all / (1.0 + rate * self.cost * self.growth)).max(rate * (self.fixed + self.cost * self.live));
        let expected = allocates + self.copied;
        let cycle = rate * (self.fixed + self.cost * self.live);
        let again = cycle.min(CHEAP * free * free / cycle.max(1.0));
        let hedge = (rate * (2.0 * self.deviation + MARGIN)).max(again);
        // As long as confidence is low, half of the heap is used first.
        let unknown = (1.0 - self.known) * self.blocks / 2.0 - expected;
        let most = (free - least - expected).max(0.0) / 2.0;
        least + expected + hedge.max(unknown).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: f64 = 10.0;

    /// A program that takes blocks at a rate, with so many alive, and a collector that needs so
    /// long for each of them.
    struct Program {
        rate: f64,
        live: f64,
        fixed: f64,
        cost: f64,
    }

    impl Program {
        /// Cycles while it takes so many blocks, and the least that was free when one ended.
        fn run(&self, blocks: f64, total: f64) -> (u32, f64) {
            let mut model = Model::new(blocks as usize);
            let (mut cycles, mut least) = (0, f64::MAX);
            let (mut taken, mut free) = (0.0, blocks - self.live);
            let mut since_marking = self.live;
            while taken < total {
                // Looks, then a cycle.
                while free > model.wanted(LEAST) {
                    let step = (blocks / 32.0).min(free - model.wanted(LEAST)).max(1.0);
                    (free, taken, since_marking) = (free - step, taken + step, since_marking + step);
                    model.took(step, step / self.rate);
                }
                model.marks(since_marking);
                let seconds = self.fixed + self.cost * self.live;
                since_marking = self.rate * seconds;
                taken += since_marking;
                least = f64::min(least, free - since_marking);
                free = blocks - self.live - since_marking;
                model.ended(seconds, self.live, blocks - free);
                cycles += 1;
            }
            (cycles, least)
        }
    }

    /// 10 GB/s taken, half a millisecond a cycle: beside the 10 ms of the margin, which are most of
    /// the heap, next to nothing.
    #[test]
    fn short_cycles_do_not_follow_one_another() {
        for live in [0.0, 512.0, 1024.0, 1600.0] {
            let blocks = 2048.0;
            let program = Program { rate: 150_000.0, live, fixed: 0.0005, cost: 1e-8 };
            let total = 80_000.0;
            let (cycles, _) = program.run(blocks, total);
            let baseline = total / (blocks - live - LEAST);
            assert!(
                f64::from(cycles) < 3.0 * baseline + 3.0,
                "{live} live: {cycles} cycles, the baseline has {baseline:.0}"
            );
        }
    }

    /// Whatever the load, memory lasts until the cycle has ended; where it cannot, cycles follow
    /// one another.
    #[test]
    fn memory_lasts_for_a_cycle() {
        for (rate, live, cost) in [(1000.0, 500.0, 2e-5), (15_000.0, 500.0, 2e-5), (15_000.0, 600.0, 4e-5)] {
            let (_, least) = Program { rate, live, fixed: 0.001, cost }.run(2048.0, 50_000.0);
            assert!(least >= 0.0, "{least} blocks short with {live} live at {rate} a second");
        }
    }

    /// Blocks of 64 KiB in 1 GiB, of which 650 MiB live; 1,500 are allocated a second, and a cycle
    /// takes 0.45 s. One of them takes 0.7 s, for once.
    #[test]
    fn memory_lasts_for_a_cycle_that_has_to_share_its_processor() {
        let program = Program { rate: 1500.0, live: 10_400.0, fixed: 0.0, cost: 0.45 / 10_400.0 };
        let mut model = Model::new(16_384);
        model.took(512.0, 512.0 / program.rate);
        for _ in 0..20 {
            model.marks(4000.0);
            model.ended(program.cost * program.live, program.live, program.live + 675.0);
        }
        let wanted = model.wanted(LEAST);
        assert!(wanted - LEAST > 0.7 * program.rate, "{wanted} blocks last for {} s", wanted / program.rate);
        // Where cycles take most of the time, many more of them would not be cheap.
        let busy = |rate: f64| {
            let mut model = Model::new(16_384);
            model.took(512.0, 512.0 / rate);
            for _ in 0..20 {
                model.marks(4000.0);
                model.ended(0.3, 10_400.0, 12_000.0);
            }
            (model.wanted(LEAST) - LEAST - 0.3 * rate) / rate
        };
        assert!((0.01..0.02).contains(&busy(9000.0)), "{} s beside 0.3", busy(9000.0));
    }

    /// What is there before anything lives says nothing of what comes.
    #[test]
    fn cycles_that_find_nothing_change_nothing() {
        for empty in [1, 10, 800] {
            let (mut model, mut fresh) = (Model::new(1024), Model::new(1024));
            for _ in 0..empty {
                model.took(0.0, 0.001);
                model.marks(1.0);
                model.ended(0.00005, 0.0, 1.0);
            }
            assert!(model.wanted(LEAST) > 400.0, "{empty} empty cycles: {} blocks", model.wanted(LEAST));
            for model in [&mut model, &mut fresh] {
                (0..20).for_each(|_| model.took(32.0, 0.002));
            }
            assert!(model.wanted(LEAST) >= 0.95 * fresh.wanted(LEAST));
        }
    }

    /// What grows costs more to mark than it did the last time.
    #[test]
    fn what_is_to_be_marked_by_then_counts() {
        let mut model = Model::new(4096);
        model.took(128.0, 0.016);
        model.marks(1000.0);
        model.ended(0.03, 1000.0, 1000.0);
        // All of it lives, and so does what comes: at the end of what is free 30 us for each
        // of 4096.
        let grows = model.wanted(LEAST);
        let mut steady = Model::new(4096);
        steady.took(128.0, 0.016);
        for _ in 0..10 {
            steady.marks(1000.0);
            steady.ended(0.03, 1000.0, 1000.0);
        }
        let steady = steady.wanted(LEAST);
        assert!(grows > 2.0 * steady && steady < 500.0, "{grows} against {steady}");
    }

    /// Blocks of 64 KiB in 1 GiB, of which 670 MiB live; 18,000 are allocated a second while the
    /// heap is filled, and 1,500 afterwards. A cycle is one interval.
    #[test]
    fn a_program_that_slows_down_is_believed_within_two_cycles() {
        let wanted = |first: f64| {
            let mut model = Model::new(16_384);
            (0..8).for_each(|_| model.took(512.0, 512.0 / first));
            for _ in 0..4 {
                model.marks(3000.0);
                model.ended(0.45, 10_700.0, 12_000.0);
            }
            (0..2).for_each(|_| model.took(675.0, 0.45));
            model.wanted(LEAST)
        };
        let (slowed_down, always_slow) = (wanted(18_000.0), wanted(1500.0));
        assert!(slowed_down < 1.5 * always_slow, "{slowed_down} blocks, and {always_slow} of one that was never fast");
        assert!(always_slow < 1500.0, "{always_slow}: 675 for a cycle");
    }

    /// What mutators copy to is not free for new objects meanwhile.
    #[test]
    fn room_for_copies_is_kept() {
        let with = |copies: &[f64]| {
            let mut model = Model::new(4096);
            for &blocks in copies {
                model.took(128.0, 0.016);
                model.marks(1000.0);
                model.ended(0.03, 1000.0, 1000.0);
                model.copied(blocks);
            }
            model.wanted(LEAST)
        };
        let (none, some) = (with(&[0.0; 10]), with(&[200.0; 10]));
        assert!((some - none - 200.0).abs() < 1.0, "{none}, {some}");
        assert!(with(&[0.0, 0.0, 200.0]) - with(&[0.0; 3]) > 199.0, "at once");
        assert!(with(&[200.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]) - with(&[0.0; 7]) < 50.0, "and not for ever");
    }

    /// No stretch of luck makes the prediction end: it is looked at again as memory is taken.
    #[test]
    fn a_program_that_takes_more_begins_earlier() {
        let mut model = Model::new(4096);
        for _ in 0..50 {
            model.took(100.0, 10.0);
            model.marks(2000.0);
            model.ended(0.02, 800.0, 900.0);
        }
        let calm = model.wanted(LEAST);
        model.took(128.0, 0.0064);
        assert!(calm < 20.0 && model.wanted(LEAST) > 400.0, "{calm}, then {}", model.wanted(LEAST));
    }
}
