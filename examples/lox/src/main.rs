//! Lox, the language of the book "Crafting Interpreters", on a heap of `gc-heap`.

#![forbid(unsafe_code)]

mod cli;
mod code;
mod front;
mod gc_log;
mod names;
mod native;
mod object;
mod output;
mod prompt;
mod report;
mod shapes;
mod thread;
mod vm;

use clap::Parser;
use cli::Cli;
use code::Source;
use gc_heap::{BuildError, Heap, Mutator, OutOfMemory, Stress};
use gc_log::Follower;
use report::{Reporter, say};
use std::process::ExitCode;
use std::sync::Arc;
use vm::{Failed, Shared, Vm};

const USAGE: u8 = 64;
const DOES_NOT_COMPILE: u8 = 65;
const FAILED: u8 = 70;
const CANNOT_READ: u8 = 74;

/// Stack of the thread that compiles: as deep as sources nest. Taken as it is touched.
const COMPILER_STACK: usize = 512 << 20;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            return match error.print() {
                // The help is what was asked for.
                Err(failed) if !error.use_stderr() => output::cannot_write(&failed),
                _ if !error.use_stderr() => ExitCode::SUCCESS,
                // Where the message cannot be written there is nobody to tell.
                _ => USAGE.into(),
            };
        }
    };
    let thread = std::thread::Builder::new().name("lox-main".into()).stack_size(COMPILER_STACK);
    match thread.spawn(move || run(&cli)).map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code.into(),
        Ok(Err(_)) => {
            gc_log::end_log(); // what led to the panic
            FAILED.into()
        }
        Err(error) => {
            say(&format!("lox: cannot start a thread: {error}"));
            FAILED.into()
        }
    }
}

/// Exit code of the whole run.
fn run(cli: &Cli) -> u8 {
    let source = match &cli.file {
        None => None,
        Some(file) => match std::fs::read(file) {
            Ok(text) => Some(Arc::new(Source { name: file.display().to_string(), text })),
            Err(_) => {
                say(&format!("Could not open file \"{}\".", file.display()));
                return CANNOT_READ;
            }
        },
    };
    let (heap, follower) = match build_heap(cli) {
        Ok(built) => built,
        Err(error) => {
            say(&format!("lox: {error}"));
            // What was asked for cannot be, or the machine does not give it.
            let asked = matches!(error.downcast_ref(), Some(BuildError::TooSmall { .. } | BuildError::TooLarge { .. }));
            return if asked { USAGE } else { FAILED };
        }
    };
    let code = match heap.enter(|m| run_in(cli, &heap, m, source.as_ref())) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            say(&format!("lox: {error}"));
            FAILED
        }
        Err(error) => {
            say(&format!("lox: {error}"));
            FAILED
        }
    };
    gc_log::end_log();
    if let Some(follower) = follower.filter(|_| cli.stats) {
        follower.report(&heap);
    }
    code
}

fn build_heap(cli: &Cli) -> Result<(Heap, Option<Follower>), Box<dyn std::error::Error>> {
    let mut builder = Heap::builder().max_bytes(cli.heap.bytes() as usize).barrier(cli.gc).name("lox");
    builder = builder.collecting_limit(cli.collecting_limit.0);
    if cli.gc_stress {
        let seed = u64::from(std::process::id());
        builder = builder.verify(true).stress(Stress { cycle_every: 8, delay_one_in: 128, seed });
    }
    let mut follower = None;
    if cli.gc_log || cli.stats {
        let (followed, follows) = Follower::follow(builder, cli.gc_log)?;
        (builder, follower) = (followed, Some(follows));
    }
    let heap = builder.build()?;
    heap.warnings().iter().for_each(|warning| say(&format!("lox: warning: {warning}")));
    Ok((heap, follower))
}

fn run_in(cli: &Cli, heap: &Heap, m: &mut Mutator<'_>, source: Option<&Arc<Source>>) -> Result<u8, OutOfMemory> {
    let shared = Arc::new(Shared::new(heap, m, Reporter { excerpts: cli.source_excerpts })?);
    let mut vm = Vm::new(&shared, m, thread::SCRIPT)?;
    let outcome = match source {
        Some(source) => vm.interpret(m, source, 0),
        None => {
            prompt::run(&mut vm, m);
            Ok(())
        }
    };
    let code = match outcome {
        // A script that failed ends its threads with it: they may wait for it for ever.
        Err(Failed::Running) => FAILED,
        Err(Failed::Compiling) => DOES_NOT_COMPILE,
        Ok(()) => {
            let failed = m.blocking(|| {
                shared.output.flush();
                shared.threads.finish()
            });
            if failed && source.is_some() { FAILED } else { 0 }
        }
    };
    m.blocking(|| shared.output.flush());
    Ok(code)
}
