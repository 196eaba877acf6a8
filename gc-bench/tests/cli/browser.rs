//! The page in a headless browser, where one is installed: it opens, no text of it is cut, labels
//! can be read on a telephone, in light and in dark, and its links and its data work.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Scratch, text};

/// Names of browsers that print what a page has become (`--dump-dom`).
const NAMES: [&str; 8] = [
    "chromium",
    "chromium-browser",
    "chromium-headless-shell",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "chrome-headless-shell",
    "microsoft-edge",
];

/// The one of `GC_BENCH_BROWSER`, else one on the path. Where there is none, says so: past the
/// capture of a test that succeeds, because what was not tried must be seen.
fn browser(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("GC_BENCH_BROWSER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::env::split_paths(&path).flat_map(|folder| NAMES.map(|name| folder.join(name)));
    let found = named.or_else(|| all.find(|file| file.is_file()));
    if found.is_none() {
        let line = "NOT TESTED: no browser is installed (chromium, google-chrome), and GC_BENCH_BROWSER names none";
        let _ = writeln!(std::io::stderr(), "\n{test}: {line}\n");
    }
    found
}

/// What the browser prints with these arguments.
fn browse(browser: &Path, scratch: &Scratch, args: &[&str]) -> String {
    let printed = scratch.0.join("printed");
    let profile = format!("--user-data-dir={}", scratch.0.join("profile").display());
    let usual = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", &profile];
    let mut child = Command::new(browser)
        .args(usual)
        .args(args)
        .stdout(File::create(&printed).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .expect("the browser starts");
    let since = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if since.elapsed() > Duration::from_secs(120) => {
                let _ = child.kill();
                panic!("{} takes longer than two minutes with {args:?}", browser.display());
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let printed = fs::read_to_string(printed).unwrap();
    assert!(status.success(), "{status}: {printed}");
    printed
}

/// Looks at the page in two widths, and prints what it found as JSON.
const LOOK: &str = r#"
function look(frame) {
  const doc = frame.contentDocument, win = frame.contentWindow, found = [];
  const style = (of) => win.getComputedStyle(of);
  if (doc.documentElement.scrollWidth > win.innerWidth) {
    found.push(`the page is ${doc.documentElement.scrollWidth} wide, the window ${win.innerWidth}`);
  }
  let texts = 0, least = 1e9;
  for (const svg of doc.querySelectorAll('figure > svg')) {
    const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
    const own = [...svg.querySelectorAll('text')].map((of) => [of, of.getBoundingClientRect()]);
    const name = svg.getAttribute('aria-label');
    for (const [of, at] of own) {
      texts += 1;
      least = Math.min(least, parseFloat(style(of).fontSize) * scale);
      const cut = at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 1 || at.bottom > box.bottom + 1;
      if (cut) found.push(`cut: ${of.textContent} of ${name}`);
    }
    own.forEach(([a, of], n) => own.slice(n + 1).forEach(([b, to]) => {
      const across = Math.min(of.right, to.right) - Math.max(of.left, to.left);
      const down = Math.min(of.bottom, to.bottom) - Math.max(of.top, to.top);
      if (across > 1 && down > 3) found.push(`one over the other: ${a.textContent}, ${b.textContent} of ${name}`);
    }));
  }
  for (const of of doc.querySelectorAll('h1, h2, h3, p, li, th, td, .legend span')) {
    let scrolls = of;
    while (scrolls && !['auto', 'scroll'].includes(style(scrolls).overflowX)) scrolls = scrolls.parentElement;
    if (!scrolls && of.getBoundingClientRect().right > win.innerWidth + 1) found.push(`cut: ${of.textContent}`);
  }
  const names = [...doc.querySelectorAll('nav a')].map((of) => of.getAttribute('href').slice(1));
  names.filter((of) => !doc.getElementById(of)).forEach((of) => found.push(`leads nowhere: ${of}`));
  if (names.length !== doc.querySelectorAll('h2').length) found.push('sections without an entry');
  const color = (text) => text.match(/[\d.]+/g).slice(0, 3).map(Number);
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const paper = (of) => {
    while (of && /^rgba\(.*, 0\)$|transparent/.test(style(of).backgroundColor)) of = of.parentElement;
    return color(of ? style(of).backgroundColor : 'rgb(255, 255, 255)');
  };
  for (const of of doc.querySelectorAll('h1, h2, .quiet, .warn, nav a, td, th, .legend')) {
    const pair = [light(color(style(of).color)), light(paper(of))].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (contrast < 4.5) found.push(`contrast of ${contrast.toFixed(1)}: ${of.textContent}`);
  }
  const dark = win.matchMedia('(prefers-color-scheme: dark)').matches;
  return { width: win.innerWidth, found: [...new Set(found)].slice(0, 20), texts, least, sections: names.length, dark };
}
onload = async () => {
  const result = {};
  try {
    const frames = [...document.querySelectorAll('iframe')];
    result.looks = frames.map(look);
    const link = frames[0].contentDocument.querySelector('a[download]');
    const data = await (await fetch(link.href)).json();
    result.data = { name: link.download, tool: data.tool, runs: (data.runs || []).length };
  } catch (e) {
    result.error = String(e);
  }
  document.getElementById('result').textContent = JSON.stringify(result);
};
"#;

/// What the browser found on the page, in windows of 420 and 1280 pixels.
fn look(browser: &Path, scratch: &Scratch, page: &Path, args: &[&str]) -> Value {
    let page = fs::read_to_string(page).unwrap().replace('&', "&amp;").replace('"', "&quot;");
    let frame = |width: u32| format!("<iframe width=\"{width}\" height=\"900\" srcdoc=\"{page}\"></iframe>\n");
    let frames = [420, 1280].map(frame).concat();
    let begin = "<!doctype html>\n<meta charset=\"utf-8\">\n<style>iframe { border: 0 }</style>\n";
    let file = scratch.0.join("look.html");
    fs::write(&file, format!("{begin}<pre id=\"result\"></pre>\n{frames}<script>{LOOK}</script>\n")).unwrap();
    let file = format!("file://{}", file.display());
    let printed = browse(browser, scratch, &[args, &["--virtual-time-budget=30000", "--dump-dom", &file]].concat());
    let result = printed.split("<pre id=\"result\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let result = result.unwrap_or_default().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&result).unwrap_or_else(|e| panic!("{e}: `{result}` is what the page became"))
}

/// Each look found nothing, and something to look at.
#[track_caller]
fn assert_readable(result: &Value, dark: bool) {
    assert_eq!(result.get("error"), None, "{result:#}");
    let looks = result["looks"].as_array().unwrap();
    let widths: Vec<u64> = looks.iter().map(|look| look["width"].as_u64().unwrap()).collect();
    assert_eq!(widths, [420, 1280]);
    for look in looks {
        assert_eq!(look["found"], serde_json::json!([]), "{look:#}");
        assert_eq!(look["dark"], dark, "{look:#}");
        assert!(look["texts"].as_u64() > Some(10) && look["least"].as_f64() >= Some(11.0), "{look:#}");
        assert!(look["sections"].as_u64() >= Some(3), "{look:#}");
    }
    assert_eq!(result["data"]["name"], "gc-bench-report.json");
    assert_eq!(result["data"]["tool"], "gc-bench");
}

#[test]
fn a_browser_shows_all_of_the_page() {
    let Some(browser) = browser("a_browser_shows_all_of_the_page") else { return };
    let scratch = Scratch::new("browser");
    let works = ["gcbench", "table-churn", "--quick", "--repeats", "2"];
    let runs = [&works[..], &["--barrier", "load,load-generations,stw", "--html", "runs.html"]].concat();
    let one = ["message-ring", "--quick", "--html", "one.html"];
    let primitives = ["primitives", "view", "batch", "--quick", "--sizes", "8m,16m", "--html", "primitives.html"];
    for (args, page, runs_of_data) in
        [(&runs[..], "runs.html", None), (&one, "one.html", Some(1)), (&primitives, "primitives.html", Some(0))]
    {
        let out = scratch.bench(args);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        let page = scratch.0.join(page);
        let light = look(&browser, &scratch, &page, &["--blink-settings=preferredColorScheme=1"]);
        assert_readable(&light, false);
        let of_data = light["data"]["runs"].as_u64().unwrap();
        assert!(runs_of_data.map_or(of_data >= 12, |runs| of_data == runs), "{light:#}");
        assert_readable(&look(&browser, &scratch, &page, &["--blink-settings=preferredColorScheme=0"]), true);
        // On paper.
        let pdf = scratch.0.join("page.pdf");
        let (to, from) = (format!("--print-to-pdf={}", pdf.display()), format!("file://{}", page.display()));
        browse(&browser, &scratch, &[&to, &from]);
        let pdf = fs::read(pdf).unwrap();
        assert!(pdf.starts_with(b"%PDF") && pdf.len() > 10_000, "{} bytes on paper", pdf.len());
    }
}
