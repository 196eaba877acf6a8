//! The graph of one mutator, in the heap and as a model.

mod check;
mod steps;

pub(crate) use steps::run;

use gc_heap::{Gc, Heap, Local, Mutator, Root, RootStack, Slot, Tagged, Trace, Value, Weak, WeakSlot};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

#[derive(Trace)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) left: Slot<Option<Node>>,
    pub(crate) any: Slot<Tagged>,
    pub(crate) weak: WeakSlot<Node>,
    pub(crate) count: gc_heap::Num<u64>,
}

#[derive(Trace)]
#[trace(tail = Slot<Tagged>)]
pub(crate) struct Table {
    pub(crate) id: u64,
}

#[derive(Trace)]
#[trace(tail = u8)]
pub(crate) struct Blob {
    pub(crate) id: u64,
}

/// An array of weak references.
#[derive(Trace)]
#[trace(tail = WeakSlot<Node>)]
pub(crate) struct Watch {
    pub(crate) id: u64,
}

/// What all mutators share: records that are never changed, only replaced.
#[derive(Trace)]
#[trace(tail = Slot<Node>)]
pub(crate) struct Board;

pub(crate) struct BoardModel {
    pub(crate) root: Root<Board>,
    /// Identity of the record, and length of the blob it refers to.
    pub(crate) records: Vec<(u64, Option<usize>)>,
}

/// What a slot holds, in the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Val {
    Nil,
    Int(i32),
    Bits(u64),
    Ref(u64),
}

#[derive(Clone, Debug)]
pub(crate) enum Object {
    Node { left: Option<u64>, any: Val, weak: Option<u64>, count: u64 },
    Table { slots: Vec<Val> },
    Blob { len: usize },
    Watch { slots: Vec<Option<u64>> },
}

impl Object {
    fn bytes(&self) -> usize {
        match self {
            Object::Node { .. } => 48,
            Object::Table { slots } => 24 + slots.len() * 8,
            Object::Blob { len } => 24 + len.next_multiple_of(8),
            Object::Watch { slots } => 24 + slots.len() * 8,
        }
    }
}

/// The byte of a blob at an index.
pub(crate) fn pattern(id: u64, index: usize) -> u8 {
    (id.wrapping_mul(31) as u8).wrapping_add((index as u8).wrapping_mul(7)) ^ (index >> 8) as u8
}

/// Somewhere a value is rooted; locals of several scopes have several types.
pub(crate) trait Place {
    fn get<'g>(&self, m: &'g Mutator<'_>) -> Value<'g>;
    fn set<'g>(&self, m: &'g Mutator<'_>, value: Value<'g>);
}

impl Place for Local<'_, Tagged> {
    fn get<'g>(&self, m: &'g Mutator<'_>) -> Value<'g> {
        Local::get(self, m)
    }

    fn set<'g>(&self, m: &'g Mutator<'_>, value: Value<'g>) {
        Local::set(self, m, value);
    }
}

/// A mutator's graph.
pub(crate) struct State<'h> {
    heap: &'h Heap,
    board: &'h Mutex<BoardModel>,
    next_id: u64,
    objects: HashMap<u64, Object>,
    /// Bytes of `objects`, reachable or not yet found to be unreachable.
    bytes: usize,
    quota: usize,
    locals: Vec<Val>,
    stack: RootStack<Tagged>,
    stack_model: Vec<Val>,
    roots: Vec<(Root<Tagged>, Val)>,
    weaks: Vec<(Weak<Node>, u64)>,
    /// Objects of which a weak reference has told that they are gone: no other may ever give them.
    gone: HashSet<u64>,
}

impl<'h> State<'h> {
    pub(crate) fn new(heap: &'h Heap, board: &'h Mutex<BoardModel>, thread: u64, quota: usize) -> State<'h> {
        State {
            heap,
            board,
            next_id: thread << 32,
            objects: HashMap::new(),
            bytes: 0,
            quota,
            locals: Vec::new(),
            stack: RootStack::with_capacity(heap, 512).unwrap(),
            stack_model: Vec::new(),
            roots: Vec::new(),
            weaks: Vec::new(),
            gone: HashSet::new(),
        }
    }

    fn add(&mut self, object: Object) -> u64 {
        self.next_id += 1;
        self.bytes += object.bytes();
        self.objects.insert(self.next_id, object);
        self.next_id
    }

    /// All that the roots hold, in the model.
    fn root_values(&self) -> impl Iterator<Item = Val> {
        let roots = self.roots.iter().map(|(_, val)| *val);
        self.locals.iter().copied().chain(self.stack_model.iter().copied()).chain(roots)
    }

    fn reachable(&self) -> HashSet<u64> {
        let mut seen = HashSet::new();
        let mut todo: Vec<Val> = self.root_values().collect();
        while let Some(val) = todo.pop() {
            let Val::Ref(id) = val else { continue };
            if seen.insert(id) {
                match &self.objects[&id] {
                    Object::Node { left, any, .. } => todo.extend(left.map(Val::Ref).into_iter().chain([*any])),
                    Object::Table { slots } => todo.extend(slots),
                    Object::Blob { .. } | Object::Watch { .. } => {}
                }
            }
        }
        seen
    }

    /// A weak reference was read that refers to `id` in the model. Gives what it refers to from now
    /// on.
    fn saw_weak(&mut self, id: u64, found: Option<Gc<'_, Node>>) -> Option<u64> {
        match found {
            Some(node) => {
                assert_eq!(node.id, id, "a weak reference gives another object");
                assert!(!self.gone.contains(&id), "a weak reference gives an object that was gone");
                Some(id)
            }
            None => {
                if self.gone.insert(id) {
                    assert!(!self.reachable().contains(&id), "a weak reference lost an object that is reachable");
                }
                None
            }
        }
    }
}
