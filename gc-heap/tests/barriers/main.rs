//! The tests of a heap, once for each barrier: `cargo test -p gc-heap --test barriers`.
//!
//! A name is `module::test [barrier]`; a part of it chooses, as in
//! `cargo test -p gc-heap --test barriers page`. Where this machine refuses what the page barrier
//! needs, its tests count as ignored, and a line says what was refused.

mod addresses;
mod any;
mod attacks;
mod census;
mod child;
#[path = "../common/mod.rs"]
mod common;
mod control_group;
mod coroutines;
mod cycle;
mod dumps;
mod ephemeron;
mod events;
mod external;
mod extremes;
mod fibers;
mod finalize;
mod foreign;
mod fork;
mod fragments;
mod giving_back;
mod grow;
mod harness;
mod huge;
mod identity_hash;
mod intern;
mod kept;
mod late;
mod limits;
mod losses;
mod marking;
mod memory;
mod model;
#[path = "../model_graph/mod.rs"]
mod model_graph;
mod pace;
mod page;
mod pins;
mod placed;
mod polls;
#[path = "../random/mod.rs"]
mod random;
mod realtime;
mod refusals;
mod roots;
mod sizes;
mod snapshot;
#[path = "../soak/mod.rs"]
mod soak;
mod sparse;
mod stacks;
mod stats;
mod stress;
mod threads;
mod values;
mod weak;
mod weak_map;

use libtest_mimic::Arguments;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Ok(scene) = std::env::var(child::SCENE) {
        return child::play(&scene);
    }
    let modules = [
        ("any", any::TESTS),
        ("attacks", attacks::TESTS),
        ("census", census::TESTS),
        ("child", child::TESTS),
        ("control_group", control_group::TESTS),
        ("coroutines", coroutines::TESTS),
        ("cycle", cycle::TESTS),
        ("ephemeron", ephemeron::TESTS),
        ("events", events::TESTS),
        ("external", external::TESTS),
        ("extremes", extremes::TESTS),
        ("fibers", fibers::TESTS),
        ("finalize", finalize::TESTS),
        ("foreign", foreign::TESTS),
        ("fork", fork::TESTS),
        ("fragments", fragments::TESTS),
        ("grow", grow::TESTS),
        ("huge", huge::TESTS),
        ("late", late::TESTS),
        ("identity_hash", identity_hash::TESTS),
        ("intern", intern::TESTS),
        ("kept", kept::TESTS),
        ("limits", limits::TESTS),
        ("dumps", dumps::TESTS),
        ("addresses", addresses::TESTS),
        ("losses", losses::TESTS),
        ("marking", marking::TESTS),
        ("giving_back", giving_back::TESTS),
        ("memory", memory::TESTS),
        ("model", model::TESTS),
        ("pace", pace::TESTS),
        ("page::memory", page::memory::TESTS),
        ("page::objects", page::objects::TESTS),
        ("page::roots", page::roots::TESTS),
        ("page::share", page::share::TESTS),
        ("page::young", page::young::TESTS),
        ("pins", pins::TESTS),
        ("placed", placed::TESTS),
        ("polls", polls::TESTS),
        ("realtime", realtime::TESTS),
        ("refusals", refusals::TESTS),
        ("roots", roots::TESTS),
        ("sizes", sizes::TESTS),
        ("snapshot", snapshot::TESTS),
        ("sparse", sparse::TESTS),
        ("stacks", stacks::TESTS),
        ("stats", stats::TESTS),
        ("stress", stress::TESTS),
        ("threads", threads::TESTS),
        ("values", values::TESTS),
        ("weak", weak::TESTS),
        ("weak_map", weak_map::TESTS),
    ];
    common::print_unexpected_panics();
    common::print_stray_faults();
    let arguments = Arguments::from_args();
    libtest_mimic::run(&arguments, harness::trials(&modules, !arguments.list)).exit_code()
}
