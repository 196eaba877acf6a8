//! A window of messages that slides over a stream: what dies is always the oldest.

use clap::Args;
use gc_heap::{AllocSize, Bytes, Local, Mutator, OutOfMemory, SlotArray};
use serde::{Deserialize, Serialize};

use super::common::{MIB, Standard, Workload, alone, check_size, pick};
use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::size::parse_count;
use crate::track::Series;

/// Bytes of a message.
pub(super) const MESSAGE_BYTES: usize = 1024;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MessageRing {
    /// Pushes.
    pub(super) size: u64,
    /// Pushes of warm-up.
    pub(super) warm_up: u64,
    /// Messages that stay.
    pub(super) held: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// pushes [default: 5,000,000]
    #[arg(long, value_name = "PUSHES", value_parser = parse_count)]
    size: Option<u64>,
}

impl Standard for MessageRing {
    const NAME: &'static str = "message-ring";
    const ABOUT: &'static str = "A window of messages that slides over a stream of fresh ones";
    type Args = Options;

    fn works(args: Options, quick: bool) -> Result<Vec<Self>, Failure> {
        let size = args.size.unwrap_or(pick(quick, 5_000_000, 2_000_000));
        let size = check_size(Self::NAME, size, 1..=u64::from(u32::MAX) * 16)?;
        Ok(vec![Self { size, warm_up: pick(quick, 2_000_000, 200_000), held: pick(quick, 200_000, 20_000) }])
    }
}

impl Workload for MessageRing {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn heap_bytes(&self, quick: bool) -> u64 {
        pick(quick, 1024, 128) * MIB
    }

    fn min_live_bytes(&self) -> u64 {
        self.held * (8 + 16 + MESSAGE_BYTES as u64)
    }

    /// Of the last messages: of the measured part, and where it is short of those before.
    fn expected_checksum(&self) -> Option<i64> {
        let Self { size, warm_up, held } = *self;
        let number = |at: u64| if at < held { at } else { (at - held).wrapping_sub(warm_up) };
        let all = held + warm_up + size;
        Some((all - held..all).map(|at| i64::from(number(at) as i8)).sum())
    }

    fn run(&self, bench: &Bench<'_>) -> Result<Measured, Failure> {
        alone(bench, |m| run(self, bench, m))
    }
}

type Ring = SlotArray<Option<Bytes>>;

/// A fresh message, every byte the low one of its number, in the place of the oldest.
#[inline(always)]
fn push(m: &mut Mutator<'_>, ring: Local<'_, Ring>, at: usize, number: u64) -> Result<(), OutOfMemory> {
    let m = m.reserve(const { AllocSize::tail::<Bytes>(MESSAGE_BYTES) })?;
    let message = m.place_array::<Bytes>((), MESSAGE_BYTES, number as u8);
    ring.get(m).tail()[at].set(m, Some(message));
    Ok(())
}

fn run(of: &MessageRing, bench: &Bench<'_>, m: &mut Mutator<'_>) -> Result<Measured, OutOfMemory> {
    let (pushes, held, warm_up) = (of.size, of.held as usize, of.warm_up);
    let ring = {
        let m = m.reserve(AllocSize::tail::<Ring>(held))?;
        m.local(m.place_array::<Ring>((), held, None))
    };
    for i in 0..held {
        push(m, ring, i, i as u64)?;
    }
    let mut at = 0;
    let mut track = bench.track();
    bench.warming_up();
    for i in 0..warm_up {
        // Numbers count up to 0, where the measured part begins.
        push(m, ring, at, i.wrapping_sub(warm_up))?;
        at = if at + 1 == held { 0 } else { at + 1 };
        track.end(Series::Operation);
    }
    bench.begin();
    bench.start(&mut track, m);
    for i in 0..pushes {
        track.admit(m);
        push(m, ring, at, i)?;
        at = if at + 1 == held { 0 } else { at + 1 };
        track.end(Series::Operation);
        if i & 0xffff == 0 {
            bench.progress(i as f64 / pushes as f64);
        }
    }
    track.finish();
    bench.end();
    let m = &*m;
    let middle = |slot: &gc_heap::Slot<Option<Bytes>>| {
        slot.get(m).map_or(0, |message| i64::from(message.tail()[MESSAGE_BYTES / 2] as i8))
    };
    let checksum = ring.get(m).tail().iter().map(middle).sum();
    Ok(Measured::new(pushes, checksum, vec![track]))
}
