//! Root stacks that no thread owns: they go from thread to thread, and lie about between, in every
//! phase of a cycle.

use crate::common::{Random, checked, sorts, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Barrier, Event, Gc, Heap, Mutator, OutOfMemory, Phase, Root, RootStack, Slot, SlotArray, Trace,
};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

/// Two fibers share nothing but what they send; whoever reads an item can tell whether it is one.
#[derive(Trace)]
struct Item {
    fiber: u64,
    id: u64,
    check: u64,
    /// What it lay on when it was pushed.
    below: Slot<Option<Item>>,
}

impl Item {
    fn check(&self) -> (u64, u64) {
        assert_eq!(self.check, self.fiber ^ !self.id, "an item was overwritten");
        (self.fiber, self.id)
    }
}

type Shelf = SlotArray<Option<Item>>;

/// A stack and what ought to be on it.
struct Fiber {
    name: u64,
    stack: RootStack<Option<Item>>,
    expected: Vec<Option<(u64, u64)>>,
    made: u64,
    random: Random,
    /// The thread whose turn was last.
    last: Option<ThreadId>,
}

const MOST: usize = 300;
const FIBERS: u64 = 24;
const THREADS: usize = 3;
const BOXES: usize = 16;

impl Fiber {
    fn new(heap: &Heap, name: u64) -> Fiber {
        let stack = RootStack::with_capacity(heap, MOST).unwrap();
        Fiber { name, stack, expected: Vec::new(), made: 0, random: Random::new(name), last: None }
    }

    fn whole(&self, m: &Mutator<'_>) {
        assert_eq!(self.stack.len(), self.expected.len());
        for (index, expected) in self.expected.iter().enumerate() {
            assert_eq!(self.stack.get(m, index).map(|item| item.check()), *expected, "slot {index}");
        }
    }

    fn at(&mut self) -> usize {
        self.random.below(self.expected.len())
    }

    /// One step: all the ways in which words come to a stack, stay there, and go.
    fn step(&mut self, m: &mut Mutator<'_>, boxes: &Root<Shelf>) -> Result<(), OutOfMemory> {
        let m = m.reserve(AllocSize::of::<Item>())?;
        let shared = &boxes.get(m).tail()[self.random.below(BOXES)];
        let what = if self.expected.len() < 4 { 0 } else { self.random.below(9) };
        match what {
            0..=2 if self.stack.room() > 0 && self.expected.len() < MOST => {
                self.made += 1;
                let below = if self.stack.is_empty() { None } else { self.stack.peek(m, 0) };
                // Whole chains would keep everything.
                let below = below.filter(|item| item.below.get(m).is_none());
                let item = m.place(ItemInit { fiber: self.name, id: self.made, check: self.name ^ !self.made, below });
                self.stack.push(m, Some(item));
                self.expected.push(Some((self.name, self.made)));
            }
            3 => {
                let popped = self.stack.pop(m).unwrap().map(|item| item.check());
                assert_eq!(Some(popped), self.expected.pop());
            }
            4 => {
                let (from, to) = (self.at(), self.at());
                self.stack.set(m, to, self.stack.get(m, from));
                self.expected[to] = self.expected[from];
            }
            5 => {
                let [a, b] = self.stack.last::<2>(m);
                let (x, y) = (a.get(m), b.get(m));
                a.set(m, y);
                b.set(m, x);
                let len = self.expected.len();
                self.expected.swap(len - 1, len - 2);
            }
            // To another fiber, and from one.
            6 => {
                let index = self.at();
                let sent: Option<Gc<'_, Item>> = self.stack.get(m, index);
                let received = shared.swap(m, sent);
                self.stack.set(m, index, received);
                self.expected[index] = received.map(|item| item.check());
            }
            7 => {
                let depth = self.random.below(self.expected.len());
                self.stack.poke(m, depth, None);
                let index = self.expected.len() - 1 - depth;
                self.expected[index] = None;
            }
            _ => {
                let len = self.expected.len() - self.random.below(4);
                self.stack.truncate(m, len);
                self.expected.truncate(len);
            }
        }
        Ok(())
    }
}

/// When fibers began a turn on another thread than before, and the phases of the cycles.
#[derive(Default)]
struct Times {
    moves: Mutex<Vec<u64>>,
    phases: Mutex<Vec<(Phase, u64, u64)>>,
}

impl Times {
    /// Moves within each phase so far.
    fn within(&self) -> HashMap<Phase, usize> {
        let mut moves = self.moves.lock().unwrap().clone();
        moves.sort_unstable();
        let mut found = HashMap::new();
        for &(phase, start, end) in &*self.phases.lock().unwrap() {
            let count = moves.partition_point(|&at| at < end) - moves.partition_point(|&at| at < start);
            *found.entry(phase).or_default() += count;
        }
        found
    }
}

/// Fibers come, are handed from thread to thread, and end, until that has happened in every phase.
/// Fails where a stack is scanned or repaired by the phase of the thread that had it before, or is
/// forgotten while nobody has it.
pub(crate) fn stacks_move_between_threads_in_every_phase(barrier: Barrier) {
    let phases = match barrier {
        Barrier::Load => &[Phase::Mark, Phase::Reclaim, Phase::Relocate][..],
        Barrier::Page => &[Phase::Mark, Phase::Reclaim, Phase::Repair],
        _ => &[],
    };
    for (mirror, workers) in sorts() {
        let times = Arc::new(Times::default());
        let heard = Arc::clone(&times);
        let builder = checked(barrier, 16 << 20).mirror(mirror).workers(workers).stress(stress(3));
        let builder = builder.on_event(move |event| {
            if let Event::Phase(span) = event {
                heard.phases.lock().unwrap().push((span.phase, span.start_ns, span.start_ns + span.total_ns));
            }
        });
        let heap = builder.build().unwrap();
        let boxes = heap.enter(|m| {
            let m = m.reserve(AllocSize::tail::<Shelf>(BOXES)).unwrap();
            Root::<Shelf>::new(m, m.place_array((), BOXES, None))
        });
        let boxes = boxes.unwrap();
        let queue: Mutex<VecDeque<Fiber>> = Mutex::new((0..FIBERS).map(|name| Fiber::new(&heap, name)).collect());
        let done = AtomicBool::new(false);
        let work = || {
            let mut thread = heap.thread().unwrap();
            let this = std::thread::current().id();
            while !done.load(Ordering::Relaxed) {
                let Some(mut fiber) = queue.lock().unwrap().pop_front() else { continue };
                thread
                    .enter(|m| {
                        if fiber.last.replace(this).is_some_and(|last| last != this) {
                            times.moves.lock().unwrap().push(heap.now_ns());
                        }
                        fiber.whole(m);
                        for _ in 0..fiber.random.below(20) {
                            fiber.step(m, &boxes).unwrap();
                        }
                        fiber.whole(m);
                    })
                    .unwrap();
                // One in some hundred ends here, on any thread, and another comes.
                if fiber.random.one_in(300) {
                    fiber = Fiber::new(&heap, fiber.name + FIBERS);
                }
                queue.lock().unwrap().push_back(fiber);
            }
        };
        while_collecting(&heap, Duration::ZERO, || {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
                let enough = || {
                    let within = times.within();
                    heap.stats().cycles >= 20
                        && phases.iter().all(|phase| within.get(phase).is_some_and(|&count| count >= 20))
                };
                // A thread that has ended has failed.
                while !enough() && !threads.iter().any(|thread| thread.is_finished()) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                done.store(true, Ordering::Relaxed);
                threads.into_iter().for_each(|thread| thread.join().unwrap());
            });
        });
        // Nobody has them: what they hold is whole all the same.
        heap.collect();
        heap.enter(|m| queue.lock().unwrap().iter().for_each(|fiber| fiber.whole(m))).unwrap();
    }
}

pub(crate) const TESTS: Tests = Tests { every: tests![stacks_move_between_threads_in_every_phase], ..Tests::NONE };
