//! The arithmetic of pacing. Memory in blocks, time in seconds.

/// Share of a new measurement in a smoothed value.
const NEW: f64 = 0.3;

/// Seconds of allocation kept in hand for what the prediction does not see: a late wake-up, a burst. As far as there are:
/// [`Model::wanted`].
const MARGIN: f64 = 0.010;

/// Until something has been marked: what a block of live objects costs, at a nanosecond a byte.
const COST: f64 = 65.536e-6;

/// Live blocks from which on a cycle says more of their cost than of what every cycle costs.
const ENOUGH_LIVE: f64 = 16.0;

pub(super) struct Model {
    blocks: f64,
    /// Blocks taken a second: smoothed, and in the last interval.
    rate: f64,
    last_rate: f64,
    /// A cycle takes `fixed`, and `cost` for each live block; by how much it was off.
    fixed: f64,
    cost: f64,
    deviation: f64,
    /// Of what is allocated between two markings, how much the live memory grows by: 0 to 1.
    growth: f64,
    /// How far the cycles until now say what to expect, 0 to 1; and how far the cost has been measured. A cycle before which hardly
    /// anything was allocated says as little of growth as one that finds nothing says of the cost.
    known: f64,
    cost_known: f64,
    /// Allocated between the last two markings.
    allocated: f64,
    /// Live at the last marking, and used at the end of its cycle.
    live: f64,
    used: f64,
}

/// How much a measurement of so many says beside what is expected without it, which counts as much as `prior`.
fn weight(measured: f64, prior: f64) -> f64 {
    measured / (measured + prior)
}

impl Model {
    pub(super) fn new(blocks: usize) -> Model {
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
        }
    }

    /// In some interval so many blocks a second were taken.
    pub(super) fn took(&mut self, rate: f64) {
        self.rate = if self.rate == 0.0 { rate } else { self.rate + NEW * (rate - self.rate) };
        self.last_rate = rate;
    }

    /// A marking begins; since the one before so many blocks were taken.
    pub(super) fn marks(&mut self, allocated: f64) {
        self.allocated = allocated;
    }

    /// A cycle has ended: how long it took, how many blocks' worth it found live, and how many blocks are used.
    pub(super) fn ended(&mut self, seconds: f64, live: f64, used: f64) {
        let off = (seconds - self.fixed - self.cost * live).abs();
        self.deviation += NEW * self.known * (off - self.deviation);
        if live > 0.0 {
            let share = weight(live, ENOUGH_LIVE);
            let new = NEW.max(1.0 - self.cost_known);
            self.cost += share * new * ((seconds - self.fixed).max(0.0) / live - self.cost);
            self.cost_known += share * (1.0 - self.cost_known);
        }
        self.fixed += NEW * ((seconds - self.cost * live).max(0.0) - self.fixed);
        // Threads take a block each after a cycle, whatever they allocate.
        let telling = self.allocated - self.blocks / 64.0;
        if telling > 0.0 {
            let share = weight(telling, self.blocks / 4.0);
            let growth = ((live - self.live) / self.allocated).clamp(0.0, 1.0);
            self.growth += share * (growth - self.growth);
            self.known += share * (1.0 - self.known);
        }
        (self.live, self.used) = (live, used);
    }

    /// The number of free blocks below which a cycle should begin, where `least` must be left at its end.
    ///
    /// While it runs it takes `rate * (fixed + cost * live)` blocks, and the later it begins, the more there is to mark:
    /// `live = self.live + growth * (blocks - wanted - used)`. What is wanted beyond that, because predictions err, is half of what is free
    /// besides at most. So however long the margin is beside a cycle, half of the free memory is used before the next one begins.
    pub(super) fn wanted(&self, least: f64) -> f64 {
        let rate = self.rate.max(self.last_rate);
        let free = (self.blocks - self.used).max(0.0);
        let marks_all = rate * (self.fixed + self.cost * (self.live + self.growth * free));
        let expected =
            (marks_all / (1.0 + rate * self.cost * self.growth)).max(rate * (self.fixed + self.cost * self.live));
        let hedge = rate * (2.0 * self.deviation + MARGIN);
        // As long as little is known, half of the heap is used first.
        let unknown = (1.0 - self.known) * self.blocks / 2.0 - expected;
        let most = (free - least - expected).max(0.0) / 2.0;
        least + expected + hedge.max(unknown).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: f64 = 10.0;

    /// A program that takes blocks at a rate, with so many alive, and a collector that needs so long for each of them.
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
                    model.took(self.rate);
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

    /// 10 GB/s taken, half a millisecond a cycle: beside the 10 ms of the margin, which are most of the heap, next to nothing.
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

    /// Whatever the load, memory lasts until the cycle has ended; where it cannot, cycles follow one another.
    #[test]
    fn memory_lasts_for_a_cycle() {
        for (rate, live, cost) in [(1000.0, 500.0, 2e-5), (15_000.0, 500.0, 2e-5), (15_000.0, 600.0, 4e-5)] {
            let (_, least) = Program { rate, live, fixed: 0.001, cost }.run(2048.0, 50_000.0);
            assert!(least >= 0.0, "{least} blocks short with {live} live at {rate} a second");
        }
    }

    /// What is there before anything lives says nothing of what comes.
    #[test]
    fn cycles_that_find_nothing_change_nothing() {
        for empty in [1, 10, 800] {
            let (mut model, mut fresh) = (Model::new(1024), Model::new(1024));
            for _ in 0..empty {
                model.took(0.0);
                model.marks(1.0);
                model.ended(0.00005, 0.0, 1.0);
            }
            assert!(model.wanted(LEAST) > 400.0, "{empty} empty cycles: {} blocks", model.wanted(LEAST));
            for model in [&mut model, &mut fresh] {
                (0..20).for_each(|_| model.took(16_000.0));
            }
            assert!(model.wanted(LEAST) >= 0.95 * fresh.wanted(LEAST));
        }
    }

    /// What grows costs more to mark than it did the last time.
    #[test]
    fn what_is_to_be_marked_by_then_counts() {
        let mut model = Model::new(4096);
        model.took(8000.0);
        model.marks(1000.0);
        model.ended(0.03, 1000.0, 1000.0);
        // All of it lives, and so does what comes: at the end of what is free 30 us for each of 4096.
        let grows = model.wanted(LEAST);
        let mut steady = Model::new(4096);
        steady.took(8000.0);
        for _ in 0..10 {
            steady.marks(1000.0);
            steady.ended(0.03, 1000.0, 1000.0);
        }
        assert!(grows > 600.0 && steady.wanted(LEAST) < 400.0, "{grows} against {}", steady.wanted(LEAST));
    }

    /// No stretch of luck makes the prediction end: it is looked at again as memory is taken.
    #[test]
    fn a_program_that_takes_more_begins_earlier() {
        let mut model = Model::new(4096);
        for _ in 0..50 {
            model.took(10.0);
            model.marks(2000.0);
            model.ended(0.02, 800.0, 900.0);
        }
        let calm = model.wanted(LEAST);
        model.took(20_000.0);
        assert!(calm < 20.0 && model.wanted(LEAST) > 400.0, "{calm}, then {}", model.wanted(LEAST));
    }
}
