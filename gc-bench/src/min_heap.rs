//! `gc-bench minheap`: the least heap in which a workload can be done, by bisection.
//!
//! Time and space are traded: a collector that gets more memory collects less often, so figures of
//! two collectors at one size of heap say little where one of them needs more to work at all. Sizes
//! in multiples of the least heap make them comparable ([Blackburn et al.], OOPSLA 2006).
//!
//! [Blackburn et al.]: https://doi.org/10.1145/1167473.1167488

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::journal::this_build;
use crate::machine::Memory;
use crate::plan::{Plan, RunArgs, standard_runs};
use crate::session::{Meter, run_within};
use crate::size::{bytes, parse_count, parse_percent, three};

/// `gc-bench minheap`.
#[derive(Debug, Args)]
pub(crate) struct MinHeapArgs {
    #[command(flatten)]
    run: RunArgs,

    /// How far above the least heap the found one may be, such as 2%
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, default_value = "2%")]
    within: f64,

    /// A heap is large enough where so many runs in a row are done
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "2")]
    tries: u64,

    /// A run that takes so many times as long as one in the standard heap counts as one that is not
    /// done: it collects all the time
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "10")]
    patience: u64,

    /// Where each try is kept when it is over; the same command goes on behind the last one
    #[arg(long, value_name = "FILE", default_value = "gc-bench-minheap.tries")]
    keep: PathBuf,
}

/// A run that was tried, as a line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Try {
    /// What ran it: another build needs another heap.
    build: String,
    /// What was run, without its heap's size.
    settings: String,
    heap_bytes: u64,
    /// Which of the tries with this heap it is, from 1.
    number: u64,
    /// How long the run's process took; absent where the run was not done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    took_s: Option<f64>,
    /// And then why not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    why: Option<String>,
}

/// All tries of this build so far.
struct Tries {
    path: PathBuf,
    build: String,
    made: BTreeMap<(String, u64, u64), Try>,
}

impl Tries {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Failure::input(format!("cannot read {}: {e}", path.display()))),
        };
        let build = this_build()?;
        let (mut made, mut others) = (BTreeMap::new(), 0);
        // The last line may be cut, where the machine went down.
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        for line in whole.lines() {
            let Ok(of) = serde_json::from_str::<Try>(line) else { continue };
            if of.build != build {
                others += 1;
                continue;
            }
            made.insert((of.settings.clone(), of.heap_bytes, of.number), of);
        }
        if others > 0 {
            eprintln!("gc-bench: {others} tries of another build are not counted");
        }
        if !text.is_empty() && made.is_empty() && others == 0 {
            return Err(Failure::input(format!("{} has no tries: name another file with --keep", path.display())));
        }
        if whole.len() < text.len() {
            let cut = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(whole.len() as u64));
            cut.map_err(|e| Failure::input(format!("cannot write to {}: {e}", path.display())))?;
        }
        Ok(Self { path, build, made })
    }

    fn keep(&mut self, of: Try) -> Result<Try, Failure> {
        let mut line = serde_json::to_vec(&of).expect("plain data");
        line.push(b'\n');
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        let written = file.and_then(|mut file| file.write_all(&line));
        written.map_err(|e| Failure::run(format!("cannot write to {}: {e}", self.path.display())))?;
        self.made.insert((of.settings.clone(), of.heap_bytes, of.number), of.clone());
        Ok(of)
    }
}

/// The plan's settings without what changes from try to try.
fn settings(plan: &Plan) -> String {
    let mut plan = plan.clone();
    (plan.heap.heap_bytes, plan.repeat) = (0, 1);
    serde_json::to_string(&plan).expect("plain data")
}

/// Whether a run ended for lack of memory, and not by a fault of the program.
fn is_shortage(failure: &Failure) -> bool {
    let line = failure.line();
    let of_memory = ["out of memory", "OutOfMemoryError", "took longer than"];
    matches!(failure, Failure::Input(_)) || of_memory.iter().any(|part| line.contains(part))
}

/// Shorter limits would find out how fast a process starts.
const LEAST_PATIENCE: Duration = Duration::from_secs(3);

/// What a size of heap is rounded to: a block of this heap, and more than a page of any other.
const STEP: u64 = 64 << 10;

/// The size between a heap that is too small and one that is large enough; `None` where they are
/// near enough.
fn between(small: u64, large: u64, within: f64) -> Option<u64> {
    if large as f64 <= small as f64 * (1.0 + within) {
        return None;
    }
    let middle = ((small as f64 * large as f64).sqrt() as u64).next_multiple_of(STEP);
    (small < middle && middle < large).then_some(middle)
}

/// What was found for a plan.
struct Found {
    label: String,
    /// The least heap that was large enough.
    heap_bytes: u64,
    /// One that was not.
    too_small_bytes: u64,
    tries: usize,
}

/// The least heap, where `is_enough` says of a size whether it is; `lower` is not, or not worth a
/// try. `None`: not even `most` is.
fn bisect(
    lower: u64,
    standard: u64,
    most: u64,
    within: f64,
    mut is_enough: impl FnMut(u64) -> Result<bool, Failure>,
) -> Result<Option<(u64, u64)>, Failure> {
    let (mut small, mut large) = (lower, standard.max(lower + STEP));
    while !is_enough(large)? {
        small = large;
        if large >= most {
            return Ok(None);
        }
        large = (large * 2).min(most);
    }
    while let Some(middle) = between(small, large, within) {
        if is_enough(middle)? { large = middle } else { small = middle }
    }
    Ok(Some((small, large)))
}

/// Looks for the least heap of every plan.
pub(crate) fn min_heap(args: &MinHeapArgs, memory: Memory) -> Result<String, Failure> {
    let runs = standard_runs(&args.run)?;
    for plan in &runs.plans {
        plan.check(memory)?;
    }
    let mut tries = Tries::open(args.keep.clone())?;
    if !tries.made.is_empty() {
        eprintln!("gc-bench: {} tries were made before", tries.made.len());
    }
    let mut meter = Meter::new(runs.plans.len());
    let mut found = Vec::new();
    for plan in &runs.plans {
        meter.begin(&plan.label());
        let (label, settings) = (plan.label(), settings(plan));
        let mut limit = None;
        let mut made = 0;
        let mut is_enough = |heap_bytes: u64| {
            meter.show(&format!("a heap of {}", bytes(heap_bytes)), 0.0);
            for number in 1..=args.tries {
                made += 1;
                let key = (settings.clone(), heap_bytes, number);
                let of = match tries.made.get(&key) {
                    Some(of) => of.clone(),
                    None => {
                        let mut plan = plan.clone();
                        plan.heap.heap_bytes = heap_bytes;
                        let began = Instant::now();
                        let result = plan.check(memory).and_then(|()| run_within(&plan, limit, &mut meter));
                        let (took_s, why) = match result {
                            Ok(_) => (Some(began.elapsed().as_secs_f64()), None),
                            Err(failure) if is_shortage(&failure) => (None, Some(failure.line())),
                            Err(failure) => return Err(failure),
                        };
                        let build = tries.build.clone();
                        tries.keep(Try { build, settings: settings.clone(), heap_bytes, number, took_s, why })?
                    }
                };
                let Some(took_s) = of.took_s else { return Ok(false) };
                limit.get_or_insert(Duration::from_secs_f64(took_s * args.patience as f64).max(LEAST_PATIENCE));
            }
            Ok(true)
        };
        let lower = plan.work.min_live_bytes() / STEP * STEP;
        let most = memory.available_bytes / 2 / STEP * STEP;
        let least = bisect(lower, plan.heap.heap_bytes, most, args.within, &mut is_enough)?;
        let (too_small_bytes, heap_bytes) =
            least.ok_or_else(|| Failure::run(format!("{label}: not done in {}, half of the memory", bytes(most))))?;
        meter.end(&format!("{label}: {}", bytes(heap_bytes)));
        found.push(Found { label, heap_bytes, too_small_bytes, tries: made });
    }
    meter.finish();
    Ok(table(&found))
}

fn table(found: &[Found]) -> String {
    let width = found.iter().map(|of| of.label.chars().count()).max().unwrap_or(0);
    let mut text = format!("{:width$}  {:>12}  {:>12}  {:>5}\n", "", "least heap", "too small", "tries");
    for of in found {
        let (least, small) = (bytes(of.heap_bytes), bytes(of.too_small_bytes));
        let _ = writeln!(text, "{:width$}  {least:>12}  {small:>12}  {:>5}", of.label, of.tries);
    }
    let widest = found.iter().map(|of| of.heap_bytes as f64 / of.too_small_bytes.max(1) as f64 - 1.0);
    let widest = widest.fold(0.0, f64::max);
    let _ = writeln!(text, "the least heap lies between the two: at most {} % apart", three(widest * 100.0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A workload that needs so much.
    fn needs(least: u64, standard: u64, most: u64) -> (Option<(u64, u64)>, Vec<u64>) {
        let mut looked = Vec::new();
        let found = bisect(4 * MIB, standard, most, 0.02, |heap| {
            looked.push(heap);
            Ok(heap >= least)
        });
        (found.unwrap(), looked)
    }

    #[test]
    fn the_least_heap_is_found_in_few_tries() {
        for least in [5 * MIB, 37 * MIB + 12_345, 255 * MIB, 256 * MIB, 700 * MIB] {
            let (found, looked) = needs(least, 256 * MIB, 4096 * MIB);
            let (small, large) = found.unwrap();
            assert!(small < least && least <= large && large as f64 <= small as f64 * 1.02 + 2.0 * STEP as f64);
            assert!(looked.len() <= 12, "{}: {} tries", bytes(least), looked.len());
            assert!(looked.iter().all(|heap| heap.is_multiple_of(STEP)));
        }
        assert_eq!(needs(5000 * MIB, 256 * MIB, 4096 * MIB).0, None);
        assert_eq!(needs(0, 4 * MIB, 4096 * MIB).0, Some((4 * MIB, 4 * MIB + STEP)), "the lower bound is no heap");
    }

    #[test]
    fn what_was_tried_is_not_tried_again() {
        let path = std::env::temp_dir().join(format!("gc-bench-tries-{}", std::process::id()));
        let build = this_build().unwrap();
        let of = |number, took_s| {
            let (build, settings) = (build.clone(), "s".into());
            Try { build, settings, heap_bytes: MIB, number, took_s, why: None }
        };
        let mut tries = Tries::open(path.clone()).unwrap();
        tries.keep(of(1, Some(2.5))).unwrap();
        tries.keep(of(2, None)).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        for cut in 0..30 {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let made = Tries::open(path.clone()).unwrap().made;
            assert_eq!(made.len(), if cut == 0 { 2 } else { 1 }, "{cut}");
            assert_eq!(made[&("s".to_owned(), MIB, 1)], of(1, Some(2.5)));
        }
        fs::write(&path, whole.replace(&build, "another")).unwrap();
        assert!(Tries::open(path.clone()).unwrap().made.is_empty(), "of another build");
        fs::write(&path, "something else\n").unwrap();
        assert!(Tries::open(path.clone()).is_err_and(|e| e.line().contains("--keep")));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_fault_is_no_shortage() {
        assert!(is_shortage(&Failure::run("gcbench: out of memory: a heap of 4 MiB")));
        assert!(is_shortage(&Failure::run("x: its virtual machine ended: java.lang.OutOfMemoryError")));
        assert!(is_shortage(&Failure::input("a heap of 1 MiB cannot hold it")));
        assert!(!is_shortage(&Failure::run("gcbench: panic: index out of bounds")));
    }
}
