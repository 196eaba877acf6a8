//! An adversary of memory that stays where it is, as in Robson's proof: holes between what lives,
//! each too small for what comes next.
//!
//! It fills its memory with small objects, drops every other one in the order in which they were
//! made, and fills the half that is free with objects of twice the size; and so on. A heap that
//! moves nothing cannot use the holes, and needs memory for each size anew: what lives, times one
//! more than half of the binary logarithm of the largest size over the smallest ([Robson], JACM
//! 1974). One that compacts needs what lives, and room to work.
//!
//! [Robson]: https://doi.org/10.1145/321832.321846

use clap::Args;
use gc_heap::{AllocSize, Array, Gc, Local, Mutator, OutOfMemory, SlotArray};
use serde::{Deserialize, Serialize};

use super::common::{MIB, Standard, Workload, alone, check_size, pick};
use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::size::parse_count;
use crate::track::{Series, Track};

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Robson {
    /// MiB alive at most, without the table.
    size: u64,
    rounds: u64,
    /// Rounds of warm-up.
    warm_up: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// MiB alive at most [default: 64]
    #[arg(long, value_name = "MIB", value_parser = parse_count)]
    size: Option<u64>,

    /// how often all sizes of objects are gone through [default: 20]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    rounds: Option<u64>,
}

/// Bytes of the smallest objects, header and length included; those of a stage are twice as large
/// as those of the stage before.
const LEAST_BYTES: u64 = 64;

/// Sizes, up to 256 KiB: the last three are large objects, which need a run of free addresses.
const STAGES: u32 = 13;

/// Objects that are looked at in one sample.
const LOOKED_AT: usize = 256;

/// Bytes of an object beside its numbers.
const HEAD_BYTES: u64 = 16;

impl Standard for Robson {
    const NAME: &'static str = "robson";
    const ABOUT: &'static str = "Holes between what lives, each too small for what comes next";
    const IN_A_PLAIN_RUN: bool = false;
    type Args = Options;

    fn works(args: Options, quick: bool) -> Result<Vec<Self>, Failure> {
        let size = check_size(Self::NAME, args.size.unwrap_or(pick(quick, 64, 8)), 1..=1 << 16)?;
        Ok(vec![Self { size, rounds: args.rounds.unwrap_or(pick(quick, 20, 3)), warm_up: 1 }])
    }
}

impl Workload for Robson {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn heap_bytes(&self, _quick: bool) -> u64 {
        self.size * MIB * 2
    }

    /// All objects, and the table.
    fn min_live_bytes(&self) -> u64 {
        self.size * MIB + self.size * MIB / LEAST_BYTES * 8
    }

    /// The table: all objects are dropped between two rounds.
    fn lasting_live_bytes(&self) -> u64 {
        self.size * MIB / LEAST_BYTES * 8
    }

    /// A round does other work in each of its parts.
    fn is_steady(&self) -> bool {
        false
    }

    /// Each object adds its number and its length when it is dropped.
    fn expected_checksum(&self) -> Option<i64> {
        let objects = (0..STAGES).flat_map(|stage| std::iter::repeat_n(length(stage), self.made(stage)));
        let round: i64 = (0..).zip(objects).map(|(number, length): (i64, usize)| number + length as i64).sum();
        Some(round * self.rounds as i64)
    }

    fn has_peers(&self) -> bool {
        false
    }

    fn run(&self, bench: &Bench<'_>) -> Result<Measured, Failure> {
        alone(bench, |m| run(self, bench, m))
    }
}

/// Numbers in an object of a stage.
fn length(stage: u32) -> usize {
    (((LEAST_BYTES << stage) - HEAD_BYTES) / 8) as usize
}

impl Robson {
    /// Objects that a stage makes: of the first all that there is room for, then half.
    fn made(&self, stage: u32) -> usize {
        let room = if stage == 0 { self.size * MIB } else { self.size * MIB / 2 };
        (room / (LEAST_BYTES << stage)) as usize
    }

    fn made_in_a_round(&self) -> usize {
        (0..STAGES).map(|stage| self.made(stage)).sum()
    }
}

/// Each of its numbers is how many objects its round had made before it.
type Object = Array<u64>;
type Table = SlotArray<Option<Object>>;

struct Adversary<'s> {
    of: Robson,
    /// What lives, in the order in which it was made.
    table: Local<'s, Table>,
    held: usize,
    sum: i64,
}

/// The number of an object, which must be whole.
fn look(object: Gc<'_, Object>) -> u64 {
    let numbers = object.tail();
    let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
    assert_eq!(first, last, "the ends of an object are of two objects");
    first
}

impl<'s> Adversary<'s> {
    fn new(m: &mut Mutator<'s>, of: &Robson) -> Result<Self, OutOfMemory> {
        // The first stage has the most objects.
        let slots = of.made(0);
        let m = m.reserve(AllocSize::tail::<Table>(slots))?;
        let table = m.local(m.place_array::<Table>((), slots, None));
        Ok(Self { of: of.clone(), table, held: 0, sum: 0 })
    }

    fn put(&mut self, m: &mut Mutator<'_>, length: usize, number: u64) -> Result<(), OutOfMemory> {
        let m = m.reserve(AllocSize::tail::<Object>(length))?;
        let object = m.place_tail::<Object, _>((), (0..length).map(|_| number));
        self.table.get(m).tail()[self.held].set(m, Some(object));
        self.held += 1;
        Ok(())
    }

    /// Drops all for whose places `keeps` says no, and moves up what is left.
    fn drop_some(&mut self, m: &mut Mutator<'_>, track: &mut Track, keeps: fn(usize) -> bool) {
        let (mut kept, mut before, held) = (0, None, self.held);
        for from in (0..held).step_by(LOOKED_AT) {
            track.begin(m, Series::Other);
            m.safepoint();
            let m = &*m;
            let table = self.table.get(m);
            let slots = table.tail();
            for at in from..held.min(from + LOOKED_AT) {
                let object = slots[at].get(m).expect("an object in each slot that is held");
                let number = look(object);
                assert!(before.is_none_or(|before| before < number), "objects have changed places");
                before = Some(number);
                if keeps(at) {
                    slots[kept].set(m, Some(object));
                    kept += 1;
                } else {
                    self.sum += number as i64 + object.tail().len() as i64;
                }
            }
        }
        for from in (kept..held).step_by(LOOKED_AT) {
            track.begin(m, Series::Other);
            m.safepoint();
            let m = &*m;
            self.table.get(m).tail()[from..held.min(from + LOOKED_AT)].iter().for_each(|slot| slot.set(m, None));
        }
        self.held = kept;
    }

    /// All sizes once.
    fn round(&mut self, m: &mut Mutator<'_>, track: &mut Track) -> Result<(), OutOfMemory> {
        let mut number = 0;
        for stage in 0..STAGES {
            let length = length(stage);
            for _ in 0..self.of.made(stage) {
                track.begin(m, Series::Operation);
                self.put(m, length, number)?;
                number += 1;
            }
            if stage + 1 < STAGES {
                self.drop_some(m, track, |at| at % 2 == 0);
            }
        }
        self.drop_some(m, track, |_| false);
        Ok(())
    }
}

fn run(of: &Robson, bench: &Bench<'_>, m: &mut Mutator<'_>) -> Result<Measured, OutOfMemory> {
    let mut adversary = Adversary::new(m, of)?;
    let mut track = bench.track();
    bench.warming_up();
    for _ in 0..of.warm_up {
        adversary.round(m, &mut track)?;
    }
    bench.begin();
    bench.start(&mut track, m);
    adversary.sum = 0;
    for round in 1..=of.rounds {
        adversary.round(m, &mut track)?;
        bench.progress(round as f64 / of.rounds as f64);
    }
    track.finish();
    bench.end();
    Ok(Measured::new(of.made_in_a_round() as u64 * of.rounds, adversary.sum, vec![track]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gc_heap::Heap;

    fn of(size: u64) -> Robson {
        Robson { size, rounds: 3, warm_up: 0 }
    }

    #[test]
    fn what_lives_is_never_more_than_its_size() {
        let of = of(8);
        // The numbers of the stages whose objects live.
        let mut alive: Vec<u32> = Vec::new();
        let bytes = |alive: &[u32]| alive.iter().map(|&stage| LEAST_BYTES << stage).sum::<u64>();
        for stage in 0..STAGES {
            alive.extend(std::iter::repeat_n(stage, of.made(stage)));
            let (now, most) = (bytes(&alive), 8 * MIB);
            assert!(now <= most + (LEAST_BYTES << stage) && now >= most * 3 / 4, "stage {stage}: {now}");
            assert!(alive.len() <= of.made(0));
            alive = alive.into_iter().step_by(2).collect();
        }
        assert_eq!(of.min_live_bytes(), 9 * MIB);
    }

    #[test]
    fn a_round_reads_what_it_made_and_an_object_in_another_s_place_is_seen() {
        let of = of(1);
        let heap = Heap::builder().max_bytes(8 << 20).build().unwrap();
        let done = heap.enter(|m| -> Result<(), OutOfMemory> {
            let mut track = Track::new(1, 0);
            let mut adversary = Adversary::new(m, &of)?;
            for _ in 0..of.rounds {
                adversary.round(m, &mut track)?;
            }
            track.finish();
            assert_eq!((Some(adversary.sum), adversary.held), (of.expected_checksum(), 0));
            // Of the first stage 16,384, of the second 4,096 of twice the size, then half as many
            // each.
            assert_eq!(of.made_in_a_round(), 16_384 + (0..12).map(|stage| 4_096 >> stage).sum::<usize>());
            for number in 0..10 {
                adversary.put(m, 6, number)?;
            }
            {
                let m = &*m;
                let table = adversary.table.get(m);
                table.tail()[3].set(m, table.tail()[5].get(m));
            }
            let mut look = || adversary.drop_some(m, &mut track, |_| false);
            let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut look));
            assert!(seen.is_err());
            Ok(())
        });
        done.unwrap().unwrap();
    }
}
