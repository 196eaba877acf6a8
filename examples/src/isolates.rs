//! Several heaps in one process: isolates, each with a heap of its own and a thread, so that none
//! waits for another's stop. What goes between them is copied: no reference leads from one heap
//! into another.
//!
//! `cargo run --release -p examples --bin isolates`

use gc_heap::{AllocSize, Bytes, Gc, Heap, Mutator, OutOfMemory, Root, Slot, Trace};
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};

type Failure = Box<dyn Error + Send + Sync>;

/// A sorted tree of words, with how often each came.
#[derive(Trace)]
struct Word {
    text: Slot<Bytes>,
    count: gc_heap::Num<u64>,
    before: Slot<Option<Word>>,
    after: Slot<Option<Word>>,
}

const ISOLATES: usize = 4;
const ROUNDS: usize = 300;
const WORDS: usize = 1000;
const DIFFERENT: usize = 499;

/// Adds to a word's count. The one safepoint comes first, so the search is ordinary pointer code.
fn count(m: &mut Mutator<'_>, words: &Root<Option<Word>>, text: &[u8], times: u64) -> Result<(), OutOfMemory> {
    let m = m.reserve(AllocSize::of::<Word>() + AllocSize::tail::<Bytes>(text.len()))?;
    let found: Gc<'_, Word> = match words.get(m) {
        None => {
            let word = m.place(WordInit { text: m.place_bytes((), text), count: 0, before: None, after: None });
            words.set(m, Some(word));
            word
        }
        Some(mut word) => loop {
            let slot = match text.cmp(word.text.get(m).tail()) {
                std::cmp::Ordering::Equal => break word,
                std::cmp::Ordering::Less => &word.as_ref().before,
                std::cmp::Ordering::Greater => &word.as_ref().after,
            };
            match slot.get(m) {
                Some(next) => word = next,
                None => {
                    let new = m.place(WordInit { text: m.place_bytes((), text), count: 0, before: None, after: None });
                    slot.set(m, Some(new));
                    break new;
                }
            }
        },
    };
    found.count.set(found.count.get() + times);
    Ok(())
}

/// Each word and its count, in order.
fn visit<'g>(m: &'g Mutator<'_>, word: Option<Gc<'g, Word>>, each: &mut impl FnMut(&'g [u8], u64)) {
    if let Some(word) = word {
        visit(m, word.before.get(m), each);
        each(word.text.get(m).tail(), word.count.get());
        visit(m, word.after.get(m), each);
    }
}

/// Counts in a heap of its own, and sends copies of what it has found.
fn isolate(number: usize, totals: &Sender<Vec<(Vec<u8>, u64)>>) -> Result<u64, Failure> {
    let heap = Heap::builder().max_bytes(4 << 20).name(&format!("isolate-{number}")).build()?;
    heap.enter(|m| -> Result<(), Failure> {
        for _ in 0..ROUNDS {
            // A new tree each round: the last one is garbage.
            let words = Root::<Option<Word>>::new(m, None);
            for index in 0..WORDS {
                let text = format!("word {}", index * 7919 * (number + 1) % DIFFERENT);
                count(m, &words, text.as_bytes(), 1)?;
            }
            let mut copy = Vec::new();
            visit(m, words.get(m), &mut |text, count| copy.push((text.to_vec(), count)));
            totals.send(copy)?; // never waits: the channel has no bound
        }
        Ok(())
    })??;
    Ok(heap.stats().cycles)
}

/// The heap of the whole, which the copies go into.
fn gather(heap: &Heap, words: &Root<Option<Word>>, copies: &Receiver<Vec<(Vec<u8>, u64)>>) -> Result<(), Failure> {
    heap.enter(|m| -> Result<(), Failure> {
        while let Ok(copy) = m.blocking(|| copies.recv()) {
            for (text, times) in copy {
                count(m, words, &text, times)?;
            }
        }
        Ok(())
    })?
}

fn main() -> Result<(), Failure> {
    let heap = Heap::builder().max_bytes(4 << 20).name("whole").build()?;
    let words = heap.enter(|m| Root::<Option<Word>>::new(m, None))?;
    let (sender, copies) = channel();
    let cycles = std::thread::scope(|scope| -> Result<u64, Failure> {
        let isolates: Vec<_> = (0..ISOLATES)
            .map(|number| {
                let totals = sender.clone();
                scope.spawn(move || isolate(number, &totals))
            })
            .collect();
        drop(sender);
        gather(&heap, &words, &copies)?;
        isolates.into_iter().map(|isolate| isolate.join().expect("no isolate panics")).sum()
    })?;

    let (mut different, mut all) = (0, 0);
    heap.enter(|m| {
        visit(m, words.get(m), &mut |_, count| {
            different += 1;
            all += count;
        });
    })?;
    assert_eq!((different, all), (DIFFERENT, (ISOLATES * ROUNDS * WORDS) as u64));
    assert!(cycles > 0, "the isolates have made garbage");

    // A root of one heap is refused by another's mutator, and both go on.
    let other = Heap::builder().max_bytes(4 << 20).build()?;
    std::panic::set_hook(Box::new(|_| ()));
    let refused = catch_unwind(AssertUnwindSafe(|| other.enter(|m| words.get(m).is_some())));
    drop(std::panic::take_hook());
    assert!(refused.is_err());
    assert!(heap.enter(|m| words.get(m).is_some())?);
    println!("{ISOLATES} isolates counted {all} words, {different} different");
    Ok(())
}
