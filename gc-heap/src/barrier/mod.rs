//! The barriers: every access of a slot by a mutator, and the work of a load or store besides the
//! access itself.
//!
//! The types that an embedder uses ([`Slot`](crate::Slot), [`Root`](crate::Root),
//! [`Local`](crate::Local), ...) turn words into references and back; the words they get from here
//! and store here. Each access says in which [`Place`] the slot is, and each store comes by
//! [`access::on_store`] with the place, the slot, its old word and its new one; each slot that ends
//! while its memory stays comes by [`access::on_end`]. The place tells the block of the slot's
//! holder. So a remembered set, a card table or a counting barrier is written in `access`, and in
//! no other file.
//!
//! The protocols, in which order words are read, logged and written, stand in `gc-core` (`slot`,
//! `weak`, `ephemeron`, `locals`, `root_stack`), where models run them. No other room calls them;
//! `gc-heap/tests/layers.rs` sees to it.
//!
//! | file | what is there |
//! | --- | --- |
//! | `access` | loads, stores, swaps, exchanges; weak slots, ephemerons; first words |
//! | `stacks`, `locals` | what is particular to slots that end while their memory stays |
//! | `collector` | what the collector does with slots: visits, resolution |
//! | `heal`, `slow_call` | what happens when a load meets a stale word, and the call of it |
//! | `log` | what happens when a store overwrites a word while marking runs |

pub(crate) mod access;
pub(crate) mod collector;
pub(crate) mod heal;
pub(crate) mod locals;
pub(crate) mod log;
#[cfg(test)]
mod recorder;
pub(crate) mod slow_call;
pub(crate) mod stacks;

use crate::inner::mutator::Mutator;
use crate::space::Block;
use crate::space::blocks::BlockState;
use std::sync::atomic::AtomicU64;

/// Where a slot is. A constant at each access, so nothing is left of it in the compiled code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A strong slot of an object: the slot's address lies in its holder.
    Field,
    /// A weak slot of an object.
    WeakField,
    /// The key of an ephemeron, which lies in an object. The value is the next word.
    Key,
    /// The value of an ephemeron.
    EphemeronValue,
    /// An entry of the table of roots.
    Root,
    /// An entry of one of the tables of weak roots.
    WeakRoot,
    /// A slot of a root stack.
    Stack,
    /// A slot of a frame.
    Local,
}

impl Place {
    /// Whether such a slot lies in an object of the heap.
    const fn is_in_object(self) -> bool {
        matches!(self, Place::Field | Place::WeakField | Place::Key | Place::EphemeronValue)
    }

    /// The block in which the slot's holder begins: the slot's own, or the first one of a large
    /// object. `None`: the slot lies in no object.
    ///
    /// The color of the slot's address says the rest: a holder is accessed by its good address
    /// alone.
    fn holder_block(self, slot: &AtomicU64, m: &Mutator<'_>) -> Option<Block> {
        let (address, memory) = (std::ptr::from_ref(slot).addr() as u64, &m.inner().memory);
        if !self.is_in_object() {
            return None;
        }
        let block = memory.space.offset(address).block();
        Some(match memory.blocks.state(block) {
            BlockState::LargeContinued => memory.blocks.first_of(block),
            _ => block,
        })
    }

    /// Whether this can be the place of the slot: objects lie in the heap's views, in blocks in
    /// use; all other slots outside of the views, or behind the heap's last block.
    fn is_of(self, slot: &AtomicU64, m: &Mutator<'_>) -> bool {
        let (address, memory) = (std::ptr::from_ref(slot).addr() as u64, &m.inner().memory);
        let in_heap = memory.space.owns(address) && memory.space.offset(address).bytes() < memory.bytes;
        match self.holder_block(slot, m) {
            None => !in_heap,
            Some(block) => {
                let none = [BlockState::Free, BlockState::LargeUninitialized, BlockState::LargeContinued];
                in_heap && address & m.bad_mask() == 0 && !none.contains(&memory.blocks.state(block))
            }
        }
    }
}
