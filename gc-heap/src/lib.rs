//! A garbage-collected heap to embed in a Rust program: it collects and compacts concurrently with
//! the program.
//!
//! Every object is seen through several virtual views of one memfd, so a pointer carries its state
//! in its address (its color), and a load tests it with one instruction. See the `docs` folder of
//! the repository for how the cycle works.
//!
//! # The one idea of the API
//!
//! `&mut Mutator` means that objects may move; `&Mutator` means that they do not. A raw reference
//! ([`Gc`]) borrows a `&Mutator`, so the borrow checker ends it at the next safepoint: every
//! function that may reach one takes `&mut`. [`Mutator::reserve`] is the allocation safepoint;
//! placing objects after it is never a safepoint and never fails.
//!
//! ```
//! use gc_heap::{Heap, AllocSize, Slot, Trace};
//!
//! #[derive(Trace)]
//! struct Node { value: u64, next: Slot<Option<Node>> }
//!
//! let heap = Heap::builder().max_bytes(16 << 20).build()?;
//! let sum = heap.enter(|m| -> Result<u64, gc_heap::OutOfMemory> {
//!     let list = m.local_of::<Option<Node>>(None);
//!     for value in 0..1000 {
//!         let m = m.reserve(AllocSize::of::<Node>())?; // objects may move here
//!         let node = m.place(NodeInit { value, next: list.get(m) }); // and not here
//!         list.set(m, Some(node));
//!     }
//!     m.collect();
//!     let (mut sum, mut node) = (0, list.get(m));
//!     while let Some(n) = node {
//!         sum += n.value;
//!         node = n.next.get(m);
//!     }
//!     Ok(sum)
//! })??;
//! assert_eq!(sum, 499_500);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Rule of thumb: functions that take `&Mutator` take and return [`Gc`]s; functions that take
//! `&mut Mutator` take and return [`Local`]s.

extern crate self as gc_heap;

mod active;
mod barrier;
#[cfg(feature = "census")]
mod census;
mod collector;
mod config;
mod error;
mod events;
mod external;
mod finalize;
mod handles;
mod heap;
mod inner;
mod intern;
mod lock;
#[cfg(feature = "log")]
mod log;
mod mutator;
mod object;
mod page;
mod refused;
mod renamed;
mod roots;
mod slot;
mod space;
mod stats;
mod text;
mod warning;
mod weak_growth;
mod weak_map;
mod world;

#[cfg(feature = "census")]
pub use census::{Census, EdgeName, HeapSnapshot, KindCount, SnapshotEdge, SnapshotNode};
pub use config::{Backing, Barrier, HeapBuilder, HugePages, MIN_HEAP_BYTES, Stress};
pub use error::{BuildError, EnterError, NoPageBarrier, OutOfMemory, Tried};
pub use events::probes;
pub use events::{
    CycleKind, CycleSpan, Event, Late, Loss, LossKind, MutatorThread, Pause, PauseKind, Phase, PhaseSpan, Stall,
    StallCause,
};
pub use external::ExternalBytes;
pub use finalize::{FinalizerQueue, Resource, ResourceQueue};
pub use gc_core::sys::{SysError, ThreadName, ThreadState};
#[doc(hidden)]
pub use gc_core::views::Mirror;
pub use handles::local::{Frame, Local, ReturnSlot};
pub use handles::root_stack::DEFAULT_STACK_SLOTS;
pub use handles::{BoundStack, Buffer, Pinned, Root, RootSlot, RootStack, Unfilled};
pub use heap::Heap;
pub use intern::InternTable;
#[cfg(feature = "log")]
pub use log::GcLog;
pub use mutator::Mutator;
pub use mutator::alloc_size::AllocSize;
pub use mutator::enter::HeapThread;
pub use mutator::grow::Growth;
pub use mutator::keep::{Kept, SlotTypes, Words};
#[doc(hidden)]
pub use object::__private;
pub use object::{
    Byte, Empty, Field, FieldName, IdentityHash, Init, Kind, NoTail, Num, Number, Plain, SlotKind, Tail, TailElement,
    Trace, WordMap,
};
pub use refused::Refusals;
#[doc(hidden)]
#[expect(deprecated, reason = "names of before 0.1.0")]
pub use renamed::{LEAST_HEAP_BYTES, Out, Room, Sort};
// Its name of before 0.1.0. A trait has no alias that could be deprecated.
#[doc(hidden)]
pub use slot::Rootable as Word;
pub use slot::{
    Address, AnyGc, AnyObject, Array, Bytes, Ephemeron, Gc, GrowableArray, GrowableElement, Referent, Rootable, Slot,
    SlotArray, SlotType, Tagged, Unpacked, Value, Weak, WeakKey, WeakSlot,
};
pub use stats::{Durations, HeapStats, LossTotal, LossTotals, Pauses, SlowPaths};
pub use text::{ByteSize, ParseOptionError};
pub use warning::BuildWarning;
pub use weak_map::WeakMap;

/// The README's program compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

// So do those of the book's chapters.
#[cfg(doctest)]
#[doc = include_str!("../../docs/embedding.md")]
struct Embedding;

#[cfg(doctest)]
#[doc = include_str!("../../docs/objects.md")]
struct Objects;

#[cfg(doctest)]
#[doc = include_str!("../../docs/roots.md")]
struct Roots;

#[cfg(doctest)]
#[doc = include_str!("../../docs/barriers.md")]
struct Barriers;

#[cfg(doctest)]
#[doc = include_str!("../../docs/tuning.md")]
struct Tuning;

#[cfg(doctest)]
#[doc = include_str!("../../docs/kernel.md")]
struct KernelFeatures;

#[cfg(doctest)]
#[doc = include_str!("../../docs/weak.md")]
struct WeakThings;

/// The features of this crate, and whether each was compiled in.
pub const FEATURES: [(&str, bool); 4] = [
    ("census", cfg!(feature = "census")),
    ("log", cfg!(feature = "log")),
    ("losses", cfg!(feature = "losses")),
    ("usdt", cfg!(feature = "usdt")),
];
