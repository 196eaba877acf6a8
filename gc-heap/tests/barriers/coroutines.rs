//! Programs that switch stacks inside a heap, as the crates for stackful coroutines let safe code
//! do. What returns in another order than it went ends the process with one line: each such scene
//! is played by a child.

use crate::child::child;
use crate::common::{checked, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Event, Heap, HeapThread, LossKind, Mutator, Root, Slot, Trace};
use std::cell::Cell;
use std::marker::PhantomData;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Mutex;
use std::time::Duration;

#[derive(Trace)]
struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

type Body<'a> = Box<dyn FnOnce(&Switch) + 'a>;

/// A stack of its own, and who is on it.
struct Coroutine<'a> {
    context: libc::ucontext_t,
    resumer: libc::ucontext_t,
    stack: Vec<u64>,
    body: Option<Body<'a>>,
    over: bool,
}

/// Switches from a coroutine back to the code that resumed it.
struct Switch(*mut Coroutine<'static>, PhantomData<*mut ()>);

const STACK_WORDS: usize = 64 << 10;

thread_local! {
    /// What the coroutine that starts is.
    static STARTING: Cell<*mut Coroutine<'static>> = const { Cell::new(ptr::null_mut()) };
}

impl<'a> Coroutine<'a> {
    fn new(body: impl FnOnce(&Switch) + 'a) -> Box<Coroutine<'a>> {
        // SAFETY: plain data for which zeros are a value; the calls below fill it in.
        let (context, resumer) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let stack = vec![0; STACK_WORDS];
        let mut new = Box::new(Coroutine { context, resumer, stack, body: Some(Box::new(body)), over: false });
        // SAFETY: the context and its stack are in the box, which stays where it is, and outlive
        // what runs there.
        unsafe {
            assert_eq!(libc::getcontext(&raw mut new.context), 0);
            new.context.uc_stack.ss_sp = new.stack.as_mut_ptr().cast();
            new.context.uc_stack.ss_size = new.stack.len() * 8;
            libc::makecontext(&raw mut new.context, start, 0);
        }
        new
    }

    /// Runs it until it suspends itself, or ends.
    fn resume(&mut self) {
        assert!(!self.over);
        STARTING.set(ptr::from_mut(self).cast());
        // SAFETY: the context was made above, or left by `suspend`.
        assert_eq!(unsafe { libc::swapcontext(&raw mut self.resumer, &raw const self.context) }, 0);
    }
}

extern "C" fn start() {
    let this = STARTING.get();
    // SAFETY: set by `resume`, which waits; nobody else is at the box meanwhile.
    let body = unsafe { (*this).body.take() }.expect("started once");
    let panicked = catch_unwind(AssertUnwindSafe(|| body(&Switch(this, PhantomData)))).is_err();
    assert!(!panicked, "a coroutine panicked");
    // SAFETY: as above; it is not resumed again.
    unsafe {
        (*this).over = true;
        libc::setcontext(&raw const (*this).resumer);
    }
}

impl Switch {
    /// Switches back to the code that resumed this coroutine.
    fn suspend(&self) {
        // SAFETY: the coroutine that this code runs on; `resume` has filled in where to go.
        assert_eq!(unsafe { libc::swapcontext(&raw mut (*self.0).context, &raw const (*self.0).resumer) }, 0);
    }
}

fn heap() -> Heap {
    Heap::builder().max_bytes(4 << 20).barrier(Barrier::Load).build().unwrap()
}

fn node(heap: &Heap, id: u64) -> Root<Node> {
    heap.enter(|m| {
        let m = m.reserve(AllocSize::of::<Node>()).unwrap();
        Root::new(m, m.place(NodeInit { id, next: None }))
    })
    .unwrap()
}

/// The end of a scene that should have been over.
fn goes_on() -> ! {
    eprintln!("the process goes on");
    std::process::exit(1);
}

/// Two mutators would be active on one thread: one on the coroutine, suspended, and the one that
/// returns.
fn returns_beside_another() {
    let (a, b) = (heap(), heap());
    let mut coroutine = Coroutine::new(|switch| a.enter(|_| switch.suspend()).unwrap());
    b.enter(|m| m.blocking(|| coroutine.resume())).unwrap();
    goes_on();
}

/// The same, the other way round: what returns is on the coroutine, and would leave the thread as
/// in no heap.
fn returns_on_a_coroutine() {
    let (a, b) = (heap(), heap());
    let mut coroutine = Coroutine::new(|switch| a.enter(|m| m.blocking(|| switch.suspend())).unwrap());
    coroutine.resume();
    let node = node(&b, 1);
    b.enter(|m| {
        coroutine.resume();
        // A reference of one heap in hand, and the other may be entered.
        let of_b = node.get(m);
        a.enter(|_| eprintln!("entered with {of_b:?} in hand")).unwrap();
    })
    .unwrap();
    goes_on();
}

/// As above, where the heaps record losses: the thread's ring would be that of a mutator that has
/// gone.
fn returns_on_a_coroutine_and_records() {
    let heap = || Heap::builder().max_bytes(4 << 20).barrier(Barrier::Load).record_losses(true).build().unwrap();
    let (a, b) = (heap(), heap());
    let mut coroutine = Coroutine::new(|switch| a.enter(|m| m.blocking(|| switch.suspend())).unwrap());
    coroutine.resume();
    b.enter(|_| coroutine.resume()).unwrap();
    goes_on();
}

/// Suspended inside one heap, and gone on with inside another.
fn leaves_beside_another() {
    let (a, b) = (heap(), heap());
    let mut coroutine = Coroutine::new(|switch| a.enter(|_| switch.suspend()).unwrap());
    coroutine.resume();
    on_a_thread(move || {
        b.enter(|_| coroutine.resume()).unwrap();
    });
    goes_on();
}

/// Runs it on another thread, whether it may go there or not.
fn on_a_thread(work: impl FnOnce()) {
    struct Anything<F>(F);
    // SAFETY: it is not; that is what the heap has to notice. The thread that it comes from waits.
    unsafe impl<F> Send for Anything<F> {}
    impl<F: FnOnce()> Anything<F> {
        fn run(self) {
            (self.0)();
        }
    }
    let work = Anything(work);
    std::thread::scope(|scope| {
        scope.spawn(move || work.run());
    });
}

fn leaves_on_another_thread() {
    let a = heap();
    let mut coroutine = Coroutine::new(|switch| a.enter(|_| switch.suspend()).unwrap());
    coroutine.resume();
    on_a_thread(move || coroutine.resume());
    goes_on();
}

fn parks_on_another_thread() {
    let a = heap();
    let mut coroutine = Coroutine::new(|switch| {
        a.enter(|m| {
            switch.suspend();
            m.blocking(goes_on);
        })
        .unwrap();
    });
    coroutine.resume();
    on_a_thread(move || coroutine.resume());
    goes_on();
}

/// In no heap there, and in none here: but its faults are served, and recorded, where it has
/// entered.
fn returns_on_another_thread() {
    let a = heap();
    let mut coroutine = Coroutine::new(|switch| {
        a.enter(|m| {
            m.blocking(|| switch.suspend());
            goes_on();
        })
        .unwrap();
    });
    coroutine.resume();
    on_a_thread(move || coroutine.resume());
    goes_on();
}

/// A coroutine that nobody resumes any more, and whose place in the heap can be had again.
fn leak_inside(thread: &mut HeapThread, wait: bool) {
    let mut coroutine = Coroutine::new(|switch| {
        thread.enter(|m| if wait { m.blocking(|| switch.suspend()) } else { switch.suspend() }).unwrap();
    });
    coroutine.resume();
    std::mem::forget(coroutine);
}

fn dropped_inside() {
    let a = heap();
    let mut thread = a.thread().unwrap();
    leak_inside(&mut thread, false);
    drop(thread);
    goes_on();
}

fn entered_inside() {
    let a = heap();
    let mut thread = a.thread().unwrap();
    leak_inside(&mut thread, false);
    std::thread::scope(|scope| scope.spawn(|| thread.enter(|_| ())).join().unwrap()).unwrap();
    goes_on();
}

/// A mutator that was lent to a coroutine, which is leaked while it waits outside: the mutator is
/// still parked.
fn goes_on_parked() {
    let a = heap();
    a.enter(|m| {
        let mut coroutine = Coroutine::new(|switch| m.blocking(|| switch.suspend()));
        coroutine.resume();
        std::mem::forget(coroutine);
        m.safepoint();
        goes_on();
    })
    .unwrap();
}

fn allocates_parked() {
    let a = heap();
    a.enter(|m| {
        assert_eq!(list(m, 10), 10, "there is room for more");
        let mut coroutine = Coroutine::new(|switch| m.blocking(|| switch.suspend()));
        coroutine.resume();
        std::mem::forget(coroutine);
        list(m, 1);
        goes_on();
    })
    .unwrap();
}

/// The stack that a listener was on comes back while another listener runs. Stalls are told on the
/// thread that stalled.
fn a_listener_returns_beside_another() {
    thread_local! {
        static SWITCH: Cell<*const Switch> = const { Cell::new(ptr::null()) };
    }
    let listener = |event: &Event| {
        if matches!(event, Event::Stall(_)) {
            let switch = SWITCH.replace(ptr::null());
            // SAFETY: set below, for this very coroutine, which is alive.
            unsafe { switch.as_ref() }.expect("told of a stall").suspend();
        }
    };
    let builder = Heap::builder().max_bytes(4 << 20).barrier(Barrier::Load).on_event(listener);
    let a = builder.build().unwrap();
    let stall = |switch: &Switch| {
        a.enter(|m| {
            SWITCH.set(switch);
            let _ = list(m, usize::MAX);
        })
        .unwrap();
    };
    let (mut one, mut two) = (Coroutine::new(stall), Coroutine::new(stall));
    one.resume();
    // Refused here: the first counts as inside until its listener returns. So another thread is
    // lent to the first.
    assert!(catch_unwind(AssertUnwindSafe(|| a.collect())).is_err(), "a listener runs on this thread");
    on_a_thread(move || {
        two.resume();
        one.resume();
    });
    goes_on();
}

pub(crate) const SCENES: &[(&str, fn())] = &[
    ("coroutine-returns-beside-another", returns_beside_another),
    ("coroutine-returns", returns_on_a_coroutine),
    ("coroutine-returns-and-records", returns_on_a_coroutine_and_records),
    ("coroutine-leaves-beside-another", leaves_beside_another),
    ("coroutine-leaves-elsewhere", leaves_on_another_thread),
    ("coroutine-parks-elsewhere", parks_on_another_thread),
    ("coroutine-returns-elsewhere", returns_on_another_thread),
    ("coroutine-dropped-inside", dropped_inside),
    ("coroutine-entered-inside", entered_inside),
    ("coroutine-goes-on-parked", goes_on_parked),
    ("coroutine-allocates-parked", allocates_parked),
    ("coroutine-listener", a_listener_returns_beside_another),
];

pub(crate) fn what_returns_in_another_order_ends_the_process_with_a_line() {
    for (scene, _) in SCENES {
        let output = child(scene);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{scene}: {}\n{said}", output.status);
        let lines: Vec<_> = said.lines().filter(|line| !line.is_empty()).collect();
        let last = lines.last().copied().unwrap_or_default();
        assert!(last.starts_with("parallax: ") && last.contains("coroutine"), "{scene}: {said}");
        let more = lines.len() - 1;
        // The refusal that the last scene makes sure of is a panic.
        assert!(more == 0 || *scene == "coroutine-listener", "{scene} says more than a line: {said}");
    }
}

/// A list of so many nodes, or as long as there is memory.
fn list(m: &mut Mutator<'_>, nodes: usize) -> usize {
    let m = &mut *m.frame();
    let head = m.build::<Option<Node>>(AllocSize::NONE, |_| None).unwrap();
    for id in 0..nodes {
        let Ok(m) = m.reserve(AllocSize::of::<Node>()) else { break };
        head.set(m, Some(m.place(NodeInit { id: id as u64, next: head.get(m) })));
    }
    let mut node = head.get(m);
    let mut found = 0;
    while let Some(n) = node {
        found += 1;
        node = n.next.get(m);
    }
    found
}

/// As long as no mutator is active while another runs, stacks may go as they like.
pub(crate) fn those_that_are_parked_may_return_in_any_order(barrier: Barrier) {
    let heaps = [(); 2].map(|()| checked(barrier, 4 << 20).record_losses(true).build().unwrap());
    let [a, b] = &heaps;
    while_collecting(a, Duration::ZERO, || {
        for round in 0..20 {
            let turns = Mutex::new(Vec::new());
            let turn = |name| turns.lock().unwrap().push(name);
            let stack = |heap: &'static str| {
                let (of, other) = if heap == "a" { (a, b) } else { (b, a) };
                let turn = &turn;
                move |switch: &Switch| {
                    of.enter(|m| {
                        for _ in 0..3 {
                            assert_eq!(list(m, 500), 500);
                            turn(heap);
                            m.blocking(|| {
                                switch.suspend();
                                assert_eq!(other.enter(|m| list(m, 50)), Ok(50));
                            });
                        }
                    })
                    .unwrap();
                }
            };
            let (mut one, mut two) = (Coroutine::new(stack("a")), Coroutine::new(stack("b")));
            // In first, out first; and the other way round.
            while !one.over || !two.over {
                for coroutine in if round % 2 == 0 { [&mut one, &mut two] } else { [&mut two, &mut one] } {
                    if !coroutine.over {
                        coroutine.resume();
                    }
                }
            }
            assert_eq!(turns.lock().unwrap().len(), 6);
            assert_eq!(a.enter(|m| list(m, 50)), Ok(50));
        }
    });
    for heap in heaps {
        heap.collect();
        let (events, missed) = heap.take_events();
        let losses = events.iter().map(|event| if let Event::Loss(loss) = event { loss.count } else { 0 });
        let all = LossKind::ALL.map(|kind| heap.stats().losses.kind(kind).count);
        assert_eq!(losses.sum::<u64>() + missed, all.iter().sum::<u64>(), "{all:?}");
    }
}

/// A coroutine that is leaked while it waits outside holds nobody up; its place can be entered
/// again, and dropped.
pub(crate) fn one_that_is_leaked_while_it_waits_holds_nobody_up(barrier: Barrier) {
    let heap = checked(barrier, 4 << 20).record_losses(true).build().unwrap();
    for enter in [false, true] {
        let mut thread = heap.thread().unwrap();
        leak_inside(&mut thread, true);
        heap.collect();
        if enter {
            std::thread::scope(|scope| {
                let entered = scope.spawn(|| thread.enter(|m| list(m, 500)));
                assert_eq!(entered.join().unwrap(), Ok(500));
            });
        }
        drop(thread);
        heap.collect();
        assert_eq!(heap.enter(|m| list(m, 500)), Ok(500));
    }
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![those_that_are_parked_may_return_in_any_order, one_that_is_leaked_while_it_waits_holds_nobody_up],
    once: tests![what_returns_in_another_order_ends_the_process_with_a_line],
    ..Tests::NONE
};
