//! The operations, done to heap and model.

use super::check::val_of;
use super::{Blob, Node, NodeInit, Object, Place, State, Table, TableInit, Val, Watch, WatchInit, pattern};
use super::{BlobInit, Board, BoardModel};
use crate::model::{How, Op, Pick, Size, Sort};
use gc_heap::{AllocSize, AnyGc, Bytes, Gc, Local, Mutator, RootStack, Slot, SlotType, Tagged, Value, Weak};
use std::sync::MutexGuard;
use std::time::Duration;

/// Plays at most `most` operations in the scope of `m`; `outer` are the locals of the scopes around
/// it.
pub(crate) fn run<'s>(
    m: &mut Mutator<'s>,
    outer: &[&dyn Place],
    state: &mut State<'_>,
    ops: &mut std::slice::Iter<'_, Op>,
    most: usize,
) {
    let mut locals: Vec<Local<'s, Tagged>> = Vec::new();
    for _ in 0..most {
        let Some(op) = ops.next() else { break };
        let places: Vec<&dyn Place> =
            outer.iter().copied().chain(locals.iter().map(|local| local as &dyn Place)).collect();
        let new = match op {
            Op::Frame { ops: most } => {
                let kept = state.locals.len();
                run(&mut m.frame(), &places, state, ops, usize::from(*most));
                state.locals.truncate(kept);
                None
            }
            op => step(m, &places, state, op),
        };
        locals.extend(new);
    }
    let places: Vec<&dyn Place> = outer.iter().copied().chain(locals.iter().map(|local| local as &dyn Place)).collect();
    state.check(m, &places);
}

/// Plays an operation; gives the local it made, if any.
fn step<'s>(m: &mut Mutator<'s>, places: &[&dyn Place], state: &mut State<'_>, op: &Op) -> Option<Local<'s, Tagged>> {
    match op {
        Op::Alloc { sort, size, len, from, other, to } => {
            return state.alloc(m, places, (*sort, *size, usize::from(*len)), from, other, *to);
        }
        Op::Store { object, slot, from, how } => state.store(m, places, object, usize::from(*slot), from, *how),
        Op::Count { object, value } => {
            let (found, val) = state.follow(m, places, object);
            if let (Some(node), Val::Ref(id)) = (found.downcast::<Node>(), val) {
                node.count.set(*value);
                if let Some(Object::Node { count, .. }) = state.objects.get_mut(&id) {
                    *count = *value;
                }
            }
        }
        Op::Local { from } => {
            let (value, val) = state.follow(m, places, from);
            state.locals.push(val);
            return Some(m.local(value));
        }
        Op::SetLocal { which, from } => {
            if !places.is_empty() {
                let which = usize::from(*which) % places.len();
                let (value, val) = state.follow(m, places, from);
                places[which].set(m, value);
                state.locals[which] = val;
            }
        }
        Op::Frame { .. } => unreachable!("played by run"),
        Op::Root { from } => {
            let (value, val) = state.follow(m, places, from);
            state.roots.push((gc_heap::Root::new(m, value), val));
        }
        Op::SetRoot { which, from } => {
            let (value, val) = state.follow(m, places, from);
            let count = state.roots.len().max(1);
            if let Some((root, model)) = state.roots.get_mut(usize::from(*which) % count) {
                root.set(m, value);
                *model = val;
            }
        }
        Op::DropRoot { which } => {
            if !state.roots.is_empty() {
                state.roots.swap_remove(usize::from(*which) % state.roots.len());
            }
        }
        Op::Push { .. }
        | Op::Pop
        | Op::Poke { .. }
        | Op::Last { .. }
        | Op::Truncate { .. }
        | Op::DropTop { .. }
        | Op::NewStack => state.stack_step(m, places, op),
        Op::SetWeak { .. } | Op::ReadWeak { .. } | Op::Weak { .. } | Op::Upgrade { .. } | Op::DropWeak { .. } => {
            state.weak_step(m, places, op);
        }
        Op::ReplaceShared { slot, bytes } => state.replace_shared(m, usize::from(*slot) % 16, usize::from(*bytes)),
        Op::ReadShared { slot } => state.read_shared(m, usize::from(*slot) % 16),
        Op::Garbage { count } => {
            let m = m.reserve(AllocSize::of::<Node>().times(usize::from(*count))).expect("room for garbage");
            let mut left = None;
            for id in 0..u64::from(*count) {
                left = Some(m.place(NodeInit { id, left, any: Value::NIL, weak: left, count: id }));
            }
        }
        Op::Burst { kib } => {
            for _ in 0..kib.div_ceil(16) {
                let m = m.reserve(AllocSize::tail::<Bytes>(16 << 10)).expect("room for garbage");
                m.place_bytes::<Bytes>((), &[0xa5; 16 << 10]);
            }
        }
        Op::Blocking => m.blocking(|| std::thread::sleep(Duration::from_micros(200))),
        Op::Safepoint => m.safepoint(),
        Op::Release => drop(state.heap.release_memory()),
        Op::Collect => state.collect(m, places),
        Op::Check => state.check(m, places),
    }
    None
}

fn elements(size: Size, len: usize) -> usize {
    match size {
        Size::Small => len % 16,
        Size::Medium => 520 + len % 3000,
        Size::Large => 4200 + len % 8000,
    }
}

impl State<'_> {
    /// A root and what it leads to, in heap and model. No safepoint.
    fn follow<'g>(&self, m: &'g Mutator<'_>, places: &[&dyn Place], pick: &Pick) -> (Value<'g>, Val) {
        let (locals, stack) = (self.locals.len(), self.stack_model.len());
        let count = locals + stack + self.roots.len();
        if count == 0 {
            return (Value::int(1), Val::Int(1));
        }
        let root = usize::from(pick.root) % count;
        let (mut value, mut val) = if root < locals {
            (places[root].get(m), self.locals[root])
        } else if root < locals + stack {
            (self.stack.get(m, root - locals), self.stack_model[root - locals])
        } else {
            let (root, val) = &self.roots[root - locals - stack];
            (root.get(m), *val)
        };
        assert_eq!(val_of(value), val, "a root holds something else than was stored");
        for &step in &pick.path {
            let step = usize::from(step);
            let Val::Ref(id) = val else { break };
            let (next, next_val) = match &self.objects[&id] {
                Object::Node { left: Some(left), .. } if step.is_multiple_of(2) => {
                    let node = value.downcast::<Node>().expect("a node");
                    (node.left.get(m).expect("a node to the left").into(), Val::Ref(*left))
                }
                Object::Node { any, .. } => (value.downcast::<Node>().expect("a node").any.get(m), *any),
                Object::Table { slots } if !slots.is_empty() => {
                    let table = value.downcast::<Table>().expect("a table");
                    (table.tail()[step % slots.len()].get(m), slots[step % slots.len()])
                }
                _ => break,
            };
            assert_eq!(val_of(next), next_val, "a slot holds something else than was stored");
            if !matches!(next_val, Val::Ref(_)) {
                break;
            }
            (value, val) = (next, next_val);
        }
        (value, val)
    }

    fn follow_node<'g>(&self, m: &'g Mutator<'_>, places: &[&dyn Place], pick: &Pick) -> Option<(Gc<'g, Node>, u64)> {
        let (value, val) = self.follow(m, places, pick);
        let Val::Ref(id) = val else { return None };
        Some((value.downcast::<Node>()?, id))
    }

    fn follow_object<'g>(&self, m: &'g Mutator<'_>, places: &[&dyn Place], pick: &Pick) -> Option<(AnyGc<'g>, u64)> {
        let (value, val) = self.follow(m, places, pick);
        let Val::Ref(id) = val else { return None };
        Some((value.as_any()?, id))
    }

    fn alloc<'s>(
        &mut self,
        m: &mut Mutator<'s>,
        places: &[&dyn Place],
        (sort, size, len): (Sort, Size, usize),
        from: &Pick,
        other: &Pick,
        to: u16,
    ) -> Option<Local<'s, Tagged>> {
        if self.bytes > self.quota {
            self.collect(m, places);
        }
        let len = match sort {
            Sort::Node => 0,
            Sort::Table | Sort::Watch => elements(size, len),
            Sort::Blob => elements(size, len) * 8 + len % 8,
        };
        let room = match sort {
            Sort::Node => AllocSize::of::<Node>(),
            Sort::Table => AllocSize::tail::<Table>(len),
            Sort::Watch => AllocSize::tail::<Watch>(len),
            Sort::Blob => AllocSize::tail::<Blob>(len),
        };
        let live = self.bytes;
        let m = m.reserve(room).unwrap_or_else(|error| panic!("{error}, with at most {live} bytes live here"));
        let (value, val) = self.follow(m, places, from);
        let (made, id): (Value<'_>, u64) = match sort {
            Sort::Node => {
                let left = self.follow_node(m, places, other);
                let weak = self.follow_node(m, places, from);
                let (left_id, weak_id) = (left.map(|(_, id)| id), weak.map(|(_, id)| id));
                let id = self.add(Object::Node { left: left_id, any: val, weak: weak_id, count: 0 });
                let (left, weak) = (left.map(|(node, _)| node), weak.map(|(node, _)| node));
                (m.place(NodeInit { id, left, any: value, weak, count: 0 }).into(), id)
            }
            Sort::Table => {
                let (second, second_val) = self.follow(m, places, other);
                let choose = |i: usize| if i.is_multiple_of(7) { 0 } else { 1 + usize::from(i.is_multiple_of(11)) };
                let slots = (0..len).map(|i| [val, Val::Int(i as i32), second_val][choose(i)]).collect();
                let id = self.add(Object::Table { slots });
                let tail = (0..len).map(|i| [value, Value::int(i as i32), second][choose(i)]);
                (m.place_tail::<Table, _>(TableInit { id }, tail).into(), id)
            }
            Sort::Blob => {
                let id = self.add(Object::Blob { len });
                let bytes: Vec<u8> = (0..len).map(|i| pattern(id, i)).collect();
                (m.place_bytes::<Blob>(BlobInit { id }, &bytes).into(), id)
            }
            Sort::Watch => {
                let node = self.follow_node(m, places, from);
                let id = self.add(Object::Watch { slots: vec![node.map(|(_, id)| id); len] });
                (m.place_array::<Watch>(WatchInit { id }, len, node.map(|(node, _)| node)).into(), id)
            }
        };
        match to % 4 {
            0 if self.stack.room() > 0 => {
                self.stack.push(m, made);
                self.stack_model.push(Val::Ref(id));
            }
            1 => {
                self.locals.push(Val::Ref(id));
                return Some(m.local(made));
            }
            2 if !places.is_empty() => {
                let which = usize::from(to / 4) % places.len();
                places[which].set(m, made);
                self.locals[which] = Val::Ref(id);
            }
            _ => self.store_value(m, places, other, usize::from(to / 4), (made, Val::Ref(id)), How::Set),
        }
        None
    }

    fn store(&mut self, m: &Mutator<'_>, places: &[&dyn Place], object: &Pick, slot: usize, from: &Pick, how: How) {
        let stored = self.follow(m, places, from);
        self.store_value(m, places, object, slot, stored, how);
    }

    fn store_value<'g>(
        &mut self,
        m: &'g Mutator<'_>,
        places: &[&dyn Place],
        object: &Pick,
        slot: usize,
        (value, val): (Value<'g>, Val),
        how: How,
    ) {
        let Some((any, id)) = self.follow_object(m, places, object) else { return };
        match self.objects.get_mut(&id) {
            Some(Object::Node { left, .. }) if slot.is_multiple_of(2) => {
                let node = any.downcast::<Node>().expect("a node");
                let new = value.downcast::<Node>();
                let same = |a: Option<Gc<'_, Node>>, b: Option<u64>| assert_eq!(a.map(|node| node.id), b);
                put(m, &node.left, new, how, |old| same(old, *left));
                *left = new.map(|node| node.id);
            }
            Some(Object::Node { any: slot, .. }) => {
                let node = any.downcast::<Node>().expect("a node");
                put(m, &node.any, value, how, |old| assert_eq!(val_of(old), *slot));
                *slot = val;
            }
            Some(Object::Table { slots }) if !slots.is_empty() => {
                let index = slot % slots.len();
                let table = any.downcast::<Table>().expect("a table");
                put(m, &table.tail()[index], value, how, |old| assert_eq!(val_of(old), slots[index]));
                slots[index] = val;
            }
            _ => {}
        }
    }

    fn stack_step(&mut self, m: &Mutator<'_>, places: &[&dyn Place], op: &Op) {
        match op {
            Op::Push { from } if self.stack.room() > 0 => {
                let (value, val) = self.follow(m, places, from);
                self.stack.push(m, value);
                self.stack_model.push(val);
            }
            Op::Pop => assert_eq!(self.stack.pop(m).map(val_of), self.stack_model.pop()),
            Op::Poke { depth, from } if !self.stack.is_empty() => {
                let depth = usize::from(*depth) % self.stack.len();
                let (value, val) = self.follow(m, places, from);
                self.stack.poke(m, depth, value);
                let len = self.stack_model.len();
                self.stack_model[len - 1 - depth] = val;
            }
            Op::Last { from } if self.stack.len() >= 2 => {
                let (value, val) = self.follow(m, places, from);
                let [a, b] = self.stack.last::<2>(m);
                let was = b.get(m);
                b.set(m, a.get(m));
                a.set(m, value);
                let len = self.stack_model.len();
                assert_eq!(val_of(was), self.stack_model[len - 1]);
                self.stack_model[len - 1] = self.stack_model[len - 2];
                self.stack_model[len - 2] = val;
            }
            Op::Truncate { to } => {
                let to = usize::from(*to) % (self.stack.len() + 1);
                self.stack.truncate(m, to);
                self.stack_model.truncate(to);
            }
            Op::DropTop { count } => {
                self.stack.drop_top(m, usize::from(*count));
                self.stack_model.truncate(self.stack_model.len().saturating_sub(usize::from(*count)));
            }
            Op::NewStack => {
                let stack = RootStack::with_capacity(self.heap, 512).expect("address space");
                (0..self.stack.len()).for_each(|index| stack.push(m, self.stack.get(m, index)));
                self.stack = stack;
            }
            _ => {}
        }
    }

    fn weak_step(&mut self, m: &Mutator<'_>, places: &[&dyn Place], op: &Op) {
        match op {
            Op::SetWeak { object, slot, from } => {
                let Some((any, id)) = self.follow_object(m, places, object) else { return };
                let target = self.follow_node(m, places, from);
                let (node, target) = (target.map(|(node, _)| node), target.map(|(_, id)| id));
                match self.objects.get_mut(&id) {
                    Some(Object::Node { weak, .. }) => {
                        any.downcast::<Node>().expect("a node").weak.set(m, node);
                        *weak = target;
                    }
                    Some(Object::Watch { slots }) if !slots.is_empty() => {
                        let index = usize::from(*slot) % slots.len();
                        any.downcast::<Watch>().expect("a watch").tail()[index].set(m, node);
                        slots[index] = target;
                    }
                    _ => {}
                }
            }
            Op::ReadWeak { object, slot } => {
                let Some((any, id)) = self.follow_object(m, places, object) else { return };
                let (found, target) = match &self.objects[&id] {
                    Object::Node { weak, .. } => (any.downcast::<Node>().expect("a node").weak.get(m), *weak),
                    Object::Watch { slots } if !slots.is_empty() => {
                        let index = usize::from(*slot) % slots.len();
                        (any.downcast::<Watch>().expect("a watch").tail()[index].get(m), slots[index])
                    }
                    _ => return,
                };
                self.upgraded(m, found, target);
            }
            Op::Weak { from } => {
                if let Some((node, id)) = self.follow_node(m, places, from) {
                    self.weaks.push((Weak::new(m, node), id));
                }
            }
            Op::Upgrade { which } => {
                let count = self.weaks.len().max(1);
                if let Some((weak, id)) = self.weaks.get(usize::from(*which) % count) {
                    self.upgraded(m, weak.get(m), Some(*id));
                }
            }
            Op::DropWeak { which } if !self.weaks.is_empty() => {
                self.weaks.swap_remove(usize::from(*which) % self.weaks.len());
            }
            _ => {}
        }
    }

    /// A weak reference gave `found`; it is held strongly from now on, also where nothing else did.
    fn upgraded<'g>(&mut self, m: &'g Mutator<'_>, found: Option<Gc<'g, Node>>, target: Option<u64>) {
        let Some(target) = target else { return assert!(found.is_none(), "a weak reference that was never set") };
        if let (Some(id), Some(node)) = (self.saw_weak(target, found), found)
            && self.stack.room() > 0
        {
            self.stack.push(m, node.into());
            self.stack_model.push(Val::Ref(id));
        }
    }

    /// The shared table, which a mutator may hold over safepoints: the others come to theirs while
    /// they wait.
    fn lock_board<'b>(m: &mut Mutator<'_>, board: &'b std::sync::Mutex<BoardModel>) -> MutexGuard<'b, BoardModel> {
        loop {
            match board.try_lock() {
                Ok(board) => return board,
                Err(std::sync::TryLockError::Poisoned(_)) => panic!("another mutator has failed"),
                Err(std::sync::TryLockError::WouldBlock) => {
                    std::thread::yield_now();
                    m.safepoint();
                }
            }
        }
    }

    fn replace_shared(&mut self, m: &mut Mutator<'_>, slot: usize, bytes: usize) {
        let mut board = Self::lock_board(m, self.board);
        let bytes = bytes % 9000;
        let m = m.reserve(AllocSize::of::<Node>() + AllocSize::tail::<Blob>(bytes)).expect("room for a record");
        self.next_id += 1;
        let id = self.next_id;
        let content: Vec<u8> = (0..bytes).map(|i| pattern(id, i)).collect();
        let any = Value::from(m.place_bytes::<Blob>(BlobInit { id }, &content));
        let record = m.place(NodeInit { id, left: None, any, weak: None, count: id });
        let old = board.root.get(m).tail()[slot].swap(m, record);
        check_record(m, old, board.records[slot]);
        board.records[slot] = (id, Some(bytes));
    }

    fn read_shared(&self, m: &mut Mutator<'_>, slot: usize) {
        let board = Self::lock_board(m, self.board);
        let table: Gc<'_, Board> = board.root.get(m);
        check_record(m, table.tail()[slot].get(m), board.records[slot]);
    }
}

fn check_record(m: &Mutator<'_>, record: Gc<'_, Node>, (id, bytes): (u64, Option<usize>)) {
    assert_eq!((record.id, record.count.get()), (id, id), "a shared slot holds something else than was stored");
    let blob = record.any.get(m).downcast::<Blob>();
    assert_eq!(blob.map(|blob| blob.tail_len()), bytes);
    if let Some(blob) = blob {
        assert!(blob.tail().iter().enumerate().all(|(i, &byte)| byte == pattern(id, i)), "a shared byte has changed");
    }
}

/// Stores in a slot one way or another; `old` sees what was there, where the way tells.
fn put<'g, S: SlotType>(m: &'g Mutator<'_>, slot: &Slot<S>, new: S::Loaded<'g>, how: How, old: impl Fn(S::Loaded<'g>)) {
    match how {
        How::Set => slot.set(m, new),
        How::Swap => old(slot.swap(m, new)),
        How::Exchange => match slot.compare_exchange(m, slot.get(m), new) {
            Ok(was) => old(was),
            Err(_) => panic!("nobody else stores here"),
        },
    }
}
