//! The heap walk: visits every live object, in a cycle, concurrently with mutators.
//!
//! It comes after finalization and after dead blocks were freed, before anything moves: the marks
//! are final, every slot of a marked object is good, and blocks with marks stay as they are. Only
//! marked objects are visited; objects allocated since mark start are not included. Slots are read
//! as they are now, so an edge may be newer than the marks.

use crate::inner::HeapInner;
use crate::inner::heap_walk::{Edge, Node, Request, RootSort, Walked};
use crate::object::Kind;
use crate::object::slots::SlotRole;
use crate::slot::is_reference;
use crate::space::Offset;
use gc_core::word::Word;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The requests so far. Taken before mark start, so that the objects that the requester holds are
/// marked.
pub(crate) fn requests(inner: &HeapInner) -> Vec<Arc<Request>> {
    std::iter::from_fn(|| inner.schedule.walks.pop()).collect()
}

/// Answers the requests.
pub(crate) fn answer(inner: &HeapInner, requests: &[Arc<Request>]) {
    if requests.is_empty() {
        return;
    }
    let mut walker =
        HeapWalker { inner, graph: requests.iter().any(|request| request.graph), walked: Walked::default() };
    walker.objects();
    if walker.graph {
        walker.roots();
    }
    let walked = Arc::new(walker.walked);
    requests.iter().for_each(|request| *request.answer.lock() = Some(Arc::clone(&walked)));
}

struct HeapWalker<'a> {
    inner: &'a HeapInner,
    graph: bool,
    walked: Walked,
}

impl HeapWalker<'_> {
    fn objects(&mut self) {
        let inner = self.inner;
        let mut kinds: HashMap<*const Kind, (&'static Kind, u64, u64)> = HashMap::new();
        for block in inner.memory.blocks.all().filter(|&block| inner.is_marked_block(block)) {
            inner.memory.marks.each_set(block.mark_words(), |granule| {
                let (kind, bytes) = self.object(granule.offset());
                let sum = kinds.entry(kind).or_insert((kind, 0, 0));
                (sum.1, sum.2) = (sum.1 + 1, sum.2 + bytes as u64);
            });
        }
        // Several copies of a generic kind may exist.
        for (kind, objects, bytes) in kinds.into_values() {
            let sum = self.walked.kinds.entry(kind.type_id()).or_insert((kind, 0, 0));
            (sum.1, sum.2) = (sum.1 + objects, sum.2 + bytes);
        }
    }

    /// Records an object. Returns its kind and size.
    fn object(&mut self, offset: Offset) -> (&'static Kind, usize) {
        let inner = self.inner;
        let (kind, mut bytes) = inner.marked_object(offset);
        if self.graph {
            let len = if kind.has_tail() { inner.memory.len_of(offset) } else { 0 };
            if kind.has_tail() {
                // Of an array that grows meanwhile, as of the length by which its slots are
                // visited.
                bytes = kind.size_of(len as u64);
            }
            self.walked.nodes.push(Node { kind, offset, bytes });
            kind.slots(len).for_each(|(word, role)| self.slot(offset, word * 8, role));
        }
        (kind, bytes)
    }

    /// The offset that a slot's word refers to, if that is a visited object.
    fn target(&self, slot: &AtomicU64) -> Option<Offset> {
        let inner = self.inner;
        let word = Word::of(slot, Ordering::Acquire);
        if !is_reference(word) || !inner.is_good(word) {
            return None;
        }
        let offset = inner.memory.space.offset(word.bits());
        let is_found = offset.bytes() < inner.memory.bytes
            && inner.memory.marks.get(offset.granule())
            && inner.is_marked_block(offset.block());
        is_found.then_some(offset)
    }

    fn slot(&mut self, holder: Offset, at: usize, role: SlotRole) {
        if role == SlotRole::Value {
            return; // with its key
        }
        let Some(to) = self.target(self.inner.memory.word(holder + at)) else { return };
        let weak = role != SlotRole::Strong;
        self.walked.edges.push(Edge { from: holder, to, holder, at, weak });
        if role == SlotRole::Key
            && let Some(value) = self.target(self.inner.memory.word(holder + at + 8))
        {
            self.walked.edges.push(Edge { from: to, to: value, holder, at: at + 8, weak: false });
        }
    }

    /// Visits the roots as of each thread's last safepoint, or as they are now.
    fn roots(&mut self) {
        let inner = self.inner;
        let mut found = Vec::new();
        let mut note = |sort, slot: &AtomicU64| found.extend(self.target(slot).map(|to| (sort, to)));
        for (number, record) in inner.world.mutators.lock().clone().iter().enumerate() {
            record.each_local(|slot| note(RootSort::Locals(number), slot));
        }
        for (number, stack) in inner.roots.stacks.lock().clone().iter().enumerate() {
            if !stack.is_given_up() {
                stack.scan(0..stack.top(), |slot| note(RootSort::Stack(number), slot));
            }
        }
        inner.roots.strong.for_each(|slot| note(RootSort::Process, slot));
        self.walked.roots = found;
    }
}
