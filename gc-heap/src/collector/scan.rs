//! How a marker visits the slots of an object that it has marked: maps of references, long arrays a
//! piece at a time, weak slots, and ephemerons.

use super::mark::Marker;
use super::mark_queue::{CHUNK, Rest};
use crate::barrier::collector::{self as slots, Scan};
use crate::object::Kind;
use crate::space::Offset;
use std::sync::atomic::Ordering;

/// Elements of an array visited at a time: bounds what a long array adds to the stack.
const PIECE: usize = 1024;

impl<const MANY: bool> Marker<'_, MANY> {
    /// Marks the values of the pairs that wait for an object that has just been marked.
    #[cold]
    pub(super) fn mark_values_of(&mut self, offset: Offset) {
        self.shared.waiting.take(offset, !MANY, |pair| self.visit(self.word(pair.word(1))));
    }

    /// Visits a pair of a marked object: marks its value if its key is live, otherwise the pair
    /// waits.
    pub(super) fn scan_pair(&mut self, pair: Offset) {
        let inner = self.inner;
        let waiting = self.ephemeron_phase.then_some(&self.shared.waiting);
        match slots::scan_pair(self.word(pair), pair, self, |key| inner.is_live(key), waiting) {
            Scan::Value => self.visit(self.word(pair.word(1))),
            Scan::Later => self.note_pair(pair),
            Scan::Full => self.shared.add_pair_block(inner, pair),
            Scan::Empty | Scan::Waits => {}
        }
    }

    /// Records a pair for the pass over them, in the list or by its block.
    fn note_pair(&mut self, pair: Offset) {
        if self.pairs.len() == self.pairs.capacity() {
            let room = self.shared.take_pair_room(self.pairs.capacity().max(CHUNK));
            if room == 0 || self.pairs.try_reserve_exact(room).is_err() {
                return self.shared.add_pair_block(self.inner, pair);
            }
        }
        self.pairs.push(pair);
    }

    #[cold]
    fn scan_pairs(&mut self, first: Offset, mut map: u64) {
        while map != 0 {
            self.scan_pair(first.word(map.trailing_zeros() as usize));
            map &= map - 1;
        }
    }

    /// The pass over the recorded pairs, when nothing else is left to mark. From now on every mark
    /// looks up waiting pairs. `others`: lists of other markers.
    pub(crate) fn start_ephemeron_phase(&mut self, others: Vec<Vec<Offset>>) {
        self.ephemeron_phase = true;
        let own = std::mem::take(&mut self.pairs);
        others.into_iter().chain([own]).flatten().for_each(|pair| self.scan_pair(pair));
    }

    #[inline(always)]
    pub(super) fn scan_slots(&mut self, offset: Offset, kind: &'static Kind) {
        self.visit_map(offset, kind.strong | kind.tagged);
        if kind.weak != 0 {
            self.note_weak(offset, kind.weak);
        }
        if kind.tail_has_slots() {
            self.scan_tail(offset, kind);
        }
        if let Some(more) = kind.more {
            for group in 0..more.strong.len() {
                let first = offset.word((group + 1) * 64);
                self.visit_map(first, more.strong[group] | more.tagged[group]);
                self.note_weak(first, more.weak[group]);
            }
            for (group, &pairs) in more.pairs.iter().enumerate() {
                self.scan_pairs(offset.word(group * 64), pairs);
            }
            if more.tail_pairs != 0 {
                let len = self.inner.memory.len_of(offset);
                for index in 0..len {
                    let element = offset + kind.fixed_bytes as usize + index * kind.tail_stride as usize;
                    self.scan_pairs(element, more.tail_pairs);
                }
            }
        }
    }

    #[inline(always)]
    fn visit_map(&mut self, first: Offset, mut map: u64) {
        while map != 0 {
            self.visit(self.word(first.word(map.trailing_zeros() as usize)));
            map &= map - 1;
        }
    }

    fn note_weak(&mut self, first: Offset, mut map: u64) {
        while map != 0 {
            let slot = first.word(map.trailing_zeros() as usize);
            if self.word(slot).load(Ordering::Relaxed) != 0 {
                if self.weak.len() < self.weak.capacity() {
                    self.weak.push(slot);
                } else {
                    self.note_weak_full(slot);
                }
            }
            map &= map - 1;
        }
    }

    /// The list is as long as its memory: it gets more, or the slot's block is walked after
    /// marking.
    #[cold]
    #[inline(never)]
    fn note_weak_full(&mut self, slot: Offset) {
        match self.shared.take_weak_room(self.weak.capacity().max(CHUNK)) {
            room if room != 0 && self.weak.try_reserve_exact(room).is_ok() => self.weak.push(slot),
            _ => self.shared.add_weak_block(slot.block()),
        }
    }

    #[inline(always)]
    fn scan_tail(&mut self, offset: Offset, kind: &'static Kind) {
        let len = self.inner.memory.len_of(offset);
        let first = offset + kind.fixed_bytes as usize;
        if len > PIECE {
            self.queues.arrays.push(Rest { next: first, elements: len, kind });
            self.queued += 1;
        } else {
            self.scan_elements(first, len, kind);
        }
    }

    fn scan_elements(&mut self, first: Offset, elements: usize, kind: &'static Kind) {
        let stride = kind.tail_stride as usize;
        let strong = kind.tail_strong | kind.tail_tagged;
        for index in 0..elements {
            let element = first + index * stride;
            self.visit_map(element, strong);
            if kind.tail_weak != 0 {
                self.note_weak(element, kind.tail_weak);
            }
        }
    }

    /// Visits the next piece of a long array. An element that is overwritten before it is visited
    /// is logged, as in any object that is not visited yet.
    #[cold]
    #[inline(never)]
    pub(super) fn scan_piece(&mut self, mut rest: Rest) {
        let (first, kind) = (rest.next, rest.kind);
        let stride = kind.tail_stride as usize;
        let elements = rest.elements.min(PIECE);
        rest.next += elements * stride;
        rest.elements -= elements;
        if MANY && rest.elements > PIECE && (self.call() || self.shared.crew.is_hungry()) {
            // Leave the far half for another marker.
            let near = rest.elements / 2;
            let far = Rest { next: rest.next + near * stride, elements: rest.elements - near, kind };
            rest.elements = near;
            self.queues.arrays.push(far);
            self.queued += 1;
            self.shared.crew.tell();
        }
        if rest.elements != 0 {
            self.queues.arrays.push(rest);
            self.queued += 1;
        }
        self.scan_elements(first, elements, kind);
    }
}

#[cfg(test)]
mod tests {
    use super::super::roots::Roots;
    use super::*;
    use crate::collector::mark_queue::SharedMarkQueue;
    use crate::slot::SlotType;
    use crate::{AllocSize, Heap, Slot, SlotArray, Trace};
    use std::sync::atomic::AtomicU64;

    #[derive(Trace)]
    struct Node {
        next: Slot<Option<Node>>,
    }

    #[test]
    fn a_long_array_goes_onto_the_stack_a_piece_at_a_time() {
        const LEN: usize = 300 * PIECE + 7;
        let heap = Heap::builder().max_bytes(32 << 20).build().unwrap();
        heap.enter(|m| {
            type Nodes = SlotArray<Option<Node>>;
            let nodes = m.build::<Nodes>(AllocSize::tail::<Nodes>(LEN), |m| m.place_array((), LEN, None)).unwrap();
            for index in 0..LEN {
                let m = m.reserve(AllocSize::of::<Node>()).unwrap();
                nodes.get(m).tail()[index].set(m, Some(m.place(NodeInit { next: None })));
            }
            let inner = heap.inner();
            let shared = SharedMarkQueue::new(inner, 1, Roots::default());
            let mut marker = Marker::<false>::new(inner, &shared);
            let word = <Nodes as SlotType>::to_word(nodes.get(m)).bits();
            marker.visit(&AtomicU64::new(word));
            marker.drain();
            assert_eq!((marker.objects, marker.queued), (LEN as u64 + 1, 0));
            assert!(shared.peak_bytes() <= 4 * 4096, "{}", shared.peak_bytes());
        })
        .unwrap();
    }
}
