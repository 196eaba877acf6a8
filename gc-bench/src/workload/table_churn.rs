//! Hash tables whose records die at random: nothing a generation or an order of allocation would
//! help with.
//!
//! A record's links are cut when it is replaced, so nothing is cyclic, and a live record may hold
//! one dead one.

use clap::Args;
use gc_heap::{AllocSize, Bytes, Gc, Local, Mutator, OutOfMemory, Slot, SlotArray, Trace};
use serde::{Deserialize, Serialize};

use super::common::{MIB, Standard, Timed, Workload, check_size, pick};
use super::steady::{self, Operations, Steady};
use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::rng::Rng;
use crate::size::parse_count;

/// Slots of a table, as a power of two: fixed, as in the peers.
pub(super) const TABLE_BITS: u32 = 20;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableChurn {
    /// Records a thread.
    pub(super) size: u64,
    #[serde(flatten)]
    pub(super) steady: steady::Settings,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// records a thread [default: 750,000]
    #[arg(long, value_name = "RECORDS", value_parser = parse_count)]
    size: Option<u64>,

    #[command(flatten)]
    steady: steady::Options,
}

impl Standard for TableChurn {
    const NAME: &'static str = "table-churn";
    const ABOUT: &'static str = "Hash tables whose records die at random";
    type Args = Options;

    fn works(args: Options, quick: bool) -> Result<Vec<Self>, Failure> {
        let size = args.size.unwrap_or(pick(quick, 750_000, 50_000));
        Ok(vec![Self {
            size: check_size(Self::NAME, size, 1..=u64::from(u32::MAX))?,
            steady: args.steady.settings(quick),
        }])
    }
}

impl Workload for TableChurn {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn heap_bytes(&self, quick: bool) -> u64 {
        pick(quick, 2048, 256) * MIB
    }

    fn min_live_bytes(&self) -> u64 {
        // A record; its payload with header and length, of which the least and half of the spread.
        let record = 40 + 16 + PAYLOAD_MIN as u64 + PAYLOAD_SPREAD / 2;
        self.steady.threads.saturating_mul((8 << TABLE_BITS) + self.size.saturating_mul(record))
    }

    fn timed(&self) -> Option<Timed> {
        self.steady.timed()
    }

    fn large_pages_help(&self) -> bool {
        true
    }

    fn run(&self, bench: &Bench<'_>) -> Result<Measured, Failure> {
        steady::run(self, bench)
    }
}

#[derive(Trace)]
struct Record {
    next: Slot<Option<Record>>,
    link: Slot<Option<Record>>,
    key: u64,
    payload: Slot<Bytes>,
}

type Table = SlotArray<Option<Record>>;

pub(super) const PAYLOAD_MIN: usize = 24;
pub(super) const PAYLOAD_SPREAD: u64 = 489;

#[inline(always)]
pub(super) fn hash(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - TABLE_BITS)) as usize
}

/// One thread's table and its sequence of operations.
pub(super) struct Churn<'s> {
    table: Local<'s, Table>,
    records: u64,
    rng: Rng,
    sum: u64,
    /// A payload to copy from: zeros, save the first and the last byte of each in turn.
    payload: [u8; PAYLOAD_MIN + PAYLOAD_SPREAD as usize],
}

impl<'s> Churn<'s> {
    fn new(m: &mut Mutator<'s>, of: &TableChurn, thread: u64) -> Result<Self, OutOfMemory> {
        let m = m.reserve(AllocSize::tail::<Table>(1 << TABLE_BITS))?;
        let table = m.local(m.place_array::<Table>((), 1 << TABLE_BITS, None));
        let payload = [0; PAYLOAD_MIN + PAYLOAD_SPREAD as usize];
        Ok(Self { table, records: of.size, rng: Rng::new(of.steady.seed, thread), sum: 0, payload })
    }

    /// Replaces the record of a key: the old one is unlinked and its links cut; the new one has a
    /// payload of its own and a link to a random live record.
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
}

impl Operations for Churn<'_> {
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

    fn checksum(&mut self, _: &mut Mutator<'_>) -> Result<u64, OutOfMemory> {
        Ok(self.sum)
    }
}

impl Steady for TableChurn {
    type Thread<'s> = Churn<'s>;

    fn settings(&self) -> &steady::Settings {
        &self.steady
    }

    fn fill<'s>(&self, m: &mut Mutator<'s>, id: u64, progress: &dyn Fn(f64)) -> Result<Churn<'s>, OutOfMemory> {
        let mut churn = Churn::new(m, self, id)?;
        for key in 0..self.size {
            let random = churn.rng.next();
            churn.put(m, key, random)?;
            if key & 0xffff == 0 {
                progress(key as f64 / self.size as f64);
            }
        }
        Ok(churn)
    }
}
