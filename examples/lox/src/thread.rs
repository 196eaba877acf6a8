//! Threads of a program, and what passes between them.
//!
//! All waiting goes through one lock and one condition, so it is known when nobody is left who could end a wait. The lock is
//! never held at a safepoint: whoever waits for it delays a stop for an instant only.

use crate::object::{
    Channel, ChannelInit, Message, MessageInit, THREAD_DONE, THREAD_FAILED, ThreadHandle, ThreadHandleInit,
};
use crate::vm::{Fault, Shared, Vm};
use gc_heap::{Mutator, Room, Root, Tagged, Value};
use parking_lot::{Condvar, Mutex};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Messages that a channel without a limit may hold.
const NO_LIMIT: u64 = u64::MAX;

#[derive(Default)]
struct State {
    /// Threads beside the script's.
    threads: usize,
    /// Threads that run, or are about to look again; and those that wait for an event.
    running: usize,
    waiting: usize,
    /// Number of the last event.
    events: u64,
    /// Nobody runs and somebody waits: those who wait are sent away.
    stuck: bool,
    script_ended: bool,
    failed: bool,
}

impl State {
    /// Something happened that may end a wait: all who wait look again.
    fn event(&mut self) {
        self.events += 1;
        self.running += std::mem::take(&mut self.waiting);
    }

    fn stop_running(&mut self) {
        self.running -= 1;
        self.stuck |= self.running == 0 && self.waiting > 0;
    }
}

/// The threads of a program.
pub(crate) struct Threads {
    state: Mutex<State>,
    happened: Condvar,
}

impl Threads {
    pub(crate) fn new() -> Threads {
        Threads { state: Mutex::new(State { running: 1, ..State::default() }), happened: Condvar::new() }
    }

    /// Waits until `ready`, which is called under the lock, says so. A safepoint.
    ///
    /// # Errors
    /// If every thread waits.
    fn wait(&self, m: &mut Mutator<'_>, mut ready: impl FnMut(&Mutator<'_>) -> bool) -> Result<(), Fault> {
        loop {
            let mut state = self.state.lock();
            if ready(m) {
                state.event();
                self.happened.notify_all();
                return Ok(());
            }
            let seen = state.events;
            state.waiting += 1;
            state.stop_running();
            if state.stuck {
                self.happened.notify_all();
            }
            drop(state);
            m.blocking(|| self.wait_for_event(seen))?;
        }
    }

    fn wait_for_event(&self, seen: u64) -> Result<(), Fault> {
        let mut state = self.state.lock();
        while state.events == seen && !state.stuck {
            self.happened.wait(&mut state);
        }
        if state.events != seen {
            return Ok(()); // counted as running by whoever made the event
        }
        state.waiting -= 1;
        state.running += 1;
        state.stuck = state.waiting > 0;
        Err(if state.script_ended { Fault::Ended } else { Fault::error("Deadlock: every thread waits.") })
    }

    /// The script is through: waits for the other threads. Those that wait for what can never come are ended. Whether one
    /// has failed.
    pub(crate) fn finish(&self) -> bool {
        let mut state = self.state.lock();
        state.script_ended = true;
        state.stop_running();
        self.happened.notify_all();
        while state.threads > 0 {
            self.happened.wait(&mut state);
        }
        state.failed
    }

    fn thread_begins(&self) {
        let mut state = self.state.lock();
        state.threads += 1;
        state.running += 1;
    }

    fn thread_ends(&self, failed: bool, publish: impl FnOnce()) {
        let mut state = self.state.lock();
        publish();
        state.failed |= failed;
        state.threads -= 1;
        state.event();
        state.stop_running();
        self.happened.notify_all();
    }
}

/// `spawn(callee, arguments...)`: calls on another thread; gives its handle.
pub(crate) fn spawn(vm: &mut Vm, m: &mut Mutator<'_>, base: usize, arguments: usize) -> Result<(), Fault> {
    if arguments == 0 {
        return Err(Fault::error("Expected a function to spawn."));
    }
    if !crate::vm::is_callable(vm.slot(m, base + 1).get(m)) {
        return Err(Fault::error("Can only call functions and classes."));
    }
    let m = vm.reserve(m, Room::of::<ThreadHandle>())?;
    let values: Vec<_> = (1..=arguments).map(|index| vm.slot(m, base + index).get(m)).collect();
    let arguments: Vec<Root<Tagged>> = values.into_iter().map(|value| Root::new(m, value)).collect();
    let handle = m.place(ThreadHandleInit { state: 0, result: Value::NIL });
    let root = Root::new(m, handle);
    vm.slot(m, base).set(m, handle.into());
    let shared = Arc::clone(vm.shared());
    shared.threads.thread_begins();
    let for_thread = Arc::clone(&shared);
    let started = std::thread::Builder::new().name("lox".into()).spawn(move || run(&for_thread, arguments, &root));
    if let Err(error) = started {
        shared.threads.thread_ends(false, || ());
        return Err(Fault::Error(format!("Cannot start a thread: {error}.")));
    }
    Ok(())
}

/// A thread, from its begin to its end.
fn run(shared: &Arc<Shared>, arguments: Vec<Root<Tagged>>, handle: &Root<ThreadHandle>) {
    let run = || shared.heap.enter(|m| run_in(shared, m, arguments, handle));
    // The heap panics where its collector has failed: those who wait for this thread must not wait for ever.
    if !matches!(catch_unwind(AssertUnwindSafe(run)), Ok(Ok(()))) {
        shared.threads.thread_ends(true, || ());
    }
}

fn run_in(shared: &Arc<Shared>, m: &mut Mutator<'_>, arguments: Vec<Root<Tagged>>, handle: &Root<ThreadHandle>) {
    let mut vm = match Vm::new(shared, m) {
        Ok(vm) => vm,
        Err(error) => {
            shared.reporter.thread_failed(&error);
            return shared.threads.thread_ends(true, || handle.get(m).state.set(THREAD_FAILED));
        }
    };
    let outcome = vm.run_first(m, arguments);
    let failed = matches!(outcome, Err(Fault::Error(_)));
    let state = if outcome.is_ok() { THREAD_DONE } else { THREAD_FAILED };
    if let Err(fault) = outcome {
        vm.report(fault);
    }
    shared.threads.thread_ends(failed, || {
        let handle = handle.get(m);
        handle.result.set(m, vm.result(m));
        handle.state.set(state);
    });
}

/// `join(thread)`: waits for a thread's end; gives what its function returned.
pub(crate) fn join(vm: &mut Vm, m: &mut Mutator<'_>, base: usize) -> Result<(), Fault> {
    let argument = base + 1;
    if vm.slot(m, argument).get(m).downcast::<ThreadHandle>().is_none() {
        return Err(Fault::error("Can only join threads."));
    }
    let shared = Arc::clone(vm.shared());
    vm.tidy(m);
    let mut failed = false;
    shared.threads.wait(m, |m| {
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
        1 => match vm.slot(m, base + 1).num() {
            Some(most) if most >= 1.0 => most as u64,
            _ => return Err(Fault::error("A channel's limit must be a number of at least 1.")),
        },
        _ => return Err(Fault::Error(format!("Expected 0 or 1 arguments but got {arguments}."))),
    };
    let m = vm.reserve(m, Room::of::<Channel>())?;
    let channel = m.place(ChannelInit { first: None, last: None, len: 0, capacity });
    vm.slot(m, base).set(m, channel.into());
    Ok(())
}

fn check_channel(vm: &Vm, m: &Mutator<'_>, at: usize) -> Result<(), Fault> {
    let found = vm.slot(m, at).get(m).downcast::<Channel>();
    found.map(|_| ()).ok_or_else(|| Fault::error("Expected a channel."))
}

/// `send(channel, value)`: gives the value.
pub(crate) fn send(vm: &mut Vm, m: &mut Mutator<'_>, base: usize) -> Result<(), Fault> {
    check_channel(vm, m, base + 1)?;
    let shared = Arc::clone(vm.shared());
    vm.tidy(m);
    // The message is made first and kept in the result's slot: under the lock nothing is allocated.
    {
        let m = vm.reserve(m, Room::of::<Message>())?;
        let message = m.place(MessageInit { value: vm.slot(m, base + 2).get(m), next: None });
        vm.slot(m, base).set(m, message.into());
    }
    shared.threads.wait(m, |m| {
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
    check_channel(vm, m, base + 1)?;
    let shared = Arc::clone(vm.shared());
    vm.tidy(m);
    shared.threads.wait(m, |m| {
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
