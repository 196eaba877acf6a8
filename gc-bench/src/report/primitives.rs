//! The report of `gc-bench primitives`: the table, the page and its plots.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Table};

use super::data::Data;
use super::html;
use super::plot::primitives::{by_bytes, ranges};
use super::svg::escape;
use crate::primitives::row::{Figures, Group, Per, Ratio, Row};
use crate::primitives::{Primitives, noise};
use crate::size::{bytes, nanoseconds, three};

/// The rows of one group.
fn of(found: &Primitives, group: Group) -> Vec<&Row> {
    found.rows.iter().filter(|row| row.group == group).collect()
}

fn range(row: &Row) -> String {
    if row.bytes == 0 { String::new() } else { bytes(row.bytes) }
}

/// The cells of a row's figures: median, p99, max, spread, compared.
fn cells(row: &Row) -> [String; 5] {
    let figure = |of: fn(&Figures) -> f64| row.figures().map(|f| nanoseconds(of(f))).unwrap_or_default();
    [
        figure(|f| f.median_ns),
        figure(|f| f.p99_ns),
        figure(|f| f.max_ns),
        row.figures().map(|f| format!("±{} %", three(f.spread_percent))).unwrap_or_default(),
        row.ratio.as_ref().map_or_else(|| row.status().to_owned(), Ratio::text),
    ]
}

const HEADS: [&str; 5] = ["median", "p99", "max", "spread", "compared"];

/// What stands above a group's rows.
fn heading(group: Group) -> String {
    match group.compared_with() {
        "" => group.title().to_uppercase(),
        with => format!("{} (compared: with {with})", group.title().to_uppercase()),
    }
}

/// The table, ready to print. Reasons would make it too wide: they follow it.
pub(crate) fn table(found: &Primitives) -> String {
    let mut out = String::new();
    for group in Group::ALL {
        let rows = of(found, group);
        if rows.is_empty() {
            continue;
        }
        let mut table = Table::new();
        table.load_preset("     ──            ");
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let heads = ["range", "of"].into_iter().chain(HEADS).map(|head| right(head.into()));
        // The same width in each table, so that the columns of all stand below one another.
        table.set_header([Cell::new(format!("{:<46}", ""))].into_iter().chain(heads));
        for row in &rows {
            let figures = [range(row), row.per.name().into()].into_iter().chain(cells(row));
            let padded = figures.zip([8, 4, 8, 8, 8, 7, 8]).map(|(text, width)| right(format!("{text:>width$}")));
            table.add_row([Cell::new(&row.what)].into_iter().chain(padded));
        }
        let _ = writeln!(out, "{}\n{}\n", heading(group), table.trim_fmt());
    }
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for row in &found.rows {
        let Some(reason) = row.reason() else { continue };
        match reasons.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, names)) if names.contains(&row.what.as_str()) => {}
            Some((_, names)) => names.push(&row.what),
            None => reasons.push((reason, vec![&row.what])),
        }
    }
    for (reason, names) in reasons {
        let _ = writeln!(out, "{reason}: {}", names.join("; "));
    }
    let _ = writeln!(out, "{}", noise(found));
    if found.noisy() {
        out.push_str("note: other processes ran meanwhile: read it with care\n");
    }
    out
}

/// The page.
pub(crate) fn page(found: &Primitives, data: &Data) -> String {
    html::page(&found.head, "what the kernel's mechanisms cost here", data, |out| {
        let _ = writeln!(out, "<p class=\"quiet\">{}.</p>", escape(&noise(found)));
        if found.noisy() {
            out.push_str("<p class=\"warn\">Other processes ran meanwhile: read it with care.</p>\n");
        }
        for group in Group::ALL {
            let rows = of(found, group);
            if !rows.is_empty() {
                section(out, group, &rows);
            }
        }
    })
}

fn section(out: &mut String, group: Group, rows: &[&Row]) {
    html::heading(out, &capital(group.title()));
    out.push_str("<div class=\"grid\">\n");
    if !group.compared_with().is_empty() {
        let _ = writeln!(out, "<p class=\"quiet wide\">Compared: with {}.</p>", group.compared_with());
    }
    let keys = [("c0", "median"), ("bar c4 half", "quartiles"), ("c1", "p99")];
    let title = if rows.iter().any(|row| row.per == Per::Page) { "Time of a call or a page" } else { "Time of a call" };
    html::figure(out, "wide", title, &keys, &ranges(rows));
    if matches!(group, Group::TakeAway | Group::Batch | Group::Chunk) {
        html::figure(out, "wide", "Medians by size", &[], &by_bytes(rows));
    }
    out.push_str("</div>\n<div class=\"scroll\"><table>\n<thead><tr><th></th><th>range</th><th>of</th>");
    for head in HEADS {
        let _ = write!(out, "<th>{head}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        let _ = write!(out, "<tr><td class=\"name\">{}</td><td>{}</td>", escape(&row.what), range(row));
        let _ = write!(out, "<td>{}</td>", row.per.name());
        match row.reason() {
            Some(reason) => {
                let _ = write!(out, "<td class=\"name\" colspan=\"{}\">{}</td>", HEADS.len(), escape(&reason));
            }
            None => cells(row).iter().for_each(|cell| {
                let _ = write!(out, "<td>{}</td>", escape(cell));
            }),
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::row::samples::rows;
    use crate::report::samples::head;

    fn found() -> Primitives {
        Primitives {
            head: head(),
            sizes: vec![64 << 20, 1 << 30],
            quick: false,
            clock_ns: 41.0,
            wall_s: 3.0,
            other_cpu_percent: 0.5,
            stolen_percent: 0.0,
            rows: rows(),
        }
    }

    #[test]
    fn every_row_is_in_the_table_with_its_figures_or_its_reason() {
        let text = table(&found());
        for part in [
            "TAKING A VIEW AWAY (compared: with mprotect(PROT_NONE) of the same size)",
            "1/100",
            "7.00 ms",
            "left out: no memory",
            "refused: userfaultfd(): not permitted (since Linux 4.3)",
            "450 ns",
            "failed: <killed>",
            "costs 41.0 ns",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("note:"));
        let wide = text.lines().filter(|line| line.chars().count() > 122 && !line.contains("costs"));
        assert_eq!(wide.count(), 0, "{text}");
        assert!(table(&Primitives { other_cpu_percent: 40.0, ..found() }).contains("note:"));
        assert_eq!(
            (nanoseconds(0.0), nanoseconds(36.4), nanoseconds(1_200.0)),
            ("0 ns".into(), "36.4 ns".into(), "1.20 µs".into())
        );
    }

    #[test]
    fn the_page_stands_alone_and_its_plots_hold_numbers() {
        let page = page(&found(), &Data::whole("{}"));
        for elsewhere in ["http://", "https://", "<script", "<link", "<img", "@import", "url(", "NaN", "inf"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
        assert!(page.contains("failed: &lt;killed&gt;") && !page.contains("<killed>"));
        // Ranges of four groups, by size of two.
        assert_eq!((page.matches("<figure").count(), page.matches("</figure>").count()), (6, 6));
    }
}
