//! What a slot of an object is called, for people: its path from the object.

use super::kind::Kind;
use super::names::FieldName;
use super::word::{HEADER_BYTES, TAILED_HEADER_BYTES};
use std::fmt::Write;

/// What a slot is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SlotName {
    /// An element of the tail.
    Element(usize),
    /// A path: `left`, `table[3].key`, `[7].value`.
    Path(String),
}

/// Appends the path of the byte `at` of a struct with these fields.
fn path(fields: &[FieldName], mut at: usize, out: &mut String) {
    let Some(field) = fields.iter().find(|field| (field.offset..field.offset + field.bytes).contains(&at)) else {
        return;
    };
    if !out.is_empty() {
        out.push('.');
    }
    out.push_str(field.name);
    at -= field.offset;
    if field.element < field.bytes && field.element != 0 {
        let _ = write!(out, "[{}]", at / field.element);
        at %= field.element;
    }
    path(field.fields, at, out);
}

impl Kind {
    /// The name of the slot at a byte of the object, counted from its header.
    pub(crate) fn slot_name(&self, at: usize) -> SlotName {
        let tail = self.fixed_bytes as usize;
        if at < tail {
            let mut name = String::new();
            let fields_at = if self.has_tail() { TAILED_HEADER_BYTES } else { HEADER_BYTES };
            path(self.fields, at - fields_at, &mut name);
            return SlotName::Path(name);
        }
        let (index, at) = ((at - tail) / self.tail_stride as usize, (at - tail) % self.tail_stride as usize);
        if self.tail_fields.is_empty() && self.tail_stride == 8 {
            return SlotName::Element(index);
        }
        let mut name = format!("[{index}]");
        path(self.tail_fields, at, &mut name);
        SlotName::Path(name)
    }
}

#[cfg(test)]
mod tests {
    use super::SlotName::{Element, Path};
    use crate::object::slots::SlotRole;
    use crate::object::{Kind, Trace};
    use crate::slot::SlotArray;
    use crate::slot::{Ephemeron, Slot, Tagged, WeakSlot};

    #[derive(Trace)]
    struct Inner {
        number: u32,
        left: Slot<Tagged>,
        pair: Ephemeron<Inner, Tagged>,
    }

    #[derive(Trace)]
    #[trace(tail = Inner, identity_hash)]
    struct Outer {
        first: Slot<Option<Outer>>,
        inner: Inner,
        many: [Inner; 2],
        weak: [WeakSlot<Outer>; 2],
        both: Both,
    }

    #[derive(Trace)]
    struct Both(Slot<Tagged>, u64, Slot<Tagged>);

    fn names(kind: &Kind, len: usize) -> Vec<String> {
        let mut names = Vec::new();
        let slots = kind.slots(len).filter(|(_, role)| *role != SlotRole::Value);
        slots.for_each(|(word, _)| match kind.slot_name(word * 8) {
            Path(path) => names.push(path),
            Element(index) => names.push(format!("element {index}")),
        });
        names.sort();
        names
    }

    #[test]
    fn slots_are_called_by_their_path() {
        let mut expected = vec!["first", "inner.left", "inner.pair.key", "many[0].left", "many[0].pair.key"];
        expected.extend(["many[1].left", "many[1].pair.key", "weak[0]", "weak[1]", "both.0", "both.2"]);
        expected.extend(["[0].left", "[0].pair.key", "[1].left", "[1].pair.key"]);
        expected.sort_unstable();
        assert_eq!(names(Outer::KIND, 2), expected);
        assert_eq!(names(<SlotArray<Tagged>>::KIND, 2), ["element 0", "element 1"]);
        let fields: Vec<_> = Outer::KIND.fields().iter().map(|field| field.name()).collect();
        assert_eq!(fields, ["first", "inner", "many", "weak", "both"]);
        assert_eq!(Outer::KIND.fields()[1].fields()[0].name(), "number");
    }
}
