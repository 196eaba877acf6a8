//! Equality of heap and model.

use super::{Blob, Node, Object, Place, State, Table, Val, Watch, pattern};
use gc_heap::{AnyGc, Mutator, Unpacked, Value};
use std::collections::HashMap;

/// The identity of an object, and what must be one of these types.
fn id_of(any: AnyGc<'_>) -> u64 {
    if let Some(node) = any.downcast::<Node>() {
        node.id
    } else if let Some(table) = any.downcast::<Table>() {
        table.id
    } else if let Some(blob) = any.downcast::<Blob>() {
        blob.id
    } else if let Some(watch) = any.downcast::<Watch>() {
        watch.id
    } else {
        panic!("an object of a kind that was never made: {any:?}")
    }
}

/// A value as the model writes it.
pub(super) fn val_of(value: Value<'_>) -> Val {
    match value.unpack() {
        Unpacked::Nil => Val::Nil,
        Unpacked::Int(x) => Val::Int(i32::try_from(x).expect("the model's integers have 32 bits")),
        Unpacked::Num(x) => Val::Bits(x.to_bits()),
        Unpacked::Ref(any) => Val::Ref(id_of(any)),
        Unpacked::Bool(_) | Unpacked::Special(_) => panic!("none of these was stored"),
    }
}

/// The objects met so far: each at one address.
type Met<'g> = HashMap<u64, AnyGc<'g>>;

fn meet<'g>(value: Value<'g>, expected: Val, met: &mut Met<'g>, todo: &mut Vec<u64>) {
    assert_eq!(val_of(value), expected, "a slot holds something else than was stored");
    if let (Some(any), Val::Ref(id)) = (value.as_any(), expected) {
        match met.insert(id, any) {
            Some(before) => assert_eq!(before, any, "one object at two addresses"),
            None => todo.push(id),
        }
    }
}

impl State<'_> {
    /// Compares everything that is reachable.
    pub(super) fn check(&mut self, m: &Mutator<'_>, places: &[&dyn Place]) {
        let mut met = Met::new();
        let mut todo = Vec::new();
        assert_eq!(places.len(), self.locals.len());
        for (place, &val) in places.iter().zip(&self.locals) {
            meet(place.get(m), val, &mut met, &mut todo);
        }
        assert_eq!(self.stack.len(), self.stack_model.len());
        for (index, &val) in self.stack_model.iter().enumerate() {
            meet(self.stack.get(m, index), val, &mut met, &mut todo);
        }
        for (root, val) in &self.roots {
            meet(root.get(m), *val, &mut met, &mut todo);
        }
        let mut weak = Vec::new();
        while let Some(id) = todo.pop() {
            let any = met[&id];
            match &self.objects[&id] {
                Object::Node { left, any: other, weak: watched, count } => {
                    let node = any.downcast::<Node>().expect("a node");
                    assert_eq!(node.count.get(), *count);
                    let held = node.left.get(m).map_or(Value::NIL, Value::from);
                    meet(held, left.map_or(Val::Nil, Val::Ref), &mut met, &mut todo);
                    meet(node.any.get(m), *other, &mut met, &mut todo);
                    weak.push((*watched, node.weak.get(m)));
                }
                Object::Table { slots } => {
                    let table = any.downcast::<Table>().expect("a table");
                    assert_eq!(table.tail_len(), slots.len());
                    for (slot, &val) in table.tail().iter().zip(slots) {
                        meet(slot.get(m), val, &mut met, &mut todo);
                    }
                }
                Object::Blob { len } => {
                    let blob = any.downcast::<Blob>().expect("a blob");
                    assert_eq!(blob.tail_len(), *len);
                    let wrong = blob.tail().iter().enumerate().find(|&(i, &byte)| byte != pattern(id, i));
                    assert_eq!(wrong, None, "a byte has changed");
                }
                Object::Watch { slots } => {
                    let watch = any.downcast::<Watch>().expect("a watch");
                    assert_eq!(watch.tail_len(), slots.len());
                    weak.extend(slots.iter().zip(watch.tail()).map(|(&watched, slot)| (watched, slot.get(m))));
                }
            }
        }
        for (watched, found) in weak {
            match watched {
                // What the model remembers may be gone by now.
                Some(id) => drop(self.saw_weak(id, found)),
                None => assert!(found.is_none(), "a weak reference that was never set"),
            }
        }
    }

    /// Collects, after which every weak reference must tell exactly what is reachable; forgets the
    /// rest in the model.
    pub(super) fn collect(&mut self, m: &mut Mutator<'_>, places: &[&dyn Place]) {
        // A root that was dropped holds its object through the collection that finds it dropped.
        m.collect();
        m.collect();
        let reachable = self.reachable();
        for (id, _) in self.objects.extract_if(|id, _| !reachable.contains(id)) {
            self.gone.insert(id);
        }
        self.bytes = self.objects.values().map(Object::bytes).sum();
        for object in self.objects.values_mut() {
            match object {
                Object::Node { weak, .. } => *weak = weak.filter(|id| reachable.contains(id)),
                Object::Watch { slots } => slots.iter_mut().for_each(|s| *s = s.filter(|id| reachable.contains(id))),
                Object::Table { .. } | Object::Blob { .. } => {}
            }
        }
        self.check(m, places);
        for (weak, id) in &self.weaks {
            let found = weak.get(m).map(|node| node.id);
            assert_eq!(found, reachable.contains(id).then_some(*id), "a weak root after a collection");
        }
        self.weaks.retain(|(_, id)| reachable.contains(id));
        if self.bytes > self.quota {
            self.let_go(m, places);
        }
    }

    /// Empties roots, the last ones first, until what they reach fits the quota well.
    fn let_go(&mut self, m: &Mutator<'_>, places: &[&dyn Place]) {
        loop {
            let bytes: usize = self.reachable().iter().map(|id| self.objects[id].bytes()).sum();
            if bytes <= self.quota / 2 {
                self.bytes = bytes;
                return;
            }
            if let Some((root, val)) = self.roots.iter_mut().rev().find(|(_, val)| *val != Val::Nil) {
                root.set(m, Value::NIL);
                *val = Val::Nil;
            } else if !self.stack_model.is_empty() {
                self.stack_model.truncate(self.stack_model.len() / 2);
                self.stack.truncate(m, self.stack_model.len());
            } else {
                let last = self.locals.iter().rposition(|val| *val != Val::Int(7)).expect("the roots are empty");
                places[last].set(m, Value::int(7));
                self.locals[last] = Val::Int(7);
            }
        }
    }
}
