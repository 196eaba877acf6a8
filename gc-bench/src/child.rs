//! The process of a run: one workload on one heap, or without one.

use std::io::{self, BufRead, Read, Write};
use std::process::exit;
use std::thread;
use std::time::Duration;

use gc_heap::Heap;

use crate::collector::Collector;
use crate::failure::Failure;
use crate::hiccups::{self, Hiccups};
use crate::measure::{Bench, ByHand, Gauge, StopWatching, watch};
use crate::outcome::{Footprint, record};
use crate::peer::{self, Peer};
use crate::plan::Plan;
use crate::process::peak_bytes;
use crate::record::Record;
use crate::session::{Message, Order};
use crate::size::short;
use crate::track::Track;
use crate::workload::{Work, manual};

/// `gc-bench run-one`: reads an [`Order`], answers with [`Message`]s. The parent reads the outcome
/// from the last of them.
pub(crate) fn main() -> Result<(), Failure> {
    // A panic anywhere, a collector's thread included, is a failed run and one line; the parent
    // prints it.
    std::panic::set_hook(Box::new(|panic| {
        let message = format!("panic: {panic}");
        say(&Message::Failure { code: 1, message: Failure::run(message).line() });
        exit(1);
    }));
    let mut stdin = io::stdin().lock();
    let mut line = String::new();
    let order = stdin.read_line(&mut line).ok().and_then(|_| serde_json::from_str::<Order>(&line).ok());
    let Some(Order { plan, progress, limit_s }) = order else {
        return Err(Failure::input("run-one is how gc-bench runs itself: use `gc-bench run`"));
    };
    let document_bytes = if let Work::Json(json) = &plan.work { json.document_bytes } else { 0 };
    let mut document = vec![0; document_bytes as usize];
    stdin.read_exact(&mut document).map_err(|e| Failure::run(format!("cannot read the document: {e}")))?;
    drop(stdin);
    // The parent writes nothing more: when the pipe ends, the parent has ended, and the result is
    // not needed.
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        exit(1);
    });
    if let Some(limit_s) = limit_s {
        thread::spawn(move || {
            thread::sleep(Duration::from_secs_f64(limit_s));
            let message = format!("took longer than {} s", short(limit_s));
            say(&Message::Failure { code: 1, message });
            exit(1);
        });
    }
    match run(&plan, &document, progress) {
        Ok(record) => say(&Message::Record(Box::new(record))),
        Err(e) => say(&Message::Failure { code: e.code(), message: e.line() }),
    }
    Ok(())
}

fn say(message: &Message) {
    let mut line = serde_json::to_vec(message).expect("plain data");
    line.push(b'\n');
    let mut out = io::stdout().lock();
    // The parent has ended: see `main`.
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// Makes the heap record faults and slow paths, for the utilisation.
fn build(plan: &Plan) -> Result<Heap, Failure> {
    plan.heap.builder().record_losses(true).build().map_err(|e| Failure::input(e.to_string()))
}

fn run(plan: &Plan, document: &[u8], progress: bool) -> Result<Record, Failure> {
    let hiccups = hiccups::calibrate(plan.work.threads(), Duration::from_millis(if plan.quick { 50 } else { 300 }));
    let record = match plan.heap.barrier.peer() {
        None => on_heap(plan, document, progress, hiccups)?,
        Some(Peer::Manual) => by_hand(plan, hiccups)?,
        Some(peer) => peer::run::run(plan, peer, hiccups)?,
    };
    checked(plan, record.checksum)?;
    Ok(record)
}

/// Where the work is fixed, so is its checksum.
fn checked(plan: &Plan, checksum: i64) -> Result<(), Failure> {
    match plan.work.expected_checksum() {
        Some(right) if right != checksum => {
            Err(Failure::run(format!("its checksum is {checksum}, and {right} is right")))
        }
        _ => Ok(()),
    }
}

/// With memory that the workload frees itself.
fn by_hand(plan: &Plan, hiccups: Hiccups) -> Result<Record, Failure> {
    let bench = ByHand::new(plan.work.threads(), plan.rate);
    let measured = manual::run(&plan.work, &bench)?;
    let closed = bench.into_closed().ok_or_else(measured_nothing)?;
    // What the bench itself keeps of the run is not the run's.
    let own_bytes = measured.tracks.iter().map(Track::bytes).sum();
    let footprint = Footprint { pss_peak_bytes: peak_bytes().saturating_sub(own_bytes), ..Footprint::default() };
    Ok(record(plan, footprint, &measured, closed, hiccups))
}

fn measured_nothing() -> Failure {
    Failure::run("the workload measured nothing")
}

fn on_heap(plan: &Plan, document: &[u8], progress: bool, hiccups: Hiccups) -> Result<Record, Failure> {
    let heap = build(plan)?;
    heap.warnings().iter().for_each(|warning| say(&Message::Warning { message: warning.to_string() }));
    let gauge = Gauge::new(plan.work.seconds());
    let bench = Bench::new(&heap, plan.heap.barrier, plan.work.threads(), document, &gauge).at_rate(plan.rate);
    let measured = thread::scope(|scope| {
        let report = progress.then_some(|phase: &str, done: f64| say(&Message::Progress { phase: phase.into(), done }));
        let (heap, gauge) = (&heap, &gauge);
        // Of private memory the kernel would walk the page tables, 40 times a second.
        let resident = plan.heap.barrier != Collector::PAGE_ANONYMOUS;
        let watcher = scope.spawn(move || watch(heap, gauge, resident, report));
        let _stop = StopWatching { gauge, watcher: watcher.thread().clone() };
        plan.work.run(&bench)
    })?;
    let closed = bench.into_closed().ok_or_else(measured_nothing)?;
    let footprint = Footprint::of(plan, &heap, &gauge, &measured, &closed);
    Ok(record(plan, footprint, &measured, closed, hiccups))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::samples::runs;

    /// A plan whose threads do as many operations each time: the work before the measured part is
    /// left out where it would last for a time.
    fn fixed(args: &[&str], peer: Option<&str>) -> Plan {
        let peer = peer.map_or(Vec::new(), |peer| vec!["--peer", peer]);
        let plan = runs(&[args, &["--quick", "--repeats", "1"], &peer[..]].concat()).unwrap().pop().unwrap();
        let mut settings = serde_json::to_value(plan).unwrap();
        if let Some(seconds) = settings.get_mut("warm_up_seconds") {
            *seconds = 0.0.into();
        }
        serde_json::from_value(settings).unwrap()
    }

    /// What depends on time, made not to: the same operations read the same, whoever frees what
    /// they leave.
    fn assert_reads_the_same(peer: &str) {
        for args in [
            &["table-churn", "--rate", "20000", "--seconds", "1", "--size", "5000"][..],
            &["lru-cache", "--rate", "20000", "--seconds", "1", "--size", "2", "--heap", "64m"],
        ] {
            let [ours, theirs] = [None, Some(peer)].map(|peer| run(&fixed(args, peer), &[], false).unwrap());
            assert_eq!((theirs.barrier.name(), ours.barrier.name()), (peer, "load"));
            assert_eq!((ours.ops, theirs.ops), (40_000, 40_000), "{args:?}");
            assert_ne!(ours.checksum, 0);
            assert_eq!(ours.checksum, theirs.checksum, "{args:?}");
        }
    }

    #[test]
    fn memory_freed_by_hand_reads_the_same() {
        assert_reads_the_same("manual");
    }

    #[test]
    fn what_is_installed_reads_the_same() {
        for peer in ["v8", "go"] {
            if runs(&["gcbench", "--peer", peer]).unwrap().len() == 2 {
                assert_reads_the_same(peer);
            } else {
                println!("NOT TESTED: {peer}, because it is not installed");
            }
        }
    }

    #[test]
    fn a_wrong_checksum_is_a_failure() {
        let plan = fixed(&["message-ring", "--size", "1000", "--barrier", "load"], None);
        assert_eq!(plan.work.expected_checksum().map(|right| checked(&plan, right).is_ok()), Some(true));
        let failure = checked(&plan, 1).unwrap_err();
        assert_eq!((failure.code(), crate::status::Status::of(&failure)), (1, crate::status::Status::Failed));
        assert!(failure.line().starts_with("its checksum is 1, and "), "{failure}");
        let timed = fixed(&["table-churn"], None);
        assert!(checked(&timed, 1).is_ok(), "it depends on time");
    }
}
