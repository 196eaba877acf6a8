//! `gc-bench minheap`: the least heap in which a workload can be done, by bisection.
//!
//! Time and space are traded: a collector that gets more memory collects less often, so figures of
//! two collectors at one size of heap say little where one of them needs more to work at all. Sizes
//! in multiples of the least heap make them comparable ([Blackburn et al.], OOPSLA 2006).
//!
//! [Blackburn et al.]: https://doi.org/10.1145/1167473.1167488

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::failure::Failure;
use crate::machine::Memory;
use crate::plan::{Plan, RunArgs, Runs, standard_runs};
use crate::session::Meter;
use crate::size::{bytes, parse_count, parse_percent, three};
use crate::tries::Tries;

/// `gc-bench minheap`.
#[derive(Debug, Args)]
pub(crate) struct MinHeapArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,

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
    pub(crate) keep: PathBuf,
}

/// Shorter limits would find out how fast a process starts.
const LEAST_PATIENCE: Duration = Duration::from_secs(3);

/// What a size of heap is rounded to: a block of this heap, and more than a page of any other.
pub(crate) const STEP: u64 = 64 << 10;

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
pub(crate) struct Found {
    pub(crate) label: String,
    /// The least heap that was large enough.
    pub(crate) heap_bytes: u64,
    /// One that was not.
    pub(crate) too_small_bytes: u64,
    tries: usize,
    /// A run that takes longer collects all the time.
    pub(crate) limit: Option<Duration>,
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

/// Looks for the least heap of a plan.
pub(crate) fn least(
    args: &MinHeapArgs,
    plan: &Plan,
    tries: &mut Tries,
    memory: Memory,
    meter: &mut Meter,
) -> Result<Found, Failure> {
    let label = plan.label();
    meter.begin(&label);
    let (mut limit, mut made) = (None, 0);
    let mut is_enough = |heap_bytes: u64| {
        meter.show(&format!("a heap of {}", bytes(heap_bytes)), 0.0);
        for number in 1..=args.tries {
            made += 1;
            let of = tries.run(plan, (heap_bytes, number), limit, memory, meter)?;
            let Some(took_s) = of.took_s else { return Ok(false) };
            limit.get_or_insert(Duration::from_secs_f64(took_s * args.patience as f64).max(LEAST_PATIENCE));
        }
        Ok(true)
    };
    let lower = plan.work.min_live_bytes() / STEP * STEP;
    let most = memory.available_bytes / 2 / STEP * STEP;
    let found = bisect(lower, plan.heap.heap_bytes, most, args.within, &mut is_enough)?;
    let (too_small_bytes, heap_bytes) =
        found.ok_or_else(|| Failure::run(format!("{label}: not done in {}, half of the memory", bytes(most))))?;
    meter.end(&format!("{label}: {}", bytes(heap_bytes)));
    Ok(Found { label, heap_bytes, too_small_bytes, tries: made, limit })
}

/// The tries made before, and what was asked for, checked.
pub(crate) fn prepare(args: &MinHeapArgs, runs: &Runs, memory: Memory) -> Result<Tries, Failure> {
    let plans = &runs.plans;
    if plans.iter().any(|plan| plan.heap.own.soft_max_bytes.is_some()) {
        return Err(Failure::input("the size of the heap is what is looked for: leave out --soft-max"));
    }
    let mut peers = plans.iter().filter_map(|plan| plan.heap.barrier.peer());
    if let Some(peer) = peers.find(|peer| !peer.keeps_to_heap()) {
        let why = if peer.has_heap() { "takes more than a heap that is too small" } else { "has no heap" };
        return Err(Failure::input(format!("{peer} {why}, so none is the least: leave out --peer {peer}")));
    }
    for plan in plans {
        plan.check(memory)?;
    }
    runs.say_what_is_left_out();
    let tries = Tries::open(args.keep.clone())?;
    if tries.len() > 0 {
        eprintln!("gc-bench: {} tries were made before", tries.len());
    }
    Ok(tries)
}

/// Looks for the least heap of every plan.
pub(crate) fn min_heap(args: &MinHeapArgs, memory: Memory) -> Result<String, Failure> {
    if args.run.session.output.is_asked() {
        return Err(Failure::input(
            "minheap prints a table and keeps its tries (--keep): leave out --json, --html, --out, --force",
        ));
    }
    let runs = standard_runs(&args.run)?;
    let mut tries = prepare(args, &runs, memory)?;
    let mut meter = Meter::new(runs.plans.len());
    let mut found = Vec::new();
    for plan in &runs.plans {
        found.push(least(args, plan, &mut tries, memory, &mut meter)?);
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
}
