//! What the program lost by its own samples, and how much of it the heap's events explain.
//!
//! A gap is a sample of 1 ms and more of a mutator. No sample of a workload takes nearly as long
//! undisturbed (the longest, a part of a tree that is counted, some microseconds), so a gap is time
//! in which its thread did not come on: stopped, stalled, in slow paths, or without a processor.

use serde::{Deserialize, Serialize};

use crate::measure::HeapEvents;
use crate::mmu::{self, Mmu, Stretch};
use crate::recorder::LONG_NS;
use crate::timeline::Sampled;

/// The gaps of all mutators. Numbers all, 0 where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gaps {
    pub(crate) count: u64,
    pub(crate) total_ns: u64,
    /// Of the mutators' measured time, from 0 to 1.
    pub(crate) share: f64,
    pub(crate) max_ns: u64,
}

/// The part of the gaps that overlaps no event of the heap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NotAccounted {
    pub(crate) ns: u64,
    /// Of the gaps, from 0 to 1.
    pub(crate) share: f64,
}

fn gaps_of(track: &Sampled) -> impl Iterator<Item = (u64, u64)> + '_ {
    track.long_samples.iter().copied().filter(|&(_, ns)| ns >= LONG_NS)
}

impl Gaps {
    /// Of these tracks, each of which is `measured_ns` long.
    pub(crate) fn of(tracks: &[Sampled], measured_ns: u64) -> Self {
        let mut gaps = Self::default();
        for (_, ns) in tracks.iter().flat_map(gaps_of) {
            gaps.count += 1;
            gaps.total_ns += ns;
            gaps.max_ns = gaps.max_ns.max(ns);
        }
        let of_ns = measured_ns as f64 * tracks.len() as f64;
        gaps.share = if of_ns > 0.0 { gaps.total_ns as f64 / of_ns } else { 0.0 };
        gaps
    }
}

impl NotAccounted {
    /// What of each mutator's gaps was neither a stop nor its own stall or loss.
    pub(crate) fn of(tracks: &[Sampled], events: &HeapEvents) -> Self {
        let (mut of_ns, mut ns) = (0.0, 0.0);
        for track in tracks {
            let lost = events.lost_by(track.mutator);
            for (from, length) in gaps_of(track) {
                of_ns += length as f64;
                ns += (length as f64 - lost.between(from, from + length)).max(0.0);
            }
        }
        Self { ns: ns.round() as u64, share: if of_ns > 0.0 { ns / of_ns } else { 0.0 } }
    }
}

/// Minimum mutator utilisation as the mutators saw it: every long sample counts as lost, and every
/// shorter one, and idle time, as the program's own.
pub(crate) fn measured_mmu(tracks: &[Sampled], measured_ns: u64) -> Vec<Mmu> {
    let own: Vec<Vec<Stretch>> = tracks
        .iter()
        .map(|track| track.long_samples.iter().map(|&(from, ns)| Stretch::from((from, from + ns))).collect())
        .collect();
    mmu::of_run(&[], own.iter().map(Vec::as_slice), measured_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn track(mutator: u64, long_samples: &[(u64, u64)]) -> Sampled {
        Sampled { mutator, long_samples: long_samples.to_vec(), ..Sampled::default() }
    }

    #[test]
    fn gaps_are_samples_of_a_millisecond_and_more() {
        let tracks = [track(1, &[(0, MS), (5 * MS, MS - 1)]), track(2, &[(MS, 3 * MS)])];
        let gaps = Gaps::of(&tracks, 20 * MS);
        assert_eq!(gaps, Gaps { count: 2, total_ns: 4 * MS, share: 0.1, max_ns: 3 * MS });
        assert_eq!(Gaps::of(&[], 0), Gaps::default());
    }

    #[test]
    fn the_measured_utilisation_is_of_the_worst_mutator_and_of_long_samples_below_a_gap_too() {
        let tracks = [track(1, &[(2 * MS, MS / 2)]), track(2, &[(8 * MS, 4 * MS), (16 * MS, MS)])];
        let found: Vec<_> = measured_mmu(&tracks, 20 * MS).iter().map(|m| (m.window_ms, m.share)).collect();
        assert_eq!(found, [(1, 0.0), (2, 0.0), (5, 0.2), (10, 0.5), (20, 0.75)]);
        let half = measured_mmu(&tracks[..1], 20 * MS);
        assert_eq!((half[0].share, half[1].share), (0.5, 0.75));
    }
}
