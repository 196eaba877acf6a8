//! A load that rises and falls: what a heap gives back when the tide is out, and whether it takes
//! it again at once.
//!
//! Each thread holds objects in a table of its own. Their number follows the time: in a quarter of
//! a period it rises from low water to high water, stays there for a quarter, falls in a quarter,
//! and stays at low water for the rest. All the while each operation replaces an object and looks
//! at another.

use std::time::{Duration, Instant};

use clap::Args;
use gc_heap::{AllocSize, Bytes, Local, Mutator, OutOfMemory, SlotArray};
use serde::{Deserialize, Serialize};

use super::common::{MIB, Standard, Timed, Workload, check_size, pick};
use super::steady::{self, Operations, Steady};
use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::rng::Rng;
use crate::size::{parse_count, parse_seconds};

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tides {
    /// MiB alive at high water, of all threads together.
    size: u64,
    period_seconds: f64,
    #[serde(flatten)]
    steady: steady::Settings,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// MiB alive at high water [default: 512]
    #[arg(long, value_name = "MIB", value_parser = parse_count)]
    size: Option<u64>,

    /// how long the load takes to rise and fall [default: 2.5]
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    period: Option<f64>,

    #[command(flatten)]
    steady: steady::Options,
}

/// At low water this part of what lives at high water is alive.
const LOW: u64 = 8;

/// Bytes of an object without its header.
const LEN: usize = 1000;

/// An object, and its slot of the table.
const OBJECT_BYTES: u64 = LEN as u64 + 16 + 8;

/// The most objects that an operation adds or drops to follow the time: no operation is long by its
/// own work.
const MOST_MOVES: usize = 64;

impl Standard for Tides {
    const NAME: &'static str = "tides";
    const ABOUT: &'static str = "Live data that rises and falls, for the memory that the heap gives back";
    const IN_A_PLAIN_RUN: bool = false;
    type Args = Options;

    fn works(args: Options, quick: bool) -> Result<Vec<Self>, Failure> {
        let size = args.size.unwrap_or(pick(quick, 512, 32));
        let period_seconds = args.period.unwrap_or(pick(quick, 2.5, 0.5));
        // The measured part begins where a period does.
        let steady = steady::Settings { warm_up_seconds: period_seconds, ..args.steady.settings(quick) };
        Ok(vec![Self { size: check_size(Self::NAME, size, 1..=1 << 20)?, period_seconds, steady }])
    }
}

impl Workload for Tides {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn heap_bytes(&self, _quick: bool) -> u64 {
        self.size * MIB * 2
    }

    fn min_live_bytes(&self) -> u64 {
        self.size * MIB
    }

    fn lasting_live_bytes(&self) -> u64 {
        self.size * MIB / LOW
    }

    fn timed(&self) -> Option<Timed> {
        self.steady.timed()
    }

    fn is_steady(&self) -> bool {
        false
    }

    fn wants_pretouch(&self) -> bool {
        false
    }

    fn has_peers(&self) -> bool {
        false
    }

    fn run(&self, bench: &Bench<'_>) -> Result<Measured, Failure> {
        steady::run(self, bench)
    }
}

impl Tides {
    /// Objects of a thread at high water.
    fn high(&self) -> usize {
        (self.size * MIB / self.steady.threads / OBJECT_BYTES).max(LOW) as usize
    }

    /// Objects of a thread, so long after the warm-up began.
    fn level(&self, time: Duration) -> usize {
        let (high, low) = (self.high(), self.high() / LOW as usize);
        let quarter = (time.as_secs_f64() / self.period_seconds).fract() * 4.0;
        let share = match quarter {
            rising if rising < 1.0 => rising,
            high_water if high_water < 2.0 => 1.0,
            falling if falling < 3.0 => 3.0 - falling,
            _ => 0.0,
        };
        low + ((high - low) as f64 * share) as usize
    }

    /// When the measured part ends, after the warm-up began.
    fn end(&self) -> Duration {
        Duration::from_secs_f64(self.steady.warm_up_seconds + self.steady.seconds)
    }
}

type Table = SlotArray<Option<Bytes>>;

/// What each byte of an object in that slot is.
fn byte(slot: usize) -> u8 {
    ((slot as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// One thread's objects.
pub(super) struct Shore<'s> {
    of: Tides,
    table: Local<'s, Table>,
    held: usize,
    rng: Rng,
    /// When the warm-up began.
    began: Option<Instant>,
}

impl<'s> Shore<'s> {
    fn new(m: &mut Mutator<'s>, of: &Tides, thread: u64) -> Result<Self, OutOfMemory> {
        let slots = of.high();
        let m = m.reserve(AllocSize::tail::<Table>(slots))?;
        let table = m.local(m.place_array::<Table>((), slots, None));
        Ok(Self { of: of.clone(), table, held: 0, rng: Rng::new(of.steady.seed, thread), began: None })
    }

    #[inline(always)]
    fn put(&self, m: &mut Mutator<'_>, slot: usize) -> Result<(), OutOfMemory> {
        let m = m.reserve(const { AllocSize::tail::<Bytes>(LEN) })?;
        let object = m.place_array::<Bytes>((), LEN, byte(slot));
        self.table.get(m).tail()[slot].set(m, Some(object));
        Ok(())
    }

    /// Holds so many objects, or comes nearer to it by so many moves.
    fn follow(&mut self, m: &mut Mutator<'_>, level: usize, moves: usize) -> Result<(), OutOfMemory> {
        for _ in 0..moves.min(self.held.abs_diff(level)) {
            if self.held < level {
                self.put(m, self.held)?;
                self.held += 1;
            } else {
                self.held -= 1;
                self.table.get(m).tail()[self.held].set(m, None);
            }
        }
        Ok(())
    }

    /// The first byte of the object in a slot. Its ends must be what was put there.
    #[inline(always)]
    fn look(&self, m: &Mutator<'_>, slot: usize) -> u8 {
        let object = self.table.get(m).tail()[slot].get(m).expect("an object in each slot below the level");
        let bytes = object.tail();
        let ends = (bytes.len(), bytes[0], bytes[LEN - 1]);
        assert_eq!(ends, (LEN, byte(slot), byte(slot)), "slot {slot} has another object");
        bytes[0]
    }
}

impl Operations for Shore<'_> {
    #[inline(always)]
    fn op(&mut self, m: &mut Mutator<'_>) -> Result<(), OutOfMemory> {
        let time = self.began.get_or_insert_with(Instant::now).elapsed();
        self.follow(m, self.of.level(time), MOST_MOVES)?;
        let random = self.rng.next();
        self.put(m, (random >> 32) as usize % self.held)?;
        self.look(m, (random & 0xffff_ffff) as usize % self.held);
        Ok(())
    }

    /// Of the objects that are to be there at the end of the measured part.
    fn checksum(&mut self, m: &mut Mutator<'_>) -> Result<u64, OutOfMemory> {
        self.follow(m, self.of.level(self.of.end()), usize::MAX)?;
        let mut sum = 0;
        for slot in 0..self.held {
            if slot.is_multiple_of(1024) {
                m.safepoint();
            }
            sum += u64::from(self.look(m, slot));
        }
        Ok(sum)
    }
}

impl Steady for Tides {
    type Thread<'s> = Shore<'s>;

    fn settings(&self) -> &steady::Settings {
        &self.steady
    }

    fn fill<'s>(&self, m: &mut Mutator<'s>, id: u64, progress: &dyn Fn(f64)) -> Result<Shore<'s>, OutOfMemory> {
        let mut shore = Shore::new(m, self, id)?;
        shore.follow(m, self.level(Duration::ZERO), usize::MAX)?;
        progress(1.0);
        Ok(shore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::PEER_SEED;
    use gc_heap::Heap;

    fn of(size: u64, period_seconds: f64, seconds: f64) -> Tides {
        let steady = steady::Settings { threads: 1, seconds, warm_up_seconds: period_seconds, seed: PEER_SEED };
        Tides { size, period_seconds, steady }
    }

    #[test]
    fn a_period_has_four_quarters() {
        let of = of(8, 4.0, 4.0);
        let (high, low) = (of.high(), of.high() / 8);
        assert_eq!(high, 8 << 20 >> 10);
        let middle = low + (high - low) / 2;
        let seconds = [0.0, 0.5, 1.0, 1.9, 2.5, 3.0, 3.9, 4.0, 5.5].map(|s| of.level(Duration::from_secs_f64(s)));
        assert_eq!(seconds, [low, middle, high, high, middle, low, low, low, high]);
        assert_eq!(of.level(of.end()), low);
    }

    /// Whatever time has passed: each object that is held has the bytes of its slot, and no slot
    /// beyond has one.
    #[test]
    fn what_is_held_is_what_was_put_there() {
        let of = of(2, 0.1, 0.13);
        let heap = Heap::builder().max_bytes(8 << 20).build().unwrap();
        let checked = heap.enter(|m| -> Result<(), OutOfMemory> {
            let mut shore = of.fill(m, 0, &|_| ())?;
            let (mut least, mut most) = (usize::MAX, 0);
            while shore.began.is_none_or(|began| began.elapsed() < of.end()) {
                shore.op(m)?;
                (least, most) = (least.min(shore.held), most.max(shore.held));
            }
            assert!(least < most && least >= of.high() / 8 && most <= of.high(), "{least} to {most}");
            // At the end the tide is in.
            let sum = shore.checksum(m)?;
            assert_eq!((shore.held, of.level(of.end())), (of.high(), of.high()));
            assert_eq!(sum, (0..of.high()).map(|slot| u64::from(byte(slot))).sum::<u64>());
            shore.follow(m, 10, usize::MAX)?;
            let m = &*m;
            assert_eq!(shore.table.get(m).tail().iter().filter(|slot| slot.get(m).is_some()).count(), 10);
            // An object in another's slot does not go unseen.
            let slots = shore.table.get(m).tail();
            slots[3].set(m, slots[4].get(m));
            let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shore.look(m, 3)));
            assert!(looked.is_err());
            Ok(())
        });
        checked.unwrap().unwrap();
    }
}
