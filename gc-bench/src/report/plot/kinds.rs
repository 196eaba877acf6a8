//! Pauses by kind: a row each, on one logarithmic axis.

use super::{BOTTOM, LEFT, RIGHT, Scale, TOP, WIDTH, nothing, power};
use crate::report::kinds::Kind;
use crate::report::svg::{Anchor, Svg};
use crate::size::{duration, grouped};

/// Height of a row: its name, and below that its points.
const ROW: f64 = 36.0;

/// Median, p99 and the longest of each kind.
pub(crate) fn plot(kinds: &[Kind]) -> String {
    let label = "How long pauses of each kind took";
    if kinds.is_empty() {
        return nothing(label, "no pause");
    }
    let bottom = TOP + ROW * kinds.len() as f64;
    let mut svg = Svg::new(WIDTH, bottom + BOTTOM, label);
    let least = kinds.iter().map(|kind| kind.least_ns).min().unwrap_or(1);
    let most = kinds.iter().map(|kind| kind.max_ns).max().unwrap_or(1);
    // As far from the left as other plots begin, less the labels that this one has none of.
    let x = Scale::decades(least as f64, most as f64, (LEFT / 2.0, WIDTH - RIGHT));
    for v in x.powers() {
        svg.line("grid", (x.at(v), TOP), (x.at(v), bottom));
        svg.text("tick", (x.at(v), bottom + 16.0), Anchor::Middle, &power(v));
    }
    for (i, kind) in kinds.iter().enumerate() {
        let top = TOP + ROW * i as f64;
        let y = top + 24.0;
        let name = format!("{} \u{d7} {}", grouped(kind.count as u64), kind.name);
        svg.text("note", (LEFT / 2.0 + 2.0, top + 12.0), Anchor::Start, &name);
        svg.line("axis", (x.at(kind.least_ns as f64), y), (x.at(kind.max_ns as f64), y));
        let points = [("c0", "p50", kind.p50_ns), ("c4", "p99", kind.p99_ns), ("c1", "longest", Some(kind.max_ns))];
        for (class, what, ns) in points {
            if let Some(ns) = ns {
                svg.mark(class, (x.at(ns as f64), y), 4.0, &format!("{}: {what} {}", kind.name, duration(ns)));
            }
        }
    }
    svg.text("title", (WIDTH / 2.0, bottom + BOTTOM - 8.0), Anchor::Middle, "duration of a pause");
    svg.finish()
}
