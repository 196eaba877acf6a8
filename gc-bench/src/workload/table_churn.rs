//! Hash tables whose records die at random: nothing a generation or an order of allocation would help with.
//!
//! A record's links are cut when it is replaced, so nothing is cyclic, and a live record may hold one dead one.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use gc_heap::{AllocSize, Bytes, Gc, Local, Mutator, OutOfMemory, Slot, SlotArray, Trace};

use super::{Meetings, Rng, from_enter, from_memory};
use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::plan::{Plan, TABLE_BITS};
use crate::recorder::{Recorder, Ticker, nanos};

#[derive(Trace)]
struct Record {
    next: Slot<Option<Record>>,
    link: Slot<Option<Record>>,
    key: u64,
    payload: Slot<Bytes>,
}

type Table = SlotArray<Option<Record>>;

const PAYLOAD_MIN: usize = 24;
const PAYLOAD_SPREAD: u64 = 489;

#[inline(always)]
fn hash(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - TABLE_BITS)) as usize
}

/// One thread's table and its sequence of operations.
struct Churn<'s> {
    table: Local<'s, Table>,
    records: u64,
    rng: Rng,
    sum: u64,
    /// A payload to copy from: zeros, save the first and the last byte of each in turn.
    payload: [u8; PAYLOAD_MIN + PAYLOAD_SPREAD as usize],
}

impl<'s> Churn<'s> {
    fn new(m: &mut Mutator<'s>, plan: &Plan, thread: u64) -> Result<Self, OutOfMemory> {
        let m = m.reserve(AllocSize::tail::<Table>(1 << TABLE_BITS))?;
        let table = m.local(m.place_array::<Table>((), 1 << TABLE_BITS, None));
        let payload = [0; PAYLOAD_MIN + PAYLOAD_SPREAD as usize];
        Ok(Self { table, records: plan.size, rng: Rng::new(plan.seed, thread), sum: 0, payload })
    }

    /// Replaces the record of a key: the old one is unlinked and its links cut; the new one has a payload of its own and a
    /// link to a random live record.
    #[inline(always)]
    fn put(&mut self, m: &mut Mutator<'_>, key: u64, random: u64) -> Result<(), OutOfMemory> {
        let len = PAYLOAD_MIN + ((random >> 40) % PAYLOAD_SPREAD) as usize;
        let m = m.reserve(AllocSize::of::<Record>() + AllocSize::tail::<Bytes>(len))?;
        self.payload[0] = key as u8;
        self.payload[len - 1] = random as u8;
        let payload = m.place_bytes::<Bytes>((), &self.payload[..len]);
        self.payload[len - 1] = 0;
        let table = self.table.get(m).tail();
        let head = &table[hash(key)];
        let mut slot = head;
        while let Some(record) = slot.get(m) {
            let record = record.as_ref();
            if record.key == key {
                slot.set(m, record.next.get(m));
                record.next.set(m, None);
                record.link.set(m, None);
                break;
            }
            slot = &record.next;
        }
        let link = table[hash((random >> 17) % self.records)].get(m);
        let record = m.place(RecordInit { next: head.get(m), link, key, payload });
        head.set(m, Some(record));
        Ok(())
    }

    /// Reads the record of a key, its payload, its linked record and that one's payload.
    #[inline(always)]
    fn get(&mut self, m: &Mutator<'_>, key: u64) {
        let mut found: Option<Gc<'_, Record>> = self.table.get(m).tail()[hash(key)].get(m);
        while let Some(record) = found {
            if record.key == key {
                self.sum = self.sum.wrapping_add(u64::from(record.payload.get(m).tail()[0]));
                if let Some(link) = record.link.get(m) {
                    let last = link.payload.get(m).tail().last().map_or(0, |&b| u64::from(b));
                    self.sum = self.sum.wrapping_add(link.key).wrapping_add(last);
                }
                return;
            }
            found = record.next.get(m);
        }
    }

    #[inline(always)]
    fn op(&mut self, m: &mut Mutator<'_>) -> Result<(), OutOfMemory> {
        let random = self.rng.next();
        let key = (random >> 8) % self.records;
        if random & 1 == 0 {
            m.safepoint();
            self.get(m, key);
            Ok(())
        } else {
            self.put(m, key, random)
        }
    }

    /// As fast as it goes; a sample an operation.
    fn saturated(&mut self, m: &mut Mutator<'_>, end: Instant, ticker: &mut Ticker) -> Result<u64, OutOfMemory> {
        let mut ops = 0;
        loop {
            self.op(m)?;
            ops += 1;
            if ticker.tick() >= end {
                return Ok(ops);
            }
        }
    }

    /// Every millisecond a thousandth of `rate`; a sample a tick, from when it was due until its work was done, so that a
    /// stall also counts for the ticks that it made late.
    fn paced(&mut self, m: &mut Mutator<'_>, rate: u64, end: Instant, ticker: &mut Ticker) -> Result<u64, OutOfMemory> {
        let (start, mut tick, mut ops) = (ticker.last(), 0u64, 0u64);
        loop {
            let due = start + Duration::from_millis(tick + 1);
            if due - Duration::from_millis(1) >= end {
                return Ok(ops);
            }
            loop {
                let now = Instant::now();
                if now >= due {
                    break;
                }
                m.blocking(|| thread::sleep(due - now));
            }
            // A rate that 1000 does not divide is kept over the second.
            tick += 1;
            let upto = (u128::from(tick) * u128::from(rate) / 1000) as u64;
            while ops < upto {
                self.op(m)?;
                ops += 1;
            }
            ticker.record(nanos(due, Instant::now()));
        }
    }
}

/// One thread's part of the result.
struct Part {
    ops: u64,
    sum: u64,
    latency: Recorder,
}

fn thread_body(bench: &Bench<'_>, barrier: &Barrier, id: u64) -> Result<Part, Failure> {
    let plan = bench.plan;
    let mut meetings = Meetings::new(barrier, 3);
    let result = bench.heap.enter(|m| -> Result<Part, OutOfMemory> {
        let mut churn = Churn::new(m, plan, id)?;
        for key in 0..plan.size {
            let random = churn.rng.next();
            churn.put(m, key, random)?;
            if id == 0 && key & 0xffff == 0 {
                bench.progress(key as f64 / plan.size as f64);
            }
        }
        meetings.meet(m);
        bench.warming_up();
        let warm = Instant::now() + Duration::from_secs_f64(plan.warm_up_seconds);
        while Instant::now() < warm {
            churn.op(m)?;
        }
        meetings.meet(m);
        if id == 0 {
            m.blocking(|| bench.begin());
        }
        meetings.meet(m);
        let mut ticker = Ticker::new();
        let end = ticker.last() + Duration::from_secs_f64(plan.seconds);
        let ops = if plan.rate == 0 {
            churn.saturated(m, end, &mut ticker)?
        } else {
            churn.paced(m, plan.rate, end, &mut ticker)?
        };
        Ok(Part { ops, sum: churn.sum, latency: ticker.into_recorder() })
    });
    result.map_err(from_enter)?.map_err(from_memory)
}

pub(super) fn run(bench: &Bench<'_>) -> Result<Measured, Failure> {
    let threads = bench.plan.threads;
    let barrier = Barrier::new(threads as usize);
    let parts: Vec<Result<Part, Failure>> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|id| {
                scope.spawn({
                    let barrier = &barrier;
                    move || thread_body(bench, barrier, id)
                })
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut measured = Measured::new(0, 0, Recorder::new());
    for part in parts {
        let part = part?;
        measured.ops += part.ops;
        measured.checksum = measured.checksum.wrapping_add(part.sum as i64);
        measured.latency.merge(&part.latency);
    }
    bench.end();
    Ok(measured)
}
