//! A hash table of records, each freed when neither its chain nor another record's link refers to
//! it.

use std::ptr::null_mut;

use super::steady::Operations;
use crate::rng::Rng;
use crate::workload::table_churn::{PAYLOAD_MIN, PAYLOAD_SPREAD, TABLE_BITS, TableChurn, hash};

/// A record that comes from a box.
///
/// Every pointer to one in a table, in `next` and in `link` is null, or counted in the `references`
/// of the record that it points to. The thread that takes the last one away frees the record, so a
/// thread that reads such a pointer finds a record. What has been replaced has no `next` and no
/// `link`.
struct Record {
    next: *mut Record,
    link: *mut Record,
    references: u32,
    key: u64,
    payload: Box<[u8]>,
}

/// Takes a reference back, and frees the record if it was the last.
///
/// # Safety
///
/// `record` counts a reference that the caller has, and uses no more. If no other is left, its
/// `next` and `link` are null.
unsafe fn release(record: *mut Record) {
    // SAFETY: it counts the caller's reference, so it is there.
    let references = unsafe { &mut (*record).references };
    *references -= 1;
    if *references == 0 {
        // SAFETY: it comes from a box, and nothing refers to it any more.
        drop(unsafe { Box::from_raw(record) });
    }
}

/// One thread's table and its sequence of operations.
pub(super) struct Churn {
    table: Vec<*mut Record>,
    records: u64,
    rng: Rng,
    sum: u64,
    /// A payload to copy from: zeros, save the first and the last byte of each in turn.
    payload: [u8; PAYLOAD_MIN + PAYLOAD_SPREAD as usize],
}

impl Churn {
    pub(super) fn new(of: &TableChurn, thread: u64) -> Self {
        let payload = [0; PAYLOAD_MIN + PAYLOAD_SPREAD as usize];
        let (table, rng) = (vec![null_mut(); 1 << TABLE_BITS], Rng::new(of.steady.seed, thread));
        let mut churn = Self { table, records: of.size, rng, sum: 0, payload };
        for key in 0..of.size {
            let random = churn.rng.next();
            churn.put(key, random);
        }
        churn
    }

    /// Takes the record of a key out of its chain, and cuts its links.
    #[inline(always)]
    fn remove(&mut self, key: u64) {
        let mut slot: *mut *mut Record = &mut self.table[hash(key)];
        // SAFETY: `slot` is a place of the table, or the `next` of a record of the chain: one that
        // the table refers to, so it is there. The chain's reference to the record that is taken
        // out is given up, and its own to the next goes to the slot; its `next` and `link` are null
        // by then. A link that is cut is a reference given up: what it pointed to has a chain that
        // refers to it, or was replaced.
        unsafe {
            while !(*slot).is_null() {
                let record = *slot;
                if (*record).key == key {
                    *slot = std::mem::replace(&mut (*record).next, null_mut());
                    let link = std::mem::replace(&mut (*record).link, null_mut());
                    if !link.is_null() {
                        release(link);
                    }
                    release(record);
                    return;
                }
                slot = &raw mut (*record).next;
            }
        }
    }

    #[inline(always)]
    fn put(&mut self, key: u64, random: u64) {
        let len = PAYLOAD_MIN + ((random >> 40) % PAYLOAD_SPREAD) as usize;
        self.payload[0] = key as u8;
        self.payload[len - 1] = random as u8;
        let payload: Box<[u8]> = self.payload[..len].into();
        self.payload[len - 1] = 0;
        self.remove(key);
        let link = self.table[hash((random >> 17) % self.records)];
        // SAFETY: a pointer of the table: the record is there. The new link is counted.
        if let Some(linked) = unsafe { link.as_mut() } {
            linked.references += 1;
        }
        let head = &mut self.table[hash(key)];
        // The chain's reference to what was the first goes to the new record's `next`.
        *head = Box::into_raw(Box::new(Record { next: *head, link, references: 1, key, payload }));
    }

    #[inline(always)]
    fn get(&mut self, key: u64) {
        let mut found = self.table[hash(key)];
        // SAFETY: a pointer of the table or of a record's `next`: the record is there.
        while let Some(record) = unsafe { found.as_ref() } {
            if record.key == key {
                self.sum = self.sum.wrapping_add(u64::from(record.payload[0]));
                // SAFETY: a record's `link`: what it points to is there.
                if let Some(link) = unsafe { record.link.as_ref() } {
                    let last = link.payload.last().map_or(0, |&b| u64::from(b));
                    self.sum = self.sum.wrapping_add(link.key).wrapping_add(last);
                }
                return;
            }
            found = record.next;
        }
    }
}

impl Operations for Churn {
    #[inline(always)]
    fn op(&mut self) {
        let random = self.rng.next();
        let key = (random >> 8) % self.records;
        if random & 1 == 0 { self.get(key) } else { self.put(key, random) }
    }

    fn checksum(&self) -> u64 {
        self.sum
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        for key in 0..self.records {
            self.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of the table, and those that only links refer to.
    fn assert_counted(churn: &Churn) -> (usize, usize) {
        let mut references = std::collections::BTreeMap::new();
        let (mut chained, mut open) = (Vec::new(), churn.table.clone());
        while let Some(record) = open.pop() {
            // SAFETY: pointers of the table and of records' `next`: the records are there.
            let Some(found) = (unsafe { record.as_ref() }) else { continue };
            chained.push(record);
            *references.entry(record).or_insert(0) += 1;
            if !found.link.is_null() {
                *references.entry(found.link).or_insert(0) += 1;
            }
            open.push(found.next);
        }
        for (&record, &count) in &references {
            // SAFETY: the table or a record's link refers to it, so it is there.
            let found = unsafe { &*record };
            assert_eq!(found.references, count, "{}", found.key);
            assert!(chained.contains(&record) || (found.next.is_null() && found.link.is_null()), "{}", found.key);
        }
        (chained.len(), references.len() - chained.len())
    }

    /// After any operation each record's count is what refers to it, and one that was replaced
    /// lives on as long as it is linked, without links of its own.
    #[test]
    fn references_are_counted() {
        let of = serde_json::json!({
            "size": 300, "threads": 1, "seconds": 0.0, "warm_up_seconds": 0.0, "seed": 7,
        });
        let of: TableChurn = serde_json::from_value(of).unwrap();
        let mut churn = Churn::new(&of, 0);
        assert_eq!(assert_counted(&churn).0, 300);
        let mut most_linked = 0;
        for _ in 0..20 {
            (0..500).for_each(|_| churn.op());
            let (chained, linked) = assert_counted(&churn);
            assert_eq!(chained, 300);
            most_linked = linked.max(most_linked);
        }
        assert!(most_linked > 10, "{most_linked}");
        assert_ne!(churn.checksum(), 0);
        (0..300).for_each(|key| churn.remove(key));
        assert_eq!(assert_counted(&churn), (0, 0));
    }
}
