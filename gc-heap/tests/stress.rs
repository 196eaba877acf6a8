//! Four mutators on one shared graph while cycles follow each other: `examples/soak.rs` does the same for longer.

mod common;
mod soak;

use common::{deadline, factor};
use gc_heap::{Barrier, Mirror, Stress};
use soak::{Plan, run};

fn plan(barrier: Barrier, seed: u64) -> Plan {
    Plan {
        barrier,
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
    let _deadline = deadline("four mutators under stress");
    let wanted = cycles * u64::from(factor());
    let stats = run(plan, |stats| stats.cycles >= wanted);
    assert!(stats.verified_slots > 0 || !plan.verify);
    assert!(stats.relocations > 0, "{plan:?}: {stats:?}");
}

#[test]
fn four_mutators_verified() {
    cycles(&plan(Barrier::Load, 1), 100);
    cycles(&Plan { workers: 2, mirror: Mirror::MremapOldSizeZero, ..plan(Barrier::Load, 2) }, 100);
}

/// Verification stops the world for long: without it other interleavings come up.
#[test]
fn four_mutators_unverified() {
    cycles(&Plan { verify: false, ..plan(Barrier::Load, 3) }, 150);
    cycles(&Plan { verify: false, single_view: false, workers: 2, ..plan(Barrier::Load, 4) }, 150);
}

#[test]
fn four_mutators_stopping_the_world() {
    cycles(&plan(Barrier::StopTheWorld, 5), 60);
}

#[test]
fn four_mutators_with_the_page_barrier() {
    cycles(&plan(Barrier::Page, 6), 100);
    cycles(&Plan { workers: 2, mirror: Mirror::MremapOldSizeZero, ..plan(Barrier::Page, 7) }, 100);
    cycles(&Plan { verify: false, ..plan(Barrier::Page, 8) }, 150);
}
