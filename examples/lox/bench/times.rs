//! Times the programs beside this file against a reference: another VM of the same language, such
//! as the book's.
//!
//! ```text
//! cargo bench -p lox --bench times -- --reference /path/to/clox --gc load,page,stw --runs 5
//! ```
//!
//! In each round every program is run once by the reference and once under each collector, in turn,
//! so that what drifts in the machine touches all. The output must be equal. Times are of the whole
//! process, from its start to its end; a ratio is taken within a round. Reported are medians, with
//! the least and the greatest.

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

#[derive(Parser)]
#[command(about = "Times Lox programs under each collector, against a reference VM")]
struct Cli {
    /// The VM to compare with, called with the program's file alone; without it there are no
    /// ratios. Relative paths start at the package's folder
    #[arg(long, value_name = "PATH")]
    reference: Option<PathBuf>,

    /// Collectors to time
    #[arg(long, value_delimiter = ',', default_value = "load,page,stw")]
    gc: Vec<String>,

    /// Rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// The most memory that objects may take
    #[arg(long, default_value = "256m", value_name = "SIZE")]
    heap: String,

    /// The `lox` to time [default: the one built with this program]
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_lox"), hide_default_value = true)]
    lox: PathBuf,

    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,

    /// Programs by name, such as `fib` [default: all]
    programs: Vec<String>,
}

/// What a run took.
struct Run {
    wall_s: f64,
    /// As the program has measured it: processor time of all threads, from its first statement.
    processor_s: f64,
    pauses: Option<Pauses>,
}

struct Pauses {
    count: f64,
    p99_us: f64,
    longest_us: f64,
    stalled_us: f64,
}

/// The number behind a word, in the line of `--stats` that begins so.
fn figure(stats: &str, line: &str, word: &str) -> Option<f64> {
    let rest = stats.lines().find_map(|text| text.strip_prefix(line))?;
    let rest = if word.is_empty() { rest } else { rest.split_once(word)?.1 };
    rest.trim_start().split([' ', ',']).next()?.parse().ok()
}

fn pauses(stats: &str) -> Option<Pauses> {
    Some(Pauses {
        count: figure(stats, "pauses: ", "")?,
        p99_us: figure(stats, "pauses: ", "p99 ")?,
        longest_us: figure(stats, "pauses: ", "longest ")?,
        stalled_us: figure(stats, "stalls: ", "together ")?,
    })
}

/// Runs a program; gives what it took, and what it printed but for its seconds.
fn run(command: &mut Command, program: &Path, reports: bool) -> Result<(Run, String), String> {
    let start = Instant::now();
    let output = command.arg(program).output().map_err(|error| format!("{command:?}: {error}"))?;
    let wall_s = start.elapsed().as_secs_f64();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(format!("{command:?}: {}\n{stdout}{stderr}", output.status));
    }
    let no_seconds = || format!("{command:?}: the program printed no seconds\n{stdout}");
    let (printed, seconds) = stdout.rsplit_once("seconds:\n").ok_or_else(no_seconds)?;
    let processor_s = seconds.trim().parse().map_err(|_| no_seconds())?;
    let pauses = if reports {
        Some(pauses(&stderr).ok_or_else(|| format!("{command:?}: no figures of pauses\n{stderr}"))?)
    } else {
        None
    };
    Ok((Run { wall_s, processor_s, pauses }, printed.to_owned()))
}

/// Median, least and greatest.
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Spread { median, least: sorted[0], greatest: sorted[sorted.len() - 1] }
    }

    fn show(&self, decimals: usize) -> String {
        format!("{:.decimals$} ({:.decimals$}..{:.decimals$})", self.median, self.least, self.greatest)
    }
}

fn ratios<'a>(ours: &'a [Run], reference: &'a [Run], time: impl Fn(&Run) -> f64) -> Spread {
    Spread::of(ours.iter().zip(reference).map(|(ours, reference)| time(ours) / time(reference)))
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    table
}

fn print(title: &str, mut table: Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("\n{title}\n\n{table}");
}

fn programs(wanted: &[String]) -> Result<Vec<PathBuf>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "lox"));
    found.sort();
    if wanted.is_empty() {
        return Ok(found);
    }
    let named = |name: &String| found.iter().find(|path| path.file_stem().is_some_and(|stem| stem == name.as_str()));
    wanted.iter().map(|name| named(name).cloned().ok_or_else(|| format!("{name}: no such program"))).collect()
}

fn time_all(cli: &Cli) -> Result<(), String> {
    let programs = programs(&cli.programs)?;
    let mut times = table(&["program", "VM", "wall s", "ratio", "processor s", "ratio"]);
    let mut stops = table(&["program", "collector", "pauses", "p99 us", "longest us", "stalled us"]);
    let mut wall_ratios = vec![Vec::new(); cli.gc.len()];
    for program in &programs {
        let name = program.file_stem().unwrap_or_default().to_string_lossy();
        let mut of_reference = Vec::new();
        let mut of_gc: Vec<Vec<Run>> = cli.gc.iter().map(|_| Vec::new()).collect();
        for round in 1..=cli.runs {
            eprintln!("{name}, round {round} of {}", cli.runs);
            let mut expected = None;
            if let Some(reference) = &cli.reference {
                let (run, printed) = run(&mut Command::new(reference), program, false)?;
                of_reference.push(run);
                expected = Some(printed);
            }
            for (gc, runs) in cli.gc.iter().zip(&mut of_gc) {
                let mut command = Command::new(&cli.lox);
                command.args(["--gc", gc, "--heap", &cli.heap, "--stats"]);
                let (run, printed) = run(&mut command, program, true)?;
                runs.push(run);
                let expected = expected.get_or_insert_with(|| printed.clone());
                if *expected != printed {
                    return Err(format!("{name}: --gc {gc} printed\n{printed}and not\n{expected}"));
                }
            }
        }
        let mut add = |vm: &str, runs: &[Run], ratios: Option<(Spread, Spread)>| {
            let (wall_ratio, processor_ratio) =
                ratios.map_or_else(Default::default, |(wall, processor)| (wall.show(2), processor.show(2)));
            let wall = Spread::of(runs.iter().map(|run| run.wall_s)).show(3);
            let processor = Spread::of(runs.iter().map(|run| run.processor_s)).show(3);
            times.add_row([&name, vm, &wall, &wall_ratio, &processor, &processor_ratio]);
        };
        if !of_reference.is_empty() {
            add("reference", &of_reference, None);
        }
        for ((gc, runs), wall_ratios) in cli.gc.iter().zip(&of_gc).zip(&mut wall_ratios) {
            let ratios = (!of_reference.is_empty()).then(|| {
                let wall = ratios(runs, &of_reference, |run| run.wall_s);
                wall_ratios.push(wall.median);
                (wall, ratios(runs, &of_reference, |run| run.processor_s))
            });
            add(gc, runs, ratios);
            let of = |figure: fn(&Pauses) -> f64| Spread::of(runs.iter().filter_map(|r| r.pauses.as_ref()).map(figure));
            stops.add_row([
                &name,
                gc.as_str(),
                &of(|p| p.count).show(0),
                &of(|p| p.p99_us).show(1),
                &of(|p| p.longest_us).show(1),
                &of(|p| p.stalled_us).show(1),
            ]);
        }
    }
    print(
        &format!("Times of {} runs: median (least..greatest). Ratio: to the reference in the same round.", cli.runs),
        times,
    );
    print("Pauses and stalls of a run: median (least..greatest) of the runs' own figures.", stops);
    for (gc, ratios) in cli.gc.iter().zip(&wall_ratios).filter(|(_, ratios)| !ratios.is_empty()) {
        let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
        println!("{gc}: geometric mean of the wall ratios {mean:.2}");
    }
    Ok(())
}

fn main() -> ExitCode {
    match time_all(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
