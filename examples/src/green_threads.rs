//! Green threads: fibers with a root stack each, run by a pool of threads that share one heap.
//!
//! The prime sieve of coroutines: one fiber counts, each prime gets a fiber that lets through what
//! it does not divide, and the first number that gets past all of them is the next prime. Letters
//! between fibers are heap objects. A fiber runs on whichever thread takes it, a slice at a time;
//! between two slices its stack belongs to no thread, and the collector finds it all the same.
//!
//! `cargo run --release -p examples --bin green-threads`

use gc_heap::{AllocSize, Gc, Heap, Mutator, Num, OutOfMemory, RootStack, Slot, Trace};
use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

const THREADS: usize = 4;
const PRIMES: usize = 1200;

/// Letters that a fiber reads before another has its turn.
const SLICE: usize = 50;

/// A number on its way. The object itself goes from fiber to fiber, and each counts on it that it
/// was there.
#[derive(Trace)]
struct Candidate {
    number: u64,
    visits: Num<usize>,
}

/// A channel is nothing but its letters. The sender's stack has the last one, to hang the next on;
/// the receiver's has the last that it has read; so what was read is garbage at once. No lock: one
/// fiber stores `next`, one loads it.
#[derive(Trace)]
struct Letter {
    /// None in the first letter of a channel, which says nothing, and in the last, which ends it.
    candidate: Slot<Option<Candidate>>,
    next: Slot<Option<Letter>>,
}

/// Indexes of a fiber's stack: the last letter read, the last letter sent. No other reference
/// outlives a step.
const INBOX: usize = 0;
const OUTBOX: usize = 1;

/// Where a fiber is while its inbox is empty.
type Place = Arc<Mutex<Option<Fiber>>>;

struct Fiber {
    stack: RootStack<Letter>,
    code: Code,
    /// Where this one waits, and where the one waits that it sends to.
    here: Place,
    receiver: Option<Place>,
}

enum Code {
    /// Sends the numbers from this one on, until there are primes enough.
    Count(u64),
    /// Comes after so many primes, and knows its own as soon as a number has got here.
    Sieve { index: usize, prime: Option<u64> },
}

/// How a turn ends.
enum Turn {
    /// There is more to do.
    Again(Fiber),
    /// The fiber is in its place, for whoever sends the next letter; maybe it runs again already.
    Waits,
    Over,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fiber {
    /// A fiber that reads what comes after a letter, and sends nothing yet.
    fn new(m: &Mutator<'_>, heap: &Heap, code: Code, inbox: Gc<'_, Letter>) -> Result<Fiber, OutOfMemory> {
        let stack = RootStack::with_capacity(heap, 2)?;
        stack.push(m, inbox); // INBOX
        stack.push(m, inbox); // OUTBOX
        Ok(Fiber { stack, code, here: Place::default(), receiver: None })
    }

    /// A turn: some steps, then the next fiber's.
    fn run(mut self, m: &mut Mutator<'_>, pool: &Pool) -> Result<Turn, OutOfMemory> {
        for _ in 0..SLICE {
            match self.code {
                Code::Count(number) => {
                    let m = m.reserve(AllocSize::of::<Candidate>() + AllocSize::of::<Letter>())?;
                    let over = pool.has_enough();
                    let candidate = (!over).then(|| m.place(CandidateInit { number, visits: 0 }));
                    self.send(m, pool, candidate);
                    if over {
                        return Ok(Turn::Over);
                    }
                    self.code = Code::Count(number + 1);
                }
                Code::Sieve { index, prime } => {
                    let m = m.reserve(AllocSize::of::<Letter>())?; // before anything is read: raw references end here
                    let Some(letter) = self.stack.get(m, INBOX).next.get(m) else {
                        return Ok(self.wait(m));
                    };
                    self.stack.set(m, INBOX, letter);
                    let Some(candidate) = letter.candidate.get(m) else {
                        if self.receiver.is_some() {
                            self.send(m, pool, None);
                        }
                        return Ok(Turn::Over);
                    };
                    candidate.visits.set(candidate.visits.get() + 1);
                    match prime {
                        None if pool.found(index, candidate) => {
                            self.code = Code::Sieve { index, prime: Some(candidate.number) };
                            self.hire(m, pool, index + 1)?;
                        }
                        None => {}
                        Some(prime) if candidate.number.is_multiple_of(prime) => {}
                        Some(_) => self.send(m, pool, Some(candidate)),
                    }
                }
            }
        }
        Ok(Turn::Again(self))
    }

    /// Hangs a letter on the last one, within the room reserved, and wakes the receiver if it
    /// waits.
    fn send<'g>(&self, m: &'g Mutator<'_>, pool: &Pool, candidate: Option<Gc<'g, Candidate>>) {
        let letter = m.place(LetterInit { candidate, next: None });
        self.stack.get(m, OUTBOX).next.set(m, Some(letter));
        self.stack.set(m, OUTBOX, letter);
        // Nobody holds this lock over a safepoint, so waiting for it here, inside the heap, never
        // waits for the collector.
        let waiting = self.receiver.as_ref().and_then(|place| lock(place).take());
        waiting.into_iter().for_each(|fiber| pool.ready(fiber));
    }

    /// Goes to its place, unless a letter has come by the time when it holds the lock.
    fn wait(self, m: &Mutator<'_>) -> Turn {
        let here = Arc::clone(&self.here);
        let mut place = lock(&here);
        if self.stack.get(m, INBOX).next.get(m).is_some() {
            return Turn::Again(self);
        }
        *place = Some(self);
        Turn::Waits
    }

    /// Makes the fiber that this one sends to, and the channel between them, within the room
    /// reserved.
    fn hire(&mut self, m: &Mutator<'_>, pool: &Pool, index: usize) -> Result<(), OutOfMemory> {
        let first = m.place(LetterInit { candidate: None, next: None });
        let fiber = Fiber::new(m, &pool.heap, Code::Sieve { index, prime: None }, first)?;
        self.stack.set(m, OUTBOX, first);
        self.receiver = Some(Arc::clone(&fiber.here));
        pool.begin(fiber);
        Ok(())
    }
}

/// The fibers that want a thread, and what they have found.
struct Pool {
    heap: Heap,
    queue: Mutex<Queue>,
    changed: Condvar,
    primes: Mutex<Vec<u64>>,
}

struct Queue {
    ready: VecDeque<Fiber>,
    /// Fibers that have not ended, wherever they are.
    alive: usize,
    failed: bool,
}

impl Pool {
    fn has_enough(&self) -> bool {
        lock(&self.primes).len() == PRIMES
    }

    /// Takes down a prime; false if there are enough.
    fn found(&self, index: usize, candidate: Gc<'_, Candidate>) -> bool {
        let mut primes = lock(&self.primes);
        if primes.len() == PRIMES {
            return false;
        }
        assert_eq!((primes.len(), candidate.visits.get()), (index, index + 1), "it has come past every fiber, once");
        primes.push(candidate.number);
        true
    }

    fn begin(&self, fiber: Fiber) {
        lock(&self.queue).alive += 1;
        self.ready(fiber);
    }

    fn ready(&self, fiber: Fiber) {
        lock(&self.queue).ready.push_back(fiber);
        self.changed.notify_one();
    }

    fn over(&self, failed: bool) {
        let mut queue = lock(&self.queue);
        queue.alive -= 1;
        queue.failed |= failed;
        self.changed.notify_all();
    }

    /// The next fiber; waits for one, outside the heap. None when all have ended.
    fn next(&self) -> Option<Fiber> {
        let mut queue = lock(&self.queue);
        while queue.alive > 0 && !queue.failed {
            match queue.ready.pop_front() {
                None => queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
                fiber => return fiber,
            }
        }
        None
    }

    /// What each thread of the pool does.
    fn work(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut thread = self.heap.thread()?;
        while let Some(fiber) = self.next() {
            match thread.enter(|m| fiber.run(m, self))? {
                Ok(Turn::Again(fiber)) => self.ready(fiber),
                Ok(Turn::Waits) => {}
                Ok(Turn::Over) => self.over(false),
                Err(error) => {
                    self.over(true);
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let heap = Heap::builder().max_bytes(4 << 20).build()?;
    let queue = Queue { ready: VecDeque::new(), alive: 0, failed: false };
    let pool = Pool { heap: heap.clone(), queue: Mutex::new(queue), changed: Condvar::new(), primes: Mutex::default() };
    heap.enter(|m| -> Result<(), OutOfMemory> {
        let m = m.reserve(AllocSize::of::<Letter>().times(2))?;
        let nothing = m.place(LetterInit { candidate: None, next: None });
        let mut counter = Fiber::new(m, &heap, Code::Count(2), nothing)?;
        counter.hire(m, &pool, 0)?;
        pool.begin(counter);
        Ok(())
    })??;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| pool.work())).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no fiber panics"))
    })?;

    let primes = lock(&pool.primes);
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    assert!(primes.iter().copied().eq((2..).filter(is_prime).take(PRIMES)), "a letter was lost, or came twice");
    let stats = heap.stats();
    assert!(stats.cycles >= 5, "the letters are many heaps full: {stats:?}");
    println!("{} fibers on {THREADS} threads: the last prime is {}", PRIMES + 2, primes[PRIMES - 1]);
    Ok(())
}
