//! `?`, `return`, `break` and `continue` work out of frames, and a result comes out of each.
use gc_heap::{Heap, Local, Mutator, OutOfMemory, AllocSize};

#[path = "../common/node.rs"]
mod node;
use node::{Node, NodeInit};

fn node<'s>(m: &mut Mutator<'s>, key: u64) -> Result<Local<'s, Node>, OutOfMemory> {
    m.alloc::<Node>(|_| NodeInit { next: None, key })
}

fn question_mark<'s>(m: &mut Mutator<'s>) -> Result<Local<'s, Node>, OutOfMemory> {
    let (mut frame, out) = m.frame_for::<Node>();
    let tail = node(&mut frame, 1)?;
    let m = frame.reserve(AllocSize::of::<Node>())?;
    let head = m.place(NodeInit { next: Some(tail.get(m)), key: 2 });
    Ok(out.put(m, head))
}

fn early_return<'s>(m: &mut Mutator<'s>, early: bool) -> Result<Option<Local<'s, Node>>, OutOfMemory> {
    let (mut frame, out) = m.frame_for::<Node>();
    let local = node(&mut frame, 3)?;
    if early {
        return Ok(None);
    }
    Ok(Some(out.put(&frame, local.get(&frame))))
}

fn loops(m: &mut Mutator<'_>) -> Result<u64, OutOfMemory> {
    let mut sum = 0;
    for key in 0.. {
        let m = &mut *m.frame();
        let local = node(m, key)?;
        m.collect();
        if key % 2 == 0 {
            continue;
        }
        sum += local.get(m).key;
        if key > 5 {
            break;
        }
    }
    Ok(sum)
}

fn closure_scope<'s>(m: &mut Mutator<'s>, depth: u64) -> Result<Local<'s, Node>, OutOfMemory> {
    m.scope_local(|m| {
        if depth == 0 {
            let m = m.reserve(AllocSize::of::<Node>())?;
            return Ok(m.place(NodeInit { next: None, key: 0 }));
        }
        let next = closure_scope(m, depth - 1)?;
        let m = m.reserve(AllocSize::of::<Node>())?;
        Ok(m.place(NodeInit { next: Some(next.get(m)), key: depth }))
    })
}

fn main() {
    let heap = Heap::builder().max_bytes(16 << 20).build().unwrap();
    heap.enter(|m| {
        let head = question_mark(m).unwrap();
        m.collect();
        assert_eq!(head.get(m).next.get(m).unwrap().key, 1);
        assert!(early_return(m, true).unwrap().is_none());
        let local = early_return(m, false).unwrap().unwrap();
        m.collect();
        assert_eq!(local.get(m).key, 3);
        assert_eq!(loops(m).unwrap(), 1 + 3 + 5 + 7);
        let list = closure_scope(m, 9).unwrap();
        m.collect();
        let (mut keys, mut at) = (Vec::new(), Some(list.get(m)));
        while let Some(node) = at {
            keys.push(node.key);
            at = node.next.get(m);
        }
        assert_eq!(keys, (0..=9).rev().collect::<Vec<_>>());
    })
    .unwrap();
}
