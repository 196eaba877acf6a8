//! A document parsed into heap objects over and over, beside queries on the last few.
//!
//! One thread parses and puts each finished document in the place of the oldest; the others pick
//! one of them and walk a random path down to a leaf. Now and then they count a whole document,
//! which must have as many values as serde_json found in the text: objects that move under a
//! reader, checked end to end.

use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use gc_heap::{
    AllocSize, AnyGc, Bytes, Gc, Mutator, OutOfMemory, Root, RootStack, Slot, SlotArray, Tagged, Trace, Value,
};

use serde::{Deserialize, Serialize};

use super::common::{MIB, Meetings, Timed, Workload, from_enter, from_memory, pick};
use crate::failure::Failure;
use crate::json_text::{Census, MAX_DEPTH, Sink, Stop, parse};
use crate::measure::{Bench, Measured};
use crate::rng::{PEER_SEED, Rng};
use crate::size::{parse_count, parse_seconds};
use crate::track::{Series, Track};

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Json {
    threads: u64,
    /// Length of the measured part.
    seconds: f64,
    warm_up_seconds: f64,
    seed: u64,
    /// Length of the document that follows the plan.
    pub(crate) document_bytes: u64,
    /// Bytes of a heap's objects that a document becomes, for the parent only.
    #[serde(skip)]
    parsed_bytes: u64,
}

#[derive(Debug, Args)]
pub(crate) struct JsonOptions {
    /// The document [default: what `cargo metadata --format-version 1` says of the workspace, asked
    /// for now]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Mutator threads: one parses, the others query [default: 2]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    threads: Option<u64>,

    /// How long the measured part lasts [default: 10, with --quick 1]
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    seconds: Option<f64>,

    /// Seed of the random queries
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl Json {
    const NAME: &'static str = "json";

    /// Of a document of that many bytes, of which the parser has made a census.
    pub(crate) fn new(args: &JsonOptions, quick: bool, document_bytes: u64, census: Census) -> Result<Self, Failure> {
        let threads = args.threads.unwrap_or(2);
        if threads < 2 {
            return Err(Failure::input("json needs at least 2 threads: one parses, the others query"));
        }
        Ok(Self {
            threads,
            seconds: args.seconds.unwrap_or(pick(quick, 10.0, 1.0)),
            warm_up_seconds: pick(quick, 2.0, 0.3),
            seed: args.seed.unwrap_or(PEER_SEED),
            document_bytes,
            parsed_bytes: census.heap_bytes,
        })
    }
}

impl Workload for Json {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn heap_bytes(&self, _quick: bool) -> u64 {
        512 * MIB
    }

    fn min_live_bytes(&self) -> u64 {
        // Those kept, the one in the making, and the one just replaced.
        self.parsed_bytes.saturating_mul(KEPT as u64 + 2)
    }

    fn timed(&self) -> Option<Timed> {
        Some(Timed { threads: self.threads, seconds: self.seconds })
    }

    fn has_peers(&self) -> bool {
        false
    }

    fn run(&self, bench: &Bench<'_>) -> Result<Measured, Failure> {
        run(self, bench)
    }
}

/// Documents kept.
const KEPT: usize = 4;
/// One in so many queries is followed by a count of a whole document.
const COUNT_EVERY: u64 = 4096;

type List = SlotArray<Tagged>;

/// An object: key, value, key, value.
#[derive(Trace)]
#[trace(tail = Slot<Tagged>)]
struct Dict;

/// Values that a sample of parsing is of, and one of counting: some microseconds each.
const PARSED_AT_ONCE: u32 = 16;
const COUNTED_AT_ONCE: u64 = 256;

/// Builds the objects. What is not in a container yet is on the stack.
struct Builder<'a, 's> {
    m: &'a mut Mutator<'s>,
    stack: &'a RootStack<Tagged>,
    track: &'a mut Track,
    /// Values until the sample ends.
    left: u32,
}

impl Builder<'_, '_> {
    /// One more value is parsed.
    fn count(&mut self) {
        self.left -= 1;
        if self.left == 0 {
            self.left = PARSED_AT_ONCE;
            self.track.end(Series::Other);
        }
    }

    fn text(&mut self, text: &str) -> Result<(), OutOfMemory> {
        let m = self.m.reserve(AllocSize::tail::<Bytes>(text.len()))?;
        self.stack.push(m, m.place_bytes::<Bytes>((), text.as_bytes()).into());
        self.count();
        Ok(())
    }

    /// Takes the last `n` values off the stack into an object of type `T`.
    fn container<T>(&mut self, n: usize) -> Result<(), OutOfMemory>
    where
        T: for<'g> Trace<Tail = Slot<Tagged>, Init<'g> = ()>,
    {
        let m = self.m.reserve(AllocSize::tail::<T>(n))?;
        let container = m.place_tail::<T, _>((), (0..n).rev().map(|depth| self.stack.peek(m, depth)));
        self.stack.drop_top(m, n);
        self.stack.push(m, container.into());
        self.count();
        Ok(())
    }
}

impl Sink for Builder<'_, '_> {
    type Error = OutOfMemory;

    fn null(&mut self) -> Result<(), OutOfMemory> {
        self.stack.push(self.m, Value::NIL);
        self.count();
        Ok(())
    }

    fn bool(&mut self, value: bool) -> Result<(), OutOfMemory> {
        self.stack.push(self.m, Value::bool(value));
        self.count();
        Ok(())
    }

    fn number(&mut self, value: f64) -> Result<(), OutOfMemory> {
        self.stack.push(self.m, Value::num(value));
        self.count();
        Ok(())
    }

    fn string(&mut self, value: &str) -> Result<(), OutOfMemory> {
        self.text(value)
    }

    fn key(&mut self, value: &str) -> Result<(), OutOfMemory> {
        self.text(value)
    }

    fn array(&mut self, values: usize) -> Result<(), OutOfMemory> {
        self.container::<List>(values)
    }

    fn object(&mut self, pairs: usize) -> Result<(), OutOfMemory> {
        self.container::<Dict>(2 * pairs)
    }
}

/// The values of a container: all of a list's, every second of an object's.
fn values<'g>(any: AnyGc<'g>) -> Option<(&'g [Slot<Tagged>], usize)> {
    if let Some(list) = any.downcast::<List>() {
        return Some((list.tail(), 1));
    }
    any.downcast::<Dict>().map(|dict: Gc<'g, Dict>| (dict.tail(), 2))
}

/// What all threads of a run share.
struct Scene<'a> {
    text: &'a str,
    census: Census,
    kept: Root<SlotArray<Tagged>>,
    documents: AtomicU64,
    stop: AtomicBool,
    barrier: Barrier,
}

impl Scene<'_> {
    /// Parses the document and puts it in the place of the oldest.
    fn parse(&self, m: &mut Mutator<'_>, stack: &RootStack<Tagged>, track: &mut Track) -> Result<(), Failure> {
        match parse(self.text, &mut Builder { m, stack, track, left: PARSED_AT_ONCE }) {
            Ok(()) => {}
            Err(Stop::Sink(e)) => return Err(from_memory(e)),
            Err(Stop::Syntax(e)) => return Err(Failure::run(format!("the document changed: {e}"))),
        }
        let number = self.documents.fetch_add(1, Ordering::Relaxed);
        let document = stack.pop(m).expect("a parsed document is one value");
        self.kept.get(m).tail()[number as usize % KEPT].set(m, document);
        track.end(Series::Other);
        Ok(())
    }

    /// Walks from the root of a document to a leaf.
    fn query(&self, m: &Mutator<'_>, rng: &mut Rng) -> u64 {
        let mut value = self.kept.get(m).tail()[rng.next() as usize % KEPT].get(m);
        loop {
            let Some(any) = value.as_any() else { return value.as_num().map_or(1, f64::to_bits) };
            match values(any) {
                Some((slots, step)) if !slots.is_empty() => {
                    let pick = (rng.next() >> 8) as usize % (slots.len() / step);
                    value = slots[pick * step + step - 1].get(m);
                }
                Some(_) => return 0,
                None => return any.downcast::<Bytes>().map_or(0, |text| text.tail().len() as u64),
            }
        }
    }

    /// Counts a whole document. It takes a while, so other threads' stops are let in between; what
    /// is still to be visited is on the stack meanwhile.
    fn count(&self, m: &mut Mutator<'_>, stack: &RootStack<Tagged>, which: usize, track: &mut Track) -> u64 {
        stack.push(m, self.kept.get(m).tail()[which % KEPT].get(m));
        let mut nodes = 0;
        while let Some(value) = stack.pop(m) {
            nodes += 1;
            if let Some((slots, step)) = value.as_any().and_then(values) {
                for slot in slots.iter().skip(step - 1).step_by(step) {
                    stack.push(m, slot.get(m));
                }
            }
            if nodes % 64 == 0 {
                m.safepoint();
            }
            if nodes % COUNTED_AT_ONCE == 0 {
                track.end(Series::Other);
                track.admit(m);
            }
        }
        track.end(Series::Other);
        nodes
    }

    fn check_count(
        &self,
        m: &mut Mutator<'_>,
        stack: &RootStack<Tagged>,
        which: usize,
        track: &mut Track,
    ) -> Result<(), Failure> {
        let (found, expected) = (self.count(m, stack, which, track), self.census.nodes);
        if found == expected {
            return Ok(());
        }
        Err(Failure::run(format!("a document in the heap has {found} values, and its text {expected}")))
    }
}

/// Room on a stack for everything of a document that can be waiting there.
fn stack_slots(census: Census) -> usize {
    // A parser's stack holds at most all values and keys; a count's at most all values.
    2 * census.nodes as usize + MAX_DEPTH
}

fn querying(of: &Json, bench: &Bench<'_>, scene: &Scene<'_>, id: u64) -> Result<(u64, Track), Failure> {
    let _attends = bench.attend();
    let mut meetings = Meetings::new(&scene.barrier, 2);
    let stack = RootStack::with_capacity(bench.heap, stack_slots(scene.census)).map_err(from_memory)?;
    let (mut rng, mut track) = (Rng::new(of.seed, id), bench.track());
    let result = bench.heap.enter(|m| {
        let warm = Instant::now() + Duration::from_secs_f64(of.warm_up_seconds);
        while Instant::now() < warm {
            m.safepoint();
            std::hint::black_box(scene.query(m, &mut rng));
        }
        meetings.meet(m);
        if id == 1 {
            m.blocking(|| bench.begin());
        }
        meetings.meet(m);
        bench.start(&mut track, m);
        track.last_for(Duration::from_secs_f64(of.seconds));
        let (mut queries, mut sum, mut failed) = (0u64, 0u64, Ok(()));
        while failed.is_ok() && track.admit(m) {
            m.safepoint();
            sum = sum.wrapping_add(scene.query(m, &mut rng));
            queries += 1;
            track.end(Series::Operation);
            if queries.is_multiple_of(COUNT_EVERY) && track.admit(m) {
                failed = scene.check_count(m, &stack, rng.next() as usize, &mut track);
            }
        }
        track.finish();
        std::hint::black_box(sum);
        failed.map(|()| (queries, track))
    });
    let outcome = result.map_err(from_enter).and_then(|r| r);
    scene.stop.store(true, Ordering::Release);
    outcome
}

fn parsing(of: &Json, bench: &Bench<'_>, scene: &Scene<'_>) -> Result<(u64, Track), Failure> {
    let _attends = bench.attend_beside();
    let mut meetings = Meetings::new(&scene.barrier, 2);
    let stack = RootStack::with_capacity(bench.heap, stack_slots(scene.census)).map_err(from_memory)?;
    let mut track = bench.track_beside();
    let outcome = bench.heap.enter(|m| {
        let mut failed = Ok(());
        let warm = Instant::now() + Duration::from_secs_f64(of.warm_up_seconds);
        while failed.is_ok() && Instant::now() < warm {
            failed = scene.parse(m, &stack, &mut track);
        }
        meetings.meet(m);
        meetings.meet(m);
        bench.start(&mut track, m);
        let before = scene.documents.load(Ordering::Relaxed);
        while failed.is_ok() && !scene.stop.load(Ordering::Acquire) {
            failed = scene.parse(m, &stack, &mut track);
        }
        track.finish();
        failed.map(|()| (scene.documents.load(Ordering::Relaxed) - before, track))
    });
    outcome.map_err(from_enter)?
}

fn run(of: &Json, bench: &Bench<'_>) -> Result<Measured, Failure> {
    let text = std::str::from_utf8(bench.document).map_err(|e| Failure::run(format!("the document: {e}")))?;
    let census = Census::of(text).map_err(|e| Failure::run(format!("the document: {e}")))?;
    let kept = bench.heap.enter(|m| {
        let m = m.reserve(AllocSize::tail::<List>(KEPT))?;
        Ok(Root::new(m, m.place_array::<List>((), KEPT, Value::NIL)))
    });
    let kept = kept.map_err(from_enter)?.map_err(from_memory)?;
    let (documents, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let scene = Scene { text, census, kept, documents, stop, barrier: Barrier::new(of.threads as usize) };
    let stack = RootStack::with_capacity(bench.heap, stack_slots(census)).map_err(from_memory)?;
    // Before and after the measured part: its samples count for nothing.
    let mut unused = bench.track_beside();
    let mut enter = |f: &dyn Fn(&mut Mutator<'_>, usize, &mut Track) -> Result<(), Failure>| {
        (0..KEPT).try_for_each(|i| bench.heap.enter(|m| f(m, i, &mut unused)).map_err(from_enter)?)
    };
    enter(&|m, i, track| {
        scene.parse(m, &stack, track)?;
        scene.check_count(m, &stack, i, track)
    })?;
    bench.warming_up();
    let (documents, queries) = thread::scope(|scope| {
        let parser = scope.spawn(|| parsing(of, bench, &scene));
        let scene = &scene;
        let others: Vec<_> = (1..of.threads).map(|id| scope.spawn(move || querying(of, bench, scene, id))).collect();
        let queries: Vec<_> =
            others.into_iter().map(|h| h.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect();
        (parser.join().unwrap_or_else(|p| std::panic::resume_unwind(p)), queries)
    });
    let (documents, parser) = documents?;
    let (mut ops, mut tracks) = (0, vec![parser]);
    for part in queries {
        let (queries, track) = part?;
        ops += queries;
        tracks.push(track);
    }
    bench.end();
    enter(&|m, i, track| scene.check_count(m, &stack, i, track))?;
    Ok(Measured { ops, checksum: census.nodes as i64, tracks, documents })
}
