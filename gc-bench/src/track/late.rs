//! A thread that has nothing to do until a due time leaves the heap, sleeps, and comes back: where
//! it was held up on its way.

use super::stretches::LONG_SAMPLE_NS;

/// A moment on the way, from the start of the measured part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) at_ns: u64,
    /// How long the thread could run so far and waited for a processor, where the kernel says it.
    pub(crate) waited_ns: Option<u64>,
}

/// A way that ended [`LONG_SAMPLE_NS`] and more beyond the due time of what was next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Late {
    pub(crate) due_ns: u64,
    /// The thread was about to leave the heap.
    pub(crate) left: Moment,
    /// It asked the kernel to let it sleep: it does nothing else from here on.
    pub(crate) asleep: Moment,
    /// It had slept. Where leaving the heap took all the time it did not, and this is the same
    /// moment.
    pub(crate) woke: Moment,
    /// It was inside the heap again.
    pub(crate) back: Moment,
}

/// A part of a way, as far as it lies beyond the due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
    /// Of it, what the thread waited for a processor; `None` where the kernel does not say it. A
    /// wait that may have been before the due time counts as far as it may have been after.
    pub(crate) waited_ns: Option<u64>,
}

impl Late {
    /// A sleep of which is known when it should have ended and when it did.
    pub(crate) fn asleep(due_ns: u64, woke_ns: u64) -> Self {
        let at = |at_ns| Moment { at_ns, waited_ns: None };
        Self { due_ns, left: at(due_ns), asleep: at(due_ns), woke: at(woke_ns), back: at(woke_ns) }
    }

    pub(super) fn is_late(&self) -> bool {
        self.back.at_ns.saturating_sub(self.due_ns) >= LONG_SAMPLE_NS
    }

    fn part(&self, from: Moment, to: Moment) -> Option<Part> {
        let (from_ns, to_ns) = (from.at_ns.max(self.due_ns), to.at_ns);
        let waited_ns = to.waited_ns.zip(from.waited_ns).map(|(to, from)| to.saturating_sub(from));
        let length_ns = to_ns.checked_sub(from_ns).filter(|&ns| ns > 0)?;
        Some(Part { from_ns, to_ns, waited_ns: waited_ns.map(|ns| ns.min(length_ns)) })
    }

    /// The sleep.
    pub(crate) fn sleep(&self) -> Option<Part> {
        self.part(self.asleep, self.woke)
    }

    /// Out of the heap, and into it again.
    pub(crate) fn ways(&self) -> impl Iterator<Item = Part> {
        [self.part(self.left, self.asleep), self.part(self.woke, self.back)].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(due_ns: u64, at: [(u64, u64); 4]) -> Late {
        let [left, asleep, woke, back] = at.map(|(at_ns, waited_ns)| Moment { at_ns, waited_ns: Some(waited_ns) });
        Late { due_ns, left, asleep, woke, back }
    }

    #[test]
    fn what_lies_before_the_due_time_is_no_part() {
        let early = late(1000, [(100, 0), (300, 150), (960, 170), (990, 180)]);
        assert_eq!((early.sleep(), early.ways().count(), early.is_late()), (None, 0, false));
        // On the way out it waited until long after the due time, and did not sleep; on the way
        // back it waited once more.
        let out = late(1000, [(900, 7), (201_000, 200_007), (201_000, 200_007), (202_000, 200_507)]);
        let part = |from_ns, to_ns, waited_ns| Part { from_ns, to_ns, waited_ns: Some(waited_ns) };
        assert_eq!(out.ways().collect::<Vec<_>>(), [part(1000, 201_000, 200_000), part(201_000, 202_000, 500)]);
        assert_eq!((out.sleep(), out.is_late()), (None, true));
        // The sleep, due at 1000, in which it waited for longer than it was late.
        let slept = late(1000, [(100, 0), (200, 0), (1400, 700), (1500, 720)]);
        assert_eq!((slept.sleep(), slept.is_late()), (Some(part(1000, 1400, 400)), false));
    }

    #[test]
    fn a_sleep_of_a_peer_says_nothing_of_waits() {
        let late = Late::asleep(5, 900);
        assert_eq!(late.sleep(), Some(Part { from_ns: 5, to_ns: 900, waited_ns: None }));
        assert_eq!(late.ways().count(), 0);
    }
}
