use super::*;
use crate::report::samples::{barriers, document};

/// The page of a report.
fn page_of(document: &Document) -> String {
    text(document, &crate::report::json::text(document))
}

/// Of a page what a reader sees: letters of the data behind it may spell anything.
fn seen(page: &str) -> &str {
    page.split("<h2 id=\"data\">").next().unwrap()
}

#[test]
fn the_page_stands_alone() {
    let page = page_of(&document());
    for elsewhere in ["http://", "https://", "<script", "<link", "<img", "@import", "url("] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    assert_eq!(page.matches("<figure").count(), 10);
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));
    assert!(!seen(&page).contains("NaN"));
}

#[test]
fn barriers_are_compared_on_the_page() {
    let page = page_of(&barriers());
    assert!(page.contains("the barriers side by side") && !seen(&page).contains("NaN"));
    // Four plots that compare, five of each barrier.
    assert_eq!(page.matches("<figure").count(), 4 + 3 * 5);
    for part in [
        "page: fault p99 6.00 µs",
        "stw: wall time 4.00 s",
        "load: 10.0 % of any 1 ms",
        "load: 0.00 % of any 1 ms",
        "by samples of the program: 0.00 % of any 1 ms",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn contents_name_each_section_once() {
    let page = page_of(&barriers());
    let names: Vec<&str> = page.split("<h2 id=\"").skip(1).map(|part| part.split('"').next().unwrap()).collect();
    assert_eq!(
        names,
        ["gcbench-the-barriers-side-by-side", "gcbench", "gcbench-page", "gcbench-stw", "build-and-machine", "data"]
    );
    assert!(names.iter().all(|name| page.matches(&format!("href=\"#{name}\"")).count() == 1));
    let mut out = String::new();
    ["A, b", "a b", "a_b <x>", "A b"].iter().for_each(|title| heading(&mut out, title));
    let expected = "<h2 id=\"a-b\">A, b</h2>\n<h2 id=\"a-b-2\">a b</h2>\n<h2 id=\"a-b-x\">a_b &lt;x&gt;</h2>\n\
                    <h2 id=\"a-b-3\">A b</h2>\n";
    assert_eq!(out, expected);
}

#[test]
fn pauses_have_kinds_and_gaps_have_causes_on_the_page() {
    let mut document = document();
    let page = page_of(&document);
    assert!(page.contains("mark start: longest 144 µs") && page.contains("177 \u{d7} mark start"), "{page}");
    // Of 13 to 15 ms of each run: a stall from 14 to 14.9.
    assert!(page.contains("The 3 longest of 3 gaps"), "{page}");
    assert!(page.contains("stall 900 µs, not accounted for 1.10 ms"), "{page}");
    document.runs.iter_mut().for_each(|run| run.tracks[0].long_samples.clear());
    assert_eq!(page_of(&document).matches("No gap: no sample").count(), 2);
}

#[test]
fn the_page_has_what_repeats_it_and_what_makes_it_doubtful() {
    let mut document = document();
    let page = page_of(&document);
    assert!(page.contains("Build and machine</h2>") && page.contains("0123456789abcdef"), "{page}");
    assert!(!page.contains("Doubt:"));
    document.head.environment.governors = vec!["<powersave>".into()];
    document.runs[0].stolen_percent = 60.0;
    let page = page_of(&document);
    assert!(page.contains("Doubt: the frequency governor is &lt;powersave&gt;, not performance."), "{page}");
    assert!(page.contains("Doubt: gcbench: the hypervisor took 20.0 % of a processor for others."), "{page}");
}

#[test]
fn what_a_command_line_says_cannot_become_markup() {
    let mut document = document();
    document.head.command.push("--out=<script>".into());
    assert!(!page_of(&document).contains("<script"));
}
