//! Tokens: objects of which each number exists exactly once, however many mutators pass them on.

use super::{Blob, BlobInit, Random, Shared, check_blob, fill};
use gc_heap::{AllocSize, Array, Gc, Local, Mutator, Root, RootStack, Slot, SlotArray, Tagged, Trace, Value, WeakSlot};
use std::sync::PoisonError;

#[derive(Trace)]
pub(super) struct Token {
    number: u64,
    payload: Slot<Blob>,
}

/// A link of a stack; made anew for each push, so that a compare-exchange of heads means what it
/// says.
#[derive(Trace)]
pub(super) struct Cell {
    token: Slot<Token>,
    next: Slot<Option<Cell>>,
}

type Registry = Array<WeakSlot<Token>>;

/// The tokens as they are made: one stack, and the registry.
pub(super) struct Made<'s> {
    stack: Local<'s, Option<Cell>>,
    registry: Local<'s, Registry>,
}

impl Made<'_> {
    pub(super) fn get<'g>(&self, m: &'g Mutator<'_>) -> (Option<Gc<'g, Cell>>, Gc<'g, Registry>) {
        (self.stack.get(m), self.registry.get(m))
    }
}

fn token_room() -> AllocSize {
    AllocSize::of::<Token>() + AllocSize::tail::<Blob>(40)
}

fn place_token<'g>(m: &'g Mutator<'_>, number: u64, len: usize) -> Gc<'g, Token> {
    let payload = m.place_bytes::<Blob>(BlobInit { id: number }, &fill(number, len));
    m.place(TokenInit { number, payload })
}

pub(super) fn make<'s>(m: &mut Mutator<'s>, tokens: usize) -> Made<'s> {
    let registry = m.build::<Registry>(AllocSize::tail::<Registry>(tokens), |m| m.place_array((), tokens, None));
    let registry = registry.expect("room for the registry");
    let stack = m.build::<Option<Cell>>(AllocSize::NONE, |_| None).expect("no room needed");
    for number in 0..tokens as u64 {
        let m = m.reserve(token_room() + AllocSize::of::<Cell>()).expect("room for a token");
        let token = place_token(m, number, 40);
        registry.get(m).tail()[number as usize].set(m, Some(token));
        stack.set(m, Some(m.place(CellInit { token, next: stack.get(m) })));
    }
    Made { stack, registry }
}

fn check<'g>(m: &'g Mutator<'_>, shared: &Shared, token: Gc<'g, Token>) {
    check_blob(token.payload.get(m), token.number);
    let registered = shared.world.get(m).registry.get(m).tail()[token.number as usize].get(m);
    let registered = registered.expect("a weak slot lost a token that is held");
    assert!(registered.ptr_eq(token), "the registry has another object than the one held");
}

fn push<'g>(m: &'g Mutator<'_>, stack: &Slot<Option<Cell>>, token: Gc<'g, Token>) {
    let cell = m.place(CellInit { token, next: stack.get(m) });
    loop {
        let head = cell.next.get(m);
        match stack.compare_exchange(m, head, Some(cell)) {
            Ok(_) => return,
            Err(now) => cell.next.set(m, now),
        }
    }
}

fn pop<'g>(m: &'g Mutator<'_>, stack: &Slot<Option<Cell>>) -> Option<Gc<'g, Token>> {
    let mut head = stack.get(m);
    while let Some(cell) = head {
        match stack.compare_exchange(m, Some(cell), cell.next.get(m)) {
            Ok(_) => return Some(cell.token.get(m)),
            Err(now) => head = now,
        }
    }
    None
}

/// Takes a token from somewhere, does something with it, and puts it somewhere else.
pub(super) fn step(m: &mut Mutator<'_>, shared: &Shared, random: &mut Random) {
    let held = {
        let m = &*m;
        let Some(token) = take(m, shared, random) else { return };
        check(m, shared, token);
        m.local(token)
    };
    match random.below(6) {
        0 => m.safepoint(),
        1 => m.blocking(std::thread::yield_now),
        2 => renew(m, shared, held, random),
        _ => {}
    }
    let m = m.reserve(AllocSize::of::<Cell>()).expect("room for a cell");
    let token = held.get(m);
    check(m, shared, token);
    put(m, shared, random, token);
}

fn take<'g>(m: &'g Mutator<'_>, shared: &Shared, random: &mut Random) -> Option<Gc<'g, Token>> {
    let world = shared.world.get(m);
    match random.below(10) {
        0 => {
            let swaps = world.swaps.get(m).tail();
            swaps[random.below(swaps.len())].swap(m, None)
        }
        1 => {
            let root = shared.roots.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            Some(root.get(m))
        }
        2 => {
            let stack = shared.root_stacks.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            let token = stack.pop(m)?.downcast::<Token>();
            if !stack.is_empty() {
                shared.root_stacks.lock().unwrap_or_else(PoisonError::into_inner).push(stack);
            }
            Some(token.expect("a stack of tokens"))
        }
        _ => {
            let stacks = world.stacks.get(m).tail();
            pop(m, &stacks[random.below(stacks.len())])
        }
    }
}

/// Needs room for a cell.
fn put<'g>(m: &'g Mutator<'_>, shared: &Shared, random: &mut Random, token: Gc<'g, Token>) {
    let world = shared.world.get(m);
    let stacks = world.stacks.get(m).tail();
    let to = &stacks[random.below(stacks.len())];
    match random.below(10) {
        0 => {
            let swaps = world.swaps.get(m).tail();
            if let Some(other) = swaps[random.below(swaps.len())].swap(m, Some(token)) {
                check(m, shared, other);
                push(m, to, other);
            }
        }
        1 => {
            let root = Root::new(m, token);
            shared.roots.lock().unwrap_or_else(PoisonError::into_inner).push(root);
        }
        2 => {
            let mut stacks = shared.root_stacks.lock().unwrap_or_else(PoisonError::into_inner);
            let mut stack = if random.below(2) == 0 { stacks.pop() } else { None };
            drop(stacks);
            if stack.is_none() {
                stack = RootStack::with_capacity(&shared.heap, 4096).ok();
            }
            let stack = stack.expect("address space");
            stack.push(m, Value::from(token));
            shared.root_stacks.lock().unwrap_or_else(PoisonError::into_inner).push(stack);
        }
        _ => push(m, to, token),
    }
}

/// Replaces the object of a token; nobody else has it.
fn renew(m: &mut Mutator<'_>, shared: &Shared, held: Local<'_, Token>, random: &mut Random) {
    let len = if random.below(50) == 0 { 5000 } else { random.below(100) };
    let m = m.reserve(AllocSize::of::<Token>() + AllocSize::tail::<Blob>(len)).expect("room for a token");
    let number = held.get(m).number;
    let token = place_token(m, number, len);
    shared.world.get(m).registry.get(m).tail()[number as usize].set(m, Some(token));
    held.set(m, token);
}

/// Counts all tokens. Nobody holds one.
pub(super) fn count(m: &Mutator<'_>, shared: &Shared) {
    let world = shared.world.get(m);
    let registry = world.registry.get(m);
    let mut seen = vec![0; registry.tail_len()];
    let mut see = |token: Gc<'_, Token>| seen[token.number as usize] += 1;
    for stack in world.stacks.get(m).tail() {
        let mut head = stack.get(m);
        while let Some(cell) = head {
            see(cell.token.get(m));
            head = cell.next.get(m);
        }
    }
    let swaps: Gc<'_, SlotArray<Option<Token>>> = world.swaps.get(m);
    swaps.tail().iter().filter_map(|slot| slot.get(m)).for_each(&mut see);
    shared.roots.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|root| see(root.get(m)));
    let stacks = shared.root_stacks.lock().unwrap_or_else(PoisonError::into_inner);
    for stack in stacks.iter() {
        let tokens = (0..stack.len()).map(|index| RootStack::<Tagged>::get(stack, m, index).downcast());
        tokens.for_each(|token| see(token.expect("a stack of tokens")));
    }
    let wrong = seen.iter().enumerate().find(|&(_, &times)| times != 1);
    assert_eq!(wrong, None, "a token was lost or doubled (number, times seen)");
}
