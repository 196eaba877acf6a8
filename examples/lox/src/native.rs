//! The functions that the VM defines: `clock`, `time`, and those for threads. They are ordinary
//! globals: a program that defines one of these names has its own.

use crate::vm::{Fault, Shared, Vm};
use gc_heap::{Mutator, Value};

/// A function of the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Native {
    Clock,
    Time,
    Spawn,
    Join,
    Channel,
    Send,
    Receive,
}

impl Native {
    pub(crate) const ALL: [Native; 7] =
        [Native::Clock, Native::Time, Native::Spawn, Native::Join, Native::Channel, Native::Send, Native::Receive];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Native::Clock => "clock",
            Native::Time => "time",
            Native::Spawn => "spawn",
            Native::Join => "join",
            Native::Channel => "channel",
            Native::Send => "send",
            Native::Receive => "receive",
        }
    }

    /// Calls the function with the arguments above a slot of the stack; the result goes to the
    /// slot. May be a safepoint.
    ///
    /// # Errors
    /// What the program did wrong.
    pub(crate) fn call(self, vm: &mut Vm, m: &mut Mutator<'_>, base: usize, arguments: usize) -> Result<(), Fault> {
        self.check_arguments(arguments)?;
        match self {
            Native::Clock => {
                vm.slot(m, base).set(m, Value::num(processor_seconds()));
                Ok(())
            }
            Native::Time => {
                vm.slot(m, base).set(m, Value::num(monotonic_seconds()));
                Ok(())
            }
            Native::Spawn => crate::thread::spawn(vm, m, base, arguments),
            Native::Join => crate::thread::join(vm, m, base),
            Native::Channel => crate::thread::channel(vm, m, base, arguments),
            Native::Send => crate::thread::send(vm, m, base),
            Native::Receive => crate::thread::receive(vm, m, base),
        }
    }

    /// Whether it takes that many arguments. The book's `clock` takes any, and `spawn` what its
    /// function takes.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) fn check_arguments(self, got: usize) -> Result<(), Fault> {
        let (right, expected) = match self {
            Native::Clock | Native::Time | Native::Spawn => return Ok(()),
            Native::Channel => (got <= 1, "0 or 1"),
            Native::Join | Native::Receive => (got == 1, "1"),
            Native::Send => (got == 2, "2"),
        };
        if right { Ok(()) } else { Err(Fault::Error(format!("Expected {expected} arguments but got {got}."))) }
    }
}

/// C's `clock`: the processor time that the process has taken.
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    // Whole microseconds, as where CLOCKS_PER_SEC is a million.
    (time.tv_sec * 1_000_000 + time.tv_nsec / 1000) as f64 / 1e6
}

/// Time that passes, from some point in the past.
fn monotonic_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The error for a global that nobody has defined.
#[cold]
pub(crate) fn undefined_global(shared: &Shared, global: usize) -> Fault {
    Fault::Error(format!("Undefined variable '{}'.", shared.names.lock().global_name(global as u32)))
}
