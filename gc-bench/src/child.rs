//! The run's side: one workload on one heap, in a process of its own.

use std::io::{self, BufRead, Read, Write};
use std::process::exit;
use std::thread;

use gc_heap::Heap;

use crate::failure::Failure;
use crate::measure::{Bench, Closed, Gauge, Measured, StopWatching, watch};
use crate::plan::{Barrier, HugePages, Plan};
use crate::process::pss_bytes;
use crate::record::{Histograms, Record};
use crate::session::{Message, Order};
use crate::stats::Samples;
use crate::workload;

/// `gc-bench run-one`: reads an [`Order`], answers with [`Message`]s. The parent reads the outcome from the last of them.
pub(crate) fn main() -> Result<(), Failure> {
    // A panic anywhere, a collector's thread included, is a failed run and one line; the parent prints it.
    std::panic::set_hook(Box::new(|panic| {
        let message = format!("panic: {panic}");
        say(&Message::Failure { code: 1, message: Failure::run(message).line() });
        exit(1);
    }));
    let mut stdin = io::stdin().lock();
    let mut line = String::new();
    let order = stdin.read_line(&mut line).ok().and_then(|_| serde_json::from_str::<Order>(&line).ok());
    let Some(Order { plan, progress }) = order else {
        return Err(Failure::input("run-one is how gc-bench runs itself: use `gc-bench run`"));
    };
    let mut document = vec![0; plan.document_bytes as usize];
    stdin.read_exact(&mut document).map_err(|e| Failure::run(format!("cannot read the document: {e}")))?;
    drop(stdin);
    // The parent writes nothing more: the end of the pipe is its end, however it came, and nobody wants the result then.
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        exit(1);
    });
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
    // A parent that is gone: see `main`.
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

fn build(plan: &Plan) -> Result<Heap, Failure> {
    let barrier = match plan.barrier {
        Barrier::Load => gc_heap::Barrier::Load,
        Barrier::Stw => gc_heap::Barrier::StopTheWorld,
        Barrier::Page | Barrier::PageAnonymous => gc_heap::Barrier::Page,
    };
    let mut builder = Heap::builder().barrier(barrier).max_bytes(plan.heap_bytes as usize).pretouch(plan.pretouch);
    // When faults and slow paths were, for the utilisation.
    builder = builder.record_losses(true);
    if plan.barrier == Barrier::PageAnonymous {
        builder = builder.backing(gc_heap::Backing::Anonymous);
    }
    builder = builder.huge_pages(match plan.huge_pages {
        HugePages::Never => gc_heap::HugePages::Never,
        HugePages::Advise => gc_heap::HugePages::Advise,
        HugePages::Collapse => gc_heap::HugePages::Collapse,
    });
    if plan.workers > 0 {
        builder = builder.workers(plan.workers as usize);
    }
    builder.build().map_err(|e| Failure::input(e.to_string()))
}

fn run(plan: &Plan, document: &[u8], progress: bool) -> Result<Record, Failure> {
    let heap = build(plan)?;
    let gauge = Gauge::new(plan.seconds);
    let bench = Bench::new(&heap, plan, document, &gauge);
    let measured = thread::scope(|scope| {
        let report = progress.then_some(|phase: &str, done: f64| say(&Message::Progress { phase: phase.into(), done }));
        let (heap, gauge) = (&heap, &gauge);
        let watcher = scope.spawn(move || watch(heap, gauge, report));
        let _stop = StopWatching { gauge, watcher: watcher.thread().clone() };
        workload::run(&bench)
    })?;
    let closed = bench.into_closed().ok_or_else(|| Failure::run("the workload measured nothing"))?;
    Ok(record(plan, &heap, &gauge, &measured, closed))
}

fn record(plan: &Plan, heap: &Heap, gauge: &Gauge, measured: &Measured, closed: Closed) -> Record {
    let stats = heap.stats();
    let committed_peak_bytes = stats.committed_peak_bytes as u64;
    // Read once, now: reading it costs tens of milliseconds. Of what was ever there, only the heap gives memory back.
    let given_back = committed_peak_bytes.saturating_sub(stats.committed_bytes as u64);
    let latency = Samples::from(&measured.latency);
    let wall_s = closed.wall.as_secs_f64();
    let occupancy = gauge.occupancy(&closed);
    let events = closed.heap;
    Record {
        workload: plan.workload,
        barrier: plan.barrier,
        heap_bytes: plan.heap_bytes,
        threads: plan.threads,
        repeat: plan.repeat,
        wall_s,
        cpu_s: closed.used.cpu.as_secs_f64(),
        ops: measured.ops,
        ops_per_s: measured.ops as f64 / wall_s.max(1e-9),
        committed_peak_bytes,
        pss_peak_bytes: pss_bytes() + given_back,
        cycles: closed.cycles,
        checksum: measured.checksum,
        documents: measured.documents,
        pauses: events.pauses.summary(),
        safepoint: events.safepoint.summary(),
        stalls: events.stalls.summary(),
        latency: latency.summary(),
        other_cpu_percent: closed.used.other_percent,
        stolen_percent: closed.used.stolen_percent,
        lost_events: events.lost,
        mmu: events.mmu(),
        lost: closed.lost,
        settings: plan.clone(),
        histograms: Histograms {
            pauses: events.pauses.buckets(),
            safepoint: events.safepoint.buckets(),
            stalls: events.stalls.buckets(),
            latency: latency.buckets(),
        },
        stops: events.stops,
        phases: events.phases,
        occupancy,
    }
}
