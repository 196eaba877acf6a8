//! The book and the other pages hang together: every link leads somewhere, and every chapter is in
//! the summary.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every page of the repository, generated folders left out.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                pages(&path, found);
            }
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The page's text without code, line by line.
fn prose(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            // Every other piece between backticks is code.
            lines.push(line.split('`').step_by(2).collect::<Vec<_>>().join("`"));
        }
    }
    assert!(!fenced, "a fence is not closed");
    lines
}

/// What the page's links lead to.
fn links(text: &str) -> Vec<String> {
    let joined = prose(text).join("\n");
    joined.split("](").skip(1).map(|rest| rest.split([')', '\n']).next().unwrap().to_owned()).collect()
}

/// A heading's anchor, as GitHub and mdbook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && line.starts_with('#') {
            found.insert(anchor(line.trim_start_matches('#').trim()));
        }
    }
    found
}

/// What is wrong with the links of a page that stands in `folder`.
fn broken(text: &str, page: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for link in links(text) {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (file, fragment) = link.split_once('#').unwrap_or((&link, ""));
        let target = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
        if !target.exists() {
            wrong.push(format!("{}: {link} leads nowhere", page.display()));
        } else if page.starts_with(root().join("docs")) && file.starts_with("../") {
            wrong.push(format!("{}: {link} leads out of the book", page.display()));
        } else if !fragment.is_empty() && !anchors(&fs::read_to_string(&target).unwrap()).contains(fragment) {
            wrong.push(format!("{}: {link}: no such heading", page.display()));
        }
    }
    wrong
}

#[test]
fn every_link_of_every_page_leads_somewhere() {
    let mut found = Vec::new();
    pages(&root(), &mut found);
    assert!(found.iter().any(|page| page.ends_with("docs/SUMMARY.md")), "no pages in {}", root().display());
    let wrong: Vec<_> = found.iter().flat_map(|page| broken(&fs::read_to_string(page).unwrap(), page)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_chapter_is_in_the_summary_once() {
    let docs = root().join("docs");
    let listed = links(&fs::read_to_string(docs.join("SUMMARY.md")).unwrap());
    let mut files = Vec::new();
    pages(&docs, &mut files);
    let mut files: Vec<_> =
        files.iter().map(|path| path.strip_prefix(&docs).unwrap().to_str().unwrap().to_owned()).collect();
    files.retain(|file| file != "SUMMARY.md");
    for file in &files {
        assert_eq!(listed.iter().filter(|link| *link == file).count(), 1, "{file} in SUMMARY.md");
    }
    assert_eq!(listed.len(), files.len(), "SUMMARY.md lists what is not in docs");
}

/// The names of tokens like `name: value` or `fn name(`, as they stand in `text` between `before`
/// and `after`.
fn names<'a>(text: &'a str, before: &str, after: char) -> Vec<&'a str> {
    text.split(before).skip(1).map(|rest| rest.split(after).next().unwrap()).collect()
}

#[test]
fn the_chapter_on_tuning_knows_every_option_and_every_figure() {
    let chapter = fs::read_to_string(root().join("docs/tuning.md")).unwrap();
    let stats = format!("{:?}", gc_heap::HeapStats::default()).replace("{ ", ", ");
    // Private, and the same figures for each cause.
    let (before, rest) = stats.split_once("by_kind: [").expect("a total for each cause");
    let stats = format!("{before}, {}", rest.split_once("], ").unwrap().1);
    let files = [
        include_str!("../src/config.rs"),
        include_str!("../src/config/memory.rs"),
        include_str!("../src/config/reports.rs"),
    ];
    let of = |file: &'static str| names(file.split_once("impl HeapBuilder").unwrap().1, "pub fn ", '(');
    let options: Vec<_> = files.into_iter().flat_map(of).collect();
    let figures = names(&stats, ", ", ':');
    assert!(["barrier", "max_bytes", "on_event"].iter().all(|name| options.contains(name)));
    assert!(figures.contains(&"live_bytes") && figures.len() > 20);
    for name in options.into_iter().filter(|name| *name != "build").chain(figures) {
        assert!(chapter.contains(&format!("`{name}`")), "docs/tuning.md does not speak of {name}");
    }
}

#[test]
fn what_is_broken_is_found() {
    let page = root().join("docs/SUMMARY.md");
    let good = "[a](ARCHITECTURE.md#memory) `[b](no.md)` [c](https://example.com/no.md)\n```text\n[d](no.md)\n```\n[e](#here)\n";
    assert_eq!(links(good), ["ARCHITECTURE.md#memory", "https://example.com/no.md", "#here"]);
    assert_eq!(broken("[a](no.md)", &page).len(), 1);
    assert_eq!(broken("[a](ARCHITECTURE.md#no-such-heading)", &page).len(), 1);
    assert!(broken("[a](ARCHITECTURE.md#memory) [b](weak.md)", &page).is_empty());
    assert_eq!(broken("[a](../README.md)", &page).len(), 1);
    assert!(broken("[a](docs/weak.md) [b](examples/lox/README.md)", &root().join("README.md")).is_empty());
    assert_eq!(anchor("Slots (`a/b.rs`; `c_d`)"), "slots-abrs-c_d");
}
