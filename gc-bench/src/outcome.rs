//! The result of a run, computed from the samples of its mutators and from what the heap said.

use gc_heap::Heap;

use crate::gaps::{Gaps, NotAccounted, measured_mmu};
use crate::hiccups::Hiccups;
use crate::measure::{Closed, Gauge, Measured};
use crate::metered::{Metered, Stream};
use crate::plan::Plan;
use crate::process::pss_bytes;
use crate::record::{Histograms, Record};
use crate::recorder::Recorder;
use crate::standstill::{Seen, Standstills};
use crate::stats::Samples;
use crate::timeline::{Occupancy, Sampled};
use crate::track::Track;

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

/// What a run's memory did.
#[derive(Default)]
pub(crate) struct Footprint {
    pub(crate) committed_peak_bytes: u64,
    pub(crate) pss_peak_bytes: u64,
    pub(crate) occupancy: Vec<Occupancy>,
    pub(crate) quarters: Vec<f64>,
    /// Of mutators at a set rate, where the kernel lets them be watched.
    pub(crate) seen: Option<Seen>,
}

impl Footprint {
    pub(crate) fn of(plan: &Plan, heap: &Heap, gauge: &Gauge, measured: &Measured, closed: &Closed) -> Self {
        let stats = heap.stats();
        let committed_peak_bytes = stats.committed_peak_bytes as u64;
        // Read once, now: reading it costs tens of milliseconds. Of what was ever there, only the
        // heap gives memory back.
        let given_back = committed_peak_bytes.saturating_sub(stats.committed_bytes as u64);
        // What the bench itself keeps of the run is not the run's.
        let own_bytes = measured.tracks.iter().map(Track::bytes).sum::<u64>() + gauge.watch_bytes();
        Self {
            committed_peak_bytes,
            pss_peak_bytes: pss_bytes().saturating_sub(own_bytes) + given_back,
            occupancy: gauge.occupancy(closed),
            seen: gauge.seen(closed),
            // At a set rate the work is set too, and blocks taken say how full they were before.
            quarters: if plan.work.is_steady() && plan.rate == 0 { gauge.quarters(closed) } else { Vec::new() },
        }
    }
}

/// The result of a run.
pub(crate) fn record(
    plan: &Plan,
    footprint: Footprint,
    measured: &Measured,
    closed: Closed,
    hiccups: Hiccups,
) -> Record {
    let tracks = &measured.tracks;
    let latency = together(tracks.iter().filter(|track| track.is_metered()).map(Track::latency));
    let (operations, other) =
        (together(tracks.iter().map(Track::operations)), together(tracks.iter().map(Track::other)));
    let metered = metered(tracks);
    let (wall_s, measured_ns) = (closed.wall.as_secs_f64(), closed.wall.as_nanos() as u64);
    let sampled = if plan.stretches { Track::sampled_whole } else { Track::sampled };
    let tracks: Vec<Sampled> = tracks.iter().map(|track| sampled(track, measured_ns)).collect();
    let Footprint { committed_peak_bytes, pss_peak_bytes, occupancy, quarters, seen } = footprint;
    let (mut events, lost) = (closed.heap, closed.lost);
    let standstills = seen.as_ref().map(Standstills::of);
    let seen = seen.unwrap_or_default();
    events.add_standstills(&seen.standstills);
    events.place_preemptions(&tracks);
    events.add_late_wake_ups(&measured.tracks, &seen.off);
    Record {
        workload: plan.work.name().to_owned(),
        barrier: plan.heap.barrier,
        heap_bytes: plan.heap.heap_bytes,
        threads: closed.used_by,
        hiccups,
        standstills,
        repeat: plan.repeat,
        wall_s,
        measured_ns,
        cpu_s: closed.used.cpu.as_secs_f64(),
        ops: measured.ops,
        ops_per_s: measured.ops as f64 / wall_s.max(1e-9),
        committed_peak_bytes,
        pss_peak_bytes,
        uncommitted_bytes: closed.uncommitted_bytes,
        cycles: closed.cycles,
        checksum: measured.checksum,
        documents: measured.documents,
        pauses: events.pauses.summary(),
        safepoint: events.safepoint.summary(),
        stalls: events.stalls.summary(),
        throttled: events.throttled,
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
