//! `gc-bench primitives`: what each mechanism of the kernel that a heap could use costs here, side
//! by side.
//!
//! The parent's side. Each group has a process of its own, so that its memory is gone when the next
//! begins and what kills one group is a row and not the end.
//!
//! | module | what |
//! | --- | --- |
//! | [`row`] | a row of the table, and what each is compared with |
//! | [`child`], [`reporter`], [`effort`] | the process of a group: what it is told and tells, how often it measures |
//! | [`memory`] | ranges to measure on |
//! | [`move_page_tables`], [`fault`], [`batch`], [`chunk`], [`view`], [`touch`], [`barrier`] | the groups |

mod barrier;
mod batch;
pub(crate) mod child;
mod chunk;
mod effort;
mod fault;
mod memory;
mod move_page_tables;
mod reporter;
pub(crate) mod row;
mod touch;
mod view;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;
use gc_heap::ByteSize;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::output::OutputArgs;
use crate::process::Usage;
use crate::record::Head;
use crate::session::{Guard, Meter};
use crate::size::{bytes, grouped, three};
use reporter::{Message, Order};
use row::{Group, Outcome, Per, Row};

const MIB: u64 = 1 << 20;
/// Sizes to take away, without `--sizes`.
const SIZES: [u64; 5] = [64 * MIB, 256 * MIB, 1024 * MIB, 4096 * MIB, 8192 * MIB];
const QUICK_SIZES: [u64; 2] = [64 * MIB, 256 * MIB];

/// `gc-bench primitives`.
#[derive(Debug, Args)]
pub(crate) struct PrimitivesArgs {
    /// Which groups to measure [default: all]
    #[arg(value_name = "GROUP", value_enum)]
    groups: Vec<Group>,

    /// Sizes of the view that is taken away and mirrored, with commas between them: numbers with k,
    /// m or g (KiB, MiB, GiB), each a multiple of 2 MiB [default: 64m,256m,1g,4g,8g, with --quick
    /// 64m,256m]. One that the memory does not suffice for is a row that says so
    #[arg(long, value_name = "SIZES", value_delimiter = ',')]
    sizes: Vec<ByteSize>,

    /// Small sizes and few repeats: a look at all of it in a few seconds
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// A report of primitives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Primitives {
    #[serde(flatten)]
    pub(crate) head: Head,
    /// Sizes that were asked for, in bytes.
    pub(crate) sizes: Vec<u64>,
    pub(crate) quick: bool,
    /// What reading the clock twice costs: it is in every figure that is one call, and in those of
    /// pages that fault.
    pub(crate) clock_ns: f64,
    pub(crate) wall_s: f64,
    /// Processor time of other processes meanwhile, in percent of one processor.
    pub(crate) other_cpu_percent: f64,
    /// Time the hypervisor gave to others, in percent of one processor.
    pub(crate) stolen_percent: f64,
    pub(crate) rows: Vec<Row>,
}

impl Primitives {
    /// Whether another process took so much of the machine that the figures are not the kernel's.
    pub(crate) fn noisy(&self) -> bool {
        self.other_cpu_percent > 6.0
    }
}

/// What is to be measured, found possible.
pub(crate) struct Plan {
    groups: Vec<Group>,
    sizes: Vec<u64>,
    quick: bool,
}

impl Plan {
    pub(crate) fn new(args: &PrimitivesArgs) -> Result<Self, Failure> {
        let mut sizes: Vec<u64> = args.sizes.iter().map(|size| size.bytes()).collect();
        if sizes.is_empty() {
            sizes.extend(if args.quick { &QUICK_SIZES[..] } else { &SIZES });
        }
        sizes.sort_unstable();
        sizes.dedup();
        for &size in &sizes {
            if size < 4 * MIB || !size.is_multiple_of(2 * MIB) || size > 1 << 40 {
                let size = bytes(size);
                return Err(Failure::input(format!("--sizes: {size} is not a multiple of 2 MiB from 4 MiB to 1 TiB")));
            }
        }
        let mut groups = args.groups.clone();
        if groups.is_empty() {
            groups.extend(Group::ALL);
        }
        groups.sort_unstable();
        groups.dedup();
        Ok(Self { groups, sizes, quick: args.quick })
    }

    /// Measures every group, one after another. A group that fails is a row.
    pub(crate) fn run(&self, head: Head) -> Result<Primitives, Failure> {
        let began = Instant::now();
        let usage = Usage::start();
        let mut meter = Meter::new(self.groups.len());
        let (mut rows, mut clock_ns, mut child_cpu) = (Vec::new(), f64::MAX, 0.0);
        for &group in &self.groups {
            meter.begin(group.title());
            let order = Order { group, sizes: self.sizes.clone(), quick: self.quick, progress: meter.shows() };
            let found = run_group(&order, &mut meter)?;
            clock_ns = found.clock_ns.unwrap_or(f64::MAX).min(clock_ns);
            child_cpu += found.cpu_s;
            meter.end(&format!("{}: {} rows", group.title(), grouped(found.rows.len() as u64)));
            rows.extend(found.rows);
        }
        meter.finish();
        row::compare(&mut rows);
        let used = usage.end();
        let wall_s = began.elapsed().as_secs_f64();
        let own = child_cpu / wall_s.max(1e-6) * 100.0;
        Ok(Primitives {
            head,
            sizes: self.sizes.clone(),
            quick: self.quick,
            clock_ns: if clock_ns < f64::MAX { clock_ns } else { 0.0 },
            wall_s,
            // The groups are other processes too, and not noise.
            other_cpu_percent: ((used.other_percent - own).max(0.0) * 10.0).round() / 10.0,
            stolen_percent: used.stolen_percent,
            rows,
        })
    }
}

/// What one group's process said.
struct Found {
    rows: Vec<Row>,
    clock_ns: Option<f64>,
    cpu_s: f64,
}

/// Runs a group in a process of its own. Only a process that cannot be started is a failure of the
/// whole.
fn run_group(order: &Order, meter: &mut Meter) -> Result<Found, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::run(format!("cannot find this program to start it again: {e}")))?;
    let child = Command::new(program).arg("measure-primitives").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = Guard(child.map_err(|e| Failure::run(format!("cannot start a process: {e}")))?);
    let mut stdin = child.0.stdin.take().expect("asked for");
    let mut line = serde_json::to_vec(order).expect("plain data");
    line.push(b'\n');
    // A process that is gone already says why below; the broken pipe is not the news.
    let _ = stdin.write_all(&line).and_then(|()| stdin.flush());
    let mut found = Found { rows: Vec::new(), clock_ns: None, cpu_s: 0.0 };
    let mut end = None;
    for line in BufReader::new(child.0.stdout.take().expect("asked for")).lines() {
        let message = line.map_err(|e| e.to_string()).and_then(|line| {
            serde_json::from_str(&line).map_err(|e| format!("its process said what is not a message ({e})"))
        });
        match message {
            Ok(Message::Progress { what }) => meter.show(&what, 0.5),
            Ok(Message::Clock { ns }) => found.clock_ns = Some(ns),
            Ok(Message::Row(row)) => found.rows.push(*row),
            Ok(Message::Done { cpu_s }) => {
                found.cpu_s = cpu_s;
                end = Some(Ok(()));
            }
            Ok(Message::Failure { why }) | Err(why) => end = Some(Err(why)),
        }
    }
    let status = child.0.wait().map_err(|e| Failure::run(format!("cannot wait for a group's process: {e}")))?;
    drop(stdin);
    let why = match end {
        Some(Ok(())) if status.success() => return Ok(found),
        Some(Err(why)) => why,
        _ => format!("its process ended on the way ({status})"),
    };
    found.rows.push(Row {
        group: order.group,
        what: "the rest of the group".into(),
        bytes: 0,
        per: Per::Call,
        outcome: Outcome::Failed { why },
        ratio: None,
    });
    Ok(found)
}

/// The line about noise that every report has.
pub(crate) fn noise(of: &Primitives) -> String {
    format!(
        "reading the clock twice costs {} ns, which is in each sample; others used {} % of a processor, the hypervisor took {} %",
        three(of.clock_ns),
        three(of.other_cpu_percent),
        three(of.stolen_percent)
    )
}
