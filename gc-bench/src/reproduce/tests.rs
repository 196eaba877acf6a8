use super::claim::{Claim, Measure};
use super::figures::time;
use super::*;
use crate::interval::Interval;
use crate::primitives::row::{Figures, Outcome, Per, Row};
use crate::record::Head;
use crate::report::samples::{barriers, of_runs};

const BOOK: &str = include_str!("../../../docs/performance.md");
const MECHANISMS: &str = include_str!("../../../docs/mechanisms.md");
const HUGE_PAGES: &str = include_str!("../../../docs/huge-pages.md");

/// The cells of a line of a table, without what stands before and behind them.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// The cells of the table that `gc-bench tables` has written for a work.
fn table(work: &str) -> Vec<Vec<&'static str>> {
    let name =
        |line: &&'static str| line.strip_prefix("| ")?.split(" |").next()?.rsplit_once(", ").map(|(name, _)| name);
    let rows = BOOK.lines().skip_while(|line| name(line) != Some(work)).take_while(|line| line.starts_with('|'));
    rows.map(cells).collect()
}

/// The number that a text begins with; of a duration in nanoseconds.
fn number(text: &str) -> f64 {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = match text[end..].split_whitespace().next() {
        Some("µs") => 1e3,
        Some("ms") => 1e6,
        Some("s") => 1e9,
        _ => 1.0,
    };
    text[..end].parse::<f64>().unwrap_or_else(|_| panic!("{text} is no figure")) * unit
}

fn published(claim: &Claim) -> f64 {
    let rows = table(claim.own.work);
    assert!(!rows.is_empty(), "the book has no table of {}", claim.own.work);
    let column = |name: &str| rows[0].iter().position(|cell| cell.starts_with(&format!("`{name}"))).unwrap();
    let row = |name: &str| rows.iter().find(|row| row[0].starts_with(name));
    let (own, over) = (column(claim.own.collector), column(claim.over.collector));
    let ratio = |row: &Vec<&str>, of: fn(&str) -> f64| of(row[own]) / of(row[over]);
    // An operation's: at work that lasts for a time, over operations a second.
    let of_an_operation = row("million op/s").map_or(1.0, |row| 1.0 / ratio(row, number));
    match claim.of {
        Measure::Time => row("wall, s").map_or(of_an_operation, |row| ratio(row, number)),
        Measure::Cpu => ratio(row("CPU, s").unwrap(), number) * of_an_operation,
        Measure::LongestPause => ratio(row("pauses").unwrap(), |cell| number(cell.rsplit(" / ").next().unwrap())),
        Measure::MedianPause => unreachable!("it is of pause-scaling"),
    }
}

/// Of a figure that is not among the published tables.
fn figure(name: &str) -> &'static Figure {
    FIGURES.iter().find(|figure| figure.name == name).unwrap()
}

#[track_caller]
fn assert_within(claim: &Claim, ratio: f64) {
    assert!(!claim.is_left_by((ratio, None)), "{}: the book has {ratio}", claim.words());
}

#[test]
fn the_book_s_own_tables_are_within_the_bands() {
    for figure in &FIGURES[..5] {
        figure.claims.iter().for_each(|claim| assert_within(claim, published(claim)));
    }
    // Rows of `wall / CPU, s`, with the collectors in this order.
    let collectors = ["load", "load-generations"];
    for claim in figure("generations").claims {
        let line = BOOK.lines().find(|line| line.starts_with(&format!("| {} | wall / CPU, s |", claim.own.work)));
        let cells = cells(line.unwrap_or_else(|| panic!("{}", claim.own.work)));
        let part = |cell: &str| {
            let (wall, cpu) = cell.split_once(" / ").unwrap();
            number(if claim.of == Measure::Time { wall } else { cpu })
        };
        let of = |name: &str| part(cells[2 + collectors.iter().position(|of| *of == name).unwrap()]);
        assert_within(claim, of(claim.own.collector) / of(claim.over.collector));
    }
}

#[test]
fn what_the_book_says_in_words_is_within_the_bands() {
    let words = |book: &str| book.split_whitespace().collect::<Vec<_>>().join(" ");
    let behind = |book: &str, text: &str| {
        let book = words(book);
        number(book.split_once(text).unwrap_or_else(|| panic!("the book does not say {text}")).1)
    };
    let share = behind(
        BOOK,
        "(`gc-bench table-churn --seconds 6 --barrier load,load-generations --repeats 10`, idle) it had with generations ",
    );
    assert_within(&figure("generations-churn").claims[0], 1.0 / share);
    let text = "another process taking a processor during half of the runs: load ";
    let load = behind(BOOK, text);
    let page = behind(BOOK, &format!("{text}{load} M operations a second, page "));
    let anonymous = behind(BOOK, &format!("page {page} M, page on anonymous memory "));
    let claims = figure("page-anonymous").claims;
    assert_within(&claims[0], load / page);
    assert_within(&claims[1], page / anonymous);
    let row = HUGE_PAGES.lines().skip_while(|line| !line.starts_with("| `never` | `background` |")).nth(2).unwrap();
    let means: Vec<f64> = cells(row).iter().map(|cell| cell.split(", ").map(number).sum::<f64>() / 3.0).collect();
    assert_within(&figure("huge-pages").claims[0], means[2] / means[0]);
}

#[test]
fn the_book_s_points_of_pause_scaling_are_within_the_bands() {
    for (name, head) in
        [("pause-scaling", "look, not a published comparison."), ("pause-scaling-page", "With `page` (")]
    {
        for claim in figure(name).claims {
            let median = |work: &str| {
                let (live, roots) = work.split_once(" live, ").unwrap();
                let start = format!("| {live} | {} |", roots.strip_suffix(" roots").unwrap());
                let lines = BOOK.split_once(head).unwrap().1.lines();
                number(cells(lines.into_iter().find(|line| line.starts_with(&start)).unwrap())[3])
            };
            assert_within(claim, median(claim.own.work) / median(claim.over.work));
        }
    }
}

/// What the book's tables of mechanisms have of each cost: of the other row, and of its own, the
/// line's begin and the number's place in its cell.
const COSTS: [[(&str, usize); 2]; 7] = [
    [("| `mprotect(PROT_NONE)` |", 0), ("| `mremap(MREMAP_DONTUNMAP)`, ends on multiples of 1 GiB |", 0)],
    [("| `mprotect(PROT_NONE)` |", 0), ("| the same, the range registered with userfaultfd |", 0)],
    [
        ("| `SIGBUS` and `UFFDIO_CONTINUE` by the thread itself", 0),
        ("| the same, `UFFDIO_COPY` of private memory |", 0),
    ],
    [
        ("| `UFFDIO_CONTINUE` by a collector thread, 1 page", 0),
        ("| `UFFDIO_CONTINUE` by a collector thread, 1 page", 1),
    ],
    [("| the same dropped and brought in page by page |", 0), ("| 2 MiB of page tables moved back by `mremap` |", 0)],
    [("| `mmap` of a piece |", 0), ("| `remap_file_pages` |", 0)],
    [("| `fallocate(PUNCH_HOLE)` of 2 MiB in 4 KiB pages |", 0), ("| the same of one 2 MiB page |", 0)],
];

#[test]
fn the_book_s_mechanisms_are_within_the_bands() {
    let costs = figure("primitives").costs;
    assert_eq!(costs.len(), COSTS.len());
    for (cost, rows) in costs.iter().zip(COSTS) {
        let [over, own] = rows.map(|(start, place)| {
            let line = MECHANISMS.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}"));
            let cell = cells(line)[2];
            // The unit stands behind the last number of a cell.
            let unit = cell.split_whitespace().skip_while(|word| word.starts_with(|c: char| c.is_ascii_digit()));
            number(&format!(
                "{} {}",
                cell.split(", ").nth(place).unwrap().split(' ').next().unwrap(),
                unit.collect::<Vec<_>>().join(" ")
            ))
        });
        assert!(!cost.is_left_by(own / over), "{}: the book has {}", cost.words(), own / over);
    }
}

/// Beside each figure the book names what makes it again, and each of its bands.
#[test]
fn the_book_names_each_figure_with_its_bands() {
    let paragraphs = || [BOOK, MECHANISMS, HUGE_PAGES].into_iter().flat_map(|book| book.split("\n\n"));
    for figure in &FIGURES {
        let name = format!("`gc-bench reproduce {}`", figure.name);
        let has = |text: &&str| text.split_whitespace().collect::<Vec<_>>().join(" ").contains(&name);
        let text = paragraphs().find(has).unwrap_or_else(|| panic!("the book does not name {name}"));
        // A row of a table, or a paragraph.
        let text = text.lines().find(|line| line.starts_with('|') && line.contains(&name)).unwrap_or(text);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let claims = figure.claims.iter().map(|claim| claim.band);
        for (from, to) in claims.chain(figure.costs.iter().map(|cost| cost.band)) {
            let band = if from > 0.0 { format!(" {from} to {to}") } else { format!(" at most {to}") };
            assert!(text.contains(&band), "{name} does not have{band}: {text}");
        }
    }
}

fn args(figures: &[&str]) -> ReproduceArgs {
    let output = OutputArgs { json: None, html: None, out: None, force: false };
    ReproduceArgs { figures: figures.iter().map(|&name| name.to_owned()).collect(), repeats: 5, quick: false, output }
}

#[test]
fn every_figure_can_be_run_and_has_what_its_claims_are_of() {
    for figure in &FIGURES {
        let asked = args(&[figure.name]);
        assert_eq!(asked.primitives().unwrap().is_some(), !figure.costs.is_empty());
        let runs = asked.runs().unwrap();
        assert_eq!(runs.is_some(), !figure.claims.is_empty());
        let Some(runs) = runs else { continue };
        assert_eq!(runs.schedule.repeats, 5);
        for claim in figure.claims {
            for side in [&claim.own, &claim.over] {
                let is_it = |plan: &Plan| {
                    let mut plan = plan.clone();
                    plan.heap.cpus.clear();
                    plan.work_label() == side.work && plan.heap.barrier.name() == side.collector
                };
                let found = runs.plans.iter().filter(|plan| is_it(plan)).count();
                // A point of pause-scaling may need more memory than there is.
                assert!(found == 1 || found == 0 && !runs.left_out.is_empty(), "{}: {found}", claim.words());
            }
            assert!(claim.band.0 < claim.band.1);
        }
    }
    let plans = args(&["all"]).runs().unwrap().unwrap().plans;
    let labels: Vec<String> = plans.iter().map(Plan::label).collect();
    assert!(labels.iter().enumerate().all(|(at, label)| !labels[..at].contains(label)), "{labels:?}");
    // Three barriers of five works, generations of five, one thread of binary-trees beside, and
    // three barriers on small pages.
    let of_workloads = plans.iter().filter(|plan| plan.scaling().is_none());
    assert_eq!(of_workloads.count(), 15 + 5 + 1 + 3);
}

/// A run that could not be made is none that left its band, and says so.
#[test]
fn what_is_left_out_here_has_left_no_band() {
    if processors() < PROCESSORS {
        return;
    }
    let mut document = barriers();
    let asked = args(&["pause-scaling"]);
    let line = asked.judge(Some(&document), None).1.unwrap_err().line();
    assert!(line.starts_with("median pause with load: 4 GiB live, 10 roots over 16 MiB live, 10 roots: no figure"));
    document.left_out.push("4 GiB of live data left out".into());
    let (text, result) = asked.judge(Some(&document), None);
    assert!(result.is_ok() && text.lines().skip(1).all(|line| line.trim_start().starts_with("open ")), "{text}");
}

/// Rows of primitives whose first and last are not as in the book.
fn costs(other_cpu_percent: f64) -> Primitives {
    let measured = |median: f64| Outcome::Measured(Figures::of(vec![median; 9]).unwrap());
    let costs = figure("primitives").costs.iter().zip(COSTS);
    let rows = costs.flat_map(|(cost, _)| {
        let middle = (cost.band.0 * cost.band.1).sqrt();
        let row = |(what, bytes): (&str, u64), median| Row {
            group: cost.group,
            what: what.into(),
            bytes,
            per: Per::Call,
            outcome: measured(median),
            ratio: None,
        };
        [row(cost.own, 1e6 * middle), row(cost.over, 1e6)]
    });
    let mut rows: Vec<Row> = rows.collect();
    rows[0].outcome = measured(3e6);
    let last = rows.last_mut().unwrap();
    last.outcome = Outcome::Refused { why: "no such call".into(), since: "Linux 6.1".into() };
    let head = Head::now(crate::record::PRIMITIVES);
    let (sizes, clock_ns, wall_s) = (vec![1 << 30], 30.0, 1.0);
    Primitives { head, sizes, quick: false, clock_ns, wall_s, other_cpu_percent, stolen_percent: 0.0, rows }
}

#[test]
fn a_mechanism_that_leaves_its_band_is_named_unless_it_says_nothing() {
    if processors() < PROCESSORS {
        return;
    }
    let asked = args(&["primitives"]);
    let (text, result) = asked.judge(None, Some(&costs(0.0)));
    let line = result.unwrap_err().line();
    let first = "median of MREMAP_DONTUNMAP, view of whole GiB, 1 GiB over mprotect(PROT_NONE), 1 GiB: 3, not 0.00002";
    assert!(line.starts_with(first) && !line.contains(';'), "{line}");
    let verdicts: Vec<&str> = text.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(verdicts, ["LEFT", "within", "within", "within", "within", "within", "open"], "{text}");
    assert!(text.contains("no figure, refused: no such call (since Linux 6.1)"), "{text}");
    let (text, result) = asked.judge(None, Some(&costs(31.0)));
    assert!(result.is_ok() && text.contains("1 GiB: 3, other processes used the machine"), "{text}");
}

/// A file holds one report.
#[test]
fn primitives_and_runs_have_reports_of_their_own() {
    let to_a_file = |figures: &[&str]| {
        let mut asked = args(figures);
        asked.output.json = Some("x.json".into());
        asked.primitives().map(|plan| plan.is_some())
    };
    assert!(to_a_file(&["all"]).is_err_and(|e| e.code() == 2 && e.line().contains("--out DIR")));
    assert!(to_a_file(&["primitives"]).is_ok_and(|is_some| is_some));
    assert!(to_a_file(&["gcbench"]).is_ok_and(|is_some| !is_some));
}

/// In the sample all three have the same times and pauses.
#[test]
fn a_ratio_that_leaves_its_band_is_named() {
    let document = barriers();
    let (text, result) = args(&["gcbench"]).judge(Some(&document), None);
    if processors() >= PROCESSORS {
        let line = result.unwrap_err();
        assert_eq!(line.code(), 3);
        assert!(line.line().starts_with("gcbench: longest pause, page over stw: 1.00, not 0 to 0.25"), "{line}");
        assert!(text.contains("within  0.75 to 1.35  gcbench: time an operation, page over load: 1.00"), "{text}");
    }
    let claim = time("gcbench", "page", (0.8, 1.2));
    let interval = |low, high| Some(Interval { estimate: (low + high) / 2.0, low, high });
    let left = [(1.3, None), (1.3, interval(1.1, 1.5)), (1.3, interval(1.25, 1.35)), (0.7, interval(0.6, 0.79))];
    assert_eq!(left.map(|found| claim.is_left_by(found)), [true, false, true, true]);
}

/// A time of one run each that is half as long, and the longest pause of runs beside which
/// other processes worked.
#[test]
fn what_says_nothing_has_left_no_band() {
    let mut runs = barriers().runs;
    runs.retain(|run| run.repeat == 1);
    for run in &mut runs {
        run.other_cpu_percent = 31.0;
        run.ops_per_s *= if run.barrier == Collector::PAGE { 2.0 } else { 1.0 };
    }
    let (text, result) = args(&["gcbench"]).judge(Some(&of_runs(runs)), None);
    assert!(result.is_ok());
    if processors() >= PROCESSORS {
        for (claim, why) in [
            ("time an operation, page over load: 0.50", "too few runs, or too different ones, for an interval"),
            ("longest pause, page over stw: 1.00", "other processes used the machine"),
        ] {
            let line = text.lines().find(|line| line.contains(claim)).unwrap_or_else(|| panic!("{text}"));
            assert!(line.trim_start().starts_with("open") && line.ends_with(why), "{line}");
        }
    }
}
