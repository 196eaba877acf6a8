//! Runs four mutators on one shared graph for minutes, under stress and verification, and says what
//! was found.
//!
//! ```text
//! cargo run --release -p gc-heap --example soak -- --minutes 10 --mutators 4 --barrier load --seed 1
//! ```
//!
//! Exit code 1, with the seed, if anything was.

#[path = "../tests/random/mod.rs"]
mod random;
#[path = "../tests/soak/mod.rs"]
mod soak;

use gc_heap::{Backing, Barrier, HeapStats, Mirror, Stress};
use soak::{Plan, run};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str = "soak [--minutes M] [--mutators N] [--barrier load|stw|page|anonymous|generations] [--workers N] [--heap MIB] [--seed N] [--no-verify]";

/// No progress for so long is a deadlock.
const SILENCE: Duration = Duration::from_secs(120);

struct Options {
    minutes: f64,
    plan: Plan,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        minutes: 10.0,
        plan: Plan {
            barrier: Barrier::Load,
            backing: Backing::Memfd,
            generations: false,
            mirror: Mirror::MmapMemfd,
            workers: 1,
            mutators: 4,
            max_bytes: 16 << 20,
            verify: true,
            single_view: true,
            stress: Stress { cycle_every: 2000, delay_one_in: 64, seed: 0 },
            seed: 1,
        },
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--no-verify" {
            options.plan.verify = false;
            options.plan.single_view = false;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<usize>().map_err(|_| format!("{name} {value}: not a number"));
        match name.as_str() {
            "--minutes" => options.minutes = value.parse().map_err(|_| format!("--minutes {value}: not a number"))?,
            "--mutators" => options.plan.mutators = number()?.clamp(1, 64),
            "--workers" => options.plan.workers = number()?,
            "--heap" => options.plan.max_bytes = number()? << 20,
            "--seed" => options.plan.seed = number()? as u64,
            "--barrier" if value == "anonymous" => {
                (options.plan.barrier, options.plan.backing) = (Barrier::Page, Backing::Anonymous);
            }
            "--barrier" if value == "generations" => options.plan.generations = true,
            "--barrier" => {
                options.plan.barrier =
                    value.parse().map_err(|e| format!("--barrier: {e}, anonymous or generations"))?;
            }
            _ => return Err(format!("{name}: no such option")),
        }
    }
    Ok(options)
}

/// Ends the process if no round ends for long.
fn watch(rounds: &'static AtomicU64, seed: u64) {
    std::thread::spawn(move || {
        loop {
            let before = rounds.load(Ordering::Relaxed);
            std::thread::sleep(SILENCE);
            if rounds.load(Ordering::Relaxed) == before {
                eprintln!("seed {seed}: no round ended for {SILENCE:?}: a deadlock or a livelock");
                std::process::exit(1);
            }
        }
    });
}

fn main() -> ExitCode {
    let Options { minutes, plan } = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    static ROUNDS: AtomicU64 = AtomicU64::new(0);
    watch(&ROUNDS, plan.seed);
    let begun = Instant::now();
    let reported = AtomicU64::new(0);
    let enough = |stats: &HeapStats| {
        ROUNDS.fetch_add(1, Ordering::Relaxed);
        let seconds = begun.elapsed().as_secs();
        if seconds >= reported.load(Ordering::Relaxed) + 10 {
            reported.store(seconds, Ordering::Relaxed);
            eprintln!("{seconds} s: {} cycles, {} relocations", stats.cycles, stats.relocations);
        }
        begun.elapsed().as_secs_f64() >= minutes * 60.0
    };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&plan, enough))) {
        Ok(stats) => {
            if plan.barrier == Barrier::Page {
                println!(
                    "{} pages repaired ({} by mutators), {} rounds of waiting, {} plans abandoned, {} compactions in a stop",
                    stats.pages_repaired,
                    stats.pages_repaired_by_mutators,
                    stats.page_waits,
                    stats.plans_abandoned,
                    stats.compactions
                );
            }
            println!(
                "{} cycles, {} relocations, {} objects copied ({} by mutators), {} slots verified: nothing found",
                stats.cycles,
                stats.relocations,
                stats.collector_copies + stats.mutator_copies,
                stats.mutator_copies,
                stats.verified_slots,
            );
            ExitCode::SUCCESS
        }
        Err(_) => {
            eprintln!("seed {}: found, see above ({plan:?})", plan.seed);
            ExitCode::from(1)
        }
    }
}
