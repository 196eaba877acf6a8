//! Costs by the size of the heap.

use super::{HEIGHT, Scale, WIDTH, frame, nothing, plain_x, plain_y, x_tick, y_tick};
use crate::report::svg::Svg;
use crate::size::three;

/// A collector: its class, and what it costs.
pub(crate) struct Line {
    pub(crate) class: String,
    pub(crate) dots: Vec<Dot>,
}

/// A cost in heaps of one size.
pub(crate) struct Dot {
    /// The size, in multiples of the least heap.
    pub(crate) factor: f64,
    /// The cost over its bound, and the interval of that.
    pub(crate) overhead: f64,
    pub(crate) spread: Option<(f64, f64)>,
    /// Shown to who points at it.
    pub(crate) hint: String,
}

/// The steps of an axis of costs over their bound.
const STEPS: [f64; 12] = [1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0, 100.0, 1000.0];

/// Both axes are logarithmic: twice the heap, and twice the cost, is the same way everywhere.
pub(crate) fn plot(label: &str, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| &line.dots);
    let highest = |of: &Dot| of.spread.map_or(of.overhead, |(_, high)| high.max(of.overhead));
    let Some(most) = all().map(highest).max_by(f64::total_cmp) else {
        return nothing(label, "nothing was done at any size");
    };
    let (mut factors, top) =
        (all().map(|of| of.factor).collect::<Vec<_>>(), STEPS.into_iter().find(|step| *step >= most));
    factors.sort_by(f64::total_cmp);
    factors.dedup();
    let (first, last) = (factors[0], factors[factors.len() - 1]);
    let mut svg = Svg::new(WIDTH, HEIGHT, label);
    let log = |from: f64, to: f64, (start, end): (f64, f64)| Scale {
        from: from.log10(),
        to: to.log10().max(from.log10() + 0.01),
        start,
        end,
        log: true,
    };
    let (x, y) = (log(first / 1.05, last * 1.05, plain_x()), log(0.95, top.unwrap_or(most), plain_y()));
    for step in STEPS.into_iter().filter(|step| *step <= top.unwrap_or(most)) {
        y_tick(&mut svg, y.at(step), &format!("{step} x"));
    }
    for factor in factors {
        x_tick(&mut svg, x.at(factor), &format!("{} x", three(factor)));
    }
    for Line { class, dots } in lines {
        let at: Vec<_> = dots.iter().map(|of| (x.at(of.factor), y.at(of.overhead))).collect();
        svg.polyline(&format!("line {class}"), &at);
        for (Dot { spread, hint, .. }, center) in dots.iter().zip(&at) {
            if let Some((low, high)) = *spread {
                svg.line(&format!("line {class}"), (center.0, y.at(low.max(1e-3))), (center.0, y.at(high)));
            }
            svg.mark(class, *center, 3.5, hint);
        }
    }
    frame(&mut svg, "size of the heap, in multiples of the least one");
    svg.finish()
}
