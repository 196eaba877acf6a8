//! What a table of mechanisms shows: how much less one costs than another, in one session.

use super::claim::{DISTURBED, Verdict};
use crate::primitives::Primitives;
use crate::primitives::row::{Group, Row};
use crate::size::{bytes, short};

/// A row of the primitives: what it is called, and the bytes of its range.
pub(super) type Named = (&'static str, u64);

/// A ratio of two medians, and between what it lies.
pub(super) struct Cost {
    pub(super) group: Group,
    pub(super) own: Named,
    pub(super) over: Named,
    pub(super) band: (f64, f64),
}

impl Cost {
    pub(super) fn words(&self) -> String {
        let name = |(what, range): Named| format!("{what}, {}", bytes(range));
        format!("median of {} over {}", name(self.own), name(self.over))
    }

    fn row<'a>(&self, found: &'a Primitives, (what, range): Named) -> Option<&'a Row> {
        found.rows.iter().find(|row| row.group == self.group && row.what == what && row.bytes == range)
    }

    pub(super) fn is_left_by(&self, ratio: f64) -> bool {
        !(self.band.0..=self.band.1).contains(&ratio)
    }

    /// What came of it.
    pub(super) fn judge(&self, found: &Primitives) -> Verdict {
        let (Some(own), Some(over)) = (self.row(found, self.own), self.row(found, self.over)) else {
            return Verdict::missing();
        };
        if let Some(why) = [own, over].into_iter().find_map(Row::reason) {
            return Verdict::not_here(&why);
        }
        let (Some(median), Some(other)) = (own.figures(), over.figures()) else { return Verdict::missing() };
        let ratio = median.median_ns / other.median_ns;
        let told = if ratio < 0.1 { format!("1/{}", short(1.0 / ratio)) } else { short(ratio) };
        Verdict::of(told, self.is_left_by(ratio), found.noisy().then_some(DISTURBED))
    }
}
