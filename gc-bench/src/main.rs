//! The instrument of the Parallax heap: workloads, clocks and histograms, reports. `gc-bench
//! --help` says how to use it.
//!
//! | module | what |
//! | --- | --- |
//! | [`cli`], [`plan`], [`rate`] | the request, and whether it is possible |
//! | [`heap`], [`collector`] | the heap of a run, its options and its barrier |
//! | [`workload`], [`measure`] | the work with the options that are its own, and the measured part of it |
//! | [`schedule`] | how often each is run, and in which order |
//! | [`publish`], [`journal`] | what the book's tables name, and runs kept as they are made |
//! | [`reproduce`] | the book's tables again, and whether what they show comes out |
//! | [`sweep`], [`status`] | many configurations in one file, in shards that are merged; and how a run ended |
//! | [`min_heap`], [`curve`], [`tries`] | the least heap in which a workload can be done, what it costs in larger ones, and runs that may end for lack of memory |
//! | [`compare`] | two builds, or two reports, figure by figure |
//! | [`peer`] | collectors of other runtimes and memory freed by hand, with the same work |
//! | [`session`], [`child`], [`outcome`] | a process for each run: the parent's side and the run's |
//! | [`track`], [`recorder`], [`stats`], [`clock`] | samples: they tile a thread's time, are cheap to take, exact where it matters |
//! | [`gaps`], [`metered`] | what the program lost by its own samples, and its latency from due arrivals |
//! | [`pooled`], [`interval`], [`trend`] | repeats: samples together, intervals, what drifts |
//! | [`mmu`], [`lost`] | lost time of the mutators: by windows of time, and besides pauses and stalls |
//! | [`mod@primitives`] | what the kernel's mechanisms cost by themselves |
//! | [`machine`], [`hiccups`], [`standstill`] | what it ran on, and what that does to a loop without a heap, and to a mutator |
//! | [`built`], [`environment`] | what the program is built of, and what surrounds a session on its machine |
//! | [`process`], [`threads`] | what the process used, and each role of its threads |
//! | [`processors`] | which processors a run's process may use |
//! | [`json_text`], [`document`] | the `json` workload's parser and its input |
//! | [`record`], [`timeline`], [`configuration`], [`results`] | results of a run, of its repeats, of a session |
//! | [`report`], [`output`] | results, what they look like, and how they are written |
//! | [`size`], [`by_name`], [`rng`], [`time`] | sizes and names as people write them, random numbers, dates |

mod built;
mod by_name;
mod child;
mod cli;
mod clock;
mod collector;
mod compare;
mod configuration;
mod curve;
mod document;
mod environment;
mod failure;
mod gaps;
mod heap;
mod hiccups;
mod interval;
mod journal;
mod json_text;
mod laggards;
mod list;
mod lost;
mod machine;
mod measure;
mod metered;
mod min_heap;
mod mmu;
mod outcome;
mod output;
mod peer;
mod plan;
mod pooled;
mod primitives;
mod process;
mod processors;
mod publish;
mod rate;
mod record;
mod recorder;
mod report;
mod reproduce;
mod results;
mod rng;
mod schedule;
mod session;
mod size;
mod standstill;
mod stats;
mod status;
mod sweep;
mod threads;
mod time;
mod timeline;
mod track;
mod trend;
mod tries;
mod workload;

use std::io::Write;
use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::curve::CurveArgs;
use crate::failure::Failure;
use crate::journal::Journal;
use crate::output::Outputs;
use crate::plan::Runs;
use crate::primitives::{Primitives, PrimitivesArgs};
use crate::record::Head;
use crate::report::data::Data;
use crate::reproduce::ReproduceArgs;
use crate::results::Document;
use crate::sweep::{Asked, SweepArgs};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()).and_then(dispatch) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("gc-bench: {e}");
            ExitCode::from(e.code())
        }
    }
}

fn dispatch(parsed: Result<Cli, String>) -> Result<(), Failure> {
    let cli = match parsed {
        Ok(cli) => cli,
        Err(help) => return print(&help),
    };
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(args) => {
            let runs = plan::standard_runs(&args)?;
            bench(&runs, &[], Vec::new(), Outputs::prepare(&args.session.output)?, None)
        }
        Command::Publish(args) => {
            let mut runs = args.runs()?;
            // Makes the folder that the journal is in, too.
            let outputs = Outputs::prepare(&args.output)?;
            let journal = Journal::open(&args.journal(), &mut runs)?;
            if journal.len() > 0 {
                eprintln!("gc-bench: {} of {} runs were made before", journal.len(), runs.all());
            }
            bench(&runs, &[], Vec::new(), outputs, Some(journal))
        }
        Command::Tables(args) => publish::tables(&args),
        Command::Sweep(args) => sweeps(&args),
        Command::Reproduce(args) => reproduces(&args),
        Command::Merge(args) => {
            let mut outputs = Outputs::prepare(&args.output)?;
            let merged = sweep::merge::merge(&args)?;
            hand_over(&merged, &mut outputs, sweep::table::text)?;
            show(&outputs, || sweep::table::text(&merged))
        }
        Command::Compare(args) => match compare::compare(&args) {
            Ok(text) => print(&text),
            Err((text, failure)) => print(&text).and(Err(failure)),
        },
        Command::PauseScaling(args) => {
            let (runs, left_out) = plan::scaling_runs(&args, machine::memory())?;
            let outputs = Outputs::prepare(&args.output)?;
            for line in &left_out {
                eprintln!("gc-bench: {line}");
            }
            bench(&runs, &[], left_out, outputs, None)
        }
        Command::Json(args) => {
            let outputs = Outputs::prepare(&args.session.output)?;
            let document = document::load(args.json.file.as_deref())?;
            let runs = plan::json_runs(&args, document.text.len() as u64, document.census)?;
            bench(&runs, document.text.as_bytes(), Vec::new(), outputs, None)
        }
        Command::Primitives(args) => primitives(&args),
        Command::Curve(args) => curves(&args),
        Command::MinHeap(args) => print(&min_heap::min_heap(&args, machine::memory())?),
        Command::List => print(list::TEXT),
        Command::RunOne => child::main(),
        Command::MeasurePrimitives => primitives::child::main(),
    }
}

/// Runs the plans and reports.
fn bench(
    runs: &Runs,
    document: &[u8],
    left_out: Vec<String>,
    mut outputs: Outputs,
    journal: Option<Journal>,
) -> Result<(), Failure> {
    let document = made(runs, document, left_out, &mut outputs, journal)?;
    show(&outputs, || report::table::text(&document))
}

/// Runs the plans and writes the report: it rejects impossible requests before anything is run, and
/// writes nothing unless every run succeeded.
fn made(
    runs: &Runs,
    document: &[u8],
    mut left_out: Vec<String>,
    outputs: &mut Outputs,
    mut journal: Option<Journal>,
) -> Result<Document, Failure> {
    let memory = machine::memory();
    for plan in &runs.plans {
        plan.check(memory)?;
    }
    if runs.plans.is_empty() {
        return Err(Failure::input("this machine has too little memory for any of the points"));
    }
    runs.say_what_is_left_out();
    left_out.extend(runs.left_out.iter().cloned());
    let mut head = Head::now(record::RUNS);
    let (records, order) = session::run_all(runs, document, journal.as_mut())?;
    let (wanted, made) = (runs.schedule.repeats, records.iter().map(|run| run.repeat).max().unwrap_or(0));
    if made < wanted {
        left_out.push(format!("{made} of {wanted} repeats were made: another would have ended after the budget"));
    }
    head.environment.end();
    let document = Document::new(head, left_out, order, records);
    hand_over(&document, outputs, report::table::text)?;
    if let Some(journal) = journal {
        journal.remove();
    }
    for line in document.left_out.iter().filter(|_| made < wanted) {
        eprintln!("gc-bench: {line}");
    }
    Ok(document)
}

/// Writes a report of runs. Where a file cannot be written, what the runs found is not lost with
/// it: the table is printed.
fn hand_over(document: &Document, outputs: &mut Outputs, table: fn(&Document) -> String) -> Result<(), Failure> {
    let json = report::json::text(document);
    let written = outputs.write(&json, &report::html::text(document, &json));
    if written.is_err() && !outputs.use_standard_output() {
        print(&table(document))?;
    }
    written
}

/// `gc-bench sweep`.
fn sweeps(args: &SweepArgs) -> Result<(), Failure> {
    match args.run()? {
        Asked::Script(text) => print(&text),
        Asked::Done(report) => {
            eprintln!("gc-bench: all runs were made before: {} has them", report.display());
            Ok(())
        }
        Asked::Report(document, mut outputs, journal) => {
            hand_over(&document, &mut outputs, sweep::table::text)?;
            journal.remove();
            show(&outputs, || sweep::table::text(&document))
        }
    }
}

/// `gc-bench curve`.
fn curves(args: &CurveArgs) -> Result<(), Failure> {
    let mut outputs = Outputs::prepare(&args.least.run.session.output)?;
    let mut found = curve::curves(args, machine::memory(), Head::now(record::CURVES))?;
    found.head.environment.end();
    let json = report::json::text(&found);
    outputs.write(&json, &report::curve::page(&found, &Data::whole(&json)))?;
    show(&outputs, || report::curve::table(&found))
}

/// `gc-bench reproduce`.
fn reproduces(args: &ReproduceArgs) -> Result<(), Failure> {
    if let Some(list) = args.list()? {
        return print(&list);
    }
    let (plan, runs) = (args.primitives()?, args.runs()?);
    // What cannot be written is said before anything is run.
    let apart = plan.map(|plan| Ok((plan, Outputs::prepare_as(&args.output, "gc-bench-primitives")?))).transpose()?;
    let runs = runs.map(|runs| Ok((runs, Outputs::prepare(&args.output)?))).transpose()?;
    let (mut primitives, mut document, mut outputs) = (None, None, Vec::new());
    if let Some((plan, mut own)) = apart {
        primitives = Some(measured(&plan, &mut own)?);
        outputs.push(own);
    }
    if let Some((runs, mut own)) = runs {
        document = Some(made(&runs, &[], Vec::new(), &mut own, None)?);
        outputs.push(own);
    }
    let (text, judged) = args.judge(document.as_ref(), primitives.as_ref());
    if !outputs.iter().any(Outputs::use_standard_output) {
        print(&text)?;
    }
    outputs.iter().for_each(say_files);
    judged
}

/// `gc-bench primitives`.
fn primitives(args: &PrimitivesArgs) -> Result<(), Failure> {
    let plan = primitives::Plan::new(args)?;
    let mut outputs = Outputs::prepare(&args.output)?;
    let found = measured(&plan, &mut outputs)?;
    show(&outputs, || report::primitives::table(&found))
}

/// Measures primitives and writes their report.
fn measured(plan: &primitives::Plan, outputs: &mut Outputs) -> Result<Primitives, Failure> {
    let mut found = plan.run(Head::now(record::PRIMITIVES))?;
    found.head.environment.end();
    let json = report::json::text(&found);
    outputs.write(&json, &report::primitives::page(&found, &Data::whole(&json)))?;
    Ok(found)
}

/// Prints the table, unless standard output has the JSON or the page, and says which files there
/// are.
fn show(outputs: &Outputs, table: impl FnOnce() -> String) -> Result<(), Failure> {
    if !outputs.use_standard_output() {
        print(&table())?;
    }
    say_files(outputs);
    Ok(())
}

fn say_files(outputs: &Outputs) {
    for file in outputs.files() {
        eprintln!("wrote {}", file.display());
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Failure::run(format!("cannot write to standard output: {e}")))
}
