//! What threads without the heap lose while the collector changes mappings: the memory-map lock of
//! the process is one.
//!
//! `cargo run --release -p gc-heap --example mmap_lock -- --help`
//!
//! Threads in the heap work on small objects that refer to one another at random, as in the `flip`
//! example, and every cycle relocates. One thread outside it maps a page of private memory (takes
//! the lock for writing), touches it (for reading, or the lock of the mapping), and unmaps it (for
//! writing), again and again, and times each call. The calls are then sorted by what the collector
//! was doing meanwhile, as its events tell.

#[path = "../tests/random/mod.rs"]
mod random;

use gc_core::sys;
use gc_heap::{AllocSize, Barrier, Event, Heap, Mutator, OutOfMemory, Phase, Slot, SlotArray, Stress, Trace};
use random::Random;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const HELP: &str = "\
How long mmap, a first touch and munmap take in a thread outside the heap, by what the collector does meanwhile

  --barrier load|page  the heap's barrier [page]
  --heap MIB           its size [64]
  --live MIB           live data, once it is built [an eighth of the heap]
  --mutators N         threads in the heap [1]
  --work PERCENT       of its time that each of them works; it sleeps for the rest [50]
  --seconds N          for how long [10]
  --pause US           sleep of the timing thread between two rounds, 0: none [20]
  --worst N            tell where in its phase each of the N longest calls fell [5]

A round in which the thread waited for a processor is left out, and counted: it would time the scheduler. But a collector
that loses its processor while it holds the lock cannot be told from one that holds it for long: so leave processors free,
with --work where there are few.";

/// 128 bytes with its header.
#[derive(Trace)]
struct Node {
    number: u64,
    a: Slot<Option<Node>>,
    b: Slot<Option<Node>>,
    c: Slot<Option<Node>>,
    rest: [u64; 11],
}

type Table = SlotArray<Option<Node>>;

/// Bytes of a node and of the word that leads to it.
const NODE_BYTES: usize = 128 + 8;

const PAGE: usize = 4096;

struct Options {
    barrier: Barrier,
    heap: usize,
    live: Option<usize>,
    mutators: usize,
    work: usize,
    seconds: usize,
    pause: usize,
    worst: usize,
}

/// `None`: help was asked for.
fn options() -> Result<Option<Options>, String> {
    let mut options = Options {
        barrier: Barrier::Page,
        heap: 64,
        live: None,
        mutators: 1,
        work: 50,
        seconds: 10,
        pause: 20,
        worst: 5,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--help" || name == "-h" {
            return Ok(None);
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        if name == "--barrier" {
            options.barrier = match value.as_str() {
                "load" => Barrier::Load,
                "page" => Barrier::Page,
                _ => return Err(format!("--barrier {value}: load or page")),
            };
            continue;
        }
        let number = value.parse().map_err(|_| format!("{name} {value}: not a number"))?;
        match name.as_str() {
            "--heap" => options.heap = number,
            "--live" => options.live = Some(number),
            "--mutators" => options.mutators = number,
            "--work" => options.work = number,
            "--seconds" => options.seconds = number,
            "--pause" => options.pause = number,
            "--worst" => options.worst = number,
            _ => return Err(format!("{name}: no such option; see --help")),
        }
    }
    if !(1..=100).contains(&options.work) {
        return Err(format!("--work {}: 1 to 100", options.work));
    }
    if options.mutators == 0 {
        return Err("--mutators 0: nothing would be collected".into());
    }
    Ok(Some(options))
}

/// What is timed.
const KINDS: [&str; 3] = ["mmap", "first touch", "munmap"];

#[derive(Clone, Copy)]
struct Call {
    kind: usize,
    start_ns: u64,
    ns: u64,
}

/// What the collector was doing, the most of interest last.
const DOINGS: [&str; 4] = ["idle", "mark, reclaim", "plan", "flip, repair"];

/// Times of a doing, in their order.
#[derive(Default)]
struct Doing(Vec<(u64, u64)>);

impl Doing {
    /// The first that a call falls in, wholly or in part.
    fn meets(&self, call: &Call) -> Option<(u64, u64)> {
        let next = self.0.partition_point(|&(_, end)| end < call.start_ns);
        self.0.get(next).copied().filter(|&(start, _)| start <= call.start_ns + call.ns)
    }
}

fn doings(events: &[Event]) -> [Doing; 4] {
    let mut doings: [Doing; 4] = Default::default();
    for event in events {
        let what = match event {
            Event::Cycle(_) => 1,
            Event::Phase(span) => match span.phase {
                Phase::Plan => 2,
                // The flip's own stop is the beginning of what is told as repair.
                Phase::Repair | Phase::Relocate => 3,
                _ => continue,
            },
            _ => continue,
        };
        doings[what].0.push((event.start_ns(), event.end_ns()));
    }
    doings
}

/// A round that waited for a processor this long is left out.
const LEAST_WAIT: Duration = Duration::from_micros(2);

/// Calls, the rounds that were left out, and the longest call of those.
type Timed = (Vec<Call>, usize, u64);

/// Maps, touches and unmaps until the others are done.
fn time_calls(heap: &Heap, over: &AtomicBool, pause: Duration) -> Result<Timed, sys::SysError> {
    let (mut calls, mut left_out, mut longest) = (Vec::new(), 0, 0);
    let delay = sys::RunDelay::of_this_thread()?;
    while !over.load(Ordering::Relaxed) {
        let before = delay.total()?;
        let mut at = [heap.now_ns(); 4];
        let page = sys::reserve_writable(PAGE)?;
        at[1] = heap.now_ns();
        // SAFETY: mapped just now, for this thread alone.
        unsafe { std::ptr::with_exposed_provenance_mut::<u8>(page).write_volatile(1) };
        at[2] = heap.now_ns();
        // SAFETY: as above; nothing refers to it.
        unsafe { sys::unmap(page, PAGE)? };
        at[3] = heap.now_ns();
        let waited = delay.total()? - before;
        let round = (0..KINDS.len()).map(|kind| Call { kind, start_ns: at[kind], ns: at[kind + 1] - at[kind] });
        if waited < LEAST_WAIT {
            calls.extend(round);
        } else {
            left_out += 1;
            longest = round.map(|call| call.ns).max().unwrap_or(0).max(longest);
        }
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
    Ok((calls, left_out, longest))
}

/// Builds this thread's part, says so, and replaces a part of it again and again.
fn mutate(
    m: &mut Mutator<'_>,
    seed: u64,
    nodes: usize,
    built: &AtomicUsize,
    over: &AtomicBool,
    work: u32,
) -> Result<(), OutOfMemory> {
    let mut random = Random::new(seed);
    let table = m.reserve(AllocSize::tail::<Table>(nodes))?;
    let table = table.local(table.place_array::<Table>((), nodes, None));
    let place = |m: &mut Mutator<'_>, at: usize, random: &mut Random| {
        let m = m.reserve(AllocSize::of::<Node>())?;
        let slots = table.get(m).tail();
        // Only the lower half is referred to: else nothing would ever die.
        let [a, b, c] =
            if at < nodes / 2 { [None; 3] } else { [(); 3].map(|()| slots[random.below(nodes / 2)].get(m)) };
        slots[at].set(m, Some(m.place(NodeInit { number: at as u64, a, b, c, rest: [seed; 11] })));
        Ok::<(), OutOfMemory>(())
    };
    for at in 0..nodes {
        place(m, at, &mut random)?;
    }
    built.fetch_add(1, Ordering::Relaxed);
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        for _ in 0..1000 {
            let at = random.below(nodes / 2) + nodes / 2;
            place(m, at, &mut random)?;
            let at = random.below(nodes);
            let found = table.get(m).tail()[at].get(m).map(|node| (node.number, node.rest[10]));
            assert_eq!(found, Some((at as u64, seed)));
        }
        if work < 100 {
            let rest = begun.elapsed() * (100 - work) / work;
            m.blocking(|| std::thread::sleep(rest));
        }
    }
    Ok(())
}

fn micros(sorted: &[u64], share: f64) -> f64 {
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len() - 1);
    sorted[at] as f64 / 1000.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(options) = options()? else {
        println!("{HELP}");
        return Ok(());
    };
    let live = options.live.unwrap_or(options.heap / 8) << 20;
    let nodes = (live / options.mutators / NODE_BYTES).max(1000);
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let heap = Heap::builder()
        .max_bytes(options.heap << 20)
        .barrier(options.barrier)
        // Every cycle relocates.
        .stress(Stress { cycle_every: (nodes / 2) as u32, delay_one_in: 0, seed: 1 })
        .pretouch(true)
        .on_event(move |event| told.lock().unwrap_or_else(PoisonError::into_inner).push(*event))
        .build()?;
    let (built, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (timed, began_ns) = std::thread::scope(|scope| {
        /// Ends the threads also where one of them has failed.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let end = Over(&over);
        let threads: Vec<_> = (0..options.mutators)
            .map(|index| {
                let (heap, built, over) = (&heap, &built, &over);
                scope
                    .spawn(move || heap.enter(|m| mutate(m, index as u64 + 1, nodes, built, over, options.work as u32)))
            })
            .collect();
        while built.load(Ordering::Relaxed) < options.mutators && !threads.iter().any(|thread| thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let began_ns = heap.now_ns();
        let timer = scope.spawn(|| time_calls(&heap, &over, Duration::from_micros(options.pause as u64)));
        let until = began_ns + options.seconds as u64 * 1_000_000_000;
        while heap.now_ns() < until && !threads.iter().any(|thread| thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(end);
        for thread in threads {
            thread.join().expect("a mutator ends")??;
        }
        let timed = timer.join().expect("the timing thread ends")?;
        Ok::<_, Box<dyn std::error::Error>>((timed, began_ns))
    })?;
    // What was under way is told by the end of the cycle after it.
    heap.collect();
    let events = events.lock().unwrap_or_else(PoisonError::into_inner);
    report(&options, &events, began_ns, timed)
}

fn report(
    options: &Options,
    events: &[Event],
    began_ns: u64,
    (calls, left_out, longest): Timed,
) -> Result<(), Box<dyn std::error::Error>> {
    let doings = doings(events);
    let relocations = doings[3].0.iter().filter(|&&(start, _)| start >= began_ns).count();
    if relocations == 0 || calls.is_empty() {
        return Err("nothing was relocated while calls were timed: more --seconds, or less --live".into());
    }
    let millis = doings[3].0.iter().map(|&(start, end)| (end - start) as f64 / 1e6);
    println!(
        "{} MiB, {:?} barrier, {} mutators, {} s: {} relocations, the longest {:.1} ms; {left_out} rounds left out, the \
         longest call in them {:.1} us",
        options.heap,
        options.barrier,
        options.mutators,
        options.seconds,
        relocations,
        millis.fold(0.0, f64::max),
        longest as f64 / 1000.0
    );
    let doing = |call: &Call| (1..DOINGS.len()).rev().find(|&what| doings[what].meets(call).is_some()).unwrap_or(0);
    println!(
        "{:<12} {:<14} {:>9} {:>9} {:>9} {:>9} {:>9} us",
        "call", "collector", "calls", "p50", "p99", "p99.9", "max"
    );
    for (kind, name) in KINDS.iter().enumerate() {
        for (what, collector) in DOINGS.iter().enumerate() {
            let mut ns: Vec<_> =
                calls.iter().filter(|call| call.kind == kind && doing(call) == what).map(|call| call.ns).collect();
            if ns.is_empty() {
                println!("{name:<12} {collector:<14} {:>9}", 0);
                continue;
            }
            ns.sort_unstable();
            let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|share| micros(&ns, share));
            println!("{name:<12} {collector:<14} {:>9} {p50:>9.1} {p99:>9.1} {p999:>9.1} {max:>9.1}", ns.len());
        }
    }
    let mut longest = calls;
    longest.sort_unstable_by_key(|call| std::cmp::Reverse(call.ns));
    for call in longest.iter().take(options.worst) {
        let what = doing(call);
        let name = KINDS[call.kind];
        print!("{name} of {:.1} us: {}", call.ns as f64 / 1000.0, DOINGS[what]);
        match doings[what].meets(call) {
            Some((start, end)) => println!(
                ", begun {:.3} ms into a phase of {:.3} ms",
                (call.start_ns as f64 - start as f64) / 1e6,
                (end - start) as f64 / 1e6
            ),
            None => println!(),
        }
    }
    Ok(())
}
