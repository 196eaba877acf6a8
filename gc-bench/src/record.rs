//! The results of a run, with the keys of its JSON. `docs/bench.md` says what each means; keep them
//! as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::built::Build;
use crate::by_name;
use crate::collector::Collector;
use crate::environment::Environment;
use crate::gaps::{Gaps, NotAccounted};
use crate::hiccups::Hiccups;
use crate::laggards::Laggard;
use crate::lost::Lost;
use crate::machine::{self, Kernel, Machine};
use crate::metered::Metered;
use crate::mmu::Mmu;
use crate::plan::Plan;
use crate::standstill::Standstills;
use crate::stats::Summary;
use crate::threads::Threads;
use crate::time;
use crate::timeline::{Delay, Occupancy, Phase, Sampled, Stop};

/// The version of the keys of a report of runs: raised when one changes its meaning or goes, not
/// when one is added.
pub(crate) const RUNS: u32 = 2;
/// As [`RUNS`], for a report of primitives.
pub(crate) const PRIMITIVES: u32 = 1;

/// As [`RUNS`], for a report of curves.
pub(crate) const CURVES: u32 = 1;

/// A value in nanoseconds, and how many samples it stands for.
pub(crate) type Bucket = (u64, u64);

/// What every report begins with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) format: u32,
    pub(crate) tool: String,
    pub(crate) version: String,
    /// `release` or `debug`: figures of the second say nothing.
    pub(crate) profile: String,
    pub(crate) command: Vec<String>,
    /// When the first run began, UTC.
    pub(crate) when: String,
    pub(crate) machine: Machine,
    pub(crate) kernel: Kernel,
    #[serde(default)]
    pub(crate) build: Build,
    #[serde(default)]
    pub(crate) environment: Environment,
}

impl Head {
    /// Of a report that is begun now, with keys of that version.
    pub(crate) fn now(format: u32) -> Self {
        Self {
            format,
            tool: "gc-bench".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.into(),
            command: std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect(),
            when: time::now(),
            machine: machine::machine(),
            kernel: machine::kernel(),
            build: Build::this(),
            environment: Environment::now(),
        }
    }
}

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) workload: String,
    #[serde(with = "by_name")]
    pub(crate) barrier: Collector,
    pub(crate) heap_bytes: u64,
    /// What the threads used of the machine in the measured part, by role.
    pub(crate) threads: Threads,
    /// What the machine did to a loop without a heap, before the run.
    pub(crate) hiccups: Hiccups,
    /// Times in which the mutators' processors did not run; no key where they were not watched: as
    /// fast as it goes, and where the kernel does not allow it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) standstills: Option<Standstills>,
    pub(crate) repeat: u64,
    pub(crate) wall_s: f64,
    /// The same, exactly: what samples and idle time of each mutator add up to.
    pub(crate) measured_ns: u64,
    pub(crate) cpu_s: f64,
    pub(crate) ops: u64,
    pub(crate) ops_per_s: f64,
    pub(crate) committed_peak_bytes: u64,
    pub(crate) pss_peak_bytes: u64,
    /// What the heap uncommitted in the measured part; what it committed again counts each time.
    #[serde(default)]
    pub(crate) uncommitted_bytes: u64,
    pub(crate) cycles: u64,
    pub(crate) checksum: i64,
    /// Documents parsed; 0 save for `json`.
    pub(crate) documents: u64,
    pub(crate) pauses: Summary,
    pub(crate) safepoint: Summary,
    pub(crate) stalls: Summary,
    /// Of these, those in which a thread was slowed down so that memory lasts.
    #[serde(default)]
    pub(crate) throttled: u64,
    pub(crate) latency: Summary,
    /// Samples of operations, and of the program's other work.
    pub(crate) operations: Summary,
    pub(crate) other: Summary,
    /// Latency from due arrivals, by how they were smoothed.
    pub(crate) metered: Metered<Summary>,
    /// Samples of 1 ms and more.
    pub(crate) gaps: Gaps,
    pub(crate) not_accounted: NotAccounted,
    /// Processor time of other processes during the measured part, in percent of one processor.
    pub(crate) other_cpu_percent: f64,
    /// Time the hypervisor gave to others, in percent of one processor.
    pub(crate) stolen_percent: f64,
    /// Events and losses that the heap could not keep: above 0, the figures of pauses, stalls and
    /// utilisation miss some.
    pub(crate) lost_events: u64,
    /// Minimum mutator utilisation, at each window that is no longer than the run.
    pub(crate) mmu: Vec<Mmu>,
    /// The same from the mutators' own samples.
    pub(crate) measured_mmu: Vec<Mmu>,
    /// Time that mutators lost besides pauses and stalls; a key that is not there was not recorded.
    pub(crate) lost: Lost,
    /// Bytes allocated in each quarter of the measured part, where all of it does the same work;
    /// empty where it does not, or is shorter than a second.
    pub(crate) quarters: Vec<f64>,
    pub(crate) settings: Plan,
    pub(crate) histograms: Histograms,
    /// Each mutator's samples.
    pub(crate) tracks: Vec<Sampled>,
    /// What mutators lost besides pauses, by kind.
    pub(crate) delays: BTreeMap<String, Vec<Delay>>,
    /// The mutators that came last to a pause, in the order of their numbers.
    pub(crate) laggards: Vec<Laggard>,
    /// Each pause, in order.
    pub(crate) stops: Vec<Stop>,
    /// Each phase of each cycle, in order of its start.
    pub(crate) phases: Vec<Phase>,
    pub(crate) occupancy: Vec<Occupancy>,
}

/// Every sample set's histogram.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Histograms {
    pub(crate) pauses: Vec<Bucket>,
    pub(crate) safepoint: Vec<Bucket>,
    pub(crate) stalls: Vec<Bucket>,
    pub(crate) latency: Vec<Bucket>,
    pub(crate) operations: Vec<Bucket>,
    pub(crate) other: Vec<Bucket>,
    pub(crate) metered: Metered<Vec<Bucket>>,
    #[serde(default)]
    pub(crate) faults: Vec<Bucket>,
    /// Of those that were timed.
    #[serde(default)]
    pub(crate) slow_paths: Vec<Bucket>,
}

impl Record {
    /// The utilisation at a window of [`WINDOWS_MS`](crate::mmu::WINDOWS_MS), if the run was that
    /// long.
    pub(crate) fn mmu_at(&self, window_ms: u64) -> Option<f64> {
        self.mmu.iter().find(|mmu| mmu.window_ms == window_ms).map(|mmu| mmu.share)
    }

    /// The same from the mutators' samples.
    pub(crate) fn measured_mmu_at(&self, window_ms: u64) -> Option<f64> {
        self.measured_mmu.iter().find(|mmu| mmu.window_ms == window_ms).map(|mmu| mmu.share)
    }

    /// Operations a second that a mutator did while it was not idle; its other work counts as
    /// operations, too. 0 where it did nothing.
    pub(crate) fn rate(&self) -> f64 {
        let metered = || self.tracks.iter().filter(|track| track.metered);
        let samples: u64 = metered().map(|track| track.operations + track.other).sum();
        let busy_ns: u64 = metered().map(|track| track.operations_ns + track.other_ns).sum();
        if busy_ns > 0 { samples as f64 * 1e9 / busy_ns as f64 } else { 0.0 }
    }

    /// Whether another process took so much of the machine that the figures are not the heap's.
    pub(crate) fn noisy(&self) -> bool {
        self.other_cpu_percent > 6.0
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use crate::gaps::measured_mmu;
    use crate::lost::{Kind, Times};
    use crate::mmu;
    use crate::plan::samples::runs;
    use crate::stats::Samples;
    use crate::threads::Usage;

    const SLOW: Times = Times {
        timed: 77,
        clock_ns: 25.0,
        p50_ns: 130,
        p99_ns: 1_900,
        max_ns: 41_000,
        total_ns: 400_000,
        total_low_ns: 340_000,
        total_high_ns: 460_000,
        share_of_wall: 0.0002,
    };

    fn usage(cpu_ns: u64) -> Usage {
        let run_queue_wait_ns = Some(cpu_ns / 100);
        Usage { count: 1, cpu_ns, run_queue_wait_ns, voluntary_switches: 30, minor_faults: 12, ..Usage::default() }
    }

    /// A made-up run of `workload` for tests of the reports.
    pub(crate) fn record(workload: &str, repeat: u64) -> Record {
        let settings = Plan { repeat, ..runs(&[workload]).unwrap().remove(0) };
        let heap_bytes = settings.heap.heap_bytes;
        let pauses: Samples = (1..60u64).map(|i| 9_000 + i * i * 40).collect();
        let safepoint: Samples = (1..60u64).map(|i| 1_000 + i * 100).collect();
        let latency: Samples = (1..20_000u64).map(|i| 40 + i % 300 + (i / 19_990) * 2_000_000).collect();
        let metered: Samples = (1..20_000u64).map(|i| 60 + i % 300 + (i / 19_950) * 3_000_000).collect();
        let none = Samples::new();
        let measured_ns = (2 + repeat) * 1_000_000_000;
        let tracks = vec![Sampled {
            mutator: 1,
            metered: true,
            operations: 19_999,
            operations_ns: measured_ns,
            long_samples: vec![(13_000_000, 2_000_000), (20_000_000, 400_000)],
            ..Sampled::default()
        }];
        let names = ["mark", "plan", "relocate"];
        Record {
            workload: settings.work.name().to_owned(),
            barrier: settings.heap.barrier,
            heap_bytes,
            threads: Threads { mutators: usage(3_000_000_000), collector: usage(400_000_000), bench: usage(1_000_000) },
            hiccups: Hiccups { threads: 1, seconds: 0.3, threshold_ns: 100_000, count: 2, ..Hiccups::default() },
            standstills: None,
            repeat,
            wall_s: 2.0 + repeat as f64,
            measured_ns,
            cpu_s: 3.5,
            ops: 5_000_000,
            ops_per_s: 2.5e6,
            committed_peak_bytes: heap_bytes,
            pss_peak_bytes: heap_bytes + (9 << 20),
            uncommitted_bytes: 0,
            cycles: 20,
            checksum: -15,
            documents: 0,
            pauses: pauses.summary(),
            safepoint: safepoint.summary(),
            stalls: none.summary(),
            throttled: 0,
            latency: latency.summary(),
            operations: latency.summary(),
            other: none.summary(),
            metered: Metered::by_window(|_| metered.summary()),
            gaps: Gaps::of(&tracks, measured_ns),
            not_accounted: NotAccounted { ns: 1_100_000, share: 0.55 },
            other_cpu_percent: 0.4,
            stolen_percent: 0.0,
            lost_events: 0,
            mmu: mmu::of_run(&[(10_000_000, 10_600_000), (13_000_000, 13_900_000)], std::iter::empty(), 60_000_000),
            measured_mmu: measured_mmu(&tracks, 60_000_000),
            lost: Lost { slow_paths: Some(Kind { count: 1234, times: Some(SLOW) }), faults: None },
            laggards: vec![Laggard { mutator: 2, count: 59, worst_ns: 6_900, ..Laggard::default() }],
            histograms: Histograms {
                pauses: pauses.buckets(),
                safepoint: safepoint.buckets(),
                stalls: none.buckets(),
                latency: latency.buckets(),
                operations: latency.buckets(),
                other: none.buckets(),
                metered: Metered::by_window(|_| metered.buckets()),
                faults: Vec::new(),
                slow_paths: vec![(130, 60), (1_900, 16), (41_000, 1)],
            },
            tracks,
            delays: [("stall".to_owned(), vec![(1, 14_000_000, 900_000, 900_000)])].into(),
            quarters: vec![5e8, 5.1e8, 4.9e8, 5e8],
            stops: (0..59)
                .map(|i| Stop {
                    mutator: None,
                    kind: "mark start".into(),
                    start_ns: i * 30_000_000,
                    duration_ns: 9_000 + i * i * 40,
                    safepoint_ns: 1_000 + i * 100,
                    before_ns: 0,
                })
                .collect(),
            phases: (0..60)
                .map(|i| Phase {
                    name: names[(i % 3) as usize].into(),
                    start_ns: i * 30_000_000,
                    duration_ns: if i % 3 == 0 { 20_000_000 } else { 3_000_000 },
                })
                .collect(),
            occupancy: (0..100)
                .map(|i| Occupancy {
                    at_ns: i * 20_000_000,
                    used_bytes: heap_bytes / 4 + (i % 10) * (heap_bytes / 20),
                    committed_bytes: heap_bytes * 3 / 4,
                    resident_bytes: Some(heap_bytes * 2 / 3),
                })
                .collect(),
            settings,
        }
    }
}
