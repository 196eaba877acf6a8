//! Events as lines of text.

use crate::events::{CycleKind, CycleSpan, Event, LossKind, Phase, Stall, StallCause};
use crate::lock::Mutex;
use gc_core::sys::Process;
use std::fmt::Write;

/// Makes lines of a log of a heap's events, in the manner of the JVM's unified logging; the caller
/// writes them where it wants them.
///
/// Each line begins with the time since the heap was built, at which the event ended. Each cycle
/// ends with a line that sums it up: bytes used before and after, of how many; bytes found live;
/// those in 2 MiB pages, if there are any; the phases; pauses and stalls since the cycle before;
/// what the barrier did meanwhile, what mutators lost by it, and otherwise. Losses have no lines of
/// their own: there are too many.
///
/// ```text
/// [0.091s][gc] cycle 3: pause mark start 2.1 us, reached in 0.9 us by mutator 2 (worker-1, thread 4711)
/// [0.104s][gc] cycle 3: mark 12.9 ms, 42 MiB used
/// [0.108s][gc] stall of mutator 1: 310.0 us for 48 bytes
/// [0.111s][gc] cycle 3: 42.0 MiB -> 17.0 MiB (64.0 MiB), 15.2 MiB live, 20.0 ms (mark 12.9 ms, reclaim 0.2 ms, ...); ...
/// ```
///
/// ```
/// use gc_heap::{GcLog, Heap};
/// use std::sync::{Arc, Mutex};
///
/// let (log, lines) = (GcLog::new(), Arc::new(Mutex::new(Vec::new())));
/// let sink = Arc::clone(&lines);
/// let heap = Heap::builder()
///     .max_bytes(16 << 20)
///     .on_event(move |event| sink.lock().unwrap().extend(log.line(event))) // or `eprintln!`
///     .build()?;
/// heap.collect();
/// let lines = lines.lock().unwrap();
/// assert!(lines[0].contains("s][gc] cycle 1: pause mark start "), "{lines:?}");
/// assert!(lines.last().is_some_and(|line| line.contains(" (16.0 MiB), ")), "{lines:?}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct GcLog {
    cycles_only: bool,
    /// The one that it was made in.
    process: Process,
    sums: Mutex<Sums>,
}

impl Default for GcLog {
    fn default() -> GcLog {
        GcLog { cycles_only: false, process: Process::current(), sums: Mutex::default() }
    }
}

/// Durations of one sort.
#[derive(Debug, Default)]
struct Sum {
    count: u64,
    total_ns: u64,
    longest_ns: u64,
}

impl Sum {
    fn add(&mut self, ns: u64) {
        self.count += 1;
        self.total_ns += ns;
        self.longest_ns = self.longest_ns.max(ns);
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.count.fmt(f)?;
        match self.count {
            0 => Ok(()),
            1 => write!(f, " of {}", Time(self.total_ns)),
            _ => write!(f, ", together {}, longest {}", Time(self.total_ns), Time(self.longest_ns)),
        }
    }
}

/// Since the last cycle ended.
#[derive(Debug, Default)]
struct Sums {
    /// The number of that cycle.
    ended: u64,
    pauses: Sum,
    stalls: Sum,
    throttled: u64,
    /// What mutators lost in faults and slow paths of loads, otherwise, and for want of a
    /// processor.
    lost_ns: u64,
    lost_otherwise_ns: u64,
    preempted_ns: u64,
    /// Each phase once, in the order in which they came.
    phases: Vec<(Phase, u64)>,
}

impl GcLog {
    /// A line for every event but losses.
    #[must_use]
    pub fn new() -> GcLog {
        GcLog::default()
    }

    /// A line for every cycle, and none for the rest.
    ///
    /// ```
    /// use gc_heap::{GcLog, Heap};
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.collect();
    /// let log = GcLog::cycles_only();
    /// let (events, _) = heap.take_events();
    /// assert_eq!(events.iter().filter_map(|event| log.line(event)).count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn cycles_only() -> GcLog {
        GcLog { cycles_only: true, ..GcLog::default() }
    }

    /// The line for an event, without a line break; `None` if there is none for it. May be called
    /// by several threads at once, with the events of one heap. `None` also in a child made by
    /// `fork` while another thread called this: the child makes a log of its own.
    #[must_use]
    pub fn line(&self, event: &Event) -> Option<String> {
        // A thread that panicked with the lock held left sums that are added up no worse than
        // before.
        let mut sums = self.sums.lock_in(self.process)?;
        let cycle = sums.ended + 1;
        let said = match event {
            Event::Pause(pause) => {
                sums.pauses.add(pause.total_ns);
                let (total, reach) = (Time(pause.total_ns), Time(pause.reach_ns));
                let mut line = format!("cycle {cycle}: pause {} {total}, reached in {reach}", pause.kind);
                if let Some(last) = pause.last {
                    // Writing to a string does not fail.
                    let _ = write!(line, " by {last}");
                    if let Some(off_ns) = pause.last_off_ns {
                        let _ = write!(line, ", {} of it off the processor", Time(off_ns));
                    }
                }
                line
            }
            Event::Stall(stall) => {
                let Stall { cause, total_ns, bytes, mutator, .. } = stall;
                sums.stalls.add(*total_ns);
                sums.throttled += u64::from(*cause == StallCause::Throttled);
                format!("stall of mutator {mutator} ({cause}): {} for {bytes} bytes", Time(*total_ns))
            }
            Event::Late(late) => {
                let what = late.kind.map_or("handshake".into(), |kind| format!("pause {kind}"));
                let (waited, who, state) = (Time(late.total_ns), late.who, late.state);
                let mut line = format!("cycle {cycle}: {what} has waited {waited} for {who}; {state}");
                if let Some(ran_ns) = late.ran_ns {
                    let _ = write!(line, "; on a processor for {} of the last {}", Time(ran_ns), Time(late.watched_ns));
                }
                line
            }
            Event::Loss(loss) => {
                *match loss.kind {
                    LossKind::Faults | LossKind::SlowPaths => &mut sums.lost_ns,
                    LossKind::Preemptions | LossKind::Steal => &mut sums.preempted_ns,
                    _ => &mut sums.lost_otherwise_ns,
                } += loss.lost_ns;
                return None;
            }
            Event::Phase(span) => {
                match sums.phases.iter_mut().find(|(phase, _)| *phase == span.phase) {
                    Some((_, ns)) => *ns += span.total_ns,
                    None => sums.phases.push((span.phase, span.total_ns)),
                }
                let (total, used) = (Time(span.total_ns), Bytes(span.used_bytes as u64));
                format!("cycle {}: {} {total}, {used} used", span.cycle, span.phase)
            }
            Event::Cycle(cycle) => {
                let sums = std::mem::replace(&mut *sums, Sums { ended: cycle.cycle, ..Sums::default() });
                sums.summary(cycle)
            }
        };
        drop(sums);
        let wanted = !self.cycles_only || matches!(event, Event::Cycle(_));
        wanted.then(|| format!("[{:.3}s][gc] {said}", event.end_ns() as f64 / 1e9))
    }
}

impl Sums {
    fn summary(&self, cycle: &CycleSpan) -> String {
        let phases: Vec<_> = self.phases.iter().map(|&(phase, ns)| format!("{phase} {}", Time(ns))).collect();
        let kind = if cycle.kind == CycleKind::Young { "young, " } else { "" };
        let huge =
            if cycle.huge_bytes > 0 { format!("{} huge, ", Bytes(cycle.huge_bytes as u64)) } else { String::new() };
        let mut line = format!(
            "cycle {}: {kind}{} -> {} ({}), {} live, {huge}{} ({}); pauses {}; stalls {}",
            cycle.cycle,
            Bytes(cycle.used_before_bytes as u64),
            Bytes(cycle.used_bytes as u64),
            Bytes(cycle.max_bytes as u64),
            Bytes(cycle.live_bytes),
            Time(cycle.total_ns),
            phases.join(", "),
            self.pauses,
            self.stalls,
        );
        // Writing to a string does not fail.
        if self.throttled != 0 {
            let _ = write!(line, ", {} of them throttled", self.throttled);
        }
        if cycle.pages_repaired != 0 {
            let (all, own) = (cycle.pages_repaired, cycle.pages_repaired_by_mutators);
            let _ = write!(line, "; pages repaired {all}, {own} of them in {} faults", cycle.faults);
        }
        if cycle.slow_paths != 0 {
            let _ = write!(line, "; slow paths {}", cycle.slow_paths);
        }
        if self.lost_ns != 0 {
            let _ = write!(line, "; {} lost by them", Time(self.lost_ns));
        }
        if self.lost_otherwise_ns != 0 {
            let _ = write!(line, "; {} lost otherwise", Time(self.lost_otherwise_ns));
        }
        if self.preempted_ns != 0 {
            let _ = write!(line, "; {} without a processor", Time(self.preempted_ns));
        }
        line
    }
}

/// Nanoseconds in the unit that suits them.
struct Time(u64);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ns = self.0 as f64;
        match self.0 {
            0..1_000_000 => write!(f, "{:.1} us", ns / 1e3),
            1_000_000..10_000_000_000 => write!(f, "{:.1} ms", ns / 1e6),
            _ => write!(f, "{:.1} s", ns / 1e9),
        }
    }
}

/// Bytes, in mebibytes.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Barrier, Heap, Late, Loss, Pause, PauseKind, PhaseSpan, ThreadName, ThreadState};
    use std::time::Duration;

    /// A cycle and a late thread of a real heap, whose figures are then set: only the heap makes
    /// these.
    fn real_events() -> (CycleSpan, Late) {
        let heap = Heap::builder().max_bytes(4 << 20).barrier(Barrier::Load).late_after(Duration::from_millis(1));
        let heap = heap.build().unwrap();
        let (mut cycle, mut late) = (None, None);
        let mut take = |heap: &Heap| {
            for event in heap.take_events().0 {
                match event {
                    Event::Cycle(span) => cycle = Some(span),
                    Event::Late(event) => late = Some(event),
                    _ => {}
                }
            }
            (cycle, late)
        };
        std::thread::scope(|scope| {
            heap.enter(|_| {
                scope.spawn(|| heap.collect());
                // No safepoint, until the collector has told of it.
                while take(&heap).1.is_none() {
                    std::thread::yield_now();
                }
            })
            .unwrap();
        });
        let (cycle, late) = take(&heap);
        (cycle.unwrap(), late.unwrap())
    }

    fn cycle(real: CycleSpan, number: u64) -> CycleSpan {
        let mut cycle = real;
        cycle.cycle = number;
        (cycle.start_ns, cycle.total_ns) = (1_000_000, 20_000_000);
        (cycle.used_before_bytes, cycle.used_bytes, cycle.max_bytes) = (42 << 20, 17 << 20, 64 << 20);
        (cycle.live_bytes, cycle.huge_bytes) = (15 << 20, (number as usize - 1) * (8 << 20));
        (cycle.pages_repaired, cycle.pages_repaired_by_mutators, cycle.faults, cycle.slow_paths) = (0, 0, 0, 0);
        cycle
    }

    fn phase(phase: Phase, total_ns: u64) -> Event {
        Event::Phase(PhaseSpan { phase, cycle: 1, start_ns: 1_000_000, total_ns, used_bytes: 42 << 20 })
    }

    #[test]
    fn lines_say_what_happened() {
        let log = GcLog::new();
        let (real_cycle, mut late) = real_events();
        let pause_of = |kind, total_ns, last: Option<_>| {
            let last_off_ns = last.map(|_| 400);
            Event::Pause(Pause { kind, start_ns: 1_000_000, reach_ns: 900, total_ns, last, last_off_ns })
        };
        let pause = |kind, total_ns| pause_of(kind, total_ns, None);
        (late.who.mutator, late.who.thread) = (3, 4711);
        late.who.name = ThreadName::from_words([u64::from_le_bytes(*b"worker-1"), 0]);
        let who = late.who;
        (late.start_ns, late.total_ns, late.watched_ns) = (1000, 200_000_000, 100_000_000);
        (late.kind, late.state, late.ran_ns) = (None, ThreadState::Runs, None);
        let mut late_for_mark_start = late;
        (late_for_mark_start.kind, late_for_mark_start.ran_ns) = (Some(PauseKind::MarkStart), Some(98_000_000));
        let mut first = cycle(real_cycle, 1);
        (first.pages_repaired, first.pages_repaired_by_mutators, first.faults) = (100, 8, 2);
        let mut second = cycle(real_cycle, 2);
        second.kind = CycleKind::Young;
        second.slow_paths = 7;
        let stall =
            Stall { cause: StallCause::NoBlock, start_ns: 2_000_000_000, total_ns: 310_000, bytes: 48, mutator: 3 };
        let (kind, mutator) = (LossKind::SlowPaths, 3);
        let loss = Loss { kind, start_ns: 3_000_000, total_ns: 90_000, lost_ns: 0, kernel_ns: 0, count: 2, mutator };
        let events = [
            Event::Late(late_for_mark_start),
            Event::Late(late),
            pause(PauseKind::MarkStart, 2100),
            pause_of(PauseKind::MarkEnd, 5100, Some(who)),
            phase(Phase::Mark, 12_900_000),
            phase(Phase::Plan, 1_000_000),
            phase(Phase::Plan, 500_000),
            Event::Stall(stall),
            pause(PauseKind::Flip, 5100),
            Event::Cycle(first),
            pause(PauseKind::MarkStart, 0),
            Event::Loss(Loss { lost_ns: 3_000, ..loss }),
            Event::Loss(Loss { lost_ns: 500, ..loss }),
            Event::Loss(Loss { kind: LossKind::Locks, lost_ns: 1_000, ..loss }),
            Event::Loss(Loss { kind: LossKind::WakeUps, lost_ns: 40_000, ..loss }),
            Event::Loss(Loss { kind: LossKind::Preemptions, lost_ns: 4_000_000, ..loss }),
            Event::Stall(Stall { cause: StallCause::Throttled, ..stall }),
            Event::Cycle(second),
        ];
        let lines: Vec<_> = events.iter().filter_map(|event| log.line(event)).collect();
        let expected = [
            "[0.200s][gc] cycle 1: pause mark start has waited 200.0 ms for mutator 3 (worker-1, thread 4711); it runs, or waits \
             for a processor; on a processor for 98.0 ms of the last 100.0 ms",
            "[0.200s][gc] cycle 1: handshake has waited 200.0 ms for mutator 3 (worker-1, thread 4711); it runs, or waits for a \
             processor",
            "[0.001s][gc] cycle 1: pause mark start 2.1 us, reached in 0.9 us",
            "[0.001s][gc] cycle 1: pause mark end 5.1 us, reached in 0.9 us by mutator 3 (worker-1, thread 4711), 0.4 us of it \
             off the processor",
            "[0.014s][gc] cycle 1: mark 12.9 ms, 42.0 MiB used",
            "[0.002s][gc] cycle 1: plan 1.0 ms, 42.0 MiB used",
            "[0.002s][gc] cycle 1: plan 500.0 us, 42.0 MiB used",
            "[2.000s][gc] stall of mutator 3 (no block): 310.0 us for 48 bytes",
            "[0.001s][gc] cycle 1: pause flip 5.1 us, reached in 0.9 us",
            "[0.021s][gc] cycle 1: 42.0 MiB -> 17.0 MiB (64.0 MiB), 15.0 MiB live, 20.0 ms (mark 12.9 ms, plan 1.5 ms); \
             pauses 3, together 12.3 us, longest 5.1 us; stalls 1 of 310.0 us; pages repaired 100, 8 of them in 2 faults",
            "[0.001s][gc] cycle 2: pause mark start 0.0 us, reached in 0.9 us",
            "[2.000s][gc] stall of mutator 3 (throttled): 310.0 us for 48 bytes",
            "[0.021s][gc] cycle 2: young, 42.0 MiB -> 17.0 MiB (64.0 MiB), 15.0 MiB live, 8.0 MiB huge, 20.0 ms (); pauses 1 of 0.0 \
             us; stalls 1 of 310.0 us, 1 of them throttled; slow paths 7; 3.5 us lost by them; 41.0 us lost otherwise; 4.0 ms without a processor",
        ];
        assert_eq!(lines, expected);
    }
}
