//! The order of a track's samples, coarsely: stretches of some tens of microseconds with how many
//! samples each holds. A sample that is longer than that is a stretch by itself.

/// A stretch as a reader sees it, from the start of the measured part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
    /// Samples that tile it; 0: the thread was idle.
    pub(crate) samples: u64,
}

/// A stretch as it is stored.
#[derive(Clone, Copy)]
struct Stretch {
    ns: u32,
    samples: u32,
}

/// `samples` of a stretch that was idle, and of one that the next one continues.
pub(super) const IDLE: u32 = u32::MAX;
const CONTINUED: u32 = u32::MAX - 1;
/// The most samples that a stretch has.
pub(super) const MOST_SAMPLES: u32 = CONTINUED - 1;

impl Stretch {
    fn is_busy(self) -> bool {
        self.samples <= MOST_SAMPLES
    }
}

/// A sample of this length and more is kept by itself, with its time.
pub(crate) const LONG_SAMPLE_NS: u64 = 100_000;
/// How long a stretch of shorter samples is, at first and at most: below half of
/// [`LONG_SAMPLE_NS`] and below it, so that a long sample never shares a stretch.
pub(super) const FINEST_NS: u64 = 20_000;
pub(super) const COARSEST_NS: u64 = 80_000;
/// Stretches that all tracks of a run have room for before they become coarser: 32 MiB.
const ROOM: usize = 1 << 22;
/// The most and the least of it that one track has.
const MOST_ROOM: usize = 1 << 20;
const LEAST_ROOM: usize = 1 << 12;

/// The stretches of one track, in order.
pub(super) struct Stretches {
    stretches: Vec<Stretch>,
    /// How many make it coarser.
    pub(super) room: usize,
    resolution_ns: u64,
}

impl Stretches {
    /// For one of so many threads. Touches all its memory.
    pub(super) fn new(threads: u64) -> Self {
        let room = (ROOM / threads.max(1) as usize).clamp(LEAST_ROOM, MOST_ROOM);
        let mut stretches = vec![Stretch { ns: 1, samples: 1 }; room];
        stretches.clear();
        Self { stretches, room, resolution_ns: FINEST_NS }
    }

    pub(super) fn clear(&mut self) {
        self.stretches.clear();
    }

    /// How long a stretch of more than one sample is, before the sample that ends it.
    #[inline]
    pub(super) fn resolution_ns(&self) -> u64 {
        self.resolution_ns
    }

    /// Adds one that follows the last; `samples`: at most [`MOST_SAMPLES`], or [`IDLE`].
    pub(super) fn push(&mut self, ns: u64, samples: u32) {
        if self.stretches.len() >= self.room {
            self.coarsen();
        }
        self.append(ns, samples);
    }

    /// As [`push`](Self::push), without making it coarser.
    pub(super) fn append(&mut self, mut ns: u64, samples: u32) {
        while ns > u64::from(u32::MAX) {
            self.stretches.push(Stretch { ns: u32::MAX, samples: CONTINUED });
            ns -= u64::from(u32::MAX);
        }
        self.stretches.push(Stretch { ns: ns as u32, samples });
    }

    /// Merges neighbours that fit into a stretch of twice the length; where that is not to be, or
    /// not enough, makes room. The time that it takes is in the next sample.
    fn coarsen(&mut self) {
        if self.resolution_ns < COARSEST_NS {
            self.resolution_ns *= 2;
            let resolution_ns = self.resolution_ns;
            self.stretches.dedup_by(|next, last| {
                let ns = u64::from(last.ns) + u64::from(next.ns);
                let merged = last.is_busy() && next.is_busy() && ns <= resolution_ns;
                if merged {
                    *last = Stretch { ns: ns as u32, samples: last.samples + next.samples };
                }
                merged
            });
        }
        if self.stretches.len() > self.room / 2 {
            self.room *= 2;
        }
    }

    /// Memory that they take.
    pub(super) fn bytes(&self) -> u64 {
        (self.stretches.capacity() * size_of::<Stretch>()) as u64
    }

    /// In order, and after them one of which so many samples of so many nanoseconds are known.
    pub(super) fn pieces(&self, open: Option<(u64, u32)>) -> impl Iterator<Item = Piece> + '_ {
        let mut from_ns = 0;
        let mut to_ns = 0;
        let open = open.map(|(ns, samples)| Stretch { ns: ns as u32, samples });
        self.stretches.iter().copied().chain(open).filter_map(move |stretch| {
            to_ns += u64::from(stretch.ns);
            if stretch.samples == CONTINUED {
                return None;
            }
            let samples = if stretch.samples == IDLE { 0 } else { u64::from(stretch.samples) };
            Some(Piece { from_ns: std::mem::replace(&mut from_ns, to_ns), to_ns, samples })
        })
    }
}
