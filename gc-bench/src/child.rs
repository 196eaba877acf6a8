//! The process of a run: one workload on one heap.

use std::io::{self, BufRead, Read, Write};
use std::process::exit;
use std::thread;
use std::time::Duration;

use gc_heap::Heap;

use crate::collector::Collector;
use crate::failure::Failure;
use crate::hiccups;
use crate::measure::{Bench, Gauge, StopWatching, watch};
use crate::outcome::{Footprint, record};
use crate::peer;
use crate::plan::Plan;
use crate::record::Record;
use crate::session::{Message, Order};
use crate::size::short;
use crate::workload::Work;

/// `gc-bench run-one`: reads an [`Order`], answers with [`Message`]s. The parent reads the outcome
/// from the last of them.
pub(crate) fn main() -> Result<(), Failure> {
    // A panic anywhere, a collector's thread included, is a failed run and one line; the parent
    // prints it.
    std::panic::set_hook(Box::new(|panic| {
        let message = format!("panic: {panic}");
        say(&Message::Failure { code: 1, message: Failure::run(message).line() });
        exit(1);
    }));
    let mut stdin = io::stdin().lock();
    let mut line = String::new();
    let order = stdin.read_line(&mut line).ok().and_then(|_| serde_json::from_str::<Order>(&line).ok());
    let Some(Order { plan, progress, limit_s }) = order else {
        return Err(Failure::input("run-one is how gc-bench runs itself: use `gc-bench run`"));
    };
    let document_bytes = if let Work::Json(json) = &plan.work { json.document_bytes } else { 0 };
    let mut document = vec![0; document_bytes as usize];
    stdin.read_exact(&mut document).map_err(|e| Failure::run(format!("cannot read the document: {e}")))?;
    drop(stdin);
    // The parent writes nothing more: when the pipe ends, the parent has ended, and the result is
    // not needed.
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        exit(1);
    });
    if let Some(limit_s) = limit_s {
        thread::spawn(move || {
            thread::sleep(Duration::from_secs_f64(limit_s));
            let message = format!("took longer than {} s", short(limit_s));
            say(&Message::Failure { code: 1, message });
            exit(1);
        });
    }
    match run(&plan, &document, progress) {
        Ok(record) => say(&Message::Record(Box::new(record))),
        Err(e) => say(&Message::Failure { code: e.code(), message: e.line() }),
    }
    Ok(())
}

fn say(message: &Message) {
    let mut line = serde_json::to_vec(message).expect("plain data");
    line.push(b'\n');
    let mut out = io::stdout().lock();
    // The parent has ended: see `main`.
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// Makes the heap record faults and slow paths, for the utilisation.
fn build(plan: &Plan) -> Result<Heap, Failure> {
    plan.heap.builder().record_losses(true).build().map_err(|e| Failure::input(e.to_string()))
}

fn run(plan: &Plan, document: &[u8], progress: bool) -> Result<Record, Failure> {
    let hiccups = hiccups::calibrate(plan.work.threads(), Duration::from_millis(if plan.quick { 50 } else { 300 }));
    if let Some(peer) = plan.heap.barrier.peer() {
        return peer::run::run(plan, peer, hiccups);
    }
    let heap = build(plan)?;
    heap.warnings().iter().for_each(|warning| say(&Message::Warning { message: warning.to_string() }));
    let gauge = Gauge::new(plan.work.seconds());
    let bench = Bench::new(&heap, plan.heap.barrier, plan.work.threads(), document, &gauge).at_rate(plan.rate);
    let measured = thread::scope(|scope| {
        let report = progress.then_some(|phase: &str, done: f64| say(&Message::Progress { phase: phase.into(), done }));
        let (heap, gauge) = (&heap, &gauge);
        // Of private memory the kernel would walk the page tables, 40 times a second.
        let resident = plan.heap.barrier != Collector::PAGE_ANONYMOUS;
        let watcher = scope.spawn(move || watch(heap, gauge, resident, report));
        let _stop = StopWatching { gauge, watcher: watcher.thread().clone() };
        plan.work.run(&bench)
    })?;
    let closed = bench.into_closed().ok_or_else(|| Failure::run("the workload measured nothing"))?;
    let footprint = Footprint::of(plan, &heap, &gauge, &measured, &closed);
    Ok(record(plan, footprint, &measured, closed, hiccups))
}
