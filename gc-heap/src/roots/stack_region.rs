//! A root stack's memory, shared by its owner and the collector. What the two do at the same time,
//! marking and giving memory back, is in [`gc_core::root_stack`].

use crate::roots::region::Region;
use crate::space::Page;
use gc_core::root_stack::RootStackState;
use gc_core::views::Views;
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The limit is a multiple of this many slots, 64 KiB, or the capacity.
const STEP: usize = (64 << 10) / 8;

/// A stack's memory, shared by its owner and the collector.
pub(crate) struct StackRegion {
    region: Region,
    /// Address of the first slot.
    slots: usize,
    capacity: usize,
    pub(crate) state: RootStackState,
    /// The owner has dropped the stack: the collector removes it when no marking runs.
    given_up: AtomicBool,
    /// Its address identifies the heap; the weak reference keeps the address from being reused.
    heap: usize,
    _heap: Weak<dyn Any + Send + Sync>,
}

/// The limit for a number of values: it leaves room for one more.
fn limit_for(len: usize, capacity: usize) -> usize {
    (len + 1).next_multiple_of(STEP).min(capacity)
}

impl StackRegion {
    /// An empty stack in this memory, of the heap that `heap` tells from others.
    pub(crate) fn new<H: Any + Send + Sync>(region: Region, heap: Arc<H>) -> StackRegion {
        let limit = STEP.min(region.len() / 8);
        let address = Arc::as_ptr(&heap).addr();
        let heap: Arc<dyn Any + Send + Sync> = heap;
        StackRegion {
            slots: region.address(),
            capacity: region.len() / 8,
            region,
            state: RootStackState::new(limit),
            given_up: AtomicBool::new(false),
            heap: address,
            _heap: Arc::downgrade(&heap),
        }
    }

    /// Whether it is a stack of the heap at this address.
    #[inline(always)]
    pub(crate) fn is_of(&self, heap: usize) -> bool {
        self.heap == heap
    }

    /// The owner is gone.
    pub(crate) fn release(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    pub(crate) fn slot(&self, index: usize) -> &AtomicU64 {
        &self.region.words()[index]
    }

    /// Address of the first slot.
    #[inline(always)]
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    #[inline(always)]
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Values on the stack. By the owner.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.state.len()
    }

    #[inline(always)]
    pub(crate) fn limit(&self) -> usize {
        self.state.limit()
    }

    /// Raises the limit for a stack of `len` values, and returns it. Called by the owner. Waits
    /// while the collector is uncommitting memory of this stack.
    ///
    /// # Panics
    /// If that is more than fits.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(crate) fn admit(&self, len: usize) -> usize {
        if len > self.capacity {
            overflow(len, self.capacity);
        }
        let limit = len.next_multiple_of(STEP).min(self.capacity);
        self.state.raise(limit);
        limit
    }

    /// Whether the owner may push to far more slots than it uses now. A hint: it may change at any
    /// time.
    pub(crate) fn is_wide(&self) -> bool {
        self.state.limit() > limit_for(self.state.len(), self.capacity)
    }

    /// Lowers the limit to what the stack needs. Called inside a pause.
    pub(crate) fn lower(&self) {
        self.state.lower(limit_for(self.state.len(), self.capacity));
    }

    /// Uncommits the memory above the limit, which the stack has not needed since the limit was
    /// lowered. Called by the collector, while no page is gated.
    pub(crate) fn give_back(&self, views: &Views) {
        self.state.give_back(|slots| self.region.discard(views, slots.start * 8..slots.end * 8).is_ok());
    }

    /// Pages of the heap's file that hold slots below the top.
    pub(crate) fn pages(&self) -> std::ops::Range<Page> {
        self.region.pages(self.state.top() * 8)
    }

    /// Number of slots to scan, if the scan begins now. The collector's side of the protocol above.
    pub(crate) fn top(&self) -> usize {
        self.state.top()
    }

    /// Visits a range of slots.
    pub(crate) fn scan(&self, slots: std::ops::Range<usize>, visit: impl FnMut(&AtomicU64)) {
        self.region.collector_words()[slots].iter().for_each(visit);
    }

    pub(crate) fn set_scanned(&self, epoch: u32) {
        self.state.set_scanned(epoch);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }
}

#[cold]
#[inline(never)]
#[track_caller]
pub(crate) fn overflow(len: usize, capacity: usize) -> ! {
    panic!("root stack overflow: {len} values, and {capacity} fit; check `room` first")
}
