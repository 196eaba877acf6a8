//! The report as one page: nothing in it is loaded from elsewhere, and it reads in light, in dark,
//! on paper and on a telephone. Colors tell nothing that shapes do not tell as well.

use std::fmt::Write as _;

use super::causes::longest;
use super::data::Data;
use super::environment::{doubts, doubts_of_runs, facts};
use super::kinds::kinds;
use super::plot::barriers::{self, Utilisation, class};
use super::plot::{self, Point};
use super::svg::{escape, key};
use super::table::{legend as reading, rows};
use super::{Group, Work, by_barrier, groups, notes};
use crate::record::{Head, Record};
use crate::results::Document;
use crate::size::{bytes, duration, grouped, three};
use crate::workload::pause_scaling::PauseScaling;

const MMU: &str = "Minimum mutator utilisation (stops, stalls, losses)";
const MEASURED_MMU: &str = "Minimum mutator utilisation (the program's samples of 100 µs and more)";
const STYLE: &str = include_str!("page.css");

/// The page, with the report's JSON in it.
pub(crate) fn text(document: &Document, json: &str) -> String {
    let data = Data::of(document, json);
    page(&document.head, "what the program felt of its collector", &data, |out| body(out, document))
}

/// A page with the head that all have, contents, and at its end what repeats it.
pub(crate) fn page(of: &Head, title: &str, data: &Data, body: impl FnOnce(&mut String)) -> String {
    let mut main = String::with_capacity(1 << 20);
    body(&mut main);
    surroundings(&mut main, of);
    heading(&mut main, "Data");
    data.section(&mut main);
    let mut out = String::with_capacity(main.len() + (1 << 16));
    out.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    let _ = writeln!(out, "<title>gc-bench: a Parallax run of {}</title>", escape(&of.when));
    let _ = writeln!(out, "<style>\n{STYLE}</style>\n</head>\n<body>");
    head(&mut out, of, title);
    for doubt in doubts(of) {
        let _ = writeln!(out, "<p class=\"warn\">Doubt: {}.</p>", escape(&doubt));
    }
    // What a reader must know before the figures comes before the contents, too.
    let (before, sections) = main.split_at(main.find("<h2 ").unwrap_or(0));
    out.push_str(before);
    contents(&mut out, sections);
    out.push_str(sections);
    out.push_str("</body>\n</html>\n");
    out
}

/// Begins a section, which the contents name: its name is in its address.
pub(super) fn heading(out: &mut String, title: &str) {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let words: String = title.chars().map(plain).collect();
    let name = words.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    let is_taken = |name: &str| out.contains(&format!("<h2 id=\"{name}\">"));
    let mut names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}-{n}")));
    let name = names.find(|name| !is_taken(name)).unwrap_or_default();
    let _ = writeln!(out, "<h2 id=\"{name}\">{}</h2>", escape(title));
}

/// The names of sections, which lead to them.
fn contents(out: &mut String, sections: &str) {
    out.push_str("<nav><ul>\n");
    for part in sections.split("<h2 id=\"").skip(1) {
        if let Some((name, rest)) = part.split_once("\">")
            && let Some((title, _)) = rest.split_once("</h2>")
        {
            let _ = writeln!(out, "<li><a href=\"#{name}\">{title}</a></li>");
        }
    }
    out.push_str("</ul></nav>\n");
}

fn body(out: &mut String, document: &Document) {
    warnings(out, document);
    let groups = groups(document);
    let scaling: Vec<_> = groups.iter().filter_map(|g| Some((g.runs[0].settings.scaling()?, g))).collect();
    if !scaling.is_empty() {
        scaling_section(out, &scaling);
    }
    let works = by_barrier(document);
    if works.is_empty() {
        heading(out, "Figures");
        summary(out, &groups, |g| g.label.clone());
    }
    for work in &works {
        comparison(out, work);
    }
    explanation(out, document);
    let range = plot::pause_range(document.runs.iter());
    for group in &groups {
        section(out, group, range);
    }
}

fn head(out: &mut String, of: &Head, title: &str) {
    let (m, k) = (&of.machine, &of.kernel);
    let _ = writeln!(out, "<h1>Parallax: {title}</h1>");
    let virtual_machine = if m.virtual_machine { ", a virtual machine" } else { "" };
    let _ = writeln!(
        out,
        "<p class=\"quiet\">{} on {} &times; {}, {} of memory{virtual_machine}; Linux {} ({} Hz, preemption {}), \
         huge pages {} (shared memory: {}); \
         gc-bench {} ({}).<br><code>{}</code></p>",
        escape(&of.when),
        m.cpus,
        escape(&m.cpu_model),
        bytes(m.memory_bytes),
        escape(&k.release),
        k.hz,
        escape(&k.preemption),
        escape(&k.thp),
        escape(&k.shmem_thp),
        escape(&of.version),
        escape(&of.profile),
        escape(&of.command.join(" ")),
    );
    if of.profile != "release" {
        out.push_str("<p class=\"warn\">Built without optimisation: these figures say nothing about the heap.</p>\n");
    }
}

/// What a reader needs to repeat the session.
fn surroundings(out: &mut String, of: &Head) {
    heading(out, "Build and machine");
    out.push_str("<table class=\"facts\">\n");
    for (name, value) in facts(of) {
        let _ = writeln!(out, "<tr><th class=\"name\">{name}</th><td>{}</td></tr>", escape(&value));
    }
    out.push_str("</table>\n");
}

/// What a reader must know before the figures.
fn warnings(out: &mut String, document: &Document) {
    for line in &document.left_out {
        let _ = writeln!(out, "<p class=\"warn\">{}</p>", escape(line));
    }
    for note in notes(document) {
        let _ = writeln!(out, "<p class=\"warn\">{}</p>", escape(&note));
    }
    for doubt in doubts_of_runs(document) {
        let _ = writeln!(out, "<p class=\"warn\">Doubt: {}.</p>", escape(&doubt));
    }
}

/// How to read the figures.
fn explanation(out: &mut String, document: &Document) {
    let lines: Vec<String> = reading(document).iter().map(|line| escape(line)).collect();
    let _ = writeln!(out, "<p class=\"quiet\">{}.</p>", lines.join(". "));
}

/// The table of the terminal, as a table.
fn summary(out: &mut String, groups: &[Group<'_>], name: impl Fn(&Group<'_>) -> String) {
    out.push_str("<div class=\"scroll\"><table>\n<thead><tr><th></th><th></th>");
    for g in groups {
        let repeats = if g.runs.len() > 1 { format!("<br>{} runs", g.runs.len()) } else { String::new() };
        let _ = write!(out, "<th>{}{repeats}</th>", escape(&name(g)).replace(", ", "<br>"));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for (heading, name, cell) in rows(groups) {
        let begin = if heading.is_empty() { "" } else { " class=\"begin\"" };
        let _ = write!(out, "<tr{begin}><th class=\"name\">{heading}</th><td class=\"name\">{name}</td>");
        for g in groups {
            let _ = write!(out, "<td>{}</td>", escape(&cell(g)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

/// The barriers of one workload, side by side.
fn comparison(out: &mut String, work: &Work<'_>) {
    heading(out, &format!("{}: the barriers side by side", work.name));
    summary(out, &work.groups, |g| g.barrier().to_owned());
    let classes: Vec<String> = (0..work.groups.len()).map(class).collect();
    let kinds: Vec<String> = classes.iter().map(|class| format!("line mark {class}")).collect();
    let keys: Vec<(&str, &str)> =
        kinds.iter().map(String::as_str).zip(work.groups.iter().map(Group::barrier)).collect();
    out.push_str("<div class=\"grid\">\n");
    figure(
        out,
        "",
        "Time",
        &[("bar c0 half", "wall"), ("hollow c1", "CPU, collector included")],
        &barriers::times(&work.groups),
    );
    let lost = "faults and slow paths: p50, p99, longest";
    let waits = [("c0", "pauses: p50, p99, longest"), ("c1", "longest stall"), ("c4", lost)];
    figure(out, "", "How long threads stood", &waits, &barriers::waits(&work.groups));
    for (title, of) in [(MMU, Record::mmu_at as Utilisation), (MEASURED_MMU, Record::measured_mmu_at)] {
        let lines = work.groups.iter().zip(&classes).map(|(group, class)| (class.clone(), group.barrier(), group, of));
        figure(out, "", title, &keys, &barriers::mmu(lines));
    }
    out.push_str("</div>\n");
}

/// The shapes and colors of a plot and what they stand for.
pub(super) fn legend(out: &mut String, keys: &[(&str, &str)]) {
    out.push_str("<p class=\"legend\">");
    for (class, what) in keys {
        let _ = write!(out, "<span>{}{what}</span> ", key(class));
    }
    out.push_str("</p>");
}

pub(super) fn figure(out: &mut String, class: &str, title: &str, keys: &[(&str, &str)], svg: &str) {
    let _ = write!(out, "<figure class=\"{class}\"><h3>{title}</h3>");
    legend(out, keys);
    let _ = writeln!(out, "{svg}</figure>");
}

fn section(out: &mut String, group: &Group<'_>, range: (f64, f64)) {
    let middle = group.middle();
    heading(out, &group.label);
    let _ = writeln!(
        out,
        "<p class=\"quiet\">{} operations in {} s, heap {}, {} cycles, checksum {}; {} pauses and {} stalls (of the run in the \
         middle by wall time). Of all runs the longest pause {}, the longest latency, metered over 100 ms, {}; \
         {} a run in gaps of 1 ms and more, of all of which {} is not accounted for.</p>",
        grouped(middle.ops),
        three(middle.wall_s),
        if middle.settings.heap.has_size() { bytes(middle.heap_bytes) } else { "none".into() },
        grouped(middle.cycles),
        middle.checksum,
        grouped(middle.pauses.count),
        grouped(middle.stalls.count),
        duration(group.most(|r| r.pauses.max_ns)),
        duration(group.most(|r| r.metered.ms_100.max_ns)),
        duration(group.mean_u64(|r| r.gaps.total_ns)),
        group.not_accounted().map_or("none".into(), |share| format!("{} %", three(share * 100.0))),
    );
    out.push_str("<div class=\"grid\">\n");
    let keys = [("bar c0 half", "whole pause"), ("hollow c1", "of it, until the last thread stood still")];
    figure(out, "", "Pauses", &keys, &plot::pauses(&group.runs, range));
    let keys = [("c0", "p50"), ("c4", "p99"), ("c1", "longest")];
    figure(out, "", "Pauses by kind", &keys, &plot::kinds::plot(&kinds(&group.runs)));
    let each = if group.runs.len() > 1 { "one operation (a line a run)" } else { "one operation" };
    let keys = [("line c0", each), ("line c1", "metered over 100 ms")];
    figure(out, "", "Latency the program saw", &keys, &plot::latency(&group.runs));
    let lines: [(&str, &str, Utilisation); 2] =
        [("c0", "by events of the heap", Record::mmu_at), ("c1", "by samples of the program", Record::measured_mmu_at)];
    let keys = [("line mark c0", lines[0].1), ("line mark c1", lines[1].1)];
    let lines = lines.map(|(class, name, of)| (class.to_owned(), name, group, of));
    figure(out, "", "Minimum mutator utilisation", &keys, &barriers::mmu(lines.into_iter()));
    let mut keys = vec![("line c4 solid", "used"), ("line c5 dashed", "committed")];
    keys.extend(middle.occupancy.iter().any(|o| o.resident_bytes.is_some()).then_some(("line c3", "resident")));
    figure(out, "wide", "Heap over time", &keys, &plot::occupancy(middle));
    out.push_str("</div>\n");
    gaps(out, group);
}

/// How many gaps are explained one by one.
const GAPS: usize = 10;

/// The longest gaps of all runs, and where they come from.
fn gaps(out: &mut String, group: &Group<'_>) {
    let found = longest(&group.runs, GAPS);
    if found.is_empty() {
        out.push_str("<p class=\"quiet\">No gap: no sample of the program took a millisecond.</p>\n");
        return;
    }
    let all: u64 = group.runs.iter().map(|run| run.gaps.count).sum();
    let _ = writeln!(out, "<h3 class=\"of-table\">The {} longest of {} gaps</h3>", found.len(), grouped(all));
    out.push_str("<div class=\"scroll\"><table class=\"gaps\">\n<thead><tr><th>length</th><th>run</th><th>thread</th>");
    out.push_str(
        "<th>at</th><th class=\"name\">cause</th><th class=\"name\">collector's phase</th></tr></thead>\n<tbody>\n",
    );
    for gap in &found {
        let phases = if gap.phases.is_empty() { "none".to_owned() } else { gap.phases.join(", ") };
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{} s</td><td class=\"cause\">{}</td><td class=\"cause\">{}</td></tr>",
            duration(gap.ns),
            gap.repeat,
            gap.mutator,
            three(gap.at_ns as f64 / 1e9),
            escape(&gap.cause()),
            escape(&phases),
        );
    }
    out.push_str("</tbody></table></div>\n");
}

fn scaling_section(out: &mut String, groups: &[(&PauseScaling, &Group<'_>)]) {
    let mut collectors: Vec<&str> = groups.iter().map(|(_, g)| g.barrier()).collect();
    collectors.dedup();
    heading(out, "Does a pause grow?");
    out.push_str(
        "<p class=\"quiet\">One thread replaces live objects and makes garbage while cycle follows cycle.</p>\n",
    );
    out.push_str("<div class=\"grid\">\n");
    for collector in &collectors {
        let own: Vec<_> = groups.iter().filter(|(_, g)| g.barrier() == *collector).copied().collect();
        let of = if collectors.len() > 1 { format!(", {collector}") } else { String::new() };
        scaling_plots(out, &own, &of);
    }
    out.push_str("</div>\n");
}

/// Of one collector, which `name` names where there are several.
fn scaling_plots(out: &mut String, groups: &[(&PauseScaling, &Group<'_>)], name: &str) {
    let few = groups.iter().map(|(of, _)| of.roots).min().unwrap_or(0);
    let live_of_roots = groups.iter().find(|(of, _)| of.roots > few).map(|(of, _)| of.live_bytes);
    let by_live: Vec<Point<'_>> = groups
        .iter()
        .filter(|(of, _)| of.roots == few)
        .map(|(of, g)| Point { x: of.live_bytes as f64, label: bytes(of.live_bytes), run: g.middle() })
        .collect();
    let by_roots: Vec<Point<'_>> = groups
        .iter()
        .filter(|(of, _)| Some(of.live_bytes) == live_of_roots)
        .map(|(of, g)| Point { x: of.roots as f64, label: grouped(of.roots), run: g.middle() })
        .collect();
    let keys = [("line mark c0", "p50"), ("line mark c4", "p99"), ("line mark c1", "max")];
    figure(out, "", &format!("By live data{name}"), &keys, &plot::scaling(&by_live, "live data"));
    figure(out, "", &format!("By roots{name}"), &keys, &plot::scaling(&by_roots, "root slots"));
}

#[cfg(test)]
mod tests;
