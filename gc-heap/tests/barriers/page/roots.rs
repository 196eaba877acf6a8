//! Roots of every sort: their pages are taken away with the heap's.

use super::{Chunk, busy, clusters, lone, moving};
use crate::common::{checked, factor, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{Barrier, Heap, Root, RootStack, Stress, Tagged, Value, Weak};
use std::cell::RefCell;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Roots of every sort, more than a page of each.
pub(crate) fn roots_of_many_pages() {
    for heap in clusters(moving(16 << 20)) {
        heap.enter(|m| {
            const ROOTS: u64 = 3000;
            let stack = RootStack::<Tagged>::with_capacity(&heap, 3 * ROOTS as usize).unwrap();
            let (mut locals, mut roots, mut weak) = (Vec::new(), Vec::new(), Vec::new());
            for id in 0..ROOTS {
                let local = lone(m, id);
                stack.push(m, Value::int(id as i32));
                stack.push(m, local.get(m).into());
                roots.push(Root::<Chunk>::new(m, local.get(m)));
                weak.push(Weak::new(m, local.get(m)));
                locals.push(local);
            }
            for _ in 0..4 {
                m.collect();
                for (id, local) in locals.iter().enumerate().rev() {
                    let chunk = local.get(m);
                    assert_eq!(chunk.id, id as u64);
                    assert!(roots[id].get(m).ptr_eq(chunk) && weak[id].get(m).unwrap().ptr_eq(chunk));
                    assert!(stack.get(m, 2 * id + 1).downcast::<Chunk>().unwrap().ptr_eq(chunk));
                    assert_eq!(stack.get(m, 2 * id).as_int(), Some(id as i32));
                }
            }
            // A stack cut short and filled again: what lay above its top is not believed.
            stack.truncate(m, 10);
            m.collect();
            locals.iter().for_each(|local| stack.push(m, local.get(m).into()));
            m.collect();
            let mut pushed = (0..ROOTS as usize).map(|id| stack.get(m, 10 + id).downcast::<Chunk>().unwrap().id);
            assert!(pushed.by_ref().eq(0..ROOTS));
        })
        .unwrap();
        assert!(heap.stats().relocations >= 5, "{:?}", heap.stats());
    }
}

/// Root stacks of a page each, side by side, made, filled, read and dropped by several threads: a
/// fault that comes late finds pages, its own and its neighbours', that were never gated for the
/// stacks that are there now.
pub(crate) fn root_stacks_made_and_dropped_all_the_time() {
    for cluster in [4, 64] {
        let stress = Stress { cycle_every: 300, delay_one_in: 4, seed: 1 };
        let heap =
            checked(Barrier::Page, 16 << 20).verify(false).stress(stress).fault_cluster(cluster).build().unwrap();
        while_collecting(&heap, Duration::ZERO, || {
            std::thread::scope(|scope| {
                for thread in 0..4_u64 {
                    let heap = &heap;
                    scope.spawn(move || {
                        heap.enter(|m| {
                            for round in 0_u64.. {
                                if round >= 250 * u64::from(factor()) && !busy(heap, 10) {
                                    break;
                                }
                                let stack = RootStack::<Option<Chunk>>::with_capacity(heap, 500).unwrap();
                                for step in 0..40 {
                                    let m = &mut *m.frame();
                                    let id = thread << 40 | round << 10 | step;
                                    let local = lone(m, id);
                                    stack.push(m, Some(local.get(m)));
                                    m.safepoint();
                                    let deep = m.local(stack.get(m, step as usize / 2));
                                    assert_eq!(deep.get(m).unwrap().id, thread << 40 | round << 10 | (step / 2));
                                }
                                let ids = (0..40).map(|at| stack.get(m, at).unwrap().id);
                                assert!(ids.eq((0..40).map(|step| thread << 40 | round << 10 | step)));
                            }
                        })
                        .unwrap();
                    });
                }
            });
        });
    }
}

/// A root stack goes from thread to thread, each of which pushes, reads all, and pops some.
pub(crate) fn a_root_stack_used_in_turn() {
    for heap in clusters(moving(8 << 20)) {
        while_collecting(&heap, Duration::ZERO, || {
            let (sender, receiver) = channel();
            sender.send((RootStack::<Option<Chunk>>::with_capacity(&heap, 20_000).unwrap(), 0)).unwrap();
            let receiver = std::sync::Mutex::new(receiver);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    let (heap, receiver, sender) = (&heap, &receiver, sender.clone());
                    scope.spawn(move || {
                        while busy(heap, 10) {
                            let (stack, count) = receiver.lock().unwrap().recv().unwrap();
                            let count = heap.enter(|m| {
                                for id in count..count + 200 {
                                    let m = &mut *m.frame();
                                    let local = lone(m, id);
                                    stack.push(m, Some(local.get(m)));
                                }
                                let ids = (0..stack.len()).map(|at| stack.get(m, at).unwrap().id);
                                assert!(ids.eq(0..count + 200));
                                let kept = if count > 3000 { 100 } else { count + 100 };
                                stack.truncate(m, kept as usize);
                                kept
                            });
                            sender.send((stack, count.unwrap())).unwrap();
                        }
                    });
                }
            });
        });
    }
}

/// The addresses for roots are not used up where no cycle ever runs: each visit takes 16 MiB of
/// them.
pub(crate) fn visits_without_a_cycle() {
    let heap = checked(Barrier::Page, 4 << 20).build().unwrap();
    for visit in 0..3000 {
        let seen = heap.enter(|m| m.local(Value::TRUE).get(m).as_bool());
        assert_eq!(seen, Ok(Some(true)), "visit {visit}");
    }
    assert_eq!(heap.stats().cycles, 0);
}

/// A thread-local that is older than the thread's first visit ends after what the heap keeps of the
/// thread.
pub(crate) fn a_visit_in_a_thread_locals_destructor() {
    struct Visits(Heap, Option<Root<Chunk>>);
    impl Drop for Visits {
        fn drop(&mut self) {
            let root = self.1.take().unwrap();
            self.0.enter(|m| (0..2).for_each(|_| m.collect())).unwrap();
            assert_eq!(self.0.enter(|m| root.get(m).id), Ok(7));
        }
    }
    thread_local! {
        static VISITS: RefCell<Option<Visits>> = const { RefCell::new(None) };
    }
    let heap = moving(8 << 20).build().unwrap();
    let inside = heap.clone();
    let thread = std::thread::spawn(move || {
        VISITS.with_borrow_mut(|visits| {
            assert!(visits.is_none());
            let root = inside.enter(|m| {
                let local = lone(m, 7);
                Root::<Chunk>::new(m, local.get(m))
            });
            *visits = Some(Visits(inside, root.ok()));
        });
    });
    thread.join().unwrap();
    assert!(heap.stats().relocations > 0);
}

pub(crate) const TESTS: Tests = Tests {
    page: tests![
        roots_of_many_pages,
        root_stacks_made_and_dropped_all_the_time,
        a_root_stack_used_in_turn,
        visits_without_a_cycle,
        a_visit_in_a_thread_locals_destructor,
    ],
    ..Tests::NONE
};
