//! Tests as trials: one for each barrier that the test is about.

use crate::common::{deadline, set_backing, set_generations, set_trial};
use gc_heap::{Backing, Barrier, Heap, MIN_HEAP_BYTES};
use libtest_mimic::Trial;

/// A test's name and body.
pub(crate) type Test<F> = (&'static str, F);

/// The heaps that a trial is about.
#[derive(Clone, Copy, PartialEq)]
struct Sort {
    barrier: Barrier,
    backing: Backing,
    generations: bool,
}

impl Sort {
    const fn of(barrier: Barrier) -> Sort {
        Sort { barrier, backing: Backing::Memfd, generations: false }
    }

    const LOAD: Sort = Sort::of(Barrier::Load);
    const STOP: Sort = Sort::of(Barrier::StopTheWorld);
    const PAGE: Sort = Sort::of(Barrier::Page);
    const ANONYMOUS: Sort = Sort { backing: Backing::Anonymous, ..Sort::PAGE };
    const GENERATIONS: Sort = Sort { generations: true, ..Sort::LOAD };

    fn name(self) -> &'static str {
        match self {
            Sort::LOAD => " [load]",
            Sort::STOP => " [stop-the-world]",
            Sort::PAGE => " [page]",
            Sort::ANONYMOUS => " [page, anonymous]",
            _ => " [load, generations]",
        }
    }
}

/// The tests of a module, by the barriers they run with.
#[derive(Clone, Copy)]
pub(crate) struct Tests {
    /// With every barrier.
    pub(crate) every: &'static [Test<fn(Barrier)>],
    /// With every barrier, where the heap is made of a file.
    pub(crate) file: &'static [Test<fn(Barrier)>],
    /// With every barrier that collects while mutators run.
    pub(crate) concurrent: &'static [Test<fn(Barrier)>],
    /// With the page barrier alone.
    pub(crate) page: &'static [Test<fn()>],
    /// Once: no barrier has a part in it.
    pub(crate) once: &'static [Test<fn()>],
}

impl Tests {
    /// No tests yet: for `..Tests::NONE`.
    pub(crate) const NONE: Tests = Tests { every: &[], file: &[], concurrent: &[], page: &[], once: &[] };
}

/// Functions with their names.
macro_rules! tests {
    ($($test:ident),* $(,)?) => { &[$((stringify!($test), $test)),*] };
}
pub(crate) use tests;

/// Why no heap with the page barrier can be built here.
fn page_barrier_refused(backing: Backing) -> Option<String> {
    let probe = Heap::builder().max_bytes(MIN_HEAP_BYTES).barrier(Barrier::Page).backing(backing).name("probe");
    probe.build().err().map(|error| error.to_string())
}

/// All trials. `say`: a line on what cannot run here, if anything.
pub(crate) fn trials(modules: &[(&str, Tests)], say: bool) -> Vec<Trial> {
    let refused = [Backing::Memfd, Backing::Anonymous].map(|backing| (backing, page_barrier_refused(backing)));
    let trial = |module: &str, test: &str, sort: Option<Sort>, run: Box<dyn FnOnce() + Send>| {
        let barrier = sort.map(|sort| sort.barrier);
        let backing = sort.map_or(Backing::Memfd, |sort| sort.backing);
        let generations = sort.is_some_and(|sort| sort.generations);
        let suffix = sort.map_or("", Sort::name);
        let ignored =
            barrier == Some(Barrier::Page) && refused.iter().any(|(refused, why)| *refused == backing && why.is_some());
        let name = format!("{module}::{test}{suffix}");
        let hangs = name.clone();
        // A panic is caught by the harness and fails the trial; one that does not end ends all.
        let body = move || {
            set_trial(&hangs);
            let _deadline = deadline(hangs);
            set_backing(backing);
            set_generations(generations);
            run();
            Ok(())
        };
        Trial::test(name, body).with_ignored_flag(ignored)
    };
    let mut trials = Vec::new();
    for &(module, tests) in modules {
        let (load, stop, page, anonymous, generations) =
            (Sort::LOAD, Sort::STOP, Sort::PAGE, Sort::ANONYMOUS, Sort::GENERATIONS);
        let every = [load, stop, page, generations, anonymous];
        let concurrent = [load, page, generations, anonymous];
        for (list, barriers) in
            [(tests.every, &every[..]), (tests.file, &every[..4]), (tests.concurrent, &concurrent[..])]
        {
            for &(name, run) in list {
                trials.extend(barriers.iter().map(|&s| trial(module, name, Some(s), Box::new(move || run(s.barrier)))));
            }
        }
        for sort in [page, anonymous] {
            trials.extend(tests.page.iter().map(|&(name, run)| trial(module, name, Some(sort), Box::new(run))));
        }
        trials.extend(tests.once.iter().map(|&(name, run)| trial(module, name, None, Box::new(run))));
    }
    let skipped = trials.iter().filter(|trial| trial.has_ignored_flag()).count();
    for (backing, why) in refused.into_iter().filter(|_| say) {
        if let Some(why) = why {
            println!("\n{skipped} tests of the page barrier are IGNORED, they cannot run here ({backing:?}): {why}");
        }
    }
    trials
}
