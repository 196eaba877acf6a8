//! Runs generated programs that allocate without end (see [`generate`]) for minutes, and looks
//! whether anything grows: memory of the heap and outside it, mappings, descriptors, threads, live
//! objects.
//!
//! ```text
//! cargo bench -p lox --bench soak -- --minutes 30 --gc load,page --heap 64m
//! cargo bench -p lox --bench soak -- --print --seed 7      # only prints the program
//! ```
//!
//! Exit code 1, with the seed, if anything grew or a program found something wrong.

mod generate;
mod watch;

use clap::Parser;
use generate::{Shape, program};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use watch::{Sample, growth, report, watch};

#[derive(Parser)]
#[command(about = "Runs generated Lox programs for minutes and looks whether anything grows")]
struct Cli {
    /// How long each program runs
    #[arg(long, default_value_t = 0.2)]
    minutes: f64,

    /// Collectors, one after the other
    #[arg(long, value_delimiter = ',', default_value = "load,page,stw")]
    gc: Vec<String>,

    /// The most memory that objects may take, in MiB, with an m behind
    #[arg(long, default_value = "64m", value_parser = mebibytes, value_name = "SIZE")]
    heap: usize,

    /// What programs are made from; the second collector gets the next seed, and so on
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Pairs of threads in the program, beside the script's own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pairs: u8,

    /// Also collects all the time, and verifies the heap
    #[arg(long)]
    stress: bool,

    /// Prints the first program, and runs nothing
    #[arg(long)]
    print: bool,

    /// Writes samples to this folder, a file for each collector
    #[arg(long, value_name = "FOLDER")]
    csv: Option<PathBuf>,

    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn mebibytes(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is not a number of MiB, such as 64m");
    text.strip_suffix('m').ok_or_else(wrong)?.parse().map_err(|_| wrong())
}

/// Objects kept for each MiB of heap: about a fifth of the memory, with what the generator's guess
/// is wrong by.
const KEPT_PER_MIB: usize = 3000;

/// What the heap's file holds beside objects: the roots, when the barrier is the page barrier.
const ROOTS_KIB: f64 = 2048.0;

fn shape(cli: &Cli, seed: u64) -> Shape {
    Shape { seed, pairs: cli.pairs.into(), keep: KEPT_PER_MIB * cli.heap, seconds: cli.minutes * 60.0 }
}

fn run(cli: &Cli, gc: &str, seed: u64) -> Result<(), String> {
    let to_text = |error: std::io::Error| error.to_string();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("soak_{gc}_{seed}.lox"));
    std::fs::write(&file, program(&shape(cli, seed))).map_err(to_text)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_lox"));
    command.args(["--gc", gc, "--heap", &format!("{}m", cli.heap), "--gc-log", "--stats"]);
    command.args(cli.stress.then_some("--gc-stress")).arg(&file);
    // A hundred and eighty samples, but none while the last is hardly over.
    let every = Duration::from_secs_f64((cli.minutes * 60.0 / 180.0).max(0.02));
    let watched = watch(&mut command, every).map_err(to_text)?;
    print!("--gc {gc}, seed {seed}: {:.0} s\n{}{}", watched.seconds, report(&watched.samples), watched.stderr);
    if let Some(folder) = &cli.csv {
        let mut text = format!("{}\n", Sample::HEADER);
        watched.samples.iter().for_each(|sample| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}", sample.line());
        });
        std::fs::write(folder.join(format!("soak-{gc}.csv")), text).map_err(to_text)?;
    }
    if !watched.status.success() || watched.stdout != "done\n" {
        return Err(format!("the program ended with {}\n{}", watched.status, watched.stdout));
    }
    let grown = growth(&watched.samples, cli.heap as f64 * 1024.0 + ROOTS_KIB);
    if grown.is_empty() { Ok(()) } else { Err(format!("grew\n  {}", grown.join("\n  "))) }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.print {
        print!("{}", program(&shape(&cli, cli.seed)));
        return ExitCode::SUCCESS;
    }
    for (gc, seed) in cli.gc.iter().zip(cli.seed..) {
        if let Err(why) = run(&cli, gc, seed) {
            eprintln!("soak: --gc {gc}, seed {seed}: {why}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
