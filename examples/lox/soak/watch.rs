//! Looks at a running process from outside: what it holds, and whether that grows.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a process held at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    /// Memory of the heap's file, KiB: as the file tells, because what views map is counted twice
    /// where it is just moved from one to another.
    pub(crate) shared_kib: f64,
    /// Memory outside it, KiB.
    pub(crate) private_kib: f64,
    pub(crate) mappings: f64,
    pub(crate) descriptors: f64,
    pub(crate) threads: f64,
    /// What the last marking found live, MiB.
    pub(crate) live_mib: f64,
}

impl Sample {
    pub(crate) const HEADER: &str = "seconds,shared_kib,private_kib,mappings,descriptors,threads,live_mib";

    pub(crate) fn line(&self) -> String {
        let Sample { seconds, shared_kib, private_kib, mappings, descriptors, threads, live_mib } = self;
        format!("{seconds:.1},{shared_kib},{private_kib},{mappings},{descriptors},{threads},{live_mib}")
    }

    /// `None` once the process ends.
    fn take(process: u32, seconds: f64, live_mib: f64) -> Option<Sample> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).ok();
        let field = |text: &str, name: &str| -> Option<f64> {
            text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
        };
        let (memory, status) = (read("smaps_rollup")?, read("status")?);
        let descriptors: Vec<_> =
            fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten().map(|fd| fd.path()).collect();
        let is_memfd =
            |path: &PathBuf| fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:lox "));
        // One that is ending has its file no more.
        let file = descriptors.iter().find(|path| is_memfd(path)).and_then(|path| fs::metadata(path).ok())?;
        Some(Sample {
            seconds,
            // Blocks of 512 bytes: stat(2).
            shared_kib: file.blocks() as f64 / 2.0,
            private_kib: field(&memory, "Pss_Anon:")?,
            mappings: read("maps")?.lines().count() as f64,
            descriptors: descriptors.len() as f64,
            threads: field(&status, "Threads:")?,
            live_mib,
        })
    }
}

/// How a process ran.
pub(crate) struct Watched {
    pub(crate) samples: Vec<Sample>,
    pub(crate) status: ExitStatus,
    pub(crate) seconds: f64,
    pub(crate) stdout: String,
    /// Standard error without the heap's log of single events.
    pub(crate) stderr: String,
}

/// What a line of `--gc-log` that sums a cycle up says of live memory, in MiB.
fn live_in(line: &str) -> Option<f64> {
    line.split_once(" MiB live")?.0.rsplit(' ').next()?.parse().ok()
}

/// Runs a command that logs its heap on standard error, and samples it.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn watch(command: &mut Command, every: Duration) -> std::io::Result<Watched> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let live = Arc::new(Mutex::new(0.0));
    let of_stderr = child.stderr.take().map(|stderr| {
        let live = Arc::clone(&live);
        std::thread::spawn(move || {
            let mut rest = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(found) = live_in(&line) {
                    *live.lock().expect("nobody panics with it") = found;
                }
                if !line.starts_with('[') || !line.contains("s][gc] ") {
                    rest += &line;
                    rest.push('\n');
                }
            }
            rest
        })
    });
    let of_stdout = child.stdout.take().map(|mut stdout| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stdout.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })
    });
    let mut samples = Vec::new();
    let status = loop {
        if let Some(status) = wait(&mut child, every)? {
            break status;
        }
        let live = *live.lock().expect("nobody panics with it");
        // Before the first marking nothing is known.
        if live > 0.0 {
            samples.extend(Sample::take(child.id(), start.elapsed().as_secs_f64(), live));
        }
    };
    let text = |thread: Option<std::thread::JoinHandle<String>>| thread.and_then(|t| t.join().ok()).unwrap_or_default();
    let (stdout, stderr) = (text(of_stdout), text(of_stderr));
    Ok(Watched { samples, status, seconds: start.elapsed().as_secs_f64(), stdout, stderr })
}

/// Waits for the end of a process, but not for longer than `most`.
fn wait(child: &mut Child, most: Duration) -> std::io::Result<Option<ExitStatus>> {
    let until = Instant::now() + most;
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= until {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(5).min(most));
    }
}

/// A figure: its name, how to read it, and, where it must not grow, how much more than before is no
/// growth: as a share and as an amount.
type Figure = (&'static str, fn(&Sample) -> f64, Option<(f64, f64)>);

/// The heap's file has a bound of its own, and may fill it whenever it likes.
///
/// Memory outside the heap is mostly what threads log while marking runs. Its most rises now and
/// then, in steps: when a marking took longer than any before it.
const FIGURES: [Figure; 6] = [
    ("memory of the heap's file (KiB)", |sample| sample.shared_kib, None),
    ("memory outside the heap (KiB)", |sample| sample.private_kib, Some((0.25, 8192.0))),
    ("mappings", |sample| sample.mappings, Some((0.1, 8.0))),
    ("descriptors", |sample| sample.descriptors, Some((0.0, 2.0))),
    ("threads", |sample| sample.threads, Some((0.0, 2.0))),
    ("live memory (MiB)", |sample| sample.live_mib, Some((0.2, 1.0))),
];

/// The samples of each third of the time.
fn thirds(samples: &[Sample]) -> [&[Sample]; 3] {
    let third = samples.len() / 3;
    [&samples[..third], &samples[third..third * 2], &samples[third * 2..]]
}

fn most(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    samples.iter().map(of).fold(0.0, f64::max)
}

/// A line for each figure: its most in each third of the time.
pub(crate) fn report(samples: &[Sample]) -> String {
    FIGURES.iter().fold(String::new(), |text, (name, of, ..)| {
        let [first, second, third] = thirds(samples).map(|third| most(third, *of));
        text + &format!("  {name}: at most {first}, then {second}, then {third}\n")
    })
}

/// What grew: the most of the last third is beyond the most of the second, and of the first.
/// `bound_kib` is what the heap's file may hold at all.
pub(crate) fn growth(samples: &[Sample], bound_kib: f64) -> Vec<String> {
    if samples.len() < 9 {
        return vec![format!("{} samples are too few to tell", samples.len())];
    }
    let [first, second, third] = thirds(samples);
    let mut grown = Vec::new();
    for (name, of, limit) in FIGURES {
        let Some((share, amount)) = limit else { continue };
        let before = most(first, of).max(most(second, of));
        let last = most(third, of);
        if last > before * (1.0 + share) + amount {
            grown.push(format!("{name}: at most {before} in two thirds of the time, {last} in the last"));
        }
    }
    let held = most(samples, |sample| sample.shared_kib);
    if held > bound_kib {
        grown.push(format!("the heap's file holds {held} KiB, and {bound_kib} KiB at most are allowed"));
    }
    grown
}
