//! The plots of `gc-bench primitives`: times on logarithmic axes.

use super::{BOTTOM, HEIGHT, RIGHT, Scale, TOP, nothing, power};
use crate::primitives::row::{Figures, Row};
use crate::report::svg::{Anchor, Svg};
use crate::size::{bytes, nanoseconds};

const WIDE: f64 = 1080.0;
/// Room for the names of the mechanisms.
const NAMES: f64 = 400.0;
const LINE: f64 = 17.0;

/// The decades that hold every figure: from below a nanosecond only where one is.
fn decades<'a>(figures: impl Iterator<Item = &'a Figures>, ends: (f64, f64)) -> Scale {
    let (low, high) = figures.fold((f64::MAX, 0f64), |(l, h), f| (l.min(f.min_ns), h.max(f.p99_ns)));
    Scale::decades(low, high, ends)
}

/// One line a row: the median, the quartiles, and the way to p99.
pub(crate) fn ranges(rows: &[&Row]) -> String {
    let label = "Time of each mechanism";
    let measured: Vec<_> = rows.iter().filter_map(|row| Some((row, row.figures()?))).collect();
    if measured.is_empty() {
        return nothing(label, "nothing was measured");
    }
    let bottom = TOP + LINE * measured.len() as f64;
    let mut svg = Svg::new(WIDE, bottom + 30.0, label);
    let x = decades(measured.iter().map(|(_, f)| *f), (NAMES, WIDE - RIGHT));
    for v in x.powers() {
        svg.line("grid", (x.at(v), TOP), (x.at(v), bottom));
        svg.text("tick", (x.at(v), bottom + 16.0), Anchor::Middle, &power(v));
    }
    for (i, (row, f)) in measured.iter().enumerate() {
        let y = TOP + LINE * (i as f64 + 0.5);
        let range = if row.bytes == 0 { String::new() } else { format!(", {}", bytes(row.bytes)) };
        let hint = format!(
            "{}{range}: median {}, quartiles {} and {}, p99 {}, max {}",
            row.what,
            nanoseconds(f.median_ns),
            nanoseconds(f.p25_ns),
            nanoseconds(f.p75_ns),
            nanoseconds(f.p99_ns),
            nanoseconds(f.max_ns)
        );
        svg.text("tick", (NAMES - 10.0, y + 4.0), Anchor::End, &format!("{}{range}", row.what));
        svg.line("axis", (x.at(f.min_ns), y), (x.at(f.p99_ns), y));
        let (from, to) = (x.at(f.p25_ns), x.at(f.p75_ns));
        svg.rect("c4 half", (from, y - 4.0), ((to - from).max(1.0), 8.0), &hint);
        svg.mark("c1", (x.at(f.p99_ns), y), 2.0, &hint);
        svg.mark("c0", (x.at(f.median_ns), y), 3.5, &hint);
    }
    svg.finish()
}

/// Medians by the bytes of the range, a line a mechanism; both axes logarithmic.
pub(crate) fn by_bytes(rows: &[&Row]) -> String {
    let label = "Median time by size";
    let mut names: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| row.figures().is_some()) {
        if !names.contains(&row.what.as_str()) {
            names.push(&row.what);
        }
    }
    let measured = || rows.iter().filter_map(|row| Some((row, row.figures()?)));
    let mut sizes: Vec<u64> = measured().map(|(row, _)| row.bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let (Some(&low), Some(&high)) = (sizes.first(), sizes.last()) else {
        return nothing(label, "nothing was measured");
    };
    let bottom = HEIGHT + 60.0 - BOTTOM;
    let mut svg = Svg::new(WIDE, HEIGHT + 60.0, label);
    let (left, right) = (64.0, WIDE - NAMES + 40.0);
    let x = Scale {
        from: (low.max(1) as f64).log10() - 0.1,
        to: (high.max(1) as f64).log10() + 0.1,
        start: left,
        end: right,
        log: true,
    };
    let y = decades(measured().map(|(_, f)| f), (bottom, TOP));
    for v in y.powers() {
        svg.line("grid", (left, y.at(v)), (right, y.at(v)));
        svg.text("tick", (left - 6.0, y.at(v) + 4.0), Anchor::End, &power(v));
    }
    for &size in &sizes {
        svg.line("grid", (x.at(size as f64), TOP), (x.at(size as f64), bottom));
        svg.text("tick", (x.at(size as f64), bottom + 16.0), Anchor::Middle, &bytes(size));
    }
    let mut ends = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let class = format!("c{}", i % 6);
        let of_name: Vec<_> = measured().filter(|(row, _)| row.what == *name).collect();
        let points: Vec<_> = of_name.iter().map(|(row, f)| (x.at(row.bytes as f64), y.at(f.median_ns))).collect();
        let dashed = if i >= 6 { " dashed" } else { "" };
        svg.polyline(&format!("line {class}{dashed}"), &points);
        for ((row, f), &center) in of_name.iter().zip(&points) {
            let hint = format!("{name}, {}: {}", bytes(row.bytes), nanoseconds(f.median_ns));
            svg.mark(&class, center, 3.0, &hint);
        }
        ends.extend(points.last().map(|&(_, y)| (y, *name, class)));
    }
    // The names stand where the lines end, moved apart where they would cover one another.
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = TOP;
    for (y, name, class) in ends {
        let at = y.max(free);
        free = at + 14.0;
        svg.mark(&class, (right + 14.0, at), 3.5, name);
        svg.text("tick", (right + 24.0, at + 4.0), Anchor::Start, name);
    }
    svg.finish()
}
