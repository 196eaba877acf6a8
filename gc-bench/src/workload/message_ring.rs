//! A window of messages that slides over a stream: what dies is always the oldest.

use gc_heap::{AllocSize, Bytes, Local, Mutator, OutOfMemory, SlotArray};

use crate::measure::{Bench, Measured};
use crate::plan::MESSAGE_BYTES;
use crate::recorder::Ticker;

type Ring = SlotArray<Option<Bytes>>;

/// A fresh message, every byte the low one of its number, in the place of the oldest.
#[inline(always)]
fn push(m: &mut Mutator<'_>, ring: Local<'_, Ring>, at: usize, number: u64) -> Result<(), OutOfMemory> {
    let m = m.reserve(const { AllocSize::tail::<Bytes>(MESSAGE_BYTES) })?;
    let message = m.place_array::<Bytes>((), MESSAGE_BYTES, number as u8);
    ring.get(m).tail()[at].set(m, Some(message));
    Ok(())
}

pub(super) fn run(bench: &Bench<'_>, m: &mut Mutator<'_>) -> Result<Measured, OutOfMemory> {
    let (pushes, held, warm_up) = (bench.plan.size, bench.plan.held as usize, bench.plan.warm_up);
    let ring = {
        let m = m.reserve(AllocSize::tail::<Ring>(held))?;
        m.local(m.place_array::<Ring>((), held, None))
    };
    for i in 0..held {
        push(m, ring, i, i as u64)?;
    }
    let mut at = 0;
    let mut ticker = Ticker::new();
    bench.warming_up();
    for i in 0..warm_up {
        // Numbers count up to 0, where the measured part begins.
        push(m, ring, at, i.wrapping_sub(warm_up))?;
        at = if at + 1 == held { 0 } else { at + 1 };
        ticker.tick();
    }
    bench.begin();
    ticker.reset();
    for i in 0..pushes {
        push(m, ring, at, i)?;
        at = if at + 1 == held { 0 } else { at + 1 };
        ticker.tick();
        if i & 0xffff == 0 {
            bench.progress(i as f64 / pushes as f64);
        }
    }
    bench.end();
    let m = &*m;
    let middle = |slot: &gc_heap::Slot<Option<Bytes>>| {
        slot.get(m).map_or(0, |message| i64::from(message.tail()[MESSAGE_BYTES / 2] as i8))
    };
    let checksum = ring.get(m).tail().iter().map(middle).sum();
    Ok(Measured::new(pushes, checksum, ticker.into_recorder()))
}
