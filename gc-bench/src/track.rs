//! A mutator thread's time in the measured part, tiled by samples: each begins where the last one
//! ended, and nothing that happens to the thread falls between two.
//!
//! What a sample is of is its [`Series`]; time in which the thread waits because it has nothing to
//! do (for the next operation's due time, for another thread) is idle and no sample. Histograms
//! forget when a sample was, so the track also keeps their order, coarsely (`stretches`). From
//! these follow the gaps, the measured utilisation and the metered latency.

mod late;
mod pace;
mod stretches;
mod tenant;
#[cfg(test)]
mod tests;

use std::thread;
use std::time::{Duration, Instant};

use gc_core::sys::{RunDelay, monotonic_ns, set_timer_slack};

use crate::recorder::{Recorder, nanos};
use crate::timeline::Sampled;
pub(crate) use late::{Late, Moment, Part};
use pace::Pace;
pub(crate) use pace::Paced;
use stretches::{IDLE, MOST_SAMPLES, Stretches};
pub(crate) use stretches::{LONG_SAMPLE_NS, Piece};
pub(crate) use tenant::{Tenant, Unhoused};

/// What a sample is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Series {
    /// An operation of the workload: what its latency is of.
    Operation,
    /// Other work of the program, in small parts: counting a tree, parsing a document.
    Other,
}

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
    /// A sample that ends here or later ends a stretch: their resolution after `marked_ns`.
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
    /// The kernel's record of this thread's waits for a processor, at a set rate and where there is
    /// one.
    run_delay: Option<RunDelay>,
    operations: Recorder,
    other: Recorder,
    idle_ns: u64,
    stretches: Stretches,
    mutator: u64,
    metered: bool,
}

/// Before a due time the thread wakes this early and waits awake: a sleeper wakes late.
const AWAKE_NS: u64 = 50_000;

impl Track {
    /// A track for one of `threads` threads, which is to do so many operations a second; 0: as fast
    /// as it goes. Touches all its memory, so create it before the measured part.
    pub(crate) fn new(threads: u64, rate: u64) -> Self {
        let stretches = Stretches::new(threads);
        Self {
            last_ns: 0,
            marked_ns: 0,
            samples: 0,
            marks_ns: stretches.resolution_ns(),
            left: u64::MAX,
            until_ns: u64::MAX,
            open: None,
            base_ns: monotonic_ns(),
            pace: (rate > 0).then(|| Pace::new(rate)),
            run_delay: None,
            operations: Recorder::new(),
            other: Recorder::new(),
            idle_ns: 0,
            stretches,
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
        if let (Some(pace), Some(paced)) = (&mut track.pace, paced) {
            pace.found = paced;
        }
        for (ns, samples) in stretches {
            track.last_ns += ns;
            track.idle_ns += if samples.is_none() { ns } else { 0 };
            let samples = samples.map_or(IDLE, |samples| samples.min(u64::from(MOST_SAMPLES)) as u32);
            track.stretches.append(ns, samples);
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
    pub(crate) fn start(&mut self, m: &impl Tenant, base: Instant) {
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
            pace.start(now_ns);
            self.left = 0;
            // Where a sandbox refuses, sleeps end later; the samples show it.
            let _ = set_timer_slack(Duration::ZERO);
            self.run_delay = RunDelay::of_this_thread().ok();
        }
    }

    /// Lets no operation begin that long after the start.
    pub(crate) fn last_for(&mut self, time: Duration) {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match &mut self.pace {
            Some(pace) => pace.last_for(time_ns),
            None => self.until_ns = self.last_ns.saturating_add(time_ns),
        }
    }

    fn now_ns(&self) -> u64 {
        monotonic_ns() - self.base_ns
    }

    /// Waits until the next operation may begin; false: the time is over. Nothing but a few
    /// instructions where no rate was set.
    #[inline]
    pub(crate) fn admit(&mut self, m: &mut impl Tenant) -> bool {
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
            pace.found.responses.record(now_ns.saturating_sub(pace.due_ns));
        }
    }

    /// Begins a sample of that series where the last one ends, and waits until it may. For code
    /// that cannot wait at an operation's end.
    #[inline]
    pub(crate) fn begin(&mut self, m: &mut impl Tenant, series: Series) {
        self.go_on(series);
        self.admit(m);
    }

    /// Begins a sample of that series where the last one ends. It belongs to the operation before,
    /// and waits for no due time.
    #[inline]
    pub(crate) fn go_on(&mut self, series: Series) {
        if let Some(open) = self.open.replace(series) {
            self.end(open);
        }
    }

    /// Runs `f` outside the heap: the thread has nothing to do until something has happened
    /// elsewhere. What is due after it is due later by that time.
    pub(crate) fn rest<R>(&mut self, m: &mut impl Tenant, f: impl FnOnce() -> R) -> R {
        self.finish();
        let out = m.blocking(f);
        let (from_ns, now_ns) = (self.last_ns, self.now_ns());
        self.idle_until(now_ns);
        if let Some(pace) = &mut self.pace {
            pace.rest(now_ns - from_ns, self.left > 0);
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
        if let Some(pace) = &mut self.pace {
            pace.end_tick(self.last_ns);
        }
    }

    /// Waits for the next tick that has operations; false: it would begin too late.
    #[cold]
    #[inline(never)]
    fn next_tick(&mut self, m: &mut impl Tenant) -> bool {
        self.end_tick();
        let Some(pace) = &mut self.pace else { return false };
        let Some(left) = pace.next_tick() else { return false };
        self.left = left;
        let due_ns = pace.due_ns;
        let wakes_ns = due_ns.saturating_sub(AWAKE_NS);
        loop {
            let now_ns = self.now_ns();
            if now_ns >= wakes_ns {
                break;
            }
            let left = self.moment();
            let (asleep, woke) = m.blocking(|| {
                let asleep = self.moment();
                // To leave the heap may have taken some of the time, or all of it.
                let Some(ns) = wakes_ns.checked_sub(asleep.at_ns) else { return (asleep, asleep) };
                thread::sleep(Duration::from_nanos(ns));
                (asleep, self.moment())
            });
            let back = self.moment();
            self.is_back(Late { due_ns, left, asleep, woke, back });
        }
        while self.now_ns() < due_ns {
            m.safepoint();
            std::hint::spin_loop();
        }
        // What comes after the due time belongs to the operation, whatever took it.
        self.idle_until(due_ns);
        true
    }

    /// Now, and how long this thread has waited for a processor so far: asked first, so that a
    /// sleep begins at its moment.
    fn moment(&self) -> Moment {
        let total = self.run_delay.as_ref().and_then(|delay| delay.total().ok());
        Moment { waited_ns: total.map(|total| total.as_nanos() as u64), at_ns: self.now_ns() }
    }

    /// The thread is back in the heap from a sleep. If it is late, it was held up on its way.
    pub(crate) fn is_back(&mut self, late: Late) {
        if let Some(pace) = &mut self.pace {
            pace.is_back(late);
        }
    }

    /// The thread had nothing to do since the last sample ended.
    fn idle_until(&mut self, until_ns: u64) {
        if until_ns <= self.last_ns {
            return;
        }
        if self.samples > 0 {
            self.stretches.push(self.last_ns - self.marked_ns, self.samples);
        }
        self.idle_ns += until_ns - self.last_ns;
        self.stretches.push(until_ns - self.last_ns, IDLE);
        self.last_ns = until_ns;
        self.begin_stretch(until_ns);
    }

    fn begin_stretch(&mut self, from_ns: u64) {
        (self.marked_ns, self.samples) = (from_ns, 0);
        self.marks_ns = from_ns + self.stretches.resolution_ns();
    }

    /// Ends a stretch at the end of a sample of `ns`. Every long sample comes here.
    #[cold]
    #[inline(never)]
    fn mark(&mut self, of: Series, now_ns: u64, ns: u64) {
        match of {
            Series::Operation => self.operations.add_long(ns),
            Series::Other => self.other.add_long(ns),
        }
        if ns >= self.stretches.resolution_ns() {
            if self.samples > 1 {
                self.stretches.push(self.last_ns - self.marked_ns, self.samples - 1);
            }
            self.stretches.push(ns, 1);
        } else {
            self.stretches.push(now_ns - self.marked_ns, self.samples);
        }
        self.begin_stretch(now_ns);
    }

    /// The latency of the operations; with a set rate, of the ticks.
    pub(crate) fn latency(&self) -> &Recorder {
        self.pace.as_ref().map_or(&self.operations, |pace| &pace.found.ticks)
    }

    pub(crate) fn operations(&self) -> &Recorder {
        &self.operations
    }

    pub(crate) fn other(&self) -> &Recorder {
        &self.other
    }

    /// With a set rate, each sample from its due time until it was done.
    pub(crate) fn responses(&self) -> Option<&Recorder> {
        self.pace.as_ref().map(|pace| &pace.found.responses)
    }

    /// With a set rate: when operations were due and the thread was not back from its sleep.
    pub(crate) fn late(&self) -> &[Late] {
        self.pace.as_ref().map_or(&[], |pace| &pace.found.late)
    }

    /// The start of the measured part, by the monotonic clock.
    pub(crate) fn base_ns(&self) -> u64 {
        self.base_ns
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
        self.stretches.bytes()
    }

    /// The stretches in order. Together they are the time from the start of the measured part until
    /// the last sample ended.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let open = (self.samples > 0).then(|| (self.last_ns - self.marked_ns, self.samples));
        self.stretches.pieces(open)
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
