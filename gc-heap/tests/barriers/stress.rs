//! Four mutators on one shared graph while cycles follow each other: `examples/soak.rs` does the
//! same for longer.

use crate::common::{backing, factor, generations};
use crate::harness::{Tests, tests};
use crate::soak::{Plan, run};
use gc_heap::{Barrier, Mirror, Stress};

fn plan(barrier: Barrier, seed: u64) -> Plan {
    Plan {
        barrier,
        backing: backing(),
        generations: generations(),
        mirror: Mirror::MmapMemfd,
        workers: 1,
        mutators: 4,
        max_bytes: 12 << 20,
        verify: true,
        single_view: true,
        stress: Stress { cycle_every: 500, delay_one_in: 64, seed },
        seed,
    }
}

fn cycles(plan: &Plan, cycles: u64) {
    let wanted = cycles * u64::from(factor());
    let stats = run(plan, |stats| stats.cycles >= wanted);
    assert!(stats.verified_slots > 0 || !plan.verify);
    assert!(stats.relocations > 0, "{plan:?}: {stats:?}");
}

pub(crate) fn four_mutators_verified(barrier: Barrier) {
    cycles(&plan(barrier, 1), 80);
    cycles(&Plan { workers: 2, mirror: Mirror::MremapOldSizeZero, ..plan(barrier, 2) }, 80);
}

/// Verification stops the world for long: without it other interleavings come up.
pub(crate) fn four_mutators_unverified(barrier: Barrier) {
    cycles(&Plan { verify: false, ..plan(barrier, 3) }, 150);
    cycles(&Plan { verify: false, single_view: false, workers: 2, ..plan(barrier, 4) }, 150);
}

pub(crate) fn four_mutators_stopping_the_world() {
    cycles(&plan(Barrier::StopTheWorld, 5), 60);
}

pub(crate) const TESTS: Tests = Tests {
    concurrent: tests![four_mutators_verified, four_mutators_unverified],
    once: tests![four_mutators_stopping_the_world],
    ..Tests::NONE
};
