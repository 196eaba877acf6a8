//! Threads of a program, and what passes between them.
//!
//! All waiting goes through one lock, so the scheduler knows when no thread is left that could end
//! a wait. The lock is never held at a safepoint: a thread that waits for it delays a pause only
//! briefly.

use crate::object::{
    Channel, ChannelInit, Message, MessageInit, THREAD_DONE, THREAD_FAILED, ThreadHandle, ThreadHandleInit,
};
use crate::vm::{Fault, Shared, Vm};
use gc_heap::{AllocSize, Mutator, Root, Tagged, Value};
use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Messages that a channel without a limit may hold.
const NO_LIMIT: u64 = u64::MAX;

/// The number of the script's thread. The others are numbered from 0, in the order of their
/// `spawn`.
pub(crate) const SCRIPT: u64 = u64::MAX;

/// What a thread waits for, by the number of the channel or thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Awaited {
    Message(u64),
    /// Room for a message.
    AllocSize(u64),
    End(u64),
}

/// A thread, as one that waits. `call` changes under the lock only.
pub(crate) struct Waiter {
    number: u64,
    bell: Condvar,
    call: AtomicU8,
}

/// What a waiter is called for: not yet; to look again; what it waits for can never come.
const NOT_CALLED: u8 = 0;
const LOOK: u8 = 1;
const IN_VAIN: u8 = 2;

impl Waiter {
    pub(crate) fn new(number: u64) -> Arc<Waiter> {
        Arc::new(Waiter { number, bell: Condvar::new(), call: AtomicU8::new(NOT_CALLED) })
    }

    fn call(&self, what: u8) {
        self.call.store(what, Ordering::Relaxed);
        self.bell.notify_one();
    }
}

/// Who runs, who waits, and for what. The protocol:
///
/// - A thread that finds nothing goes to the queue of what it waits for, and counts as waiting
///   until it is called.
/// - Whoever calls a thread takes it from its queue and counts it as running at once, before it
///   wakes.
/// - Each message, and each place that a message leaves, calls one thread; the end of a thread
///   calls all threads that wait for it. So if there are messages and threads that wait for them,
///   as many threads as messages have been called and have not looked yet; a called thread that
///   finds no message has lost it to another thread.
/// - When nobody runs and somebody waits, all who wait do so in vain. They are called one at a
///   time, in the order of their numbers and the script's thread last, each when the one before has
///   ended: what a program reports is the same each time. All of them count as running from the
///   first call on, so that none sees another's end as a failure.
#[derive(Default)]
struct State {
    /// Threads beside the script's.
    threads: usize,
    running: usize,
    waiting: usize,
    queues: FxHashMap<Awaited, VecDeque<Arc<Waiter>>>,
    /// Those who waited in vain and have not been called yet, the next one last.
    in_vain: Vec<Arc<Waiter>>,
    /// Handles of threads that have ended outside the heap: the next thread that has a mutator
    /// marks them as failed.
    failed_outside: Vec<Root<ThreadHandle>>,
    script_ended: bool,
    failed: bool,
}

impl State {
    fn queue(&mut self, what: Awaited, waiter: &Arc<Waiter>) {
        waiter.call.store(NOT_CALLED, Ordering::Relaxed);
        self.queues.entry(what).or_default().push_back(Arc::clone(waiter));
        self.waiting += 1;
        self.stop_running();
    }

    /// Calls the first of those who wait for this; whether there was one.
    fn call_one(&mut self, what: Awaited) -> bool {
        let Some(queue) = self.queues.get_mut(&what) else { return false };
        let waiter = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&what);
        }
        let Some(waiter) = waiter else { return false };
        self.waiting -= 1;
        self.running += 1;
        waiter.call(LOOK);
        true
    }

    fn stop_running(&mut self) {
        self.running -= 1;
        if self.running == 0 && self.waiting > 0 {
            self.in_vain = self.queues.drain().flat_map(|(_, queue)| queue).collect();
            self.in_vain.sort_by_key(|waiter| std::cmp::Reverse(waiter.number));
            self.running = std::mem::take(&mut self.waiting);
            self.call_next_in_vain();
        }
    }

    fn call_next_in_vain(&mut self) {
        if let Some(waiter) = self.in_vain.pop() {
            waiter.call(IN_VAIN);
        }
    }

    fn mark_failed(&mut self, m: &Mutator<'_>) {
        self.failed_outside.drain(..).for_each(|handle| handle.get(m).state.set(THREAD_FAILED));
    }
}

/// The threads of a program.
pub(crate) struct Threads {
    state: Mutex<State>,
    /// The last thread has ended.
    all_ended: Condvar,
    /// The number of the next thread or channel.
    next: AtomicU64,
}

impl Threads {
    pub(crate) fn new() -> Threads {
        let state = State { running: 1, ..State::default() };
        Threads { state: Mutex::new(state), all_ended: Condvar::new(), next: AtomicU64::new(0) }
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until `ready`, which is called under the lock, says so; then one who waits for `gives`
    /// looks. A safepoint.
    ///
    /// # Errors
    /// If every thread waits.
    fn wait(
        vm: &Vm,
        m: &mut Mutator<'_>,
        what: Awaited,
        gives: Option<Awaited>,
        mut ready: impl FnMut(&Mutator<'_>) -> bool,
    ) -> Result<(), Fault> {
        let shared = vm.shared();
        vm.tidy(m);
        loop {
            let mut state = shared.threads.state.lock();
            state.mark_failed(m);
            if ready(m) {
                if let Some(gives) = gives {
                    state.call_one(gives);
                }
                return Ok(());
            }
            state.queue(what, vm.waiter());
            drop(state);
            m.blocking(|| {
                // It may be long until more is printed.
                shared.output.flush();
                shared.threads.wait_for_call(vm.waiter())
            })?;
        }
    }

    fn wait_for_call(&self, waiter: &Waiter) -> Result<(), Fault> {
        let mut state = self.state.lock();
        loop {
            match waiter.call.load(Ordering::Relaxed) {
                NOT_CALLED => waiter.bell.wait(&mut state),
                LOOK => return Ok(()),
                _ if state.script_ended => return Err(Fault::Ended),
                _ => return Err(Fault::error("Deadlock: every thread waits.")),
            }
        }
    }

    /// The script is through: waits for the other threads. Those that wait for what can never come
    /// are ended. Whether one has failed.
    pub(crate) fn finish(&self) -> bool {
        let mut state = self.state.lock();
        state.script_ended = true;
        state.stop_running();
        while state.threads > 0 {
            self.all_ended.wait(&mut state);
        }
        state.failed
    }

    fn thread_begins(&self) {
        let mut state = self.state.lock();
        state.threads += 1;
        state.running += 1;
    }

    fn thread_ends(&self, number: u64, failed: bool, publish: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        publish(&mut state);
        state.failed |= failed;
        state.threads -= 1;
        while state.call_one(Awaited::End(number)) {}
        state.stop_running();
        state.call_next_in_vain();
        if state.threads == 0 {
            self.all_ended.notify_all();
        }
    }
}

/// `spawn(callee, arguments...)`: calls on another thread; gives its handle.
pub(crate) fn spawn(vm: &mut Vm, m: &mut Mutator<'_>, base: usize, arguments: usize) -> Result<(), Fault> {
    let callee = if arguments == 0 { Value::NIL } else { vm.slot(m, base + 1).get(m) };
    // Here, so that the error is where the thread would begin.
    crate::vm::check_callable(m, callee, arguments.saturating_sub(1))?;
    let shared = Arc::clone(vm.shared());
    let number = shared.threads.number();
    let m = vm.reserve(m, AllocSize::of::<ThreadHandle>())?;
    let values: Vec<_> = (1..=arguments).map(|index| vm.slot(m, base + index).get(m)).collect();
    let arguments: Vec<Root<Tagged>> = values.into_iter().map(|value| Root::new(m, value)).collect();
    let handle = m.place(ThreadHandleInit { number, state: 0, result: Value::NIL });
    let root = Root::new(m, handle);
    vm.slot(m, base).set(m, handle.into());
    shared.threads.thread_begins();
    let for_thread = Arc::clone(&shared);
    let started =
        std::thread::Builder::new().name("lox".into()).spawn(move || run(&for_thread, number, arguments, root));
    if let Err(error) = started {
        shared.threads.thread_ends(number, false, |_| ());
        return Err(Fault::Error(format!("Cannot start a thread: {error}.")));
    }
    Ok(())
}

/// A thread, from its begin to its end.
fn run(shared: &Arc<Shared>, number: u64, arguments: Vec<Root<Tagged>>, handle: Root<ThreadHandle>) {
    let run = || shared.heap.enter(|m| run_in(shared, m, number, arguments, &handle));
    // The heap panics where its collector has failed: those who wait for this thread must not wait
    // for ever.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => shared.reporter.thread_failed(&error),
        Err(_) => {}
    }
    shared.threads.thread_ends(number, true, |state| state.failed_outside.push(handle));
}

fn run_in(
    shared: &Arc<Shared>,
    m: &mut Mutator<'_>,
    number: u64,
    arguments: Vec<Root<Tagged>>,
    handle: &Root<ThreadHandle>,
) {
    let mut vm = match Vm::new(shared, m, number) {
        Ok(vm) => vm,
        Err(error) => {
            m.blocking(|| shared.reporter.thread_failed(&error));
            return shared.threads.thread_ends(number, true, |_| handle.get(m).state.set(THREAD_FAILED));
        }
    };
    let outcome = vm.run_first(m, arguments);
    let failed = matches!(outcome, Err(Fault::Error(_)));
    let state = if outcome.is_ok() { THREAD_DONE } else { THREAD_FAILED };
    if let Err(fault) = outcome {
        vm.report(m, fault);
    }
    shared.threads.thread_ends(number, failed, |_| {
        let handle = handle.get(m);
        handle.result.set(m, vm.result(m));
        handle.state.set(state);
    });
}

/// `join(thread)`: waits for a thread's end; gives what its function returned.
pub(crate) fn join(vm: &mut Vm, m: &mut Mutator<'_>, base: usize) -> Result<(), Fault> {
    let argument = base + 1;
    let Some(handle) = vm.slot(m, argument).get(m).downcast::<ThreadHandle>() else {
        return Err(Fault::error("Can only join threads."));
    };
    let end = Awaited::End(handle.number);
    let mut failed = false;
    Threads::wait(vm, m, end, None, |m| {
        let handle = vm.slot(m, argument).get(m).downcast::<ThreadHandle>().expect("the caller has looked");
        let state = handle.state.get();
        if state != 0 {
            failed = state == THREAD_FAILED;
            vm.slot(m, base).set(m, handle.result.get(m));
        }
        state != 0
    })?;
    if failed { Err(Fault::error("The thread has failed.")) } else { Ok(()) }
}

/// `channel()`, `channel(most)`: a queue of messages; sending waits while it holds `most`.
pub(crate) fn channel(vm: &mut Vm, m: &mut Mutator<'_>, base: usize, arguments: usize) -> Result<(), Fault> {
    let capacity = match arguments {
        0 => NO_LIMIT,
        _ => match vm.slot(m, base + 1).num() {
            Some(most) if most >= 1.0 => most as u64,
            _ => return Err(Fault::error("A channel's limit must be a number of at least 1.")),
        },
    };
    let m = vm.reserve(m, AllocSize::of::<Channel>())?;
    let number = vm.shared().threads.number();
    let channel = m.place(ChannelInit { number, first: None, last: None, len: 0, capacity });
    vm.slot(m, base).set(m, channel.into());
    Ok(())
}

/// The number of the channel in a slot.
fn channel_number(vm: &Vm, m: &Mutator<'_>, at: usize) -> Result<u64, Fault> {
    let found = vm.slot(m, at).get(m).downcast::<Channel>();
    found.map(|channel| channel.number).ok_or_else(|| Fault::error("Expected a channel."))
}

/// `send(channel, value)`: gives the value.
pub(crate) fn send(vm: &mut Vm, m: &mut Mutator<'_>, base: usize) -> Result<(), Fault> {
    let channel = channel_number(vm, m, base + 1)?;
    // The message is made first and kept in the result's slot: under the lock nothing is allocated.
    {
        let m = vm.reserve(m, AllocSize::of::<Message>())?;
        let message = m.place(MessageInit { value: vm.slot(m, base + 2).get(m), next: None });
        vm.slot(m, base).set(m, message.into());
    }
    Threads::wait(vm, m, Awaited::AllocSize(channel), Some(Awaited::Message(channel)), |m| {
        let channel = vm.slot(m, base + 1).get(m).downcast::<Channel>().expect("the caller has looked");
        if channel.len.get() >= channel.capacity {
            return false;
        }
        let message = vm.slot(m, base).get(m).downcast::<Message>().expect("it was put there");
        match channel.last.get(m) {
            Some(last) => last.next.set(m, Some(message)),
            None => channel.first.set(m, Some(message)),
        }
        channel.last.set(m, Some(message));
        channel.len.set(channel.len.get() + 1);
        true
    })?;
    let slot = vm.slot(m, base);
    slot.set(m, vm.slot(m, base + 2).get(m));
    Ok(())
}

/// `receive(channel)`: the oldest message; waits for one.
pub(crate) fn receive(vm: &mut Vm, m: &mut Mutator<'_>, base: usize) -> Result<(), Fault> {
    let channel = channel_number(vm, m, base + 1)?;
    Threads::wait(vm, m, Awaited::Message(channel), Some(Awaited::AllocSize(channel)), |m| {
        let channel = vm.slot(m, base + 1).get(m).downcast::<Channel>().expect("the caller has looked");
        let Some(message) = channel.first.get(m) else { return false };
        let next = message.next.get(m);
        channel.first.set(m, next);
        if next.is_none() {
            channel.last.set(m, None);
        }
        channel.len.set(channel.len.get() - 1);
        vm.slot(m, base).set(m, message.value.get(m));
        true
    })
}
