//! What the heap reported of the measured part: pauses, stalls, phases, and what mutators lost.

use std::collections::BTreeMap;

use gc_heap::{Event, LossKind, StallCause};

use crate::laggards::{self, Laggard};
use crate::mmu::{self, Interval, LostTime, Mmu, Stretch};
use crate::standstill::Stretch as Seen;
use crate::stats::Samples;
use crate::timeline::{Delay, Phase, Sampled, Stop};
use crate::track::{Part, Track};

/// The delays that are sleeps until a due time that ended after it.
const LATE_WAKE_UPS: &str = "late_wake_ups";
/// Of these sleeps, that the kernel ended them late.
const LATE_TIMERS: &str = "late_timers";
/// Those in which a thread had a processor that did not run.
const STANDSTILLS: &str = "standstills";

/// What the heap reported of a stretch of time.
pub(crate) struct HeapEvents {
    pub(crate) pauses: Samples,
    pub(crate) safepoint: Samples,
    pub(crate) stalls: Samples,
    /// Of these, those in which a thread was slowed down.
    pub(crate) throttled: u64,
    pub(crate) stops: Vec<Stop>,
    /// The mutators that came last to them.
    pub(crate) laggards: Vec<Laggard>,
    pub(crate) phases: Vec<Phase>,
    /// How full the heap was where phases ended.
    pub(crate) fill: Vec<(u64, u64)>,
    /// Events that the heap had no room to keep.
    pub(crate) lost: u64,
    /// When all mutators were stopped.
    stopped: Vec<Interval>,
    /// What mutators lost besides, by kind.
    pub(crate) delays: BTreeMap<String, Vec<Delay>>,
    /// When they were without a processor, and why; not in `delays` yet.
    preempted: Vec<(LossKind, Delay)>,
    /// When each mutator that did waited for memory, or lost time in faults and slow paths.
    own: BTreeMap<u64, Vec<Stretch>>,
    length_ns: u64,
}

impl HeapEvents {
    /// The minimum mutator utilisation.
    pub(crate) fn mmu(&self) -> Vec<Mmu> {
        mmu::of_run(&self.stopped, self.own.values().map(Vec::as_slice), self.length_ns)
    }

    /// Adds waits for a processor, and times in which it did not run, to the delays. Of these the
    /// heap knows that they lie between two slow paths, and their length. A thread without a
    /// processor takes no sample: so they lie in its long samples there, as far as there is room,
    /// in the longest first. A thread whose processor stands still has it: a wait for one lies
    /// elsewhere. Steal is what a hypervisor says of standstills: what was seen of them is no
    /// second loss.
    pub(crate) fn place_preemptions(&mut self, tracks: &[Sampled]) {
        let still = self.delays.get(STANDSTILLS).cloned().unwrap_or_default();
        let stood_still = |mutator: u64, (from, to): Interval| -> Vec<Interval> {
            let own = still.iter().filter(|delay| delay.0 == mutator);
            let inside = own.map(|&(_, start, ns, _)| (start.max(from), (start + ns).min(to)));
            inside.filter(|(from, to)| from < to).collect()
        };
        let without_standstills = |mutator: u64, (mut from, to): Interval| -> Vec<Interval> {
            let mut pieces = Vec::new();
            for (start, end) in stood_still(mutator, (from, to)) {
                pieces.push((from, start));
                from = end;
            }
            pieces.push((from, to));
            pieces
        };
        // What is taken of each long sample.
        let mut taken_ns: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for (loss, (mutator, from, ns, mut lost_ns)) in std::mem::take(&mut self.preempted) {
            let kind = &name(loss);
            let track = tracks.iter().find(|track| track.mutator == mutator);
            let samples = track.into_iter().flat_map(|track| &track.long_samples);
            let inside = samples.map(|&(start, length)| (start.max(from), (start + length).min(from + ns)));
            let inside = inside.filter(|(start, end)| start < end);
            let pieces = inside.flat_map(|inside| without_standstills(mutator, inside));
            let mut inside: Vec<Interval> = pieces.filter(|(start, end)| start < end).collect();
            if loss == LossKind::Steal {
                let seen_ns = stood_still(mutator, (from, from + ns)).iter().map(|(from, to)| to - from).sum();
                lost_ns = lost_ns.saturating_sub(seen_ns);
            }
            inside.sort_by_key(|(start, end)| std::cmp::Reverse(end - start));
            for (start, end) in inside {
                let taken_ns = taken_ns.entry((mutator, start)).or_default();
                let part_ns = lost_ns.min((end - start).saturating_sub(*taken_ns));
                lost_ns -= part_ns;
                *taken_ns += part_ns;
                if part_ns > 0 {
                    self.add_delay(kind, mutator, (start, end), part_ns as f64 / (end - start) as f64);
                }
            }
            if lost_ns > 0 {
                self.add_delay(kind, mutator, (from, from + ns), lost_ns as f64 / ns as f64);
            }
        }
    }

    /// Adds times in which mutators had a processor that did not run. They lie within whatever else
    /// the thread did then: who adds the kinds up counts some of it twice, [`Self::lost_by`] does
    /// not.
    pub(crate) fn add_standstills(&mut self, found: &[Seen]) {
        for &(mutator, from, ns) in found {
            self.add_delay(STANDSTILLS, mutator, (from, from + ns), 1.0);
        }
    }

    /// Adds the time in which a mutator's operations were due and its thread, which was on its way
    /// out of the heap, slept there or was on its way back, waited for a processor:
    /// [`Track::late`]. After [`place_preemptions`](Self::place_preemptions), of which it leaves
    /// out what is the same. And the time in which it slept on, as far as it is seen to have been
    /// `off` a processor: the timer came late. What else kept it is not known.
    pub(crate) fn add_late_wake_ups(&mut self, tracks: &[Track], off: &[Seen]) {
        let mut of_mutator: BTreeMap<u64, Vec<Seen>> = BTreeMap::new();
        off.iter().for_each(|&stretch| of_mutator.entry(stretch.0).or_default().push(stretch));
        let waits = [LossKind::Preemptions, LossKind::WakeUps].map(name);
        let waits: Vec<Delay> = waits.iter().filter_map(|kind| self.delays.get(kind)).flatten().copied().collect();
        // Of a part of a way, what the heap's own waits of that mutator have of it.
        let counted = |mutator: u64, part: &Part| -> u64 {
            let own = waits.iter().filter(|wait| wait.0 == mutator);
            let inside = own.map(|&(_, from, ns, lost_ns)| {
                let overlap_ns = (from + ns).min(part.to_ns).saturating_sub(from.max(part.from_ns));
                lost_ns as f64 * overlap_ns as f64 / ns.max(1) as f64
            });
            inside.sum::<f64>().round() as u64
        };
        let late = tracks.iter().flat_map(|track| track.late().iter().map(move |late| (track.mutator(), late)));
        for (mutator, late) in late {
            let mut add = |kind: &str, part: &Part, ns: u64| {
                let share = ns as f64 / (part.to_ns - part.from_ns) as f64;
                self.add_delay(kind, mutator, (part.from_ns, part.to_ns), share);
            };
            for way in late.ways() {
                // The heap may have recorded the same wait, as it asks on the way, too.
                let ns = way.waited_ns.unwrap_or(0).saturating_sub(counted(mutator, &way));
                if ns > 0 {
                    add(LATE_WAKE_UPS, &way, ns);
                }
            }
            let Some(sleep) = late.sleep() else { continue };
            add(LATE_WAKE_UPS, &sleep, sleep.waited_ns.unwrap_or(0));
            // Of the time off a processor nobody knows what was a wait for one.
            let Some(waited_ns) = sleep.waited_ns else { continue };
            // They are in their order, and a long run has very many.
            let own = of_mutator.get(&mutator).map_or(&[][..], Vec::as_slice);
            let own = &own[own.partition_point(|&(_, from, ns)| from + ns <= sleep.from_ns)..];
            let own = own.iter().take_while(|&&(_, from, _)| from < sleep.to_ns);
            let asleep = |&(_, from, ns): &Seen| (from + ns).min(sleep.to_ns).saturating_sub(from.max(sleep.from_ns));
            let timer_ns = own.map(asleep).sum::<u64>().saturating_sub(waited_ns);
            if timer_ns > 0 {
                add(LATE_TIMERS, &sleep, timer_ns);
            }
        }
    }

    /// When that mutator was stopped, or lost time of its own.
    pub(crate) fn lost_by(&self, mutator: u64) -> LostTime {
        let stopped = self.stopped.iter().map(|&interval| Stretch::from(interval));
        let own = self.own.get(&mutator).into_iter().flatten().copied();
        LostTime::new(stopped.chain(own), self.length_ns)
    }

    /// Adds time that one mutator lost: `lost_ns` of an interval from the start of the stretch.
    fn add_delay(&mut self, kind: &str, mutator: u64, (from, to): Interval, part: f64) {
        self.own.entry(mutator).or_default().push(Stretch { from, to, share: part });
        let lost_ns = ((to - from) as f64 * part).round() as u64;
        let delay = (mutator, from, to - from, lost_ns);
        match self.delays.get_mut(kind) {
            Some(delays) => delays.push(delay),
            None => drop(self.delays.insert(kind.to_owned(), vec![delay])),
        }
    }

    fn none(length_ns: u64) -> Self {
        Self {
            pauses: Samples::new(),
            safepoint: Samples::new(),
            stalls: Samples::new(),
            throttled: 0,
            stops: Vec::new(),
            laggards: Vec::new(),
            phases: Vec::new(),
            fill: Vec::new(),
            lost: 0,
            stopped: Vec::new(),
            own: BTreeMap::new(),
            delays: BTreeMap::new(),
            preempted: Vec::new(),
            length_ns,
        }
    }

    /// Stops alone, in order.
    pub(super) fn of_stops(stops: Vec<Stop>, length_ns: u64) -> Self {
        let mut out = Self::none(length_ns);
        for stop in &stops {
            out.pauses.record(stop.duration_ns);
            // A runtime that does not say it has 0.
            if stop.safepoint_ns > 0 {
                out.safepoint.record(stop.safepoint_ns);
            }
            let interval = (stop.start_ns, stop.start_ns + stop.duration_ns - stop.before_ns);
            match stop.mutator {
                None => out.stopped.push(interval),
                Some(mutator) => out.own.entry(mutator).or_default().push(Stretch::from(interval)),
            }
        }
        Self { stops, ..out }
    }

    /// Events of a stretch; times from its start. What began before it counts whole (it was taken
    /// out of this stretch); what ends after it does not.
    pub(super) fn of(events: &[Event], lost: u64, from_ns: u64, to_ns: u64) -> Self {
        let mut out = Self { lost, ..Self::none(to_ns - from_ns) };
        // What began before the stretch is cut there; what ends after it is cut where it is used.
        let interval =
            |start_ns: u64, ns: u64| (start_ns.saturating_sub(from_ns), (start_ns + ns).saturating_sub(from_ns));
        for event in events {
            match event {
                Event::Pause(p) if p.start_ns < to_ns => {
                    out.pauses.record(p.total_ns);
                    out.safepoint.record(p.reach_ns);
                    out.stopped.push(interval(p.start_ns, p.total_ns));
                    laggards::add(&mut out.laggards, p);
                    out.stops.push(Stop {
                        mutator: None,
                        kind: p.kind.to_string(),
                        start_ns: p.start_ns.saturating_sub(from_ns),
                        duration_ns: p.total_ns,
                        safepoint_ns: p.reach_ns,
                        before_ns: from_ns.saturating_sub(p.start_ns),
                    });
                }
                Event::Stall(s) if s.start_ns < to_ns => {
                    out.stalls.record(s.total_ns);
                    out.throttled += u64::from(s.cause == StallCause::Throttled);
                    out.add_delay("stall", s.mutator, interval(s.start_ns, s.total_ns), 1.0);
                }
                Event::Loss(l) if l.start_ns < to_ns && l.total_ns > 0 => {
                    let part = l.lost_ns as f64 / l.total_ns as f64;
                    if matches!(l.kind, LossKind::Preemptions | LossKind::Steal) {
                        let (from, to) = interval(l.start_ns, l.total_ns);
                        out.preempted.push((l.kind, (l.mutator, from, to - from, l.lost_ns.min(to - from))));
                        continue;
                    }
                    out.add_delay(&name(l.kind), l.mutator, interval(l.start_ns, l.total_ns), part);
                }
                Event::Phase(p) if p.start_ns < to_ns => {
                    let start_ns = p.start_ns.saturating_sub(from_ns);
                    let end_ns = (p.start_ns + p.total_ns).saturating_sub(from_ns);
                    out.phases.push(Phase {
                        name: format!("{:?}", p.phase).to_lowercase(),
                        start_ns,
                        duration_ns: end_ns - start_ns,
                    });
                    out.fill.push((end_ns, p.used_bytes as u64));
                }
                _ => {}
            }
        }
        out.stops.sort_by_key(|s| s.start_ns);
        out.phases.sort_by_key(|p| p.start_ns);
        out
    }
}

/// As in the document: `slow_paths`.
fn name(kind: LossKind) -> String {
    kind.to_string().replace([' ', '-'], "_")
}

#[cfg(test)]
mod tests;
