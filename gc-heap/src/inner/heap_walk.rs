//! What a heap walk finds, and who has asked for one.

use crate::lock::Mutex;
use crate::object::Kind;
use crate::space::Offset;
use std::any::TypeId;
use std::collections::HashMap;
use std::sync::Arc;

/// A request for a census or snapshot. The next cycle that begins answers it.
pub(crate) struct Request {
    pub(crate) graph: bool,
    pub(crate) answer: Mutex<Option<Arc<Walked>>>,
}

/// A live object.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    pub(crate) kind: &'static Kind,
    pub(crate) offset: Offset,
    pub(crate) bytes: usize,
}

/// A reference from one object to another, by offset.
#[derive(Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) from: Offset,
    pub(crate) to: Offset,
    /// Where the slot is: the object that holds it, and the byte within. An ephemeron's value is
    /// held by the object, and kept by the key, from which the edge goes.
    pub(crate) holder: Offset,
    pub(crate) at: usize,
    pub(crate) weak: bool,
}

/// The kinds of roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootSort {
    /// Locals of the thread with this number among those attached.
    Locals(usize),
    Stack(usize),
    Process,
}

/// Result of a heap walk.
#[derive(Default)]
pub(crate) struct Walked {
    /// Objects and bytes of each type.
    pub(crate) kinds: HashMap<TypeId, (&'static Kind, u64, u64)>,
    /// By offset, ascending. Only with a graph; so the following.
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) roots: Vec<(RootSort, Offset)>,
}
