//! The measured part of a run whose memory is freed by hand.

use std::sync::Mutex;
use std::time::Instant;

use super::Closed;
use crate::process::Usage;
use crate::threads::{Attendance, Roster};
use crate::track::{Track, Unhoused};

/// Such a run, as its workload sees it: what [`Bench`](super::Bench) is without a heap.
pub(crate) struct ByHand {
    threads: u64,
    /// Operations a second and thread; 0: as fast as it goes.
    rate: u64,
    window: Mutex<Option<Window>>,
    roster: Roster,
}

struct Window {
    usage: Usage,
    closed: Option<Closed>,
}

impl ByHand {
    pub(crate) fn new(threads: u64, rate: u64) -> Self {
        // No thread has a name that begins like this: there is no collector.
        Self { threads, rate, window: Mutex::new(None), roster: Roster::new("no collector") }
    }

    /// The calling thread is a mutator of the run, until the result is dropped.
    pub(crate) fn attend(&self) -> Attendance<'_> {
        self.roster.attend()
    }

    /// The samples of one mutator. It touches memory: before the measured part.
    pub(crate) fn track(&self) -> Track {
        Track::new(self.threads, self.rate)
    }

    /// Begins the measured part. Once a run.
    pub(crate) fn begin(&self) {
        let mut window = self.window.lock().expect("no holder panics");
        assert!(window.is_none(), "the measured part begins once");
        self.roster.begin();
        *window = Some(Window { usage: Usage::start(), closed: None });
    }

    /// Begins a mutator's samples, in the measured part.
    pub(crate) fn start(&self, track: &mut Track, thread: &Unhoused) {
        let since = self.window.lock().expect("no holder panics").as_ref().map(|window| window.usage.since());
        track.start(thread, since.expect("the measured part has begun"));
    }

    /// Ends it. Once a run, after [`begin`](Self::begin).
    pub(crate) fn end(&self) {
        let now = Instant::now();
        let mut window = self.window.lock().expect("no holder panics");
        let window = window.as_mut().expect("the measured part has begun");
        let (wall, used, used_by) = (now - window.usage.since(), window.usage.end(), self.roster.end());
        window.closed = Some(Closed::of_peer(wall, used, 0, Vec::new(), used_by));
    }

    /// What was measured; `None` if the measured part was not begun and ended.
    pub(crate) fn into_closed(self) -> Option<Closed> {
        self.window.into_inner().expect("no holder panics")?.closed
    }
}
