//! The roots of one marking, in pieces that markers claim.
//!
//! The roots to scan are fixed when marking begins: each thread's locals below its watermark, each
//! root stack's slots below its top, and the existing chunks of the table. A later word is in the
//! snapshot, or young, or logged. The marker that has visited the last piece of a thread's locals
//! or of a stack sets `scanned`, so that they need no logging any more.

use crate::inner::HeapInner;
use crate::inner::record::MutatorRecord;
use crate::roots::stack_region::StackRegion;
use crossbeam_utils::CachePadded;
use gc_core::scan::Pieces;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Slots of a piece.
const PIECE: usize = 512;

enum Holder {
    Locals(Arc<MutatorRecord>),
    Stack(Arc<StackRegion>),
    Table,
}

struct Source {
    holder: Holder,
    slots: usize,
    /// The number of its first piece.
    first: usize,
    left: Pieces,
}

/// The roots of one marking.
#[derive(Default)]
pub(crate) struct Roots {
    epoch: u32,
    sources: Vec<Source>,
    pieces: usize,
    next: CachePadded<AtomicUsize>,
}

impl Roots {
    /// All roots, after mark start.
    pub(crate) fn of(inner: &HeapInner) -> Roots {
        let mut roots = Roots { epoch: inner.world.phase.epoch(), ..Roots::default() };
        for record in inner.world.mutators.lock().clone() {
            let slots = record.locals_to_scan(roots.epoch);
            roots.add(Holder::Locals(record), slots);
        }
        for stack in inner.roots.stacks.lock().clone() {
            let slots = stack.top();
            roots.add(Holder::Stack(stack), slots);
        }
        roots.add(Holder::Table, inner.roots.strong.slots());
        roots
    }

    fn add(&mut self, holder: Holder, slots: usize) {
        if slots == 0 {
            return holder.scanned(self.epoch);
        }
        let pieces = slots.div_ceil(PIECE);
        self.sources.push(Source { holder, slots, first: self.pieces, left: Pieces::new(pieces) });
        self.pieces += pieces;
    }

    /// How many slots they are.
    pub(super) fn slots(&self) -> usize {
        self.sources.iter().map(|source| source.slots).sum()
    }

    /// Whether there are unclaimed pieces.
    pub(crate) fn any_left(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.pieces
    }

    /// Claims a piece and visits its slots. `false`: all are claimed.
    pub(crate) fn visit_next(&self, inner: &HeapInner, visit: impl FnMut(&AtomicU64)) -> bool {
        // Load first: idle markers call this repeatedly.
        if !self.any_left() {
            return false;
        }
        let piece = self.next.fetch_add(1, Ordering::Relaxed);
        if piece >= self.pieces {
            return false;
        }
        let source = &self.sources[self.sources.partition_point(|source| source.first <= piece) - 1];
        let begin = (piece - source.first) * PIECE;
        let slots = begin..(begin + PIECE).min(source.slots);
        let visit_all = || match &source.holder {
            Holder::Locals(record) => record.scan_locals(slots, visit),
            Holder::Stack(stack) => stack.scan(slots, visit),
            Holder::Table => inner.roots.strong.scan(slots, visit),
        };
        source.left.visit(visit_all, || source.holder.scanned(self.epoch));
        true
    }
}

impl Holder {
    fn scanned(&self, epoch: u32) {
        match self {
            Holder::Locals(record) => record.set_scanned(epoch),
            Holder::Stack(stack) => stack.set_scanned(epoch),
            Holder::Table => {}
        }
    }
}
