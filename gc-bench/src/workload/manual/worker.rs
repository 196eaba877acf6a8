//! A thread of a run whose memory is freed by hand.

use crate::measure::ByHand;
use crate::threads::Attendance;
use crate::track::{Series, Track, Unhoused};

/// A mutator with its samples. It stays on the thread that made it.
pub(super) struct Worker<'a> {
    bench: &'a ByHand,
    thread: Unhoused,
    pub(super) track: Track,
    _attends: Attendance<'a>,
}

impl<'a> Worker<'a> {
    /// The calling thread. It touches memory: before the measured part.
    pub(super) fn new(bench: &'a ByHand, number: u64) -> Self {
        Self::with(bench, number, bench.track())
    }

    /// The calling thread, with a track that was made before.
    pub(super) fn with(bench: &'a ByHand, number: u64, track: Track) -> Self {
        Self { bench, thread: Unhoused { number }, track, _attends: bench.attend() }
    }

    /// Begins its samples, in the measured part.
    pub(super) fn start(&mut self) {
        self.bench.start(&mut self.track, &self.thread);
    }

    /// See [`Track::admit`].
    #[inline]
    pub(super) fn admit(&mut self) -> bool {
        self.track.admit(&mut self.thread)
    }

    /// See [`Track::begin`].
    #[inline]
    pub(super) fn begin(&mut self, series: Series) {
        self.track.begin(&mut self.thread, series);
    }

    /// Begins to free what is no longer needed. The program of a collected heap has no such work:
    /// at a set rate it is due with the operation before.
    #[inline]
    pub(super) fn begin_to_free(&mut self) {
        self.track.go_on(Series::Other);
    }

    /// See [`Track::rest`].
    pub(super) fn rest<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.track.rest(&mut self.thread, f)
    }

    /// Its samples, when its work is done.
    pub(super) fn into_track(mut self) -> Track {
        self.track.finish();
        self.track
    }
}
