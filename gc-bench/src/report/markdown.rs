//! Tables of a report for the book: no pause stands there without metered latency and the time in
//! gaps of the same runs.

use std::fmt::Write as _;

use super::{Group, Work, notes, works};
use crate::interval::{mean, of_mean};
use crate::pooled::{Figure, Pooled};
use crate::results::Document;
use crate::size::{bytes, duration, three};

/// A row: its name, whether the short table has it, and the cell of a group in a table that is
/// short or not. Percentiles and shares have their intervals in the long one alone.
type Row = (&'static str, bool, fn(&Group<'_>, bool) -> String);

const NONE: &str = "-";

const ROWS: &[Row] = &[
    ("wall, s", true, |g, _| if is_timed(g) { NONE.into() } else { with_interval(g.figures.wall_s, 1.0) }),
    ("million op/s", true, |g, _| if is_timed(g) { with_interval(g.figures.ops_per_s, 1e-6) } else { NONE.into() }),
    ("CPU, s", false, |g, _| with_interval(g.figures.cpu_s, 1.0)),
    // Where it is small the figures below are of a program that hardly collects.
    ("cycles a run", true, |g, _| three(g.mean(|r| r.cycles as f64))),
    ("pauses: p99 / longest", true, |g, brief| both(g.figures.pauses.p99_ns, &g.figures.pauses, brief)),
    ("latency: p99.9 / worst", false, |g, brief| both(g.figures.latency.p999_ns, &g.figures.latency, brief)),
    ("metered over 100 ms: p99.9 / worst", true, |g, brief| {
        both(g.figures.metered.ms_100.p999_ns, &g.figures.metered.ms_100, brief)
    }),
    ("in gaps of 1 ms and more: share of time / longest", true, |g, brief| {
        let shares: Vec<f64> = g.runs.iter().map(|r| r.gaps.share * 100.0).collect();
        // No run has a share below 0, or above 100.
        let ends = of_mean(&shares).filter(|i| !brief && i.low < i.high);
        let ends = ends.map(|i| (three(i.low.max(0.0)), three(i.high.min(100.0))));
        format!("{} %{} / {}", three(mean(&shares)), in_brackets(ends), none_or(g.most(|r| r.gaps.max_ns)))
    }),
    ("of the gaps not accounted for", false, |g, _| {
        let Some(share) = g.not_accounted() else { return NONE.into() };
        let ends = g.not_accounted_interval().filter(|i| i.low < i.high);
        let ends = ends.map(|i| (three(i.low * 100.0), three(i.high * 100.0)));
        format!("{} %{}", three(share * 100.0), in_brackets(ends))
    }),
    ("stalls: a run / longest", false, |g, _| {
        if g.is_peer() {
            return NONE.into();
        }
        format!(
            "{} / {}",
            three(g.mean(|r| r.stalls.count as f64)),
            g.figures.stalls.max_ns.map_or(NONE.into(), duration)
        )
    }),
];

/// Whether the work lasts as long as it was told, so that its wall time says nothing.
fn is_timed(g: &Group<'_>) -> bool {
    g.runs[0].settings.work.seconds() > 0.0
}

fn none_or(ns: u64) -> String {
    if ns == 0 { NONE.into() } else { duration(ns) }
}

/// A percentile and the largest sample; in a table that is not short with the percentile's
/// interval.
fn both(percentile: Option<Figure>, pooled: &Pooled, brief: bool) -> String {
    let longest = pooled.max_ns.map_or(NONE.into(), duration);
    let Some(figure) = percentile else { return format!("{NONE} / {longest}") };
    let words = |ns: f64| duration(ns as u64);
    let ends = figure.interval().filter(|_| !brief).map(|i| (words(i.low), words(i.high)));
    format!("{}{} / {longest}", words(figure.estimate), in_brackets(ends))
}

fn in_brackets(ends: Option<(String, String)>) -> String {
    ends.map_or(String::new(), |(low, high)| format!(" ({low} to {high})"))
}

fn with_interval(figure: Figure, unit: f64) -> String {
    let ends = figure.interval().map(|i| (three(i.low * unit), three(i.high * unit)));
    three(figure.estimate * unit) + &in_brackets(ends)
}

fn table(work: &Work<'_>, brief: bool) -> String {
    let heap = bytes(work.groups[0].runs[0].heap_bytes);
    let names: Vec<String> = work.groups.iter().map(|g| format!("`{}`", g.barrier())).collect();
    let mut out = format!("| {}, {heap} | {} |\n", work.name, names.join(" | "));
    out += &format!("| --- |{}\n", " --- |".repeat(names.len()));
    for (name, _, cell) in ROWS.iter().filter(|(_, short, _)| *short || !brief) {
        let cells: Vec<String> = work.groups.iter().map(|g| cell(g, brief)).collect();
        if cells.iter().any(|cell| cell != NONE) {
            let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
        }
    }
    out
}

/// A paragraph in lines of at most 98 columns, where its words allow: indented by two, 100.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a first");
        match line.chars().count() + 1 + word.chars().count() {
            _ if line.is_empty() => line.push_str(word),
            0..=98 => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// The command that measured, without its program and without where it put its files: that is the
/// reader's own affair.
fn command(words: &[String]) -> String {
    let is_place = |word: &str| ["--out", "--json", "--html", "--jdk"].contains(&word);
    let mut words = words.iter().skip(1).map(String::as_str);
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if is_place(word) {
            words.next();
        } else if !word.split_once('=').is_some_and(|(name, _)| is_place(name)) {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// The tables, and before them what they are of.
fn text(document: &Document, brief: bool) -> String {
    let (head, works) = (&document.head, works(document));
    let runs = document.configurations.iter().map(|of| of.runs);
    let (least, most) = (runs.clone().min().unwrap_or(0), runs.max().unwrap_or(0));
    let runs = if least == most { most.to_string() } else { format!("{least} to {most}") };
    let noun = if most == 1 { "run" } else { "runs" };
    let mut out = wrapped(&format!(
        "{runs} {noun} of each, in random order (seed {}), {}: {} x {}, {}, Linux {}; `gc-bench {}`. In brackets 95 % \
         intervals; percentiles of all runs' samples together, the longest and the worst of all runs.",
        document.order.seed,
        head.when.get(..10).unwrap_or(&head.when),
        head.machine.cpus,
        head.machine.cpu_model,
        bytes(head.machine.memory_bytes),
        head.kernel.release,
        command(&head.command),
    )) + "\n\n";
    let tables: Vec<String> = works.iter().map(|work| table(work, brief)).collect();
    out += &tables.join("\n");
    let said: Vec<String> = document.left_out.iter().cloned().chain(notes(document)).collect();
    if !said.is_empty() && !brief {
        let _ = write!(
            out,
            "\nThe bench noted:\n\n{}",
            said.iter().map(|line| format!("- {}\n", wrapped(line).replace('\n', "\n  "))).collect::<String>()
        );
    }
    out
}

const END: &str = "<!-- end of figures -->";

/// The document with the report's tables in each of its places for figures; `None` where it has
/// none, or one that does not end.
pub(crate) fn filled(document: &str, report: &Document) -> Option<String> {
    let (mut out, mut rest) = (String::new(), document);
    let places = [("<!-- figures: full -->\n", false), ("<!-- figures: brief -->\n", true)];
    let next = |rest: &str| {
        let found = places.iter().filter_map(|&(begin, brief)| Some((rest.find(begin)? + begin.len(), brief)));
        found.min()
    };
    next(rest)?;
    while let Some((at, brief)) = next(rest) {
        let end = at + rest[at..].find(END)?;
        out += &rest[..at];
        out += &format!("\n{}\n", text(report, brief));
        rest = &rest[end..];
    }
    Some(out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{barriers, document, of_runs};

    #[test]
    fn a_place_is_filled_and_filled_anew() {
        let page =
            format!("# Figures\n<!-- figures: full -->\nold\n{END}\nmore\n<!-- figures: brief -->\n{END}\nend\n");
        let found = filled(&page, &barriers()).unwrap();
        assert!(found.starts_with("# Figures\n<!-- figures: full -->\n\n3 runs of each") && found.ends_with("end\n"));
        assert!(found.contains("| gcbench, 256 MiB | `load` | `page` | `stw` |") && !found.contains("old"), "{found}");
        assert_eq!(filled(&found, &barriers()).as_ref(), Some(&found), "the same figures, the same text");
        assert_eq!(filled("nothing", &barriers()), None);
        assert_eq!(filled("<!-- figures: full -->\n", &barriers()), None, "it does not end");
    }

    #[test]
    fn a_command_is_told_without_its_places_in_lines_that_can_be_read() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for told in ["gc-bench publish --out x --budget 9 --jdk z", "gc-bench publish --budget 9 --json=x --html y"] {
            assert_eq!(command(&words(told)), "publish --budget 9");
        }
        let text = wrapped(&"word ".repeat(50));
        assert!(text.lines().count() == 3 && text.lines().all(|line| line.len() <= 100), "{text}");
    }

    /// Of both tables and whatever was compared.
    #[test]
    fn no_pause_stands_without_metered_latency_and_gaps() {
        for (report, brief) in [(barriers(), true), (barriers(), false), (document(), true)] {
            let text = text(&report, brief);
            let rows = |name: &str| text.lines().filter(|line| line.starts_with(&format!("| {name}"))).count();
            let tables = text.lines().filter(|line| line.starts_with("| ---")).count();
            assert_eq!((rows("pauses"), rows("metered"), rows("in gaps")), (tables, tables, tables), "{text}");
            assert!(tables > 0);
        }
    }

    #[test]
    fn few_samples_are_a_dash() {
        // 3 x 59 pauses: no p99; the longest is there. No stall at all.
        let text = text(&barriers(), false);
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_owned();
        assert!(line("cycles a run").matches(" | ").count() >= 2, "{text}");
        assert!(line("pauses: p99").contains("| - / "), "{text}");
        assert!(line("stalls").contains("0.00 / -"), "{text}");
    }

    /// Twenty runs, ten of them with a share of 10 % and ten with none: the variance is 500 / 19,
    /// the standard error sqrt(500 / 19 / 20), and t of 19 degrees of freedom 2.093.
    #[test]
    fn percentiles_and_shares_have_intervals_in_the_long_table() {
        let runs = (1..=20).map(|repeat| {
            let mut run = crate::record::samples::record("gcbench", repeat);
            run.gaps.share = if repeat % 2 == 0 { 0.1 } else { 0.0 };
            run
        });
        let report = of_runs(runs.collect());
        let line = |brief: bool, name: &str| {
            let text = text(&report, brief);
            text.lines().find(|line| line.starts_with(&format!("| {name}"))).unwrap().to_owned()
        };
        assert!(line(false, "in gaps").contains("| 5.00 % (2.60 to 7.40) / "), "{}", line(false, "in gaps"));
        assert!(line(true, "in gaps").contains("| 5.00 % / "), "{}", line(true, "in gaps"));
        // All runs have the same pauses.
        let pauses = line(true, "pauses");
        let p99 = pauses.split(" | ").nth(1).unwrap().split(" / ").next().unwrap();
        assert!(p99.ends_with("µs") && line(false, "pauses").contains(&format!("| {p99} ({p99} to {p99}) / ")));
        assert!(!pauses.contains(" to "), "{pauses}");
    }
}
