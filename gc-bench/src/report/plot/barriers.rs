//! Plots that set barriers, or the repeats of one, side by side: what they cost, how they stop,
//! what they leave in a window.

use super::{
    BOTTOM, HEIGHT, LEFT, RIGHT, Scale, TOP, WIDTH, frame, nothing, plain_x, plain_y, power, round_steps, x_tick,
    y_tick,
};
use crate::configuration::Configuration;
use crate::mmu::WINDOWS_MS;
use crate::record::Record;
use crate::report::Group;
use crate::report::svg::{Anchor, Svg};
use crate::size::{duration, short, three};

/// The class of the n-th line.
pub(crate) fn class(n: usize) -> String {
    format!("c{}", [0, 1, 4, 3, 5, 2][n % 6])
}

/// The utilisation of a run at a window of so many milliseconds.
pub(crate) type Utilisation = fn(&Record, u64) -> Option<f64>;

/// Minimum mutator utilisation by window, a line an entry: its class, its name, its runs, and by
/// what it is measured.
pub(crate) fn mmu<'a>(lines: impl Iterator<Item = (String, &'a str, &'a Group<'a>, Utilisation)>) -> String {
    let label = "Minimum mutator utilisation by window";
    let lines: Vec<_> = lines
        .map(|(class, name, group, of)| {
            let at = |&ms: &u64| Some((ms, group.least_some(|run| of(run, ms))?));
            (class, name, WINDOWS_MS.iter().filter_map(at).collect::<Vec<_>>())
        })
        .filter(|(.., points)| !points.is_empty())
        .collect();
    if lines.is_empty() {
        return nothing(label, "the run was shorter than the shortest window");
    }
    let mut svg = Svg::new(WIDTH, HEIGHT, label);
    let x = Scale { from: -0.1, to: 2.1, start: LEFT, end: WIDTH - RIGHT, log: true };
    let y = Scale::linear(0.0, 1.0, plain_y());
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        y_tick(&mut svg, y.at(share), &format!("{} %", share * 100.0));
    }
    for ms in WINDOWS_MS {
        x_tick(&mut svg, x.at(ms as f64), &format!("{ms} ms"));
    }
    for (class, name, points) in &lines {
        let at: Vec<_> = points.iter().map(|&(ms, share)| (x.at(ms as f64), y.at(share))).collect();
        svg.polyline(&format!("line {class}"), &at);
        for (&(ms, share), &center) in points.iter().zip(&at) {
            svg.mark(class, center, 3.5, &format!("{name}: {} % of any {ms} ms", three(share * 100.0)));
        }
    }
    frame(&mut svg, "length of the window");
    svg.finish()
}

/// Height of a row: its name, and below that its bars or points.
const ROW: f64 = 48.0;

fn row_names(svg: &mut Svg, groups: &[Group<'_>]) {
    for (i, group) in groups.iter().enumerate() {
        svg.text("note", (LEFT + 2.0, TOP + ROW * i as f64 + 12.0), Anchor::Start, group.barrier());
    }
}

/// Wall and CPU time of each barrier, a pair of bars.
pub(crate) fn times(groups: &[Group<'_>]) -> String {
    let bottom = TOP + ROW * groups.len() as f64;
    let mut svg = Svg::new(WIDTH, bottom + BOTTOM, "Wall and CPU time by barrier");
    let all = groups.iter().map(|g| [g.mean(|r| r.wall_s), g.mean(|r| r.cpu_s)]);
    let most = all.flatten().fold(0.0, f64::max);
    let x = Scale::linear(0.0, most * 1.1, plain_x());
    for seconds in round_steps(most) {
        svg.line("grid", (x.at(seconds), TOP), (x.at(seconds), bottom));
        svg.text("tick", (x.at(seconds), bottom + 16.0), Anchor::Middle, &format!("{} s", short(seconds)));
    }
    row_names(&mut svg, groups);
    for (i, group) in groups.iter().enumerate() {
        let top = TOP + ROW * i as f64 + 18.0;
        type Seconds = fn(&Record) -> f64;
        let figures: [(&str, &str, Seconds); 2] =
            [("c0 half", "wall time", |r| r.wall_s), ("c1 outline", "CPU time", |r| r.cpu_s)];
        for (n, (class, name, of)) in figures.into_iter().enumerate() {
            let seconds = group.mean(of);
            let hint = format!("{}: {name} {} s", group.barrier(), three(seconds));
            let place = (x.at(0.0), top + 14.0 * n as f64);
            svg.rect(class, place, ((x.at(seconds) - x.at(0.0)).max(0.5), 11.0), &hint);
        }
    }
    svg.finish()
}

/// How long mutators stood: pauses, stalls, faults and slow paths of each barrier, on one
/// logarithmic axis.
pub(crate) fn waits(groups: &[Group<'_>]) -> String {
    let label = "Pauses, stalls, faults and slow paths by barrier";
    type Point = (&'static str, &'static str, fn(&Configuration) -> Option<f64>);
    let figures: [Point; 10] = [
        ("c0", "pause p50", |c| c.pauses.p50_ns.map(|f| f.estimate)),
        ("c0", "pause p99", |c| c.pauses.p99_ns.map(|f| f.estimate)),
        ("c0", "longest pause", |c| c.pauses.max_ns.map(|ns| ns as f64)),
        ("c1", "longest stall", |c| c.stalls.max_ns.map(|ns| ns as f64)),
        ("c4", "fault p50", |c| c.faults.p50_ns.map(|f| f.estimate)),
        ("c4", "fault p99", |c| c.faults.p99_ns.map(|f| f.estimate)),
        ("c4", "longest fault", |c| c.faults.max_ns.map(|ns| ns as f64)),
        ("c4", "slow path p50", |c| c.slow_paths.p50_ns.map(|f| f.estimate)),
        ("c4", "slow path p99", |c| c.slow_paths.p99_ns.map(|f| f.estimate)),
        ("c4", "longest slow path", |c| c.slow_paths.max_ns.map(|ns| ns as f64)),
    ];
    let mut points = Vec::new();
    for (i, group) in groups.iter().enumerate() {
        for (class, name, of) in figures {
            let Some(ns) = of(group.figures) else { continue };
            let line = match class {
                "c0" => 0.45,
                "c1" => 0.65,
                _ => 0.85,
            };
            points.push((class, format!("{}: {name} {}", group.barrier(), duration(ns as u64)), ns, i as f64 + line));
        }
    }
    let (low, high) = points.iter().fold((f64::MAX, 0f64), |(l, h), p| (l.min(p.2), h.max(p.2)));
    if points.is_empty() {
        return nothing(label, "nothing was waited for");
    }
    let bottom = TOP + ROW * groups.len() as f64;
    let mut svg = Svg::new(WIDTH, bottom + BOTTOM, label);
    let x = Scale::decades(low, high, plain_x());
    for v in x.powers() {
        svg.line("grid", (x.at(v), TOP), (x.at(v), bottom));
        svg.text("tick", (x.at(v), bottom + 16.0), Anchor::Middle, &power(v));
    }
    row_names(&mut svg, groups);
    for (class, hint, ns, row) in points {
        svg.mark(class, (x.at(ns), TOP + ROW * row), 3.5, &hint);
    }
    svg.finish()
}
