//! Times in which a thread had a processor that did not run.
//!
//! A hypervisor takes a processor away from a virtual machine, and not every one says so (*steal*).
//! The thread that had it finds that time is missing, and no event of the kernel or of the heap
//! tells of it. Another kind of witness does: a timer of the kernel that samples the thread as long
//! as it has a processor ([perf_event_open(2)], `PERF_COUNT_SW_CPU_CLOCK`), together with the
//! moments at which the thread got and lost it. Two samples in a row that are further apart than
//! the timer's period, while the thread kept its processor, have a standstill between them. (Or the
//! kernel had interrupts off for as long.)
//!
//! The timer takes some hundredths of a processor in a virtual machine, so only threads that work
//! at a set rate are watched: they have time to spare. Looking into the kernel needs `CAP_PERFMON`,
//! or a `kernel.perf_event_paranoid` of 1 and less.
//!
//! [perf_event_open(2)]: https://man7.org/linux/man-pages/man2/perf_event_open.2.html

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use perf_event::events::Software;
use perf_event::{Builder, Clock, SampleFlag, Sampler};
use serde::{Deserialize, Serialize};

/// The timer's period.
const PERIOD_NS: u64 = 500_000;

/// A distance between two samples that is longer than the period by this and more is a standstill.
const BEYOND_NS: u64 = 250_000;

/// Bytes of the buffer that the kernel writes to: some seconds of a thread that is not switched.
const BUFFER: usize = 1 << 17;

/// What the kernel writes, as its header numbers it.
const LOST: u32 = 2;
const THROTTLE: u32 = 5;
const UNTHROTTLE: u32 = 6;
const SAMPLE: u32 = 9;
const SWITCH: u32 = 14;
/// Of a switch: the thread loses its processor.
const OUT: u16 = 1 << 13;

/// Standstills of a run's mutators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standstills {
    /// Mutators that were watched.
    pub(crate) watched: u64,
    pub(crate) count: u64,
    pub(crate) total_ns: u64,
    pub(crate) max_ns: u64,
}

/// What is read off the records of one thread, in their order. Times by the monotonic clock.
#[derive(Debug, Default)]
struct Reading {
    /// The last record since when the thread has had its processor.
    last_ns: Option<u64>,
    /// When each standstill began and ended.
    found: Vec<(u64, u64)>,
    /// Since when the thread has had no processor, and the times in which it had none.
    off_since: Option<u64>,
    off: Vec<(u64, u64)>,
}

impl Reading {
    /// A record at that time, after which the thread has its processor, or has not, or nobody
    /// knows.
    fn record(&mut self, at_ns: u64, runs_on: bool) {
        if let Some(last_ns) = self.last_ns
            && at_ns.saturating_sub(last_ns) >= PERIOD_NS + BEYOND_NS
        {
            // It began within a period of the last sample: in the middle of it, on average.
            self.found.push((last_ns + PERIOD_NS / 2, at_ns));
        }
        self.last_ns = runs_on.then_some(at_ns);
    }

    /// A record as the kernel has written it. A time is the last word of every record but of a
    /// sample, of which it is all.
    fn read(&mut self, kind: u32, misc: u16, words: &[u8]) {
        let time = words.last_chunk().map(|&bytes| u64::from_ne_bytes(bytes));
        match (kind, time) {
            (SAMPLE, Some(at_ns)) => self.record(at_ns, true),
            (SWITCH, Some(at_ns)) => {
                let is_on = misc & OUT == 0;
                self.record(at_ns, is_on);
                if let Some(since_ns) = self.off_since.take().filter(|_| is_on) {
                    self.off.push((since_ns, at_ns));
                }
                self.off_since = (!is_on).then_some(at_ns);
            }
            // The timer has had a break, or records are missing.
            (UNTHROTTLE, Some(at_ns)) => self.last_ns = Some(at_ns),
            (THROTTLE, _) => self.last_ns = None,
            (LOST, _) => (self.last_ns, self.off_since) = (None, None),
            _ => {}
        }
    }
}

/// Watches one thread.
struct Watch {
    thread: u32,
    /// The mutator's number, and the start of the measured part, by the monotonic clock, when it
    /// has begun.
    measured: Option<(u64, u64)>,
    sampler: Sampler,
    reading: Reading,
}

impl Watch {
    fn of_this_thread() -> io::Result<Self> {
        let mut clock = Builder::new(Software::CPU_CLOCK);
        clock.sample_period(PERIOD_NS).sample(SampleFlag::TIME).sample_id_all(true).context_switch(true);
        let mut sampler = clock.clockid(Clock::MONOTONIC).include_kernel().build()?.sampled(BUFFER)?;
        sampler.as_counter_mut().enable()?;
        Ok(Self { thread: gc_core::sys::this_thread().0, measured: None, sampler, reading: Reading::default() })
    }

    fn drain(&mut self) {
        while let Some(record) = self.sampler.next_record() {
            self.reading.read(record.ty(), record.misc(), &record.to_contiguous());
        }
    }
}

/// A time of a mutator: the mutator, from the start of the measured part when it began, and how
/// long it was.
pub(crate) type Stretch = (u64, u64, u64);

/// What was seen of a run's mutators.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Each had a processor that did not run.
    pub(crate) standstills: Vec<Stretch>,
    /// Each had no processor: it waited for something, or for one.
    pub(crate) off: Vec<Stretch>,
    /// Mutators that were watched.
    watched: u64,
}

/// The threads of a run that are watched.
#[derive(Default)]
pub(crate) struct Watches(Mutex<Vec<Watch>>);

impl Watches {
    fn lock(&self) -> MutexGuard<'_, Vec<Watch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch the calling thread. It takes some milliseconds: before the measured part.
    pub(crate) fn add_this_thread(&self) -> io::Result<()> {
        let watch = Watch::of_this_thread()?;
        self.lock().push(watch);
        Ok(())
    }

    /// The calling thread's measured part has begun at `base_ns` by the monotonic clock, as that of
    /// this mutator.
    pub(crate) fn measure_this_thread(&self, mutator: u64, base_ns: u64) {
        let thread = gc_core::sys::this_thread().0;
        // A thread's number may have been that of another.
        if let Some(watch) = self.lock().iter_mut().rev().find(|watch| watch.thread == thread) {
            watch.measured = Some((mutator, base_ns));
            // What was seen while the heap was filled is of no use.
            (watch.reading.found, watch.reading.off) = Default::default();
        }
    }

    /// Memory that it takes, which is the bench's.
    pub(crate) fn bytes(&self) -> u64 {
        let of = |watch: &Watch| watch.reading.found.capacity() + watch.reading.off.capacity();
        (self.lock().iter().map(of).sum::<usize>() * size_of::<(u64, u64)>()) as u64
    }

    /// Reads what the kernel has written, so that there is room for more. Called some times a
    /// second.
    pub(crate) fn drain(&self) {
        self.lock().iter_mut().for_each(Watch::drain);
    }

    /// What was seen so far of the measured part, which is so long; `None` where no thread was
    /// watched in it.
    pub(crate) fn seen(&self, measured_ns: u64) -> Option<Seen> {
        self.drain();
        let (watches, mut seen) = (self.lock(), Seen::default());
        for watch in watches.iter() {
            let Some((mutator, base_ns)) = watch.measured else { continue };
            let inside = |&(from, to): &(u64, u64)| {
                let from = from.saturating_sub(base_ns);
                let to = to.saturating_sub(base_ns).min(measured_ns);
                (from < to).then(|| (mutator, from, to - from))
            };
            seen.standstills.extend(watch.reading.found.iter().filter_map(inside));
            seen.off.extend(watch.reading.off.iter().filter_map(inside));
            seen.watched += 1;
        }
        (seen.watched > 0).then_some(seen)
    }
}

impl Standstills {
    pub(crate) fn of(Seen { standstills: found, watched, .. }: &Seen) -> Self {
        let lengths = || found.iter().map(|standstill| standstill.2);
        Self {
            watched: *watched,
            count: found.len() as u64,
            total_ns: lengths().sum(),
            max_ns: lengths().max().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    const MS: u64 = 1_000_000;

    fn at(ns: u64) -> Vec<u8> {
        ns.to_ne_bytes().to_vec()
    }

    #[test]
    fn samples_that_are_too_far_apart_have_a_standstill_between_them() {
        let mut reading = Reading::default();
        // Sampled each 0.5 ms; then not for 3 ms.
        for ns in [MS, MS + MS / 2, 2 * MS, 5 * MS, 5 * MS + MS / 2] {
            reading.read(SAMPLE, 2, &at(ns));
        }
        assert_eq!(reading.found, [(2 * MS + MS / 4, 5 * MS)]);
    }

    #[test]
    fn a_thread_without_its_processor_does_not_stand_still() {
        let mut reading = Reading::default();
        reading.read(SWITCH, 0, &at(MS));
        reading.read(SAMPLE, 2, &at(MS + MS / 2));
        reading.read(SWITCH, OUT, &at(MS + MS / 2 + 1000));
        // Away for 8 ms, of which a timer knows nothing.
        reading.read(SWITCH, 0, &at(10 * MS));
        reading.read(SAMPLE, 2, &at(10 * MS + MS / 2));
        assert_eq!(reading.found, []);
        // It stands still, and loses its processor then.
        reading.read(SWITCH, OUT | 1 << 14, &at(14 * MS));
        assert_eq!(reading.found, [(10 * MS + 3 * MS / 4, 14 * MS)]);
        assert_eq!(reading.off, [(MS + MS / 2 + 1000, 10 * MS)]);
    }

    #[test]
    fn where_records_are_missing_nobody_knows() {
        let mut reading = Reading::default();
        reading.read(SAMPLE, 2, &at(MS));
        let lost = [at(1), at(17), at(MS)].concat();
        reading.read(LOST, 0, &lost);
        reading.read(SAMPLE, 2, &at(9 * MS));
        reading.read(THROTTLE, 0, &at(9 * MS + 1));
        reading.read(UNTHROTTLE, 0, &at(12 * MS));
        reading.read(SAMPLE, 2, &at(12 * MS + MS / 2));
        assert_eq!(reading.found, []);
    }

    /// A thread that sleeps and computes: of the time that it computes at most what it cannot have
    /// had stands still, and none of its sleep does.
    #[test]
    fn a_real_thread_is_watched() {
        let watches = Watches::default();
        if let Err(why) = watches.add_this_thread() {
            return eprintln!("NOT TESTED: standstills of processors: perf_event_open: {why}");
        }
        assert_eq!(watches.seen(MS), None, "nothing is measured yet");
        let base_ns = gc_core::sys::monotonic_ns();
        watches.measure_this_thread(7, base_ns);
        std::thread::sleep(Duration::from_millis(30));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(30) {
            std::hint::black_box(begun);
        }
        let measured_ns = gc_core::sys::monotonic_ns() - base_ns;
        let Seen { standstills: found, off, watched } = watches.seen(measured_ns).expect("one thread is watched");
        let read = watches.lock()[0].reading.last_ns;
        assert!(read.is_some_and(|last_ns| last_ns > base_ns + 30 * MS), "samples are read: {read:?}");
        assert!(found.iter().all(|stretch| stretch.0 == 7), "{found:?}");
        let slept = off.iter().any(|&(mutator, from, ns)| mutator == 7 && from < 30 * MS && ns > 25 * MS);
        assert!(slept, "it slept for 30 ms: {off:?}");
        assert_eq!(watched, 1);
        let of = Standstills::of(&Seen { standstills: vec![(7, 0, 5), (8, 3, 9)], off, watched: 2 });
        assert_eq!(of, Standstills { watched: 2, count: 2, total_ns: 14, max_ns: 9 });
    }
}
