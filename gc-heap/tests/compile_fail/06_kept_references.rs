//! Trap 6: references that are given to a safepoint end there; those that come back end at the next.
use gc_heap::{Local, Mutator, yield_with};

#[path = "../common/node.rs"]
mod node;
use node::Node;

fn given(m: &mut Mutator<'_>, node: Local<'_, Node>) {
    let a = node.get(m);
    let [b] = yield_with!(m, [a]);
    drop((a.key, b.key));
}

fn beside(m: &mut Mutator<'_>, a: Local<'_, Node>, b: Local<'_, Node>) {
    let (a, b) = (a.get(m), b.get(m));
    let [a] = yield_with!(m, [a]);
    drop((a.key, b.key));
}

fn given_back(m: &mut Mutator<'_>, node: Local<'_, Node>) {
    let [a] = yield_with!(m, [node.get(m)]);
    m.safepoint();
    drop(a.key);
}

fn taken(m: &mut Mutator<'_>, node: Local<'_, Node>) {
    let kept = m.keep((node.get(m),));
    let (a,) = kept.take(m);
    m.safepoint();
    drop(a.key);
}

fn taken_twice(m: &mut Mutator<'_>, node: Local<'_, Node>) {
    let kept = m.keep([node.get(m)]);
    kept.take(m);
    kept.take(m);
}

fn leaves_its_frame(m: &mut Mutator<'_>, node: Local<'_, Node>) {
    let kept = {
        let m = &mut *m.frame();
        m.keep([node.get(m)])
    };
    kept.take(m);
}

fn into_a_frame<'s>(m: &mut Mutator<'s>, node: Local<'_, Node>) {
    let kept = m.keep([node.get(m)]);
    let m = &mut *m.frame();
    kept.take(m);
}

fn main() {}
