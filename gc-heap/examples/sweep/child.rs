//! One case, in a process of its own.

use crate::cases::Case;
use gc_core::sys::inject;
use gc_heap::{
    AllocSize, Backing, Barrier, BuildError, Bytes, Gc, Heap, HeapBuilder, HugePages, Local, MIN_HEAP_BYTES, Mutator,
    Root, RootStack, Slot, Stress, Tagged, Trace, Value, Weak,
};
use std::error::Error;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The first argument of a child, then a barrier, and unless the calls are to be counted: a call,
/// an errno, how many calls are made before, and how many are refused, or `all`.
pub(crate) const CHILD: &str = "--child";

/// No case takes a tenth of this.
const HANG: Duration = Duration::from_secs(20);

/// How a case ended.
#[derive(Debug)]
pub(crate) enum End {
    /// All was done.
    Well,
    /// The workload was told of a typed error, by these words, and did without.
    Typed(#[expect(dead_code, reason = "for Debug")] String),
    /// `abort`, with one line that names the call and what it answered: where a page of the program
    /// cannot be had.
    Line(#[expect(dead_code, reason = "for Debug")] String),
    Signal(#[expect(dead_code, reason = "for Debug")] String),
    Hang,
    Panic(#[expect(dead_code, reason = "for Debug")] String),
}

impl End {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            End::Well => "well",
            End::Typed(_) => "typed",
            End::Line(_) => "line",
            End::Signal(_) => "SIGNAL",
            End::Hang => "HANG",
            End::Panic(_) => "PANIC",
        }
    }

    pub(crate) fn is_fine(&self) -> bool {
        matches!(self, End::Well | End::Typed(_) | End::Line(_))
    }
}

/// The calls that the workload makes with a barrier.
pub(crate) fn count(barrier: &str) -> Result<Vec<(String, u64)>, String> {
    let Some(output) = output(&[barrier]) else { return Err("it hangs where nothing is refused".into()) };
    let text = String::from_utf8_lossy(&output.stdout);
    let made = text.lines().filter_map(|line| line.strip_prefix("made ")?.split_once(' '));
    let made: Vec<_> = made.filter_map(|(count, call)| Some((call.to_owned(), count.parse().ok()?))).collect();
    let well = output.status.success() && !text.contains("typed ") && !made.is_empty();
    if well { Ok(made) } else { Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr))) }
}

pub(crate) fn run(case: &Case) -> End {
    let count = if case.count == u64::MAX { "all".into() } else { case.count.to_string() };
    let Some(output) = output(&[case.barrier, &case.call, &case.errno.to_string(), &case.skip.to_string(), &count])
    else {
        return End::Hang;
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.signal() {
        // The line names the call; a panic's is not one.
        Some(libc::SIGABRT)
            if err.starts_with("parallax: ") && err.trim_end().lines().count() == 1 && err.contains(&case.call) =>
        {
            End::Line(err.into())
        }
        Some(signal) => End::Signal(format!("{signal}: {err}")),
        None if !output.status.success() => End::Panic(err.into()),
        None => {
            out.lines().find_map(|line| line.strip_prefix("typed ")).map_or(End::Well, |line| End::Typed(line.into()))
        }
    }
}

fn output(arguments: &[&str]) -> Option<Output> {
    let this = std::env::current_exe().expect("this program");
    let mut command = Command::new(this);
    command.arg(CHILD).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // What a child says fits the pipes, so it is read when it has ended.
    ended(command.spawn().expect("a child"))
}

/// What a child said, if it ended in time.
fn ended(mut child: Child) -> Option<Output> {
    let until = Instant::now() + HANG;
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            let [mut stdout, mut stderr] = [Vec::new(), Vec::new()];
            child.stdout.take().map(|mut pipe| pipe.read_to_end(&mut stdout));
            child.stderr.take().map(|mut pipe| pipe.read_to_end(&mut stderr));
            return Some(Output { status, stdout, stderr });
        }
        if Instant::now() > until {
            child.kill().and_then(|()| child.wait()).expect("a child of ours");
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Does what makes calls, with heaps of a builder.
type Part = fn(&dyn Fn() -> HeapBuilder) -> Result<(), Box<dyn Error>>;

/// What a child does.
pub(crate) fn play(arguments: &[String]) -> ExitCode {
    let barrier = arguments[0].clone();
    if let [_, call, errno, skip, count] = arguments {
        let count = count.parse().unwrap_or(u64::MAX);
        inject::refuse(call.clone().leak(), errno.parse().expect("a number"), skip.parse().expect("a number"), count);
    }
    let builder = || {
        let builder = Heap::builder().max_bytes(MIN_HEAP_BYTES).stress(MOVES);
        match barrier.parse() {
            Ok(barrier) => builder.barrier(barrier),
            Err(_) => builder.barrier(Barrier::Page).backing(Backing::Anonymous),
        }
    };
    // Each part goes on where the one before was refused.
    let parts: [(&str, Part); 3] = [("objects", objects), ("options", options), ("again", objects)];
    for (name, part) in parts {
        if let Err(error) = part(&builder) {
            println!("typed {name}: {error}");
        }
    }
    for (call, count) in inject::made() {
        println!("made {count} {call}");
    }
    ExitCode::SUCCESS
}

/// Moves what can be moved, in every cycle.
const MOVES: Stress = Stress { cycle_every: u32::MAX, delay_one_in: 0, seed: 1 };

#[derive(Trace)]
struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

type List<'s> = Local<'s, Option<Node>>;

/// Adds to a list, with as much garbage between its nodes.
fn grow(m: &mut Mutator<'_>, list: &List<'_>, ids: std::ops::Range<u64>) -> Result<(), Box<dyn Error>> {
    for id in ids {
        let m = m.reserve(AllocSize::of::<Node>().times(2))?;
        list.set(m, Some(m.place(NodeInit { id, next: list.get(m) })));
        m.place(NodeInit { id: u64::MAX, next: None });
    }
    Ok(())
}

fn check(m: &Mutator<'_>, list: &List<'_>, len: u64) {
    let (mut node, mut left) = (list.get(m), len);
    while let Some(here) = node {
        left -= 1;
        assert_eq!(here.id, left, "wrong data");
        node = here.next.get(m);
    }
    assert_eq!(left, 0, "wrong data");
}

const NODES: u64 = 5000;

/// Two threads with lists that move, roots of all kinds, lent bytes, memory given back.
fn objects(builder: &dyn Fn() -> HeapBuilder) -> Result<(), Box<dyn Error>> {
    let heap = builder().build()?;
    let other = std::thread::scope(|scope| {
        let other = scope.spawn(|| work(&heap).map_err(|error| error.to_string()));
        let own = work(&heap);
        let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        own.and(other.map_err(Into::into))
    });
    heap.release_memory();
    heap.collect();
    other.and_then(|()| faults(&heap))
}

/// Reads objects while they move, so that with the page barrier pages are installed by the thread
/// that touches them.
fn faults(heap: &Heap) -> Result<(), Box<dyn Error>> {
    let (done, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let read = |m: &mut Mutator<'_>| -> Result<(), Box<dyn Error>> {
                let list: List<'_> = m.local(None);
                let mut len = 0;
                while !done.load(Ordering::Relaxed) {
                    if len < 4 * NODES {
                        grow(m, &list, len..len + 100)?;
                        len += 100;
                    }
                    check(m, &list, len);
                    rounds.fetch_add(1, Ordering::Relaxed);
                    m.safepoint();
                }
                Ok(())
            };
            heap.enter(read).map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        });
        for round in 1..=12 {
            while rounds.load(Ordering::Relaxed) < 2 * round && !reads.is_finished() {
                std::thread::yield_now();
            }
            heap.collect();
        }
        done.store(true, Ordering::Relaxed);
        reads.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(Into::into)
    })
}

fn work(heap: &Heap) -> Result<(), Box<dyn Error>> {
    let work = |m: &mut Mutator<'_>| -> Result<(), Box<dyn Error>> {
        let list: List<'_> = m.local(None);
        let mut roots = Vec::new();
        let mut result = Ok(());
        for round in 1..=3 {
            grow(m, &list, (round - 1) * NODES..round * NODES)?;
            // More than one table.
            for number in 0..600 {
                roots.push(Root::<Tagged>::new(m, Value::num(f64::from(number))));
            }
            let weak = Weak::<Node>::new(m, list.get(m).expect("it grew"));
            let reserved = m.reserve(AllocSize::tail::<Bytes>(100))?;
            let pinned = reserved.pin(reserved.place_bytes::<Bytes>((), &[7; 100]));
            match RootStack::<Tagged>::with_capacity(heap, 100_000) {
                Ok(stack) => {
                    (0..1000).for_each(|number| stack.push(m, Value::num(f64::from(number))));
                    m.collect();
                    assert_eq!(stack.peek(m, 0).as_num(), Some(999.0), "wrong data");
                }
                Err(error) => {
                    result = Err(error.into());
                    m.collect();
                }
            }
            check(m, &list, round * NODES);
            assert!(pinned.tail() == [7; 100], "wrong data");
            let lent: Gc<'_, Bytes> = pinned.get(m);
            assert!(m.bytes_for_syscall(lent) == [7; 100], "wrong data");
            assert!(weak.get(m).is_some(), "wrong data");
            drop(pinned);
            m.collect();
            check(m, &list, round * NODES);
            heap.release_memory();
        }
        for (index, root) in roots.iter().enumerate() {
            assert_eq!(root.get(m).as_num(), Some((index % 600) as f64), "wrong data");
        }
        result
    };
    heap.enter(work)?
}

/// What is asked of the system for heaps that want more of it.
fn options(builder: &dyn Fn() -> HeapBuilder) -> Result<(), Box<dyn Error>> {
    let heaps = [
        builder().pretouch(true).huge_pages(HugePages::Collapse).build(),
        builder().huge_pages(HugePages::Advise).verify(true).single_view(true).build(),
        builder().mirror(gc_heap::Mirror::MremapOldSizeZero).workers(4).record_losses(true).build(),
    ];
    for heap in heaps.iter().flatten() {
        heap.enter(|m| -> Result<(), Box<dyn Error>> {
            let list: List<'_> = m.local(None);
            grow(m, &list, 0..NODES)?;
            m.collect();
            check(m, &list, NODES);
            Ok(())
        })??;
    }
    heaps.into_iter().collect::<Result<Vec<_>, BuildError>>()?;
    Ok(())
}
