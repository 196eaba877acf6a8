//! Records: hash chains that one mutator changes and all read.

use super::{Blob, BlobInit, Random, Shared, check_blob, fill};
use gc_heap::{AllocSize, Gc, Mutator, Slot, SlotArray, Tagged, Trace, Unpacked, Value, WeakSlot};

pub(super) const CHAINS: usize = 512;

#[derive(Trace)]
pub(super) struct Record {
    id: u64,
    payload: Slot<Blob>,
    next: Slot<Option<Record>>,
    /// A record of any mutator, or a number.
    link: Slot<Tagged>,
    /// The record that stood before this one in its chain when this one was made.
    before: WeakSlot<Record>,
}

/// The chains of one mutator: `chain % mutators == number`. The model: identities and lengths, the
/// first record first.
pub(super) struct Owned {
    number: usize,
    mutators: usize,
    chains: Vec<Vec<(u64, usize)>>,
    next_id: u64,
    bytes: usize,
    budget: usize,
}

/// What a record of this payload takes in the heap.
fn bytes(len: usize) -> usize {
    48 + 24 + len.next_multiple_of(8)
}

fn lengths(random: &mut Random) -> usize {
    match random.below(400) {
        0 => 33_000 + random.below(70_000),
        1..10 => 4_096 + random.below(20_000),
        _ => random.below(500),
    }
}

impl Owned {
    pub(super) fn new(number: usize, mutators: usize, budget: usize) -> Owned {
        let chains = (number..CHAINS).step_by(mutators).map(|_| Vec::new()).collect();
        Owned { number, mutators, chains, next_id: (number as u64) << 40, bytes: 0, budget }
    }

    fn slot<'g>(&self, m: &'g Mutator<'_>, shared: &Shared, chain: usize) -> &'g Slot<Option<Record>> {
        let chains: Gc<'g, SlotArray<Option<Record>>> = shared.world.get(m).chains.get(m);
        &chains.tail()[self.number + chain * self.mutators]
    }

    /// A new record before all others of a chain; old ones go while there are too many.
    pub(super) fn replace(&mut self, m: &mut Mutator<'_>, shared: &Shared, random: &mut Random) {
        let len = lengths(random);
        while self.bytes + bytes(len) > self.budget {
            let chain = random.below(self.chains.len());
            self.unlink(m, shared, chain, random);
        }
        let chain = random.below(self.chains.len());
        let m = m.reserve(AllocSize::of::<Record>() + AllocSize::tail::<Blob>(len)).expect("room for a record");
        self.next_id += 1;
        let id = self.next_id;
        let head = self.slot(m, shared, chain);
        let link = match any_record(m, shared, random) {
            Some(record) => Value::from(record),
            None => Value::num(id as f64),
        };
        let payload = m.place_bytes::<Blob>(BlobInit { id }, &fill(id, len));
        let next = head.get(m);
        head.set(m, Some(m.place(RecordInit { id, payload, next, link, before: next })));
        self.chains[chain].insert(0, (id, len));
        self.bytes += bytes(len);
    }

    fn unlink(&mut self, m: &Mutator<'_>, shared: &Shared, chain: usize, random: &mut Random) {
        if self.chains[chain].is_empty() {
            return;
        }
        let index = random.below(self.chains[chain].len());
        let mut slot = self.slot(m, shared, chain);
        for _ in 0..index {
            slot = &slot.get(m).expect("a record of the model").as_ref().next;
        }
        let record = slot.get(m).expect("a record of the model");
        let (id, len) = self.chains[chain].remove(index);
        assert_eq!(record.id, id, "a chain differs from its model");
        slot.set(m, record.next.get(m));
        // Links to it would keep what it refers to, and so on, for good.
        record.link.set(m, Value::num(id as f64));
        record.next.set(m, None);
        self.bytes -= bytes(len);
    }

    /// Follows a chain of any mutator some way, while its owner changes it.
    pub(super) fn look(&self, m: &Mutator<'_>, shared: &Shared, random: &mut Random) {
        let Some(record) = any_record(m, shared, random) else { return };
        check(m, record);
        if let Unpacked::Ref(any) = record.link.get(m).unpack() {
            check(m, any.downcast::<Record>().expect("a record"));
        }
        if let Some(before) = record.before.get(m) {
            check(m, before);
        }
    }

    /// The chains against the model.
    pub(super) fn check(&self, m: &Mutator<'_>, shared: &Shared) {
        for (chain, model) in self.chains.iter().enumerate() {
            let mut record = self.slot(m, shared, chain).get(m);
            let mut after: Option<Gc<'_, Record>> = None;
            for &(id, len) in model {
                let found = record.expect("a chain is shorter than its model");
                assert_eq!((found.id, found.payload.get(m).tail_len()), (id, len), "a chain differs from its model");
                check(m, found);
                if let Some(before) = after.and_then(|after| after.before.get(m)) {
                    // Still in the chain, or gone from it and not collected yet: never a younger
                    // record.
                    assert!(before.id >= found.id, "a weak slot refers to another object");
                }
                after = Some(found);
                record = found.next.get(m);
            }
            assert!(record.is_none(), "a chain is longer than its model");
        }
    }
}

fn any_record<'g>(m: &'g Mutator<'_>, shared: &Shared, random: &mut Random) -> Option<Gc<'g, Record>> {
    let chains: Gc<'g, SlotArray<Option<Record>>> = shared.world.get(m).chains.get(m);
    let mut record = chains.tail()[random.below(CHAINS)].get(m)?;
    for _ in 0..random.below(5) {
        record = record.next.get(m).unwrap_or(record);
    }
    Some(record)
}

fn check(m: &Mutator<'_>, record: Gc<'_, Record>) {
    check_blob(record.payload.get(m), record.id);
}
