//! A run of another runtime, in a process of its own below this one.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use gc_core::sys::set_timer_slack;
use serde_json::Value;

use super::Peer;
use super::safepoints::stops;
use super::samples::Said;
use crate::failure::Failure;
use crate::hiccups::Hiccups;
use crate::measure::{Closed, Measured};
use crate::outcome::{Footprint, record};
use crate::plan::Plan;
use crate::process::{Usage, Used, pss_bytes_of};
use crate::record::Record;
use crate::session::Guard;
use crate::threads::{self, Threads};

/// The programs, as this one was built with them.
const JAVA: &str = include_str!("../../peers/java/Peer.java");
const GO: &str = include_str!("../../peers/go/peer.go");
const V8: &str = include_str!("../../peers/v8/peer.js");

/// A folder that is gone when the run is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("gc-bench-peer-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|e| cannot_write(&path, &e))?;
        Ok(Self(path))
    }

    /// A file in it.
    fn file(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.0.join(name);
        fs::write(&path, text).map_err(|e| cannot_write(&path, &e))?;
        Ok(path)
    }
}

fn cannot_write(path: &Path, e: &std::io::Error) -> Failure {
    Failure::run(format!("cannot write to {}: {e}", path.display()))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The settings of a plan as the program reads them: numbers alone.
fn arguments(plan: &Plan) -> Vec<String> {
    let Value::Object(settings) = serde_json::to_value(plan).expect("plain data") else { return Vec::new() };
    let numbers = settings.iter().filter(|(_, value)| value.is_number());
    let numbers = numbers.map(|(name, value)| format!("{name}={value}"));
    std::iter::once(format!("workload={}", plan.work.name())).chain(numbers).collect()
}

/// What the program said, and what it used of the machine.
struct Outcome {
    said: Said,
    used: Used,
    pss_bytes: u64,
}

/// The line that says why, in what a virtual machine wrote to standard error.
fn news(text: &str) -> &str {
    // What the machine says of its own environment is not the news.
    let is_news = |line: &&str| !line.trim().is_empty() && !line.starts_with("NOTE: Picked up");
    let is_memory = |line: &&str| line.contains("out of memory");
    text.lines().find(is_memory).or_else(|| text.lines().find(is_news)).unwrap_or("no message")
}

fn wait_for(mut command: Command) -> Result<Outcome, Failure> {
    let failed = |what: String| Failure::run(format!("its process {what}"));
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = Guard(child.map_err(|e| failed(format!("does not start: {e}")))?);
    // Held until the child has ended: it ends itself when this end of the pipe is closed.
    let _stdin = child.0.stdin.take();
    let (mut usage, mut ended, mut pss_bytes, mut said) = (None, None, 0, None::<Said>);
    let lines = BufReader::new(child.0.stdout.take().expect("asked for")).lines();
    for line in lines {
        let line = line.map_err(|e| failed(format!("cannot be read from: {e}")))?;
        match line.as_str() {
            "begin" => usage = Some(Usage::start()),
            // Its processor time comes below; the others' is known now.
            "end" => {
                ended = usage.as_ref().map(|usage| usage.ended(|| Duration::ZERO));
                pss_bytes = pss_bytes_of(&child.0.id().to_string());
            }
            _ => said = serde_json::from_str(&line).ok(),
        }
    }
    let status = child.0.wait().map_err(|e| failed(format!("cannot be waited for: {e}")))?;
    let (Some(said), Some(busy), true) = (said, ended, status.success()) else {
        let mut text = String::new();
        let _ = child.0.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
        return Err(failed(format!("ended without a result ({status}): {}", news(&text))));
    };
    let seconds = (said.to_ns - said.from_ns).max(1) as f64 / 1e9;
    let own_percent = said.cpu_ns as f64 / 1e9 / seconds * 100.0;
    let used = Used {
        cpu: Duration::from_nanos(said.cpu_ns),
        other_percent: (busy.other_percent - own_percent).max(0.0),
        ..busy
    };
    Ok(Outcome { said, used, pss_bytes })
}

/// The process of a run, and the log of its safepoints where it writes one.
fn start(plan: &Plan, peer: Peer, scratch: &Scratch) -> Result<(Command, Option<PathBuf>), Failure> {
    let missing = |what: &str| Failure::input(format!("{peer} needs {what}"));
    if peer == Peer::V8 {
        let node = plan.heap.node.as_ref().ok_or_else(|| missing("Node.js: --node PROGRAM"))?;
        return Ok((node.command(&scratch.file("peer.js", V8)?), None));
    }
    if peer == Peer::Go {
        let go = plan.heap.go.as_ref().ok_or_else(|| missing("Go: --go PROGRAM"))?;
        let program = scratch.0.join("peer");
        go.build(&scratch.file("peer.go", GO)?, &program)?;
        return Ok((Command::new(program), None));
    }
    let java = plan.heap.java.as_ref().ok_or_else(|| missing("a JDK: --jdk DIR"))?;
    java.compile(&scratch.file("Peer.java", JAVA)?, &scratch.0)?;
    let log = scratch.0.join("safepoints.log");
    Ok((java.machine(&plan.heap.machine(peer), &scratch.0, &log), Some(log)))
}

/// Runs a plan whose collector is a peer, in a process of its own.
pub(crate) fn run(plan: &Plan, peer: Peer, hiccups: Hiccups) -> Result<Record, Failure> {
    let scratch = Scratch::new()?;
    // Threads take it over from the one that starts them, in another process as well; where a
    // sandbox refuses, sleeps end later and the samples show it.
    let _ = set_timer_slack(Duration::ZERO);
    let (mut command, log) = start(plan, peer, &scratch)?;
    command.args(arguments(plan));
    let Outcome { said, used, pss_bytes } = wait_for(command)?;
    let tracks = said.tracks().ok_or_else(|| Failure::run("its program's samples cannot be read"))?;
    let stops = match log {
        None => said.stops(),
        Some(log) => {
            let text = fs::read_to_string(&log);
            let text = text.map_err(|e| Failure::run(format!("cannot read the log of safepoints: {e}")))?;
            stops(&text, said.from_ns, said.to_ns)
        }
    };
    let of = |count, cpu_ns| threads::Usage { count, cpu_ns, ..threads::Usage::default() };
    let used_by = Threads {
        mutators: of(tracks.len() as u64, said.mutators_cpu_ns),
        // Its compiler's threads are among them.
        collector: of(0, said.cpu_ns.saturating_sub(said.mutators_cpu_ns)),
        bench: threads::Usage::default(),
    };
    let wall = Duration::from_nanos(said.to_ns - said.from_ns);
    let closed = Closed::of_peer(wall, used, said.cycles, stops, used_by);
    let measured = Measured::new(said.ops, said.checksum, tracks);
    let footprint = Footprint { pss_peak_bytes: pss_bytes, ..Footprint::default() };
    Ok(record(plan, footprint, &measured, closed, hiccups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_memory_is_the_news() {
        let java = "NOTE: Picked up JDK_JAVA_OPTIONS: -Da\n\nException in thread \"main\" java.lang.OutOfMemoryError: x\n at y";
        assert_eq!(news(java), "Exception in thread \"main\" java.lang.OutOfMemoryError: x");
        let v8 = "\n<--- Last few GCs --->\n\n[7:0x1] 5 ms: Scavenge\nFATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n";
        assert!(news(v8).starts_with("FATAL ERROR: "));
        assert_eq!((news("\n\n a \nb"), news("")), (" a ", "no message"));
    }
}
