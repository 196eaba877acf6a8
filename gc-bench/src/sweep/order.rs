//! In which order the runs of a sweep are made, and which part of it is whose.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::failure::Failure;
use crate::rng::SplitMix;

/// A run of the sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where it stands in the order, from 0.
    pub(crate) number: usize,
    pub(crate) configuration: usize,
    /// From 1.
    pub(crate) repeat: u64,
}

/// The whole order: a repeat is every configuration once, in a random order of its own, as in every
/// session.
pub(crate) fn order(configurations: usize, repeats: u64, seed: u64) -> Vec<Place> {
    let (mut random, mut block) = (SplitMix::new(seed), (0..configurations).collect::<Vec<_>>());
    let mut places = Vec::with_capacity(configurations * repeats as usize);
    for repeat in 1..=repeats {
        random.shuffle(&mut block);
        places.extend(block.iter().map(|&configuration| (configuration, repeat)));
    }
    let place = |(number, (configuration, repeat))| Place { number, configuration, repeat };
    places.into_iter().enumerate().map(place).collect()
}

/// A part of the order: the `number`-th, from 1, of `of`.
///
/// It is a piece, and no selection: of few shards nearly every repeat is whole in one, so that what
/// is compared was run on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shard {
    pub(crate) number: u64,
    pub(crate) of: u64,
}

impl Shard {
    pub(crate) const WHOLE: Self = Self { number: 1, of: 1 };

    /// Refuses one that has no place.
    pub(crate) fn check(self, places: usize) -> Result<(), Failure> {
        if self.of <= places as u64 {
            return Ok(());
        }
        Err(Failure::input(format!("{} shards are too many: the sweep has {places} runs", self.of)))
    }

    /// The places that are its own. Of any number of places each belongs to one shard, and no two
    /// shards differ by more than one place.
    pub(crate) fn range(self, places: usize) -> Range<usize> {
        let end = |number: u64| (u128::from(number) * places as u128 / u128::from(self.of)) as usize;
        end(self.number - 1)..end(self.number)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((number, of)) if 1 <= number && number <= of => Ok(Self { number, of }),
            Some((number, of)) => Err(format!("there is no shard {number} of {of}: they are 1 to {of}")),
            None => Err(format!("`{text}` is no shard such as 2/8, the second of eight")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_repeat_is_every_configuration_once_and_a_seed_is_an_order() {
        let places = order(7, 3, 9);
        assert!(places.iter().enumerate().all(|(number, place)| place.number == number));
        for (repeat, block) in places.chunks(7).enumerate() {
            let own: BTreeSet<usize> = block.iter().map(|place| place.configuration).collect();
            assert!(own == (0..7).collect() && block.iter().all(|place| place.repeat == repeat as u64 + 1));
        }
        assert_eq!(places, order(7, 3, 9));
        assert_ne!(places, order(7, 3, 10));
    }

    #[test]
    fn every_place_is_in_one_shard() {
        for places in [1, 5, 16, 97] {
            for of in [1, 2, 3, 5, 16, 97] {
                let ranges: Vec<Range<usize>> = (1..=of).map(|number| Shard { number, of }.range(places)).collect();
                assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, places));
                let lengths = || ranges.iter().map(Range::len);
                assert!(lengths().max() <= lengths().min().map(|least| least + 1));
            }
        }
        // As many shards as repeats: each has one of them whole.
        assert_eq!(Shard { number: 2, of: 3 }.range(21), 7..14);
    }

    #[test]
    fn a_shard_is_read_as_it_is_written() {
        assert_eq!("2/8".parse().map(|shard: Shard| shard.to_string()), Ok("2/8".into()));
        for wrong in ["0/3", "4/3", "1/0", "1", "a/3", "1/3/3", "-1/3", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
