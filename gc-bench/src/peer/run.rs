//! A run of a peer, in a process of its own below this one.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
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

/// The program, as this one was built with it.
const SOURCE: &str = include_str!("../../peers/java/Peer.java");

/// A folder that is gone when the run is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("gc-bench-peer-{}", std::process::id()));
        let failed = |e| Failure::run(format!("cannot write to {}: {e}", path.display()));
        fs::create_dir_all(&path).map_err(failed)?;
        fs::write(path.join("Peer.java"), SOURCE).map_err(failed)?;
        Ok(Self(path))
    }
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

fn wait_for(mut command: Command) -> Result<Outcome, Failure> {
    let failed = |what: String| Failure::run(format!("its virtual machine {what}"));
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
        // What the machine says of its own environment is not the news.
        let is_news = |line: &&str| !line.trim().is_empty() && !line.starts_with("NOTE: Picked up");
        let first = text.lines().find(is_news).unwrap_or("no message");
        return Err(failed(format!("ended without a result ({status}): {first}")));
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

/// Runs a plan whose collector is a peer.
pub(crate) fn run(plan: &Plan, peer: Peer, hiccups: Hiccups) -> Result<Record, Failure> {
    let java = plan.heap.java.as_ref().ok_or_else(|| Failure::input("a peer needs a JDK: --jdk DIR"))?;
    let scratch = Scratch::new()?;
    java.compile(&scratch.0.join("Peer.java"), &scratch.0)?;
    let log = scratch.0.join("safepoints.log");
    // Threads take it over from the one that starts them, in another process as well; where a
    // sandbox refuses, sleeps end later and the samples show it.
    let _ = set_timer_slack(Duration::ZERO);
    let mut command = java.machine(&plan.heap.machine(peer), &scratch.0, &log);
    command.args(arguments(plan));
    let Outcome { said, used, pss_bytes } = wait_for(command)?;
    let tracks = said.tracks().ok_or_else(|| Failure::run("its program's samples cannot be read"))?;
    let log = fs::read_to_string(&log).map_err(|e| Failure::run(format!("cannot read the log of safepoints: {e}")))?;
    let stops = stops(&log, said.from_ns, said.to_ns);
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
