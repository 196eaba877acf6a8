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
    /// [`Track::late`]. And the time in which it slept on, as far as it is seen to have been `off`
    /// a processor: the timer came late. What else kept it is not known.
    pub(crate) fn add_late_wake_ups(&mut self, tracks: &[Track], off: &[Seen]) {
        let mut of_mutator: BTreeMap<u64, Vec<Seen>> = BTreeMap::new();
        off.iter().for_each(|&stretch| of_mutator.entry(stretch.0).or_default().push(stretch));
        let late = tracks.iter().flat_map(|track| track.late().iter().map(move |late| (track.mutator(), late)));
        for (mutator, late) in late {
            let mut add = |kind: &str, part: &Part, ns: u64| {
                let share = ns as f64 / (part.to_ns - part.from_ns) as f64;
                self.add_delay(kind, mutator, (part.from_ns, part.to_ns), share);
            };
            for way in late.ways().filter(|way| way.waited_ns.is_some_and(|ns| ns > 0)) {
                add(LATE_WAKE_UPS, &way, way.waited_ns.unwrap_or(0));
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
            out.safepoint.record(stop.safepoint_ns);
            out.stopped.push((stop.start_ns, stop.start_ns + stop.duration_ns - stop.before_ns));
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
mod tests {
    use super::*;
    use crate::track::{Late, Moment};
    use gc_heap::PauseKind;
    use gc_heap::{Loss, Pause, Stall};
    use std::time::Instant;

    const MS: u64 = 1_000_000;

    #[test]
    fn what_reaches_over_an_end_is_lost_as_far_as_it_lies_inside() {
        let pause = |start_ms: u64, ms: u64| {
            let (start_ns, total_ns) = (start_ms * MS, ms * MS);
            Event::Pause(Pause {
                kind: PauseKind::MarkStart,
                start_ns,
                reach_ns: 1000,
                total_ns,
                last: None,
                last_off_ns: None,
            })
        };
        let stall = |start_ms: u64, ms: u64, mutator: u64| {
            let (start_ns, total_ns) = (start_ms * MS, ms * MS);
            Event::Stall(Stall { cause: StallCause::NoBlock, start_ns, total_ns, bytes: 64, mutator })
        };
        // From 100 to 160 ms. One pause reaches in, one out; one lies behind. Two mutators wait,
        // one of them for longer.
        let events =
            [pause(97, 5), pause(159, 10), pause(170, 1), stall(120, 3, 7), stall(120, 4, 9), stall(126, 1, 7)];
        let found = HeapEvents::of(&events, 0, 100 * MS, 160 * MS);
        let counts = (found.pauses.summary().count, found.stalls.summary().count, found.stops.len());
        assert_eq!(counts, (2, 3, 2), "whole ones, as they were");
        assert_eq!(found.pauses.summary().max_ns, 10 * MS);
        let at = |ms: u64| found.mmu().iter().find(|mmu| mmu.window_ms == ms).map(|mmu| mmu.share);
        // Two of the first pause; four of mutator 9, which in ten are as many as those of mutator
        // 7; in fifty the first pause and either's four.
        assert_eq!(
            [at(1), at(2), at(5), at(10), at(50), at(100)],
            [Some(0.0), Some(0.0), Some(0.2), Some(0.6), Some(0.88), None]
        );
    }

    /// Where a mutator waited for a processor is known from its samples.
    #[test]
    fn a_wait_for_a_processor_lies_in_the_long_samples() {
        let without = |kind, start_ms: u64, ms: u64, lost_ms: u64, mutator: u64| {
            let (start_ns, total_ns, lost_ns) = (start_ms * MS, ms * MS, lost_ms * MS);
            Event::Loss(Loss { kind, start_ns, total_ns, lost_ns, kernel_ns: 0, count: 1, mutator })
        };
        let preempted = |start_ms, ms, lost_ms, mutator| without(LossKind::Preemptions, start_ms, ms, lost_ms, mutator);
        let events = [
            preempted(10, 10, 4, 1),
            without(LossKind::Steal, 10, 10, 2, 1),
            preempted(30, 10, 6, 1),
            preempted(10, 10, 4, 2),
        ];
        let mut found = HeapEvents::of(&events, 0, 0, 60 * MS);
        let long = |mutator: u64, samples: &[(u64, u64)]| {
            let long_samples = samples.iter().map(|&(start, ms)| (start * MS, ms * MS)).collect();
            Sampled { mutator, long_samples, ..Sampled::default() }
        };
        // Of the first all in the longer sample; of the steal in the same time what is left of that
        // sample, and then in the shorter one; of the third as much as fits two, of which one
        // reaches out, and the rest anywhere; of the fourth, whose mutator has no long sample
        // there, all.
        found.place_preemptions(&[long(1, &[(11, 1), (13, 5), (28, 4), (35, 2)]), long(2, &[(25, 9)])]);
        let expected = [
            (1, 13 * MS, 5 * MS, 4 * MS),
            (1, 30 * MS, 2 * MS, 2 * MS),
            (1, 35 * MS, 2 * MS, 2 * MS),
            (1, 30 * MS, 10 * MS, 2 * MS),
            (2, 10 * MS, 10 * MS, 4 * MS),
        ];
        assert_eq!(found.delays["preemptions"], expected);
        assert_eq!(found.delays["steal"], [(1, 13 * MS, 5 * MS, MS), (1, 11 * MS, MS, MS)]);
        let lost = found.lost_by(1);
        assert_eq!((lost.between(13 * MS, 18 * MS), lost.between(11 * MS, 12 * MS)), (5e6, 1e6));
    }

    /// 5 ms without a sample, in 4 of which the processor stood still. The thread also waited for a
    /// processor for 3.5 ms: 3 in the other long sample, and the rest where it did not stand still.
    #[test]
    fn a_standstill_is_no_wait_for_a_processor() {
        let of = |steal_ms: u64| {
            let without = |kind, lost_ns: u64| {
                let (start_ns, total_ns) = (10 * MS, 20 * MS);
                Event::Loss(Loss { kind, start_ns, total_ns, lost_ns, kernel_ns: 0, count: 1, mutator: 1 })
            };
            let preempted = without(LossKind::Preemptions, 3 * MS + MS / 2);
            let mut found = HeapEvents::of(&[preempted, without(LossKind::Steal, steal_ms * MS)], 0, 0, 60 * MS);
            found.add_standstills(&[(1, 13 * MS, 4 * MS), (2, 13 * MS, 40 * MS)]);
            let long_samples = vec![(12 * MS, 5 * MS), (20 * MS, 3 * MS)];
            found.place_preemptions(&[Sampled { mutator: 1, long_samples, ..Sampled::default() }]);
            found
        };
        let found = of(2);
        assert_eq!(found.delays["standstills"], [(1, 13 * MS, 4 * MS, 4 * MS), (2, 13 * MS, 40 * MS, 40 * MS)]);
        assert_eq!(found.delays["preemptions"], [(1, 20 * MS, 3 * MS, 3 * MS), (1, 12 * MS, MS, MS / 2)]);
        assert_eq!(found.delays.get("steal"), None, "the hypervisor tells of a part of what was seen");
        assert_eq!(found.lost_by(1).between(12 * MS, 17 * MS), 4.5e6);
        // What the hypervisor tells beyond that was not seen: it lies where there is room, and the
        // rest anywhere.
        assert_eq!(of(5).delays["steal"], [(1, 12 * MS, MS, MS / 2), (1, 10 * MS, 20 * MS, MS / 2)]);
    }

    /// What a mutator waited for a processor beyond its due time is its loss, where it slept longer
    /// than otherwise.
    #[test]
    fn a_sleep_beyond_a_due_time_is_in_the_account() {
        let heap = gc_heap::Heap::builder().max_bytes(8 << 20).build().unwrap();
        heap.enter(|m| {
            let mut track = Track::new(1, 1_000);
            track.start(m, Instant::now());
            let unmetered = Track::new(1, 0);
            let late = |due_ns: u64, at: [(u64, u64); 4]| {
                let [left, asleep, woke, back] =
                    at.map(|(at_ns, waited_ns)| Moment { at_ns, waited_ns: Some(waited_ns) });
                Late { due_ns, left, asleep, woke, back }
            };
            for (due_ms, woke_ns) in [(3, 3 * MS - 40_000), (4, 4 * MS + 99_999), (5, 7 * MS)] {
                track.is_back(late(due_ms * MS, [(0, 0), (0, 0), (woke_ns, 3 * MS), (woke_ns, 3 * MS)]));
            }
            // Of the last 2 ms it was off its processor for 1.6, in 0.1 of which it was not asleep
            // yet but waited for one, as in 0.5 of its sleep and in 0.7 of 1 ms on its way back.
            let asleep_ns = 8 * MS + 400_000;
            let waits = [(8 * MS - 50_000, 7), (asleep_ns, 100_007), (10 * MS, 600_007), (11 * MS, 1_300_007)];
            track.is_back(late(8 * MS, waits));
            let off = [(m.number(), 8 * MS + 300_000, 1_600_000), (m.number() + 1, 8 * MS, MS)];
            let mut found = HeapEvents::of(&[], 0, 0, 60 * MS);
            found.add_late_wake_ups(&[track, unmetered], &off);
            assert_eq!(found.delays["late_timers"], [(m.number(), asleep_ns, 1_600_000, MS)]);
            let expected = [
                (m.number(), 5 * MS, 2 * MS, 2 * MS),
                (m.number(), 8 * MS, 400_000, 100_000),
                (m.number(), 10 * MS, MS, 700_000),
                (m.number(), asleep_ns, 1_600_000, MS / 2),
            ];
            assert_eq!(found.delays["late_wake_ups"], expected);
            let lost = found.lost_by(m.number());
            assert_eq!((lost.between(4 * MS, 6 * MS), lost.between(8 * MS, 11 * MS)), (1e6, 2.3e6));
        })
        .unwrap();
    }

    #[test]
    fn faults_are_lost_to_the_mutator_that_had_them() {
        let fault = |start_us: u64, us: u64, lost_us: u64, mutator: u64| {
            let [start_ns, total_ns, lost_ns] = [start_us, us, lost_us].map(|us| us * 1000);
            Event::Loss(Loss { kind: LossKind::Faults, start_ns, total_ns, lost_ns, kernel_ns: 0, count: 3, mutator })
        };
        let pause = Event::Pause(Pause {
            kind: PauseKind::Flip,
            start_ns: 50 * MS,
            reach_ns: 0,
            total_ns: 100_000,
            last: None,
            last_off_ns: None,
        });
        let stall = Event::Stall(Stall {
            cause: StallCause::NoBlock,
            start_ns: 52 * MS,
            total_ns: 200_000,
            bytes: 64,
            mutator: 2,
        });
        // Of mutator 1: half of 100 us, five times in a row behind a pause, and one that began
        // before the stretch.
        let mut events =
            vec![pause, stall, fault(39_950, 100, 50, 1), fault(80_000, 100, 100, 1), fault(61_000, 9, 9, 1)];
        events.extend((0..5).map(|n| fault(50_100 + 100 * n, 100, 50, 1)));
        events.push(fault(52_200, 50, 30, 2));
        let found = HeapEvents::of(&events, 0, 40 * MS, 60 * MS);
        assert_eq!((found.stalls.summary().count, found.pauses.summary().count), (1, 1), "losses are neither");
        let at = |ms: u64| found.mmu().iter().find(|mmu| mmu.window_ms == ms).map(|mmu| mmu.share);
        // In 1 ms the pause and 250 us of mutator 1; in 5 ms that is 350 us, and the other's 100 +
        // 200 + 30 us are less.
        let near =
            |found: Option<f64>, share: f64| assert!((found.unwrap() - share).abs() < 1e-9, "{found:?}, {share}");
        near(at(1), 0.65);
        near(at(5), 1.0 - 0.35 / 5.0);
        near(at(20), 1.0 - 0.375 / 20.0);
    }
}
