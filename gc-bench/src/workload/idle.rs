//! A program that has nothing to do: what its heap costs all the same, in wake-ups and processor
//! time.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use gc_heap::{AllocSize, Bytes, Local, Mutator, OutOfMemory, SlotArray};
use serde::{Deserialize, Serialize};

use super::common::{MIB, Standard, Workload, alone, check_size, pick};
use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::size::{parse_count, parse_seconds};
use crate::track::Series;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Idle {
    /// MiB alive.
    size: u64,
    seconds: f64,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// MiB alive [default: 64]
    #[arg(long, value_name = "MIB", value_parser = parse_count)]
    size: Option<u64>,

    /// how long the measured part lasts [default: 10]
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    seconds: Option<f64>,
}

/// From one look at an object to the next.
const BEAT: Duration = Duration::from_millis(100);

/// Bytes of an object without its header.
const LEN: usize = 1000;

/// An object, and its slot of the table.
const OBJECT_BYTES: u64 = LEN as u64 + 16 + 8;

impl Standard for Idle {
    const NAME: &'static str = "idle";
    const ABOUT: &'static str = "A program that has nothing to do: wake-ups and processor time of its heap";
    const IN_A_PLAIN_RUN: bool = false;
    type Args = Options;

    fn works(args: Options, quick: bool) -> Result<Vec<Self>, Failure> {
        let size = check_size(Self::NAME, args.size.unwrap_or(pick(quick, 64, 8)), 1..=1 << 20)?;
        Ok(vec![Self { size, seconds: args.seconds.unwrap_or(pick(quick, 10.0, 1.0)) }])
    }
}

impl Workload for Idle {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn heap_bytes(&self, _quick: bool) -> u64 {
        self.size * MIB * 4
    }

    fn min_live_bytes(&self) -> u64 {
        self.size * MIB
    }

    fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Nothing is allocated: its quarters say nothing.
    fn is_steady(&self) -> bool {
        false
    }

    fn wants_pretouch(&self) -> bool {
        false
    }

    fn expected_checksum(&self) -> Option<i64> {
        Some((0..self.beats()).map(|beat| i64::from(byte(self.slot(beat)))).sum())
    }

    fn has_peers(&self) -> bool {
        false
    }

    fn run(&self, bench: &Bench<'_>) -> Result<Measured, Failure> {
        alone(bench, |m| run(self, bench, m))
    }
}

impl Idle {
    fn objects(&self) -> usize {
        (self.size * MIB / OBJECT_BYTES) as usize
    }

    fn beats(&self) -> u32 {
        (self.seconds / BEAT.as_secs_f64()).round().max(1.0) as u32
    }

    /// Which object a beat looks at: one far from that of the beat before.
    fn slot(&self, beat: u32) -> usize {
        (beat as usize).wrapping_mul(7919) % self.objects()
    }
}

type Table = SlotArray<Option<Bytes>>;

/// What each byte of the object in that slot is.
fn byte(slot: usize) -> u8 {
    ((slot as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn fill<'s>(of: &Idle, m: &mut Mutator<'s>) -> Result<Local<'s, Table>, OutOfMemory> {
    let objects = of.objects();
    let table = {
        let m = m.reserve(AllocSize::tail::<Table>(objects))?;
        m.local(m.place_array::<Table>((), objects, None))
    };
    for slot in 0..objects {
        let m = m.reserve(const { AllocSize::tail::<Bytes>(LEN) })?;
        let object = m.place_array::<Bytes>((), LEN, byte(slot));
        table.get(m).tail()[slot].set(m, Some(object));
    }
    Ok(table)
}

fn run(of: &Idle, bench: &Bench<'_>, m: &mut Mutator<'_>) -> Result<Measured, OutOfMemory> {
    let table = fill(of, m)?;
    let mut track = bench.track();
    bench.warming_up();
    // What is left to do of the filling is done now.
    m.collect();
    bench.begin();
    bench.start(&mut track, m);
    let (began, mut checksum) = (Instant::now(), 0);
    for beat in 0..of.beats() {
        let due = began + BEAT * (beat + 1);
        track.rest(m, || thread::sleep(due.saturating_duration_since(Instant::now())));
        track.begin(m, Series::Operation);
        let object = table.get(m).tail()[of.slot(beat)].get(m).expect("an object in each slot");
        checksum += i64::from(object.tail()[LEN - 1]);
        bench.progress(f64::from(beat + 1) / f64::from(of.beats()));
    }
    track.finish();
    bench.end();
    Ok(Measured::new(u64::from(of.beats()), checksum, vec![track]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_are_ten_a_second_and_look_everywhere() {
        let of = |seconds| Idle { size: 1, seconds };
        assert_eq!([0.01, 1.0, 2.56, 10.0].map(|seconds| of(seconds).beats()), [1, 10, 26, 100]);
        let of = of(200.0);
        let mut slots: Vec<usize> = (0..of.beats()).map(|beat| of.slot(beat)).collect();
        slots.sort_unstable();
        slots.dedup();
        assert!(slots.len() > of.objects() * 9 / 10, "{} of {}", slots.len(), of.objects());
        assert_eq!(of.expected_checksum(), Some((0..2000).map(|beat| i64::from(byte(of.slot(beat)))).sum()));
    }
}
