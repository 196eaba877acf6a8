//! Which mutators the stops waited for: who came last, how late, and whether it was off the
//! processor.

use gc_heap::Pause;
use serde::{Deserialize, Serialize};

/// The stops that one mutator came last to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Laggard {
    /// Its number, as in the heap's events.
    pub(crate) mutator: u64,
    /// How many.
    pub(crate) count: u64,
    /// How long after the request it came, together and at worst.
    pub(crate) total_ns: u64,
    pub(crate) worst_ns: u64,
    /// Of `count`, those in which the heap looked: it came at least 50 us late.
    pub(crate) watched: u64,
    /// Of `watched`, those in which its thread was off the processor for more than half of the
    /// time.
    pub(crate) off_processor: u64,
    /// How long its thread was off the processor in those that were watched.
    pub(crate) off_processor_ns: u64,
}

/// Adds a stop. They are in the order of their mutators' numbers.
pub(crate) fn add(laggards: &mut Vec<Laggard>, pause: &Pause) {
    let Some(last) = pause.last else { return };
    let at = match laggards.binary_search_by_key(&last.mutator, |laggard| laggard.mutator) {
        Ok(at) => at,
        Err(at) => {
            laggards.insert(at, Laggard { mutator: last.mutator, ..Laggard::default() });
            at
        }
    };
    let laggard = &mut laggards[at];
    laggard.count += 1;
    laggard.total_ns += pause.reach_ns;
    laggard.worst_ns = laggard.worst_ns.max(pause.reach_ns);
    if let Some(off_ns) = pause.last_off_ns {
        laggard.watched += 1;
        laggard.off_processor += u64::from(pause.last_was_off() == Some(true));
        laggard.off_processor_ns += off_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gc_heap::{Event, Heap, PauseKind};

    /// A mutator's thread as the heap names it, since only the heap makes one.
    fn real_pause() -> Pause {
        let heap = Heap::builder().max_bytes(gc_heap::MIN_HEAP_BYTES).build().unwrap();
        std::thread::scope(|scope| {
            heap.enter(|m| {
                let collecting = scope.spawn(|| heap.collect());
                while !collecting.is_finished() {
                    m.safepoint();
                    std::thread::yield_now();
                }
            })
            .unwrap();
        });
        let pause = heap.take_events().0.into_iter().find_map(|event| match event {
            Event::Pause(pause) if pause.last.is_some() => Some(pause),
            _ => None,
        });
        pause.expect("the thread was inside all the time")
    }

    #[test]
    fn each_mutator_has_the_stops_that_it_came_last_to() {
        let real = real_pause();
        let pause = |mutator: u64, reach_ns: u64, last_off_ns: Option<u64>| {
            let mut last = real.last;
            last.as_mut().unwrap().mutator = mutator;
            Pause { kind: PauseKind::MarkEnd, start_ns: 0, reach_ns, total_ns: reach_ns + 5, last, last_off_ns }
        };
        let mut found = Vec::new();
        for pause in [
            pause(7, 100, None),
            pause(3, 80_000, Some(10_000)),
            pause(7, 60_000, Some(59_000)),
            Pause { last: None, ..pause(1, 9_000_000, None) },
            pause(7, 90_000, Some(45_000)),
        ] {
            add(&mut found, &pause);
        }
        let [third, seventh] = found[..] else { panic!("{found:?}") };
        assert_eq!(
            third,
            Laggard {
                mutator: 3,
                count: 1,
                total_ns: 80_000,
                worst_ns: 80_000,
                watched: 1,
                off_processor: 0,
                off_processor_ns: 10_000
            }
        );
        assert_eq!((seventh.mutator, seventh.count, seventh.total_ns, seventh.worst_ns), (7, 3, 150_100, 90_000));
        assert_eq!((seventh.watched, seventh.off_processor, seventh.off_processor_ns), (2, 1, 104_000));
    }
}
