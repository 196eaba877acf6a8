//! The page barrier's own cases: where objects, blocks, TLABs and roots lie when the pages are
//! taken away.
//!
//! Each test says what rule it is about; `docs/trust.md` has what fails where a rule is removed.

pub(crate) mod memory;
pub(crate) mod objects;
pub(crate) mod roots;
pub(crate) mod share;
pub(crate) mod young;

use crate::common::{checked, factor};
use gc_heap::{AllocSize, Barrier, Gc, Heap, HeapBuilder, Local, Mutator, Slot, SlotArray, Stress, Trace};

/// Objects of any length: an identity, and slots that lead to others.
#[derive(Trace)]
#[trace(tail = Slot<Option<Chunk>>)]
struct Chunk {
    id: u64,
}

type Table = SlotArray<Option<Chunk>>;

/// Whatever can move does, in each cycle, and no cycle begins unasked.
fn moving(max_bytes: usize) -> HeapBuilder {
    checked(Barrier::Page, max_bytes).stress(Stress { cycle_every: u32::MAX, ..Stress::default() })
}

/// Whether fewer relocations have been than wanted. That they come at all is what the deadline is
/// for.
fn busy(heap: &Heap, relocations: u64) -> bool {
    heap.stats().relocations < relocations * u64::from(factor())
}

/// A fault that repairs its page alone, some pages, pages of several blocks.
fn clusters(builder: HeapBuilder) -> impl Iterator<Item = Heap> {
    [1, 4, 64].into_iter().map(move |pages| builder.clone().fault_cluster(pages).build().unwrap())
}

fn table<'s>(m: &mut Mutator<'s>, len: usize) -> Local<'s, Table> {
    m.build::<Table>(AllocSize::tail::<Table>(len), |m| m.place_array((), len, None)).unwrap()
}

/// A chunk of so many slots, all of which lead to `to`.
fn chunk<'g>(m: &'g Mutator<'_>, id: u64, len: usize, to: Option<Gc<'g, Chunk>>) -> Gc<'g, Chunk> {
    m.place_array::<Chunk>(ChunkInit { id }, len, to)
}

fn lone<'s>(m: &mut Mutator<'s>, id: u64) -> Local<'s, Chunk> {
    m.build::<Chunk>(AllocSize::tail::<Chunk>(1), |m| chunk(m, id, 1, None)).unwrap()
}

/// Fills a table with chunks of these lengths, each leading to the one before it, with garbage
/// between them.
fn fill(m: &mut Mutator<'_>, table: Local<'_, Table>, mut len: impl FnMut(usize) -> usize) {
    for index in 0..table.get(m).tail_len() {
        let len = len(index);
        let m = m.reserve(AllocSize::tail::<Chunk>(len) + AllocSize::tail::<Chunk>(len / 2)).unwrap();
        let before = index.checked_sub(1).and_then(|before| table.get(m).tail()[before].get(m));
        let new = chunk(m, index as u64, len, before);
        table.get(m).tail()[index].set(m, Some(new));
        chunk(m, u64::MAX, len / 2, None);
    }
}

/// All of it, from the end, so that pages are met in an order that is not that of repair.
fn check(m: &Mutator<'_>, table: Local<'_, Table>) {
    let slots = table.get(m).tail();
    for index in (0..slots.len()).rev() {
        let chunk = slots[index].get(m).expect("an object in its place");
        assert_eq!(chunk.id, index as u64);
        for slot in chunk.tail() {
            assert_eq!(slot.get(m).map(|before| before.id), index.checked_sub(1).map(|before| before as u64));
        }
    }
}
