//! A mutator thread's time in the measured part, tiled by samples: each begins where the last one
//! ended, and nothing that happens to the thread falls between two.
//!
//! What a sample is of is its [`Series`]; time in which the thread waits because it has nothing to
//! do (for the next operation's due time, for another thread) is idle and no sample. Histograms
//! forget when a sample was, so the track also keeps the order, coarsely: stretches of some tens of
//! microseconds with how many samples each holds. A sample that is longer than that is a stretch by
//! itself. From these follow the gaps, the measured utilisation and the metered latency.

use std::thread;
use std::time::{Duration, Instant};

use gc_core::sys::{monotonic_ns, set_timer_slack};
use gc_heap::Mutator;

use crate::recorder::{Recorder, nanos};
use crate::timeline::Sampled;

/// What a sample is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Series {
    /// An operation of the workload: what its latency is of.
    Operation,
    /// Other work of the program, in small parts: counting a tree, parsing a document.
    Other,
}

/// A stretch as a reader sees it, from the start of the measured part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
    /// Samples that tile it; 0: the thread was idle.
    pub(crate) samples: u64,
}

/// A stretch as it is stored.
#[derive(Clone, Copy)]
struct Stretch {
    ns: u32,
    samples: u32,
}

/// `samples` of a stretch that was idle, and of one that the next one continues.
const IDLE: u32 = u32::MAX;
const CONTINUED: u32 = u32::MAX - 1;

impl Stretch {
    fn is_busy(self) -> bool {
        self.samples < CONTINUED
    }
}

/// A sample of this length and more is kept by itself, with its time.
pub(crate) const LONG_SAMPLE_NS: u64 = 100_000;
/// How long a stretch of shorter samples is, at first and at most: below half of
/// [`LONG_SAMPLE_NS`] and below it, so that a long sample never shares a stretch.
const FINEST_NS: u64 = 20_000;
const COARSEST_NS: u64 = 80_000;
/// Stretches that all tracks of a run have room for before they become coarser: 32 MiB.
const ROOM: usize = 1 << 22;
/// The most and the least of it that one track has.
const MOST_ROOM: usize = 1 << 20;
const LEAST_ROOM: usize = 1 << 12;

/// A moment of the past by the monotonic clock. At most some nanoseconds later than it was, and
/// never earlier: so a track never ends behind the measured part. (The least of some, because the
/// thread may lose its processor between the two readings.)
fn monotonic(moment: Instant) -> u64 {
    let by_both = |_| {
        let ago_ns = nanos(moment, Instant::now());
        monotonic_ns() - ago_ns
    };
    (0..8).map(by_both).min().unwrap_or_default()
}

/// One mutator thread's samples.
pub(crate) struct Track {
    /// When the last sample ended, from `base`.
    last_ns: u64,
    /// When the last stretch ended, and the samples since.
    marked_ns: u64,
    samples: u32,
    resolution_ns: u64,
    /// A sample that ends here or later ends a stretch: `resolution_ns` after `marked_ns`.
    marks_ns: u64,
    /// Operations that may begin before the next tick.
    left: u64,
    /// No operation begins from here on.
    until_ns: u64,
    /// What the sample is of that [`begin`](Self::begin) began.
    open: Option<Series>,
    /// The start of the measured part, by the monotonic clock.
    base_ns: u64,
    pace: Option<Pace>,
    operations: Recorder,
    other: Recorder,
    idle_ns: u64,
    stretches: Vec<Stretch>,
    /// How many stretches make it coarser.
    room: usize,
    mutator: u64,
    metered: bool,
}

/// A set rate of operations.
struct Pace {
    /// Operations a second.
    rate: u64,
    start_ns: u64,
    /// Whole milliseconds since the start whose operations were admitted.
    tick: u64,
    admitted: u64,
    /// When the operations of this tick were due.
    due_ns: u64,
    in_tick: bool,
    until_ns: u64,
    /// When the thread slept beyond a due time, and by how much: by [`LONG_SAMPLE_NS`] and more.
    late: Vec<(u64, u64)>,
    /// From due to done: of a tick's work, and of each sample.
    ticks: Recorder,
    responses: Recorder,
}

/// What a track at a set rate records beside its samples: see [`Pace`].
pub(crate) struct Paced {
    pub(crate) ticks: Recorder,
    pub(crate) responses: Recorder,
    pub(crate) late: Vec<(u64, u64)>,
}

/// Operations of a set rate are due together once a tick, so that the thread sleeps in between.
const TICK_NS: u64 = 1_000_000;
/// Late sleeps that a track has room for from the start.
const LATE_ROOM: usize = 1024;
/// Before a due time the thread wakes this early and waits awake: a sleeper wakes late.
const AWAKE_NS: u64 = 50_000;

impl Track {
    /// A track for one of `threads` threads, which is to do so many operations a second; 0: as fast
    /// as it goes. Touches all its memory, so create it before the measured part.
    pub(crate) fn new(threads: u64, rate: u64) -> Self {
        let room = (ROOM / threads.max(1) as usize).clamp(LEAST_ROOM, MOST_ROOM);
        let mut stretches = vec![Stretch { ns: 1, samples: 1 }; room];
        stretches.clear();
        let pace = (rate > 0).then(|| Pace {
            rate,
            start_ns: 0,
            tick: 0,
            admitted: 0,
            due_ns: 0,
            in_tick: false,
            until_ns: u64::MAX,
            late: Vec::with_capacity(LATE_ROOM),
            ticks: Recorder::new(),
            responses: Recorder::new(),
        });
        Self {
            last_ns: 0,
            marked_ns: 0,
            samples: 0,
            resolution_ns: FINEST_NS,
            marks_ns: FINEST_NS,
            left: u64::MAX,
            until_ns: u64::MAX,
            open: None,
            base_ns: monotonic_ns(),
            pace,
            operations: Recorder::new(),
            other: Recorder::new(),
            idle_ns: 0,
            stretches,
            room,
            mutator: 0,
            metered: true,
        }
    }

    /// Of samples that another program took in the same way: its stretches in order, each with its
    /// length and how many samples it has; `None`: it was idle.
    pub(crate) fn of_stretches(
        mutator: u64,
        stretches: impl Iterator<Item = (u64, Option<u64>)>,
        (operations, other): (Recorder, Recorder),
        paced: Option<Paced>,
    ) -> Self {
        let rate = u64::from(paced.is_some());
        let mut track = Self { operations, other, mutator, ..Self::new(1, rate) };
        if let (Some(pace), Some(Paced { ticks, responses, late })) = (&mut track.pace, paced) {
            (pace.ticks, pace.responses, pace.late) = (ticks, responses, late);
        }
        for (ns, samples) in stretches {
            track.last_ns += ns;
            track.idle_ns += if samples.is_none() { ns } else { 0 };
            // As `push` has it, without making it coarser.
            let mut left_ns = ns;
            while left_ns > u64::from(u32::MAX) {
                track.stretches.push(Stretch { ns: u32::MAX, samples: CONTINUED });
                left_ns -= u64::from(u32::MAX);
            }
            let samples = samples.map_or(IDLE, |samples| samples.min(u64::from(CONTINUED) - 1) as u32);
            track.stretches.push(Stretch { ns: left_ns as u32, samples });
        }
        track.begin_stretch(track.last_ns);
        track
    }

    /// The samples are no operations of a stream: their latency is not metered.
    pub(crate) fn unmetered(mut self) -> Self {
        self.metered = false;
        self
    }

    /// Begins the measured part, which began at `base`: forgets the samples so far. What has gone
    /// by since `base` was idle. With a set rate, the first operations are due in a millisecond.
    pub(crate) fn start(&mut self, m: &Mutator<'_>, base: Instant) {
        for recorder in [&mut self.operations, &mut self.other] {
            recorder.clear();
        }
        self.stretches.clear();
        (self.base_ns, self.last_ns) = (monotonic(base), 0);
        self.begin_stretch(0);
        (self.open, self.idle_ns, self.mutator) = (None, 0, m.number());
        let now_ns = self.now_ns();
        self.idle_until(now_ns);
        if let Some(pace) = &mut self.pace {
            pace.ticks.clear();
            pace.responses.clear();
            pace.late.clear();
            (pace.start_ns, pace.tick, pace.admitted, pace.in_tick) = (now_ns, 0, 0, false);
            self.left = 0;
            // Where a sandbox refuses, sleeps end later; the samples show it.
            let _ = set_timer_slack(Duration::ZERO);
        }
    }

    /// Lets no operation begin that long after the start.
    pub(crate) fn last_for(&mut self, time: Duration) {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match &mut self.pace {
            Some(pace) => pace.until_ns = pace.start_ns.saturating_add(time_ns),
            None => self.until_ns = self.last_ns.saturating_add(time_ns),
        }
    }

    fn now_ns(&self) -> u64 {
        monotonic_ns() - self.base_ns
    }

    /// Waits until the next operation may begin; false: the time is over. Nothing but a few
    /// instructions where no rate was set.
    #[inline]
    pub(crate) fn admit(&mut self, m: &mut Mutator<'_>) -> bool {
        if self.left == 0 && !self.next_tick(m) {
            return false;
        }
        self.left -= 1;
        self.last_ns < self.until_ns
    }

    /// Ends a sample of that series; the next begins. Some thirty instructions beside the reading
    /// of the clock: all that is rare is in [`mark`](Self::mark).
    #[inline]
    pub(crate) fn end(&mut self, of: Series) {
        self.end_at(of, self.now_ns());
    }

    #[inline]
    fn end_at(&mut self, of: Series, now_ns: u64) {
        // The clock is monotonic, and idle time ends in the past.
        let ns = now_ns.wrapping_sub(self.last_ns);
        match of {
            Series::Operation => self.operations.record_short(ns),
            Series::Other => self.other.record_short(ns),
        }
        self.samples += 1;
        if now_ns >= self.marks_ns {
            self.mark(of, now_ns, ns);
        }
        self.last_ns = now_ns;
        if let Some(pace) = &mut self.pace {
            pace.responses.record(now_ns.saturating_sub(pace.due_ns));
        }
    }

    /// Begins a sample of that series where the last one ends, and waits until it may. For code
    /// that cannot wait at an operation's end.
    #[inline]
    pub(crate) fn begin(&mut self, m: &mut Mutator<'_>, series: Series) {
        if let Some(open) = self.open.replace(series) {
            self.end(open);
        }
        self.admit(m);
    }

    /// Runs `f` outside the heap: the thread has nothing to do until something has happened
    /// elsewhere. What is due after it is due later by that time.
    pub(crate) fn rest<R>(&mut self, m: &mut Mutator<'_>, f: impl FnOnce() -> R) -> R {
        self.finish();
        let out = m.blocking(f);
        let (from_ns, now_ns) = (self.last_ns, self.now_ns());
        self.idle_until(now_ns);
        if let Some(pace) = &mut self.pace {
            pace.start_ns += now_ns - from_ns;
            pace.due_ns += now_ns - from_ns;
            pace.in_tick = self.left > 0;
        }
        out
    }

    /// Ends what [`begin`](Self::begin) began, and with a set rate the tick.
    pub(crate) fn finish(&mut self) {
        if let Some(open) = self.open.take() {
            self.end(open);
        }
        self.end_tick();
    }

    fn end_tick(&mut self) {
        let last_ns = self.last_ns;
        if let Some(pace) = &mut self.pace
            && std::mem::take(&mut pace.in_tick)
        {
            pace.ticks.record(last_ns.saturating_sub(pace.due_ns));
        }
    }

    /// Waits for the next tick that has operations; false: it would begin too late.
    #[cold]
    #[inline(never)]
    fn next_tick(&mut self, m: &mut Mutator<'_>) -> bool {
        self.end_tick();
        let Some(pace) = &mut self.pace else { return false };
        loop {
            let begins_ns = pace.start_ns + pace.tick * TICK_NS;
            if begins_ns >= pace.until_ns {
                return false;
            }
            pace.tick += 1;
            // A rate that 1000 does not divide is kept over the second.
            let upto = (u128::from(pace.tick) * u128::from(pace.rate) / 1000) as u64;
            if upto > pace.admitted {
                self.left = upto - pace.admitted;
                (pace.admitted, pace.due_ns, pace.in_tick) = (upto, begins_ns + TICK_NS, true);
                break;
            }
        }
        let due_ns = pace.due_ns;
        let wakes_ns = due_ns.saturating_sub(AWAKE_NS);
        loop {
            let now_ns = self.now_ns();
            if now_ns >= wakes_ns {
                break;
            }
            let woke_ns = m.blocking(|| {
                thread::sleep(Duration::from_nanos(wakes_ns - now_ns));
                self.now_ns()
            });
            self.woke(due_ns, woke_ns);
        }
        while self.now_ns() < due_ns {
            m.safepoint();
            std::hint::spin_loop();
        }
        // What comes after the due time belongs to the operation, whatever took it.
        self.idle_until(due_ns);
        true
    }

    /// The thread woke from its sleep until `due_ns`. If it is late, the kernel held it up: it was
    /// outside the heap.
    pub(crate) fn woke(&mut self, due_ns: u64, woke_ns: u64) {
        let late_ns = woke_ns.saturating_sub(due_ns);
        if let Some(pace) = &mut self.pace
            && late_ns >= LONG_SAMPLE_NS
        {
            pace.late.push((due_ns, late_ns));
        }
    }

    /// The thread had nothing to do since the last sample ended.
    fn idle_until(&mut self, until_ns: u64) {
        if until_ns <= self.last_ns {
            return;
        }
        if self.samples > 0 {
            self.push(self.last_ns - self.marked_ns, self.samples);
        }
        self.idle_ns += until_ns - self.last_ns;
        self.push(until_ns - self.last_ns, IDLE);
        self.last_ns = until_ns;
        self.begin_stretch(until_ns);
    }

    fn begin_stretch(&mut self, from_ns: u64) {
        (self.marked_ns, self.samples) = (from_ns, 0);
        self.marks_ns = from_ns + self.resolution_ns;
    }

    /// Ends a stretch at the end of a sample of `ns`. Every long sample comes here.
    #[cold]
    #[inline(never)]
    fn mark(&mut self, of: Series, now_ns: u64, ns: u64) {
        match of {
            Series::Operation => self.operations.add_long(ns),
            Series::Other => self.other.add_long(ns),
        }
        if ns >= self.resolution_ns {
            if self.samples > 1 {
                self.push(self.last_ns - self.marked_ns, self.samples - 1);
            }
            self.push(ns, 1);
        } else {
            self.push(now_ns - self.marked_ns, self.samples);
        }
        self.begin_stretch(now_ns);
    }

    fn push(&mut self, mut ns: u64, samples: u32) {
        if self.stretches.len() >= self.room {
            self.coarsen();
        }
        while ns > u64::from(u32::MAX) {
            self.stretches.push(Stretch { ns: u32::MAX, samples: CONTINUED });
            ns -= u64::from(u32::MAX);
        }
        self.stretches.push(Stretch { ns: ns as u32, samples });
    }

    /// Merges neighbours that fit into a stretch of twice the length; where that is not to be, or
    /// not enough, makes room. The time that it takes is in the next sample.
    fn coarsen(&mut self) {
        if self.resolution_ns < COARSEST_NS {
            self.resolution_ns *= 2;
            let resolution_ns = self.resolution_ns;
            self.stretches.dedup_by(|next, last| {
                let ns = u64::from(last.ns) + u64::from(next.ns);
                let merged = last.is_busy() && next.is_busy() && ns <= resolution_ns;
                if merged {
                    *last = Stretch { ns: ns as u32, samples: last.samples + next.samples };
                }
                merged
            });
        }
        if self.stretches.len() > self.room / 2 {
            self.room *= 2;
        }
    }

    /// The latency of the operations; with a set rate, of the ticks.
    pub(crate) fn latency(&self) -> &Recorder {
        self.pace.as_ref().map_or(&self.operations, |pace| &pace.ticks)
    }

    pub(crate) fn operations(&self) -> &Recorder {
        &self.operations
    }

    pub(crate) fn other(&self) -> &Recorder {
        &self.other
    }

    /// With a set rate, each sample from its due time until it was done.
    pub(crate) fn responses(&self) -> Option<&Recorder> {
        self.pace.as_ref().map(|pace| &pace.responses)
    }

    /// With a set rate: when operations were due and the thread still slept, and for how long.
    pub(crate) fn late(&self) -> &[(u64, u64)] {
        self.pace.as_ref().map_or(&[], |pace| &pace.late)
    }

    /// Its number in the heap's events.
    pub(crate) fn mutator(&self) -> u64 {
        self.mutator
    }

    pub(crate) fn is_metered(&self) -> bool {
        self.metered
    }

    /// Memory that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        (self.stretches.capacity() * size_of::<Stretch>()) as u64
    }

    /// The stretches in order. Together they are the time from the start of the measured part until
    /// the last sample ended.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let mut from_ns = 0;
        let mut to_ns = 0;
        let rest = (self.samples > 0)
            .then(|| Stretch { ns: (self.last_ns - self.marked_ns) as u32, samples: self.samples })
            .into_iter();
        self.stretches.iter().copied().chain(rest).filter_map(move |stretch| {
            to_ns += u64::from(stretch.ns);
            if stretch.samples == CONTINUED {
                return None;
            }
            let samples = if stretch.samples == IDLE { 0 } else { u64::from(stretch.samples) };
            Some(Piece { from_ns: std::mem::replace(&mut from_ns, to_ns), to_ns, samples })
        })
    }

    /// What a report keeps of it: the thread is idle from its last sample until the measured part
    /// ends.
    pub(crate) fn sampled(&self, measured_ns: u64) -> Sampled {
        let long = self.pieces().filter(|p| p.samples == 1 && p.to_ns - p.from_ns >= LONG_SAMPLE_NS);
        Sampled {
            mutator: self.mutator,
            metered: self.metered,
            operations: self.operations.count(),
            operations_ns: self.operations.total_ns(),
            other: self.other.count(),
            other_ns: self.other.total_ns(),
            idle_ns: self.idle_ns + measured_ns.saturating_sub(self.last_ns),
            long_samples: long.map(|p| (p.from_ns, p.to_ns - p.from_ns)).collect(),
            stretches: Vec::new(),
        }
    }

    /// The same with every stretch.
    pub(crate) fn sampled_whole(&self, measured_ns: u64) -> Sampled {
        let stretches = self.pieces().map(|p| (p.to_ns - p.from_ns, p.samples)).collect();
        Sampled { stretches, ..self.sampled(measured_ns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gc_heap::Heap;

    fn heap() -> Heap {
        Heap::builder().max_bytes(8 << 20).build().unwrap()
    }

    /// Ends a sample of `ns` that began where the last one ended, without a clock.
    fn sample(track: &mut Track, ns: u64) {
        track.end_at(Series::Operation, track.last_ns + ns);
    }

    fn assert_tiles(track: &Track) {
        let mut at_ns = 0;
        for piece in track.pieces() {
            assert_eq!(piece.from_ns, at_ns);
            assert!(piece.to_ns >= piece.from_ns);
            at_ns = piece.to_ns;
        }
        assert_eq!(at_ns, track.last_ns);
        let samples: u64 = track.pieces().map(|p| p.samples).sum();
        assert_eq!(samples, track.operations.count() + track.other.count());
        let sum = track.operations.total_ns() + track.other.total_ns() + track.idle_ns;
        assert_eq!(sum, track.last_ns, "samples and idle time are all the time");
    }

    #[test]
    fn a_track_loses_no_time() {
        let heap = heap();
        heap.enter(|m| {
            let mut track = Track::new(1, 0);
            track.end(Series::Operation);
            let base = Instant::now();
            thread::sleep(Duration::from_millis(2));
            track.start(m, base);
            let idle_ns = track.idle_ns;
            assert!(idle_ns >= 2_000_000);
            for i in 0..10_000 {
                track.admit(m);
                track.end(if i % 3 == 0 { Series::Other } else { Series::Operation });
                if i == 5_000 {
                    thread::sleep(Duration::from_millis(2));
                }
            }
            track.rest(m, || thread::sleep(Duration::from_millis(1)));
            for _ in 0..100 {
                track.begin(m, Series::Operation);
            }
            track.finish();
            assert_tiles(&track);
            assert!(track.idle_ns >= idle_ns + 1_000_000);
            let sampled = track.sampled(track.last_ns + 77);
            assert_eq!((sampled.operations, sampled.other), (6_666 + 100, 3_334));
            let sum = sampled.operations_ns + sampled.other_ns + sampled.idle_ns;
            assert_eq!((sum, sampled.mutator), (track.last_ns + 77, m.number()));
            assert!(sampled.long_samples.iter().any(|&(_, ns)| ns >= 2_000_000), "the sleep is a long sample");
        })
        .unwrap();
    }

    #[test]
    fn every_long_sample_is_by_itself_however_coarse_the_track_has_become() {
        let mut track = Track::new(1, 0);
        track.room = 64;
        let (mut long, mut rng) = (Vec::new(), crate::rng::Rng::new(3, 0));
        for i in 0..200_000u64 {
            let ns = match rng.next() % 1000 {
                0 => 100_000 + rng.next() % 5_000_000,
                1 => rng.next() % 100_000,
                _ => 100 + rng.next() % 2_000,
            };
            if ns >= LONG_SAMPLE_NS {
                long.push((track.last_ns, ns));
            }
            sample(&mut track, ns);
            if i == 100_000 {
                long.push((track.last_ns, 3 << 32));
                sample(&mut track, 3 << 32);
                track.idle_until(track.last_ns + (1 << 33));
            }
        }
        assert_eq!(track.resolution_ns, COARSEST_NS);
        assert_tiles(&track);
        assert_eq!(track.sampled(0).long_samples, long);
        let over_1ms_ns = long.iter().map(|&(_, ns)| ns).filter(|&ns| ns >= crate::recorder::LONG_NS).sum::<u64>();
        let longest_ns = long.iter().map(|&(_, ns)| ns).max();
        assert_eq!((track.operations.over_1ms_ns(), Some(track.operations.max_ns())), (over_1ms_ns, longest_ns));
        let shared = track.pieces().filter(|p| p.samples > 1);
        assert!(shared.map(|p| p.to_ns - p.from_ns).max().unwrap() < 2 * COARSEST_NS);
    }

    #[test]
    fn a_rate_is_kept_and_latency_counts_from_the_due_time() {
        let heap = heap();
        heap.enter(|m| {
            // 2.5 a tick, for 40 ticks.
            let mut track = Track::new(1, 2_500);
            track.start(m, Instant::now());
            track.last_for(Duration::from_millis(40));
            let mut operations = 0u64;
            while track.admit(m) {
                if operations == 20 {
                    // The eighth tick is late by its work, and so are those after it.
                    thread::sleep(Duration::from_millis(10));
                }
                track.end(Series::Operation);
                operations += 1;
            }
            track.finish();
            assert_eq!(operations, 100);
            assert_eq!((track.latency().count(), track.operations().count()), (40, 100));
            let responses = track.responses().unwrap();
            assert_eq!(responses.count(), 100);
            assert!(responses.max_ns() >= 10_000_000 && track.latency().max_ns() >= 10_000_000);
            // The ticks that were due in those 10 ms waited for it as well.
            let late = track.latency().buckets().filter(|&(ns, _)| ns >= 1_000_000).map(|(_, n)| n).sum::<u64>();
            assert!(late >= 9, "{late} ticks");
            assert_tiles(&track);
            assert!(track.last_ns - track.pace.as_ref().unwrap().start_ns >= 40_000_000);
        })
        .unwrap();
    }

    #[test]
    fn nothing_becomes_due_while_a_thread_rests() {
        let heap = heap();
        heap.enter(|m| {
            let mut track = Track::new(1, 3_000);
            track.start(m, Instant::now());
            for i in 0..30 {
                track.begin(m, Series::Operation);
                if i == 10 {
                    track.rest(m, || thread::sleep(Duration::from_secs(2)));
                }
            }
            track.finish();
            let worst_ns = track.responses().unwrap().max_ns();
            assert!(worst_ns < 2_000_000_000, "{worst_ns} ns, as if it had been late by the rest");
            assert_tiles(&track);
        })
        .unwrap();
    }

    #[test]
    fn less_than_an_operation_a_tick_is_some_ticks_without_one() {
        let heap = heap();
        heap.enter(|m| {
            let mut track = Track::new(1, 100);
            track.start(m, Instant::now());
            track.last_for(Duration::from_millis(50));
            while track.admit(m) {
                track.end(Series::Operation);
            }
            track.finish();
            assert_eq!((track.operations().count(), track.latency().count()), (5, 5));
        })
        .unwrap();
    }
}
