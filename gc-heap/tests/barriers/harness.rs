//! Tests as trials: one for each barrier that the test is about.

use gc_heap::{Barrier, Heap, LEAST_HEAP_BYTES};
use libtest_mimic::Trial;

/// A test's name and body.
pub(crate) type Test<F> = (&'static str, F);

/// The tests of a module, by the barriers they run with.
#[derive(Clone, Copy)]
pub(crate) struct Tests {
    /// With every barrier.
    pub(crate) every: &'static [Test<fn(Barrier)>],
    /// With every barrier that collects while mutators run.
    pub(crate) concurrent: &'static [Test<fn(Barrier)>],
    /// With the page barrier alone.
    pub(crate) page: &'static [Test<fn()>],
    /// Once: no barrier has a part in it.
    pub(crate) once: &'static [Test<fn()>],
}

impl Tests {
    /// No tests yet: for `..Tests::NONE`.
    pub(crate) const NONE: Tests = Tests { every: &[], concurrent: &[], page: &[], once: &[] };
}

/// Functions with their names.
macro_rules! tests {
    ($($test:ident),* $(,)?) => { &[$((stringify!($test), $test)),*] };
}
pub(crate) use tests;

/// Why no heap with the page barrier can be built here.
fn page_barrier_refused() -> Option<String> {
    let probe = Heap::builder().max_bytes(LEAST_HEAP_BYTES).barrier(Barrier::Page).name("probe").build();
    probe.err().map(|error| error.to_string())
}

/// All trials. `say`: a line on what cannot run here, if anything.
pub(crate) fn trials(modules: &[(&str, Tests)], say: bool) -> Vec<Trial> {
    let refused = page_barrier_refused();
    let trial = |module: &str, test: &str, barrier: Option<Barrier>, run: Box<dyn FnOnce() + Send>| {
        let suffix = match barrier {
            Some(Barrier::Load) => " [load]",
            Some(Barrier::StopTheWorld) => " [stop-the-world]",
            Some(Barrier::Page) => " [page]",
            _ => "",
        };
        let ignored = barrier == Some(Barrier::Page) && refused.is_some();
        // A panic is caught by the harness and fails the trial.
        let body = move || {
            run();
            Ok(())
        };
        Trial::test(format!("{module}::{test}{suffix}"), body).with_ignored_flag(ignored)
    };
    let mut trials = Vec::new();
    for &(module, tests) in modules {
        let every = [Barrier::Load, Barrier::StopTheWorld, Barrier::Page];
        let concurrent = [Barrier::Load, Barrier::Page];
        for (list, barriers) in [(tests.every, &every[..]), (tests.concurrent, &concurrent[..])] {
            for &(name, run) in list {
                trials.extend(barriers.iter().map(|&b| trial(module, name, Some(b), Box::new(move || run(b)))));
            }
        }
        trials.extend(tests.page.iter().map(|&(name, run)| trial(module, name, Some(Barrier::Page), Box::new(run))));
        trials.extend(tests.once.iter().map(|&(name, run)| trial(module, name, None, Box::new(run))));
    }
    if let Some(why) = refused.filter(|_| say) {
        let skipped = trials.iter().filter(|trial| trial.has_ignored_flag()).count();
        println!("\n{skipped} tests of the page barrier are IGNORED, they cannot run here: {why}");
    }
    trials
}
