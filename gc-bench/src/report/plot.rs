//! The plots: each a function from figures to an SVG.

pub(crate) mod barriers;
pub(crate) mod curve;
pub(crate) mod kinds;
pub(crate) mod primitives;

use super::svg::{Anchor, Svg};
use crate::record::{Bucket, Record};
use crate::size::{bytes, duration, grouped, short};

/// As wide as a plot is on a page with two in a row: labels have the size that the style says.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 46.0;

/// Where values lie on an axis.
#[derive(Clone, Copy)]
struct Scale {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
    log: bool,
}

impl Scale {
    fn linear(from: f64, to: f64, (start, end): (f64, f64)) -> Self {
        Self { from, to: if to > from { to } else { from + 1.0 }, start, end, log: false }
    }

    /// Whole decades around the values.
    fn decades(min: f64, max: f64, (start, end): (f64, f64)) -> Self {
        let from = min.max(1.0).log10().floor();
        let to = max.max(2.0).log10().ceil().max(from + 1.0);
        Self { from, to, start, end, log: true }
    }

    fn at(&self, value: f64) -> f64 {
        let v = if self.log { value.max(1e-9).log10() } else { value };
        let share = ((v - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        self.start + share * (self.end - self.start)
    }

    /// The powers of ten on a logarithmic axis.
    fn powers(&self) -> impl Iterator<Item = f64> + use<> {
        (self.from as i32..=self.to as i32).map(|e| 10f64.powi(e))
    }
}

fn plain_x() -> (f64, f64) {
    (LEFT, WIDTH - RIGHT)
}

fn plain_y() -> (f64, f64) {
    (HEIGHT - BOTTOM, TOP)
}

/// A duration where a power of ten is meant: `10 µs`.
fn power(ns: f64) -> String {
    match ns {
        n if n >= 1e9 => format!("{} s", n / 1e9),
        n if n >= 1e6 => format!("{} ms", n / 1e6),
        n if n >= 1e3 => format!("{} µs", n / 1e3),
        n => format!("{n} ns"),
    }
}

/// A few round steps from 0 to `max`.
fn round_steps(max: f64) -> Vec<f64> {
    if max <= 0.0 {
        return vec![0.0];
    }
    let raw = max / 4.0;
    let unit = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * unit).find(|s| *s >= raw).unwrap_or(unit * 10.0);
    (0..).map(|i| f64::from(i) * step).take_while(|v| *v <= max * 1.001).collect()
}

fn frame(svg: &mut Svg, x_title: &str) {
    svg.line("axis", (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM));
    svg.text("title", ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0), Anchor::Middle, x_title);
}

fn y_tick(svg: &mut Svg, y: f64, label: &str) {
    svg.line("grid", (LEFT, y), (WIDTH - RIGHT, y));
    svg.text("tick", (LEFT - 6.0, y + 4.0), Anchor::End, label);
}

fn x_tick(svg: &mut Svg, x: f64, label: &str) {
    svg.line("grid", (x, TOP), (x, HEIGHT - BOTTOM));
    svg.text("tick", (x, HEIGHT - BOTTOM + 16.0), Anchor::Middle, label);
}

fn nothing(label: &str, text: &str) -> String {
    let mut svg = Svg::new(WIDTH, 80.0, label);
    svg.text("title", (WIDTH / 2.0, 44.0), Anchor::Middle, text);
    svg.finish()
}

/// The range of durations that all of a page's pause plots share, so that one can be read against
/// another.
pub(crate) fn pause_range<'a>(runs: impl Iterator<Item = &'a Record>) -> (f64, f64) {
    runs.fold((1e4, 1e5), |(low, high), r| {
        let smallest = r.histograms.safepoint.iter().chain(&r.histograms.pauses).map(|b| b.0).min().unwrap_or(10_000);
        (low.min((smallest as f64).max(100.0)), high.max(r.pauses.max_ns as f64))
    })
}

/// How long the stops of these runs took, and how long of it was the way to the safepoint: how many
/// in each tenth of a decade.
pub(crate) fn pauses(runs: &[&Record], range: (f64, f64)) -> String {
    const TO_A_DECADE: f64 = 10.0;
    let label = "How many pauses took how long";
    let bins = |of: fn(&Record) -> &[Bucket]| {
        let mut bins = std::collections::BTreeMap::<i32, u64>::new();
        for &(ns, n) in runs.iter().flat_map(|r| of(r)) {
            *bins.entry(((ns as f64).max(1.0).log10() * TO_A_DECADE).floor() as i32).or_default() += n;
        }
        bins
    };
    let (whole, reach) = (bins(|r| &r.histograms.pauses), bins(|r| &r.histograms.safepoint));
    let most = whole.values().chain(reach.values()).copied().max().unwrap_or(0);
    if most == 0 {
        return nothing(label, "no pause");
    }
    let mut svg = Svg::new(WIDTH, HEIGHT, label);
    let x = Scale::decades(range.0, range.1, plain_x());
    let y = Scale::linear(0.0, most as f64 * 1.05, plain_y());
    for v in round_steps(most as f64).into_iter().filter(|v| v.fract() == 0.0) {
        y_tick(&mut svg, y.at(v), &grouped(v as u64));
    }
    for v in x.powers() {
        x_tick(&mut svg, x.at(v), &power(v));
    }
    for (class, bins, what) in
        [("c0 half", &whole, "pauses of"), ("c1 outline", &reach, "reached the safepoint within")]
    {
        for (&bin, &n) in bins {
            let (from, to) = (10f64.powf(f64::from(bin) / TO_A_DECADE), 10f64.powf(f64::from(bin + 1) / TO_A_DECADE));
            let (left, right) = (x.at(from), x.at(to));
            let top = y.at(n as f64);
            let hint = format!("{} {what} {} to {}", grouped(n), duration(from as u64), duration(to as u64));
            svg.rect(class, (left, top), ((right - left - 1.0).max(0.5), HEIGHT - BOTTOM - top), &hint);
        }
    }
    let worst = runs.iter().map(|r| r.pauses.max_ns).max().unwrap_or(0);
    let at = x.at(worst as f64);
    svg.line("mark", (at, TOP + 14.0), (at, HEIGHT - BOTTOM));
    let anchor = if at > WIDTH * 0.8 { Anchor::End } else { Anchor::Middle };
    svg.text("note", (at, TOP + 10.0), anchor, &format!("longest {}", duration(worst)));
    frame(&mut svg, "duration of a stop");
    svg.finish()
}

/// A line of many points without those that nobody can tell from the one before them: a histogram
/// of metered latency has tens of thousands.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (n, &point) in points.iter().enumerate() {
        let is_near = kept.last().is_some_and(|last| (last.0 - point.0).abs() + (last.1 - point.1).abs() < 0.5);
        if !is_near || n + 1 == points.len() {
            kept.push(point);
        }
    }
    kept
}

/// What share of the operations took longer than what, as they were and metered over 100 ms: both
/// axes logarithmic, a line a run and kind.
pub(crate) fn latency(runs: &[&Record]) -> String {
    let label = "Latency of the operations by percentile, and metered over 100 ms";
    let count = runs.iter().map(|r| r.latency.count.max(r.metered.ms_100.count)).max().unwrap_or(0);
    if count == 0 {
        return nothing(label, "no latency recorded");
    }
    let firsts = runs.iter().flat_map(|r| [r.histograms.latency.first(), r.histograms.metered.ms_100.first()]);
    let least = firsts.flatten().map(|b| b.0).min().unwrap_or(1);
    let worst = runs.iter().map(|r| r.latency.max_ns.max(r.metered.ms_100.max_ns)).max().unwrap_or(1);
    let nines = (count as f64).log10().ceil().max(1.0);
    let mut svg = Svg::new(WIDTH, HEIGHT, label);
    let x = Scale::linear(0.0, nines, plain_x());
    let y = Scale::decades(least as f64, worst as f64, plain_y());
    for v in y.powers() {
        y_tick(&mut svg, y.at(v), &power(v));
    }
    for i in 0..=nines as usize {
        let text = match i {
            0 => "0 %".to_owned(),
            1 => "90".to_owned(),
            2 => "99".to_owned(),
            _ => format!("99.{}", "9".repeat(i - 2)),
        };
        x_tick(&mut svg, x.at(i as f64), &text);
    }
    let mut line = |class: &str, buckets: &[Bucket]| {
        let total = buckets.iter().map(|bucket| bucket.1).sum::<u64>() as f64;
        let (mut points, mut below) = (Vec::new(), 0u64);
        for &(ns, n) in buckets {
            points.push((x.at((total / (total - below as f64)).log10()), y.at(ns as f64)));
            below += n;
            let left = (total - below as f64).max(0.5);
            points.push((x.at((total / left).log10().min(total.log10())), y.at(ns as f64)));
        }
        svg.polyline(class, &thinned(&points));
    };
    for (i, run) in runs.iter().enumerate() {
        let thin = if i == 0 { "" } else { " thin" };
        line(&format!("line c1{thin}"), &run.histograms.metered.ms_100);
        line(&format!("line c0{thin}"), &run.histograms.latency);
    }
    frame(&mut svg, "percentile of the operations");
    svg.finish()
}

/// The lanes of phases in the occupancy plots: names and classes.
const LANES: [(&str, &str); 4] = [("mark", "c0"), ("plan", "c3"), ("relocate", "c1"), ("other", "c2")];

/// The lane that a phase is drawn in.
fn lane(phase: &str) -> usize {
    match phase {
        n if n.contains("mark") => 0,
        n if n.contains("plan") => 1,
        n if n.contains("relocat") || n.contains("flip") || n.contains("repair") => 2,
        _ => 3,
    }
}

/// Rectangles in one drawing beyond which a browser gets slow.
const MAX_SHAPES: usize = 4000;

/// How full the heap was over the measured part, and below it the phases of the cycles.
pub(crate) fn occupancy(run: &Record) -> String {
    const WIDE: f64 = 1080.0;
    const LANE: f64 = 13.0;
    const STRIP: f64 = LANE * LANES.len() as f64 + 8.0;
    let label = "Heap occupancy over time, with the phases of the cycles";
    if run.occupancy.is_empty() {
        return nothing(label, "the run was too short to see the heap fill");
    }
    let mut svg = Svg::new(WIDE, HEIGHT + STRIP, label);
    let end = run.wall_s * 1e9;
    let x = Scale::linear(0.0, end, (LEFT, WIDE - RIGHT));
    let y = Scale::linear(0.0, run.heap_bytes as f64 * 1.04, plain_y());
    for step in 0..=4u64 {
        let v = run.heap_bytes / 4 * step;
        let at = y.at(v as f64);
        svg.line("grid", (LEFT, at), (WIDE - RIGHT, at));
        svg.text("tick", (LEFT - 6.0, at + 4.0), Anchor::End, &bytes(v));
    }
    let point = |at_ns: u64, v: u64| (x.at(at_ns as f64), y.at(v as f64));
    let used: Vec<_> = run.occupancy.iter().map(|o| point(o.at_ns, o.used_bytes)).collect();
    let committed: Vec<_> = run.occupancy.iter().map(|o| point(o.at_ns, o.committed_bytes)).collect();
    svg.area("c4 soft", &used, HEIGHT - BOTTOM);
    svg.polyline("line c4 solid", &used);
    svg.polyline("line c5 dashed", &committed);
    let resident: Vec<_> = run.occupancy.iter().filter_map(|o| Some(point(o.at_ns, o.resident_bytes?))).collect();
    if !resident.is_empty() {
        svg.polyline("line c3", &resident);
    }
    // Concurrent phases in lanes below the plot: they would hide the curve they explain.
    let strip = HEIGHT - BOTTOM + 6.0;
    for (n, (name, _)) in LANES.iter().enumerate() {
        svg.text("tick", (LEFT - 6.0, strip + LANE * n as f64 + 10.0), Anchor::End, name);
    }
    let phases = run.phases.iter().take(MAX_SHAPES);
    for p in phases {
        let (from, to) = (x.at(p.start_ns as f64), x.at((p.start_ns + p.duration_ns) as f64));
        let hint = format!("{}: {} at {}", p.name, duration(p.duration_ns), duration(p.start_ns));
        let n = lane(&p.name);
        let top = strip + LANE * n as f64 + 1.0;
        svg.rect(LANES[n].1, (from, top), ((to - from).max(0.4), LANE - 3.0), &hint);
    }
    for v in round_steps(run.wall_s) {
        let at = x.at(v * 1e9);
        svg.line("axis", (at, strip + STRIP - 6.0), (at, strip + STRIP - 2.0));
        svg.text("tick", (at, strip + STRIP + 11.0), Anchor::Middle, &format!("{} s", short(v)));
    }
    svg.line("axis", (LEFT, HEIGHT - BOTTOM), (WIDE - RIGHT, HEIGHT - BOTTOM));
    svg.finish()
}

/// A point of a scaling plot: where on the x axis, its label there, and the run.
pub(crate) struct Point<'a> {
    pub(crate) x: f64,
    pub(crate) label: String,
    pub(crate) run: &'a Record,
}

/// Pauses against something that a pause should not depend on: both axes logarithmic.
pub(crate) fn scaling(points: &[Point<'_>], x_title: &str) -> String {
    let label = format!("Pauses by {x_title}");
    if points.is_empty() {
        return nothing(&label, "no point measured");
    }
    let mut svg = Svg::new(WIDTH, HEIGHT, &label);
    let (low, high) = points.iter().fold((f64::MAX, 0f64), |(l, h), p| (l.min(p.x), h.max(p.x)));
    // Half a step of room on both sides.
    let x = Scale { from: low.log10() - 0.2, to: high.log10() + 0.2, start: LEFT, end: WIDTH - RIGHT, log: true };
    let least = points.iter().map(|p| p.run.pauses.p50_ns).min().unwrap_or(1_000).min(10_000);
    let most = points.iter().map(|p| p.run.pauses.max_ns).max().unwrap_or(1).max(100_000);
    let y = Scale::decades(least as f64, most as f64, plain_y());
    for v in y.powers() {
        y_tick(&mut svg, y.at(v), &power(v));
    }
    for p in points {
        x_tick(&mut svg, x.at(p.x), &p.label);
    }
    type Figure = fn(&Record) -> u64;
    let figures: [(&str, &str, Figure); 3] =
        [("c0", "p50", |r| r.pauses.p50_ns), ("c4", "p99", |r| r.pauses.p99_ns), ("c1", "max", |r| r.pauses.max_ns)];
    for (class, name, figure) in figures {
        let at: Vec<_> = points.iter().map(|p| (x.at(p.x), y.at(figure(p.run) as f64))).collect();
        svg.polyline(&format!("line {class}"), &at);
        for (p, &center) in points.iter().zip(&at) {
            svg.mark(class, center, 3.5, &format!("{name} at {}: {}", p.label, duration(figure(p.run))));
        }
    }
    frame(&mut svg, x_title);
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples::record;

    #[test]
    fn scales_place_values_within_their_ends() {
        let s = Scale::decades(3_000.0, 2_000_000.0, (0.0, 100.0));
        assert_eq!((s.at(1e3), s.at(1e7), s.at(1e5)), (0.0, 100.0, 50.0));
        assert_eq!(s.at(1.0), 0.0, "what lies outside is drawn at the edge");
        assert_eq!(s.powers().count(), 5);
        let s = Scale::linear(0.0, 0.0, (0.0, 10.0));
        assert!(s.at(0.0).is_finite());
        assert_eq!(round_steps(10.0), [0.0, 2.5, 5.0, 7.5, 10.0]);
        assert_eq!(round_steps(0.0), [0.0]);
    }

    #[test]
    fn a_thinned_line_stays_where_it_was() {
        let points: Vec<_> = (0..=10_000).map(|n| (f64::from(n) / 100.0, f64::from(n / 1000))).collect();
        let kept = thinned(&points);
        assert!(kept.len() < 300, "{}", kept.len());
        assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
        let near = |a: &(f64, f64), b: &(f64, f64)| (a.0 - b.0).abs() + (a.1 - b.1).abs() < 0.5;
        assert!(points.iter().all(|point| kept.iter().any(|other| near(point, other))));
    }

    #[test]
    fn plots_hold_numbers_only() {
        let (run, mut empty) = (record("gcbench", 1), record("gcbench", 2));
        empty.pauses = Default::default();
        empty.latency = Default::default();
        empty.histograms = Default::default();
        empty.occupancy.clear();
        empty.phases.clear();
        let point = |run| [Point { x: 16.0, label: "16 MiB".into(), run }];
        for r in [&run, &empty] {
            let range = pause_range([r].into_iter());
            for svg in [pauses(&[r], range), latency(&[r]), occupancy(r), scaling(&point(r), "live data")] {
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
            }
        }
        assert!(pauses(&[&run], pause_range([&run].into_iter())).contains("longest 148 µs"));
        assert!(occupancy(&run).contains("relocate: 3.00 ms"));
        let mut without = run.clone();
        without.occupancy.iter_mut().for_each(|o| o.resident_bytes = None);
        assert_eq!([&run, &without].map(|run| occupancy(run).matches("line c3").count()), [1, 0]);
    }
}
