//! The parent's side of a run: a process for each, so that every peak is that run's own.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write, stderr};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::configuration::cpu_ns_per_op;
use crate::failure::Failure;
use crate::journal::Journal;
use crate::plan::{Plan, Runs};
use crate::processors::within;
use crate::record::Record;
use crate::results::{Order as Sequence, Outcome};
use crate::rng::SplitMix;
use crate::schedule::{Sofar, half_widths, still_open};
use crate::size::{duration, grouped, short, three};
use crate::stats::median;

/// What a run's process is told, as one line on its standard input; the document, if there is one,
/// follows. The pipe stays open until the parent is gone: then the process ends, too.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) plan: Plan,
    /// Whether anybody looks at [`Message::Progress`].
    pub(crate) progress: bool,
    /// The process ends with a failure after so many seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) limit_s: Option<f64>,
}

/// What a run's process says, a line each on its standard output.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    Progress { phase: String, done: f64 },
    Warning { message: String },
    Record(Box<Record>),
    Failure { code: u8, message: String },
}

/// Runs every plan as often as the schedule says, each repeat in a random order, and stops at the
/// first run that fails. What a journal has is not run again, and what is run is kept there.
pub(crate) fn run_all(
    runs: &Runs,
    document: &[u8],
    mut journal: Option<&mut Journal>,
) -> Result<(Vec<Record>, Sequence), Failure> {
    let Runs { plans, schedule, .. } = runs;
    let mut meter = Meter::new(plans.len() * schedule.repeats as usize);
    let mut random = SplitMix::new(schedule.seed);
    let (mut records, mut order) = (Vec::new(), Vec::new());
    let (began, mut until) = (Instant::now(), None::<Outcome>);
    // A part of a rate needs the runs that show the rate: all of those come first.
    let (first, then): (Vec<usize>, Vec<usize>) = (0..plans.len()).partition(|&at| plans[at].rate_percent == 0);
    for part in [first, then].into_iter().filter(|part| !part.is_empty()) {
        let mut sofar: Vec<Sofar> =
            part.iter().map(|&at| Sofar { work: plans[at].work_label(), ..Sofar::default() }).collect();
        let mut open: Vec<usize> = (0..part.len()).collect();
        let mut made_repeats = 0;
        for repeat in 1.. {
            let made_before = meter.made;
            random.shuffle(&mut open);
            for &n in &open {
                let plan = Plan { repeat, ..with_rate(&plans[part[n]], &records)? };
                let record = match journal.as_mut().and_then(|journal| journal.take(&plan)) {
                    Some(record) => {
                        meter.skip();
                        record
                    }
                    None => {
                        let record = run_one(&plan, document, &mut meter)?;
                        journal.as_mut().map_or(Ok(()), |journal| journal.keep(&record))?;
                        record
                    }
                };
                sofar[n].ops_per_s.push(record.ops_per_s);
                sofar[n].cpu_ns_per_op.push(cpu_ns_per_op(&record));
                records.push(record);
                order.push(part[n]);
            }
            made_repeats += u64::from(meter.made > made_before);
            if repeat < schedule.repeats {
                if schedule.is_spent(made_repeats, began.elapsed()) {
                    break;
                }
                continue;
            }
            let Some(wanted) = schedule.until else { break };
            open = still_open(&sofar, wanted.half_width);
            let widest = half_widths(&sofar).into_iter().fold(0.0, f64::max).min(UNKNOWN_WIDTH);
            if open.is_empty() || repeat >= wanted.max_repeats || began.elapsed() >= wanted.max_time {
                let widest = until.map_or(widest, |before| before.widest.max(widest));
                until = Some(Outcome { half_width: wanted.half_width, widest, reached: widest <= wanted.half_width });
                break;
            }
            meter.more(open.len(), widest, wanted.half_width);
        }
    }
    meter.finish();
    let configurations = plans.iter().map(Plan::label).collect();
    Ok((records, Sequence { seed: schedule.seed, configurations, runs: order, until }))
}

/// The plan with the rate that it is to have: a part of what the saturated runs of the same work
/// and barrier had in the middle.
fn with_rate(plan: &Plan, records: &[Record]) -> Result<Plan, Failure> {
    if plan.rate_percent == 0 {
        return Ok(plan.clone());
    }
    let saturated = || records.iter().filter(|record| record.settings.is_saturated_run_of(plan));
    if saturated().next().is_none() {
        return Err(Failure::run(format!("{}: no run showed the rate that it is to have a part of", plan.label())));
    }
    let rate = median(saturated().map(Record::rate)) * plan.rate_percent as f64 / 100.0;
    Ok(Plan { rate: (rate as u64).max(1), ..plan.clone() })
}

fn run_one(plan: &Plan, document: &[u8], meter: &mut Meter) -> Result<Record, Failure> {
    let repeat = if plan.repeat > 1 { format!(" (repeat {})", plan.repeat) } else { String::new() };
    let label = plan.label() + &repeat;
    meter.begin(&label);
    let record = run(plan, document, meter)?;
    meter.end(&format!("{label}: {}", in_a_line(&record)));
    Ok(record)
}

/// What a run gave, for the progress.
pub(crate) fn in_a_line(record: &Record) -> String {
    let (wall, cycles, longest) = (three(record.wall_s), grouped(record.cycles), duration(record.pauses.max_ns));
    let (metered, gaps) = (duration(record.metered.ms_100.max_ns), duration(record.gaps.total_ns));
    format!(
        "{wall} s, {cycles} cycles, longest pause {longest}, longest latency of 100 ms metered {metered}, {gaps} in gaps of 1 ms and more"
    )
}

/// Stands for an interval without end, which JSON has no number for.
const UNKNOWN_WIDTH: f64 = 1e6;

/// A process that does not outlive what waits for it.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(plan: &Plan, document: &[u8], meter: &mut Meter) -> Result<Record, Failure> {
    run_told(&Order { plan: plan.clone(), progress: meter.shows(), limit_s: None }, document, meter)
}

/// One run of a workload that needs no document, which fails if its process takes longer than a
/// limit.
pub(crate) fn run_within(plan: &Plan, limit: Option<Duration>, meter: &mut Meter) -> Result<Record, Failure> {
    let limit_s = limit.map(|limit| limit.as_secs_f64());
    run_told(&Order { plan: plan.clone(), progress: false, limit_s }, &[], meter)
}

/// This program. Where its file was replaced since it started (by a build), the one that runs,
/// which the kernel keeps: a session is of one build.
fn this_program() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(if program.exists() { program } else { "/proc/self/exe".into() })
}

/// Why the process of a run has no result.
enum Ended {
    /// It said why.
    Said { code: u8, message: String },
    /// It was gone before it said anything.
    Gone(ExitStatus),
}

impl Ended {
    fn into_failure(self, plan: &Plan) -> Failure {
        let label = plan.label();
        match self {
            Self::Said { code: 2, message } => Failure::input(message),
            Self::Said { message, .. } => Failure::run(format!("{label}: {message}")),
            Self::Gone(status) => Failure::run(format!("{label}: its process ended without a result ({status})")),
        }
    }
}

/// Signals that ask a process to end: `SIGHUP`, `SIGINT`, `SIGTERM`.
const ASKS_TO_END: [i32; 3] = [1, 2, 15];
const KILLED: i32 = 9;

/// What ends a run's process by a signal soon ends this one as well, where it ends the session.
const SOON: Duration = Duration::from_secs(1);

/// One run that is a result whatever becomes of it: the inner failure is the run's, the outer one
/// the session's. One whose process is asked to end, as by an interrupt or a job's end, is none.
pub(crate) fn attempt(plan: &Plan, limit: Duration, meter: &mut Meter) -> Result<Result<Record, Failure>, Failure> {
    let limit_s = Some(limit.as_secs_f64());
    let told = told(&Order { plan: plan.clone(), progress: meter.shows(), limit_s }, &[], meter)?;
    if let Err(Ended::Gone(status)) = &told {
        match status.signal() {
            Some(signal) if ASKS_TO_END.contains(&signal) => {
                return Err(Failure::run(format!("{}: its process was asked to end ({status})", plan.label())));
            }
            Some(KILLED) => std::thread::sleep(SOON),
            _ => {}
        }
    }
    Ok(told.map_err(|ended| ended.into_failure(plan)))
}

fn run_told(order: &Order, document: &[u8], meter: &mut Meter) -> Result<Record, Failure> {
    told(order, document, meter)?.map_err(|ended| ended.into_failure(&order.plan))
}

/// A process ends itself at its limit, and says so. One that has not by so much later cannot: it is
/// stopped, or waits in the kernel.
const SILENT: Duration = Duration::from_secs(5);

/// The lines that a process says, read by a thread, which ends with the process.
fn lines_of(out: impl Read + Send + 'static) -> Receiver<io::Result<String>> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || BufReader::new(out).lines().try_for_each(|line| sender.send(line)));
    lines
}

fn told(order: &Order, document: &[u8], meter: &mut Meter) -> Result<Result<Record, Ended>, Failure> {
    let plan = &order.plan;
    let failed = |what: String| Failure::run(format!("{}: {what}", plan.label()));
    let program = plan.heap.against.clone().map_or_else(this_program, Ok);
    let program = program.map_err(|e| failed(format!("cannot find this program to start it again: {e}")))?;
    // It inherits its processors, whichever build it is of.
    let child = within(&plan.heap.cpus, || {
        Command::new(program).arg("run-one").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    });
    let child = child.map_err(|e| failed(format!("--cpus: {e}")))?;
    let mut child = Guard(child.map_err(|e| failed(format!("cannot start a process: {e}")))?);
    let mut stdin = child.0.stdin.take().expect("asked for");
    let limit_s = order.limit_s;
    let mut order = serde_json::to_vec(order).expect("plain data");
    order.push(b'\n');
    // A process that is gone already says why below; the broken pipe is not the news.
    let _ = stdin.write_all(&order).and_then(|()| stdin.write_all(document)).and_then(|()| stdin.flush());
    let lines = lines_of(child.0.stdout.take().expect("asked for"));
    let deadline = limit_s.map(|limit_s| Instant::now() + Duration::from_secs_f64(limit_s) + SILENT);
    let mut record = None;
    loop {
        let line = match deadline {
            None => lines.recv().map_err(RecvTimeoutError::from),
            Some(at) => lines.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        let line = match line {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let message = format!("took longer than {} s, and was killed", short(limit_s.unwrap_or_default()));
                return Ok(Err(Ended::Said { code: 1, message }));
            }
        };
        let line = line.map_err(|e| failed(format!("cannot read from its process: {e}")))?;
        match serde_json::from_str(&line) {
            Ok(Message::Progress { phase, done }) => meter.show(&phase, done),
            Ok(Message::Warning { message }) => meter.warn(message),
            Ok(Message::Record(mut r)) => {
                // An older build knows nothing of them.
                r.settings.heap.cpus.clone_from(&plan.heap.cpus);
                record = Some(*r);
            }
            Ok(Message::Failure { code, message }) => return Ok(Err(Ended::Said { code, message })),
            // Its process ended in the middle of a line.
            Err(e) if e.is_eof() => break,
            Err(e) => {
                let message = format!("its process said what is not a message ({e})");
                return Ok(Err(Ended::Said { code: 1, message }));
            }
        }
    }
    let status = child.0.wait().map_err(|e| failed(format!("cannot wait for its process: {e}")))?;
    drop(stdin);
    match record {
        Some(record) if status.success() => Ok(Ok(record)),
        _ => Ok(Err(Ended::Gone(status))),
    }
}

/// Progress on standard error: a bar where somebody watches, otherwise a line a run.
pub(crate) struct Meter {
    bar: Option<ProgressBar>,
    /// What was said already.
    warnings: Vec<String>,
    runs: usize,
    done: usize,
    /// Of `done`, those that this session made.
    made: usize,
    began: Instant,
    label: String,
}

/// Steps of the bar a run.
const STEPS: u64 = 1000;

impl Meter {
    pub(crate) fn new(runs: usize) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(runs as u64 * STEPS);
            let style = ProgressStyle::with_template("{elapsed_precise} {bar:32.cyan/blue} {percent:>3} %  {msg}");
            bar.set_style(style.expect("a fixed template").progress_chars("━╸─"));
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Self { bar, warnings: Vec::new(), runs, done: 0, made: 0, began: Instant::now(), label: String::new() }
    }

    /// How long the rest takes, if the runs go on as those so far; nothing where that is soon.
    fn left(&self) -> String {
        let left = (self.runs - self.done.min(self.runs)) as f64;
        let seconds = self.began.elapsed().as_secs_f64() / self.made.max(1) as f64 * left;
        match (self.made, (seconds / 60.0).ceil()) {
            (0, _) => String::new(),
            (_, minutes) if minutes <= 1.0 => String::new(),
            (_, minutes) => format!(", about {minutes} minutes left"),
        }
    }

    /// A run was made before.
    pub(crate) fn skip(&mut self) {
        self.done += 1;
        self.runs = self.runs.max(self.done);
    }

    /// Whether somebody watches.
    pub(crate) fn shows(&self) -> bool {
        self.bar.is_some()
    }

    /// A run begins.
    pub(crate) fn begin(&mut self, label: &str) {
        self.label = label.to_owned();
        self.show("starting", 0.0);
    }

    /// How far the run is, from 0 to 1.
    pub(crate) fn show(&self, phase: &str, done: f64) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.done as u64 * STEPS + (done.clamp(0.0, 1.0) * STEPS as f64) as u64);
            bar.set_message(format!("{}: {phase}{}", self.label, self.left()));
        }
    }

    /// A run is over; `line` is for where nobody watches.
    pub(crate) fn end(&mut self, line: &str) {
        self.done += 1;
        self.made += 1;
        match &self.bar {
            Some(bar) => bar.set_position(self.done as u64 * STEPS),
            None => eprintln!("[{}/{}{}] {line}", self.done, self.runs, self.left()),
        }
    }

    /// Intervals are too wide: so many more runs are to come.
    fn more(&mut self, runs: usize, widest: f64, wanted: f64) {
        self.runs += runs;
        let (widest, wanted) = (three(widest * 100.0), short(wanted * 100.0));
        let text = format!("the widest interval is {widest} % to either side, wanted {wanted} %: {runs} more runs");
        match &self.bar {
            Some(bar) => {
                bar.set_length(self.runs as u64 * STEPS);
                bar.set_message(text);
            }
            None => eprintln!("{text}"),
        }
    }

    /// Says what a heap's building had to say, once for all runs.
    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            let say = || eprintln!("warning: {warning}");
            self.bar.as_ref().map_or_else(say, |bar| bar.suspend(say));
            self.warnings.push(warning);
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // An error line must not stand behind half a bar.
        self.finish();
    }
}
