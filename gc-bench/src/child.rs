//! The process of a run: one workload on one heap.

use std::io::{self, BufRead, Read, Write};
use std::process::exit;
use std::thread;
use std::time::Duration;

use gc_heap::Heap;

use crate::failure::Failure;
use crate::gaps::{Gaps, NotAccounted, measured_mmu};
use crate::hiccups::{self, Hiccups};
use crate::measure::{Bench, Closed, Gauge, Measured, StopWatching, watch};
use crate::metered::{Metered, Stream};
use crate::plan::Plan;
use crate::process::pss_bytes;
use crate::record::{Histograms, Record};
use crate::recorder::Recorder;
use crate::session::{Message, Order};
use crate::stats::Samples;
use crate::timeline::Sampled;
use crate::track::Track;
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
    let Some(Order { plan, progress }) = order else {
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
    let heap = build(plan)?;
    heap.warnings().iter().for_each(|warning| say(&Message::Warning { message: warning.to_string() }));
    let gauge = Gauge::new(plan.work.seconds());
    let bench = Bench::new(&heap, plan.heap.barrier, plan.work.threads(), document, &gauge).at_rate(plan.rate);
    let measured = thread::scope(|scope| {
        let report = progress.then_some(|phase: &str, done: f64| say(&Message::Progress { phase: phase.into(), done }));
        let (heap, gauge) = (&heap, &gauge);
        let watcher = scope.spawn(move || watch(heap, gauge, report));
        let _stop = StopWatching { gauge, watcher: watcher.thread().clone() };
        plan.work.run(&bench)
    })?;
    let closed = bench.into_closed().ok_or_else(|| Failure::run("the workload measured nothing"))?;
    Ok(record(plan, &heap, &gauge, &measured, closed, hiccups))
}

/// The samples of all tracks together.
fn together<'a>(recorders: impl Iterator<Item = &'a Recorder>) -> Samples {
    let mut all = Recorder::new();
    recorders.for_each(|recorder| all.merge(recorder));
    Samples::from(&all)
}

/// Metered latency of all operations. With a set rate arrivals are known: each operation is due
/// with its tick, and nothing is smoothed.
fn metered(tracks: &[Track]) -> Metered<Samples> {
    let metered: Vec<&Track> = tracks.iter().filter(|track| track.is_metered()).collect();
    if metered.iter().any(|track| track.responses().is_some()) {
        return Metered::by_window(|_| together(metered.iter().filter_map(|track| track.responses())));
    }
    let streams: Vec<Stream> = metered.iter().map(|track| Stream::new(track.pieces())).collect();
    Metered::by_window(|window_ns| {
        let mut samples = Samples::new();
        streams.iter().for_each(|stream| stream.meter(window_ns, &mut samples));
        samples
    })
}

fn record(plan: &Plan, heap: &Heap, gauge: &Gauge, measured: &Measured, closed: Closed, hiccups: Hiccups) -> Record {
    let stats = heap.stats();
    let committed_peak_bytes = stats.committed_peak_bytes as u64;
    // Read once, now: reading it costs tens of milliseconds. Of what was ever there, only the heap
    // gives memory back.
    let given_back = committed_peak_bytes.saturating_sub(stats.committed_bytes as u64);
    // What the bench itself keeps of the run is not the run's.
    let own_bytes: u64 = measured.tracks.iter().map(Track::bytes).sum();
    let pss_peak_bytes = pss_bytes().saturating_sub(own_bytes) + given_back;
    let tracks = &measured.tracks;
    let latency = together(tracks.iter().filter(|track| track.is_metered()).map(Track::latency));
    let (operations, other) =
        (together(tracks.iter().map(Track::operations)), together(tracks.iter().map(Track::other)));
    let metered = metered(tracks);
    let (wall_s, measured_ns) = (closed.wall.as_secs_f64(), closed.wall.as_nanos() as u64);
    let sampled = if plan.stretches { Track::sampled_whole } else { Track::sampled };
    let tracks: Vec<Sampled> = tracks.iter().map(|track| sampled(track, measured_ns)).collect();
    let occupancy = gauge.occupancy(&closed);
    let quarters = if plan.work.is_steady() { gauge.quarters(&closed) } else { Vec::new() };
    let (mut events, lost) = (closed.heap, closed.lost);
    events.place_preemptions(&tracks);
    events.add_late_wake_ups(&measured.tracks);
    Record {
        workload: plan.work.name().to_owned(),
        barrier: plan.heap.barrier,
        heap_bytes: plan.heap.heap_bytes,
        threads: closed.used_by,
        hiccups,
        repeat: plan.repeat,
        wall_s,
        measured_ns,
        cpu_s: closed.used.cpu.as_secs_f64(),
        ops: measured.ops,
        ops_per_s: measured.ops as f64 / wall_s.max(1e-9),
        committed_peak_bytes,
        pss_peak_bytes,
        cycles: closed.cycles,
        checksum: measured.checksum,
        documents: measured.documents,
        pauses: events.pauses.summary(),
        safepoint: events.safepoint.summary(),
        stalls: events.stalls.summary(),
        latency: latency.summary(),
        operations: operations.summary(),
        other: other.summary(),
        metered: metered.map(Samples::summary),
        gaps: Gaps::of(&tracks, measured_ns),
        not_accounted: NotAccounted::of(&tracks, &events),
        other_cpu_percent: closed.used.other_percent,
        stolen_percent: closed.used.stolen_percent,
        lost_events: events.lost,
        mmu: events.mmu(),
        measured_mmu: measured_mmu(&tracks, measured_ns),
        lost: lost.lost,
        quarters,
        laggards: events.laggards,
        settings: plan.clone(),
        histograms: Histograms {
            pauses: events.pauses.buckets(),
            safepoint: events.safepoint.buckets(),
            stalls: events.stalls.buckets(),
            latency: latency.buckets(),
            operations: operations.buckets(),
            other: other.buckets(),
            metered: metered.map(Samples::buckets),
            faults: lost.faults,
            slow_paths: lost.slow_paths,
        },
        tracks,
        delays: events.delays,
        stops: events.stops,
        phases: events.phases,
        occupancy,
    }
}
