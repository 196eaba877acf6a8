//! The process of a group: it measures, and tells each row as soon as it has it.

use std::io::{self, BufRead};
use std::process::exit;
use std::thread;
use std::time::Duration;

use super::effort::Effort;
use super::reporter::{Message, Order, Reporter, say};
use super::row::Group;
use super::{barrier, batch, chunk, fault, move_page_tables, touch, view};
use crate::clock::pair_ns;
use crate::failure::Failure;
use crate::process::cpu_time;

/// A group without a new message for this long hangs: a thread waits for a page that is never
/// mapped.
const LONGEST: Duration = Duration::from_secs(150);

/// `gc-bench measure-primitives`: reads an [`Order`], answers with [`Message`]s.
pub(crate) fn main() -> Result<(), Failure> {
    // A panic anywhere is the end of this group and one line.
    std::panic::set_hook(Box::new(|panic| {
        say(&Message::Failure { why: Failure::run(format!("panic: {panic}")).line() });
        exit(1);
    }));
    let mut stdin = io::stdin().lock();
    let mut line = String::new();
    let order = stdin.read_line(&mut line).ok().and_then(|_| serde_json::from_str::<Order>(&line).ok());
    let Some(order) = order else {
        return Err(Failure::input("measure-primitives is how gc-bench runs itself: use `gc-bench primitives`"));
    };
    drop(stdin);
    // The parent writes nothing more: the end of the pipe is its end, however it came, and nobody
    // wants the rows then.
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        exit(1);
    });
    thread::spawn(|| {
        thread::sleep(LONGEST);
        say(&Message::Failure { why: format!("not done after {} s", LONGEST.as_secs()) });
        exit(1);
    });
    say(&Message::Clock { ns: pair_ns() });
    let mut reporter = Reporter { group: order.group, effort: Effort::new(order.quick), progress: order.progress };
    let sizes: Vec<usize> = order.sizes.iter().map(|&size| size as usize).collect();
    match order.group {
        Group::TakeAway => move_page_tables::measure(&mut reporter, &sizes),
        Group::Fault => fault::measure(&mut reporter),
        Group::Batch => batch::measure(&mut reporter),
        Group::Chunk => chunk::measure(&mut reporter),
        Group::View => view::measure(&mut reporter, &sizes),
        Group::Touch => touch::measure(&mut reporter),
        Group::Barrier => barrier::measure(&mut reporter),
    }
    say(&Message::Done { cpu_s: cpu_time().as_secs_f64() });
    // The memory is given back by the end of the process, not piece by piece.
    exit(0)
}
