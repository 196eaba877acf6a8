//! What `gc-bench curve` found: a table and a page.

use std::fmt::Write as _;

use super::data::Data;
use super::html::{figure, heading, page as page_of};
use super::plot::curve::{Dot, Line, plot};
use super::svg::escape;
use crate::curve::{Bound, Curve, Curves, Figure, Point};
use crate::size::{bytes, nanoseconds, three};

/// One of the two costs.
struct Of {
    name: &'static str,
    bound: fn(&Curve) -> &Bound,
    figure: fn(&Point) -> Option<Figure>,
}

const COSTS: [Of; 2] = [
    Of { name: "wall time", bound: |of| &of.wall, figure: |of| of.wall },
    Of { name: "processor time", bound: |of| &of.cpu, figure: |of| of.cpu },
];

fn collectors(curve: &Curve) -> Vec<&str> {
    curve.least.iter().map(|of| of.collector.as_str()).collect()
}

/// The sizes of heaps, as factors and in bytes.
fn sizes(curve: &Curve) -> Vec<(f64, u64)> {
    let mut sizes: Vec<_> = curve.points.iter().map(|of| (of.factor, of.heap_bytes)).collect();
    sizes.sort_by(|a, b| a.0.total_cmp(&b.0));
    sizes.dedup();
    sizes
}

fn point<'a>(curve: &'a Curve, collector: &str, factor: f64) -> Option<&'a Point> {
    curve.points.iter().find(|of| of.collector == collector && of.factor == factor)
}

/// A cost for people.
fn cost(seconds: f64) -> String {
    nanoseconds(seconds * 1e9)
}

/// A figure for people: the cost, and over the bound.
fn cell(figure: Option<Figure>) -> String {
    figure.map_or("-".into(), |of| format!("{} = {} x", cost(of.seconds), three(of.overhead)))
}

fn title(curve: &Curve, of: &Of) -> String {
    let bound = (of.bound)(curve);
    let each = if curve.fixed { "a run" } else { "an operation" };
    let Bound { collector, factor, .. } = bound;
    format!("{} of {each}, over the least: {} ({collector} at {factor} x)", of.name, cost(bound.seconds))
}

fn least(curve: &Curve) -> String {
    let of = curve.least.iter().map(|of| format!("{} {}", of.collector, bytes(of.heap_bytes)));
    format!("least heap: {}", of.collect::<Vec<_>>().join(", "))
}

/// Why runs were not done, once for each reason.
fn failures(curve: &Curve) -> Vec<String> {
    let mut lines = Vec::new();
    for of in curve.points.iter().filter(|of| !of.failures.is_empty()) {
        let all = of.failures.len() + of.costs.len();
        let (some, why) = (of.failures.len(), &of.failures[0]);
        lines.push(format!("{}, {} x: {some} of {all} runs were not done: {why}", of.collector, of.factor));
    }
    lines
}

/// For a terminal.
pub(crate) fn table(found: &Curves) -> String {
    let mut text = String::new();
    for curve in &found.works {
        let collectors = collectors(curve);
        let _ = writeln!(text, "{}\n  {}", curve.work.to_uppercase(), least(curve));
        for of in &COSTS {
            let _ = writeln!(text, "  {}", title(curve, of));
            let mut rows = vec![std::iter::once(String::new()).chain(collectors.iter().map(|c| (*c).into())).collect()];
            for (factor, heap_bytes) in sizes(curve) {
                let name = format!("{factor} x {}", bytes(heap_bytes));
                let cells = collectors.iter().map(|c| cell(point(curve, c, factor).and_then(of.figure)));
                rows.push(std::iter::once(name).chain(cells).collect::<Vec<_>>());
            }
            let width =
                |column: usize| rows.iter().map(|row: &Vec<String>| row[column].chars().count()).max().unwrap_or(0);
            let widths: Vec<usize> = (0..=collectors.len()).map(width).collect();
            for row in &rows {
                let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
                let _ = writeln!(text, "    {}", cells.collect::<Vec<_>>().join("  "));
            }
        }
        failures(curve).iter().for_each(|line| {
            let _ = writeln!(text, "  {line}");
        });
        text.push('\n');
    }
    text
}

/// A page that stands alone.
pub(crate) fn page(found: &Curves, data: &Data) -> String {
    page_of(&found.head, "what collectors cost in heaps of different sizes", data, |out| {
        out.push_str(
            "<p class=\"quiet\">A cost is held against the least cost that any run had without the part that is \
             the collector&#39;s by name: pauses, and the time of its threads. So a collector costs at least as much \
             as is shown. A point that is missing: not all of its runs were done.</p>\n",
        );
        found.works.iter().for_each(|curve| section(out, curve));
    })
}

fn section(out: &mut String, curve: &Curve) {
    heading(out, &curve.work);
    let _ = writeln!(out, "<p class=\"quiet\">{}</p>", escape(&least(curve)));
    out.push_str("<div class=\"grid\">\n");
    let collectors = collectors(curve);
    let classes: Vec<String> = (0..collectors.len()).map(super::plot::barriers::class).collect();
    let names: Vec<String> = collectors.iter().map(|name| escape(name)).collect();
    let kinds: Vec<String> = classes.iter().map(|class| format!("line mark {class}")).collect();
    let keys: Vec<_> = kinds.iter().map(String::as_str).zip(names.iter().map(String::as_str)).collect();
    for of in &COSTS {
        let line = |(collector, class): (&&str, &String)| {
            let dots = sizes(curve).into_iter().filter_map(|(factor, _)| {
                let figure = (of.figure)(point(curve, collector, factor)?)?;
                let over = figure.seconds / figure.overhead;
                let spread = figure.interval.map(|i| (i.low / over, i.high / over));
                let hint = format!("{collector}, {factor} x: {}", cell(Some(figure)));
                Some(Dot { factor, overhead: figure.overhead, spread, hint })
            });
            Line { class: class.clone(), dots: dots.collect() }
        };
        let lines: Vec<Line> = collectors.iter().zip(&classes).map(line).collect();
        let label = title(curve, of);
        figure(out, "", &escape(&label), &keys, &plot(&label, &lines));
    }
    out.push_str("</div>\n");
    for line in failures(curve) {
        let _ = writeln!(out, "<p class=\"quiet\">{}</p>", escape(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::samples::curve;
    use crate::report::samples::head;

    fn found() -> Curves {
        Curves { head: head(), seed: 7, works: vec![curve()] }
    }

    #[test]
    fn the_table_has_every_point_or_why_it_is_missing() {
        let text = table(&found());
        for part in [
            "CHURN",
            "least heap: load 10 MiB, stw 10 MiB",
            "wall time of a run, over the least: 1.00 s (stw at 1.1 x)",
            "1.1 x 11 MiB                 -   3.00 s = 3.00 x",
            "6 x 60 MiB   1.12 s = 1.12 x   1.50 s = 1.50 x",
            "load, 1.1 x: 1 of 2 runs were not done: out of <memory>",
        ] {
            let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(plain(&text).contains(&plain(part)), "{part} in\n{text}");
        }
    }

    #[test]
    fn the_page_stands_alone_and_its_plots_hold_numbers() {
        let page = page(&found(), &Data::whole("{}"));
        for elsewhere in ["http://", "https://", "<script", "<link", "<img", "@import", "url(", "NaN", "inf"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
        assert!(page.contains("out of &lt;memory&gt;") && !page.contains("<memory>"));
        assert_eq!((page.matches("<figure").count(), page.matches("</figure>").count()), (2, 2));
    }
}
