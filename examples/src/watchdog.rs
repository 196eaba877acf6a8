//! Compares what a heap says its mutators lost with what can be seen from outside of it.
//!
//! Two mutators replace and read the records of hash tables at a rate, and count what they do. A
//! third thread, which is in no heap, reads the clock and their counters in a loop: a counter that
//! stands still for a millisecond is a *gap*. Afterwards each gap is laid over the heap's events of
//! its mutator: pauses, stalls, and losses by cause. What none of them covers is *not accounted
//! for*.
//!
//! ```text
//! cargo run --release -p examples --bin watchdog -- page 300000 10
//! ```
//!
//! The arguments are the barrier (`load`, `page` or `stw`), operations a second and mutator, and
//! seconds. Where more than a twentieth of the gaps is not accounted for, the exit code is 1. The
//! watching thread takes a processor, as far as it gets one. A gap that it sees is one: the counter
//! was the same at two looks. One that begins or ends while it has no processor is seen as shorter.

use gc_heap::{AllocSize, Barrier, Bytes, Event, Heap, Local, LossKind, Mutator, OutOfMemory, Slot, SlotArray, Trace};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A counter that stands still for so long is a gap.
const GAP_NS: u64 = 1_000_000;

/// Most that may be not accounted for, of all gaps.
const MOST: f64 = 0.05;

const RECORDS: u64 = 300_000;
const TABLE_BITS: u32 = 19;

#[derive(Trace)]
struct Record {
    next: Slot<Option<Record>>,
    key: u64,
    payload: Slot<Bytes>,
}

type Table = SlotArray<Option<Record>>;

fn hash(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - TABLE_BITS)) as usize
}

/// What a mutator shows to the watching thread.
struct Seen {
    mutator: AtomicU64,
    /// Odd while it rests, and otherwise twice the operations done.
    count: AtomicU64,
}

fn put(m: &mut Mutator<'_>, table: &Local<'_, Table>, key: u64, random: u64) -> Result<(), OutOfMemory> {
    let len = 24 + ((random >> 40) % 489) as usize;
    let m = m.reserve(AllocSize::of::<Record>() + AllocSize::tail::<Bytes>(len))?;
    let payload = m.place_bytes((), &[1; 512][..len]);
    let head = &table.get(m).tail()[hash(key)];
    let mut slot = head;
    while let Some(record) = slot.get(m) {
        let record = record.as_ref();
        if record.key == key {
            slot.set(m, record.next.get(m));
            break;
        }
        slot = &record.next;
    }
    head.set(m, Some(m.place(RecordInit { next: head.get(m), key, payload })));
    Ok(())
}

fn get(m: &Mutator<'_>, table: &Local<'_, Table>, key: u64) -> u64 {
    let mut found = table.get(m).tail()[hash(key)].get(m);
    while let Some(record) = found {
        if record.key == key {
            return u64::from(record.payload.get(m).tail()[0]);
        }
        found = record.next.get(m);
    }
    0
}

/// A mutator: fills its table, and then does a thousandth of its rate each millisecond.
fn work(heap: &Heap, seen: &Seen, seed: u64, rate: u64, length: Duration) -> Result<(), OutOfMemory> {
    let work = heap.enter(|m| {
        seen.mutator.store(m.number(), Ordering::Relaxed);
        let mut state = seed;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let table = {
            let m = m.reserve(AllocSize::tail::<Table>(1 << TABLE_BITS))?;
            m.local(m.place_array::<Table>((), 1 << TABLE_BITS, None))
        };
        (0..RECORDS).try_for_each(|key| put(m, &table, key, random()))?;
        let start_ns = heap.now_ns();
        let (mut done, mut sum) = (0, 0_u64);
        for tick in 1..=length.as_millis() as u64 {
            let due_ns = start_ns + tick * 1_000_000;
            seen.count.store(2 * done + 1, Ordering::Release);
            while heap.now_ns() < due_ns {
                m.blocking(|| std::thread::sleep(Duration::from_nanos(due_ns.saturating_sub(heap.now_ns()))));
            }
            while done < tick * rate / 1000 {
                seen.count.store(2 * done, Ordering::Release);
                let random = random();
                let key = (random >> 8) % RECORDS;
                if random & 1 == 0 {
                    m.safepoint();
                    sum += get(m, &table, key);
                } else {
                    put(m, &table, key, random)?;
                }
                done += 1;
            }
        }
        seen.count.store(1, Ordering::Release);
        std::hint::black_box(sum);
        Ok(())
    });
    work.expect("this thread is in no heap")
}

/// A time in which a mutator did nothing.
struct Gap {
    mutator: u64,
    from_ns: u64,
    to_ns: u64,
}

/// Watches until `over`.
fn watch(heap: &Heap, seen: &[Seen], over: &AtomicBool) -> Vec<Gap> {
    let mut gaps = Vec::new();
    // Of each mutator: its count, and when this thread first and last saw it. It stood still from
    // the one to the other, whether this thread looked meanwhile or not.
    let mut known: Vec<(u64, u64, u64)> = seen.iter().map(|_| (1, heap.now_ns(), heap.now_ns())).collect();
    while !over.load(Ordering::Relaxed) {
        for (seen, (count, from_ns, to_ns)) in seen.iter().zip(&mut known) {
            let before_ns = heap.now_ns();
            let now = seen.count.load(Ordering::Acquire);
            let now_ns = heap.now_ns();
            if now == *count {
                *to_ns = before_ns;
                continue;
            }
            if *count % 2 == 0 && to_ns.saturating_sub(*from_ns) >= GAP_NS {
                let mutator = seen.mutator.load(Ordering::Relaxed);
                gaps.push(Gap { mutator, from_ns: *from_ns, to_ns: *to_ns });
            }
            (*count, *from_ns, *to_ns) = (now, now_ns, now_ns);
        }
    }
    gaps
}

/// The parts of a gap that events cover, by cause, and what none covers. Where two overlap, the
/// moment is lost once; a loss that covers a part of its time covers so much of each moment.
fn account(gap: &Gap, events: &[Event], by_cause: &mut BTreeMap<String, f64>) -> f64 {
    let mut parts: Vec<(u64, u64, f64)> = Vec::new();
    for event in events {
        let (from, to) = (event.start_ns().max(gap.from_ns), event.end_ns().min(gap.to_ns));
        if from >= to {
            continue;
        }
        let (cause, share) = match event {
            Event::Pause(_) => ("pauses".to_owned(), 1.0),
            Event::Stall(stall) if stall.mutator == gap.mutator => ("stalls".to_owned(), 1.0),
            Event::Loss(loss) if loss.mutator == gap.mutator => {
                // A thread without a processor does nothing: of the time between the two slow paths
                // in which it was so, that was in the gap.
                let is_absence = matches!(loss.kind, LossKind::Preemptions | LossKind::Steal);
                let within = if is_absence { to - from } else { loss.total_ns };
                (loss.kind.to_string(), (loss.lost_ns as f64 / within as f64).min(1.0))
            }
            _ => continue,
        };
        parts.push((from, to, share));
        *by_cause.entry(cause).or_default() += (to - from) as f64 * share;
    }
    let mut turns: Vec<u64> = parts.iter().flat_map(|&(from, to, _)| [from, to]).collect();
    turns.sort_unstable();
    let covered = turns.windows(2).map(|turn| {
        let inside = parts.iter().filter(|&&(from, to, _)| from <= turn[0] && turn[1] <= to);
        (turn[1] - turn[0]) as f64 * inside.map(|part| part.2).sum::<f64>().min(1.0)
    });
    (gap.to_ns - gap.from_ns) as f64 - covered.sum::<f64>()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let wanted = match words.as_slice() {
        [barrier, rate, seconds] => {
            let barrier = match *barrier {
                "load" => Some(Barrier::Load),
                "page" => Some(Barrier::Page),
                "stw" => Some(Barrier::StopTheWorld),
                _ => None,
            };
            barrier.zip(rate.parse::<u64>().ok()).zip(seconds.parse::<u64>().ok())
        }
        _ => None,
    };
    let Some(((barrier, rate), seconds)) = wanted else {
        eprintln!("Usage: watchdog load|page|stw RATE SECONDS");
        return ExitCode::from(2);
    };
    let heap = Heap::builder().max_bytes(768 << 20).barrier(barrier).record_losses(true).pretouch(true).build();
    let heap = match heap {
        Ok(heap) => heap,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let seen: Vec<Seen> = (0..2).map(|_| Seen { mutator: AtomicU64::new(0), count: AtomicU64::new(1) }).collect();
    let over = AtomicBool::new(false);
    let (worked, gaps) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&heap, &seen, &over));
        let length = Duration::from_secs(seconds);
        let mutators: Vec<_> = (1..)
            .zip(&seen)
            .map(|(seed, seen)| {
                scope.spawn({
                    let heap = &heap;
                    move || work(heap, seen, seed * 88_172_645, rate, length)
                })
            })
            .collect();
        let worked: Result<Vec<()>, OutOfMemory> =
            mutators.into_iter().map(|mutator| mutator.join().expect("no mutator panics")).collect();
        over.store(true, Ordering::Relaxed);
        (worked, watching.join().expect("the watching thread does not panic"))
    });
    if let Err(error) = worked {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    let (events, missed) = heap.take_events();
    let mut by_cause = BTreeMap::new();
    let total: u64 = gaps.iter().map(|gap| gap.to_ns - gap.from_ns).sum();
    let open: f64 = gaps.iter().map(|gap| account(gap, &events, &mut by_cause)).sum();
    let share = open / (total as f64).max(1.0);
    println!("{} gaps of 1 ms and more, together {:.1} ms", gaps.len(), total as f64 / 1e6);
    for (cause, ns) in &by_cause {
        println!("  {:8.1} ms {cause}", ns / 1e6);
    }
    println!("  {:8.1} ms not accounted for: {:.1} %", open / 1e6, share * 100.0);
    println!("events that the heap could not keep: {missed}");
    for kind in LossKind::ALL {
        let of = heap.stats().losses.kind(kind);
        println!(
            "{kind:>12}: {:9} times, {:10.3} ms, longest {:8.3} ms",
            of.count,
            of.total_ns as f64 / 1e6,
            of.max_ns as f64 / 1e6
        );
    }
    if share > MOST { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
