//! The virtual machine: one for each thread of the program, all on one heap.

mod call;
mod fault;
mod load;
mod object;
mod property;
mod run;

pub(crate) use call::check_callable;
pub(crate) use fault::{Fault, RuntimeError};

use crate::code::{Code, Source};
use crate::front::{emit, parser};
use crate::names::Names;
use crate::native::Native;
use crate::object::{Globals, NativeFunctionInit, Strings, UNDEFINED};
use crate::output::Output;
use crate::report::Reporter;
use crate::shapes::{Lookups, Shapes};
use crate::thread::{Threads, Waiter};
use gc_heap::{AllocSize, Gc, Heap, Mutator, OutOfMemory, Root, RootSlot, RootStack, Tagged, Value};
use parking_lot::Mutex;
use std::cell::Cell;
use std::sync::Arc;

/// Calls under way at a time.
const FRAMES: usize = 64;
/// Slots that the operand stack may have: slot 0 holds the globals, the rest is room for the
/// frames.
const SLOTS: usize = FRAMES * 256 + 257;
/// Slots that it has at first. It grows to twice as many, and so on: what no frame has reached is
/// neither touched nor scanned.
const FIRST_SLOTS: usize = 1024;
/// Where the script's frame begins.
const FIRST: usize = 1;

/// What the threads of a program share.
pub(crate) struct Shared {
    pub(crate) heap: Heap,
    pub(crate) names: Mutex<Names>,
    pub(crate) shapes: Shapes,
    pub(crate) strings: Strings,
    pub(crate) globals: Root<Option<Globals>>,
    pub(crate) threads: Threads,
    /// Held by whoever writes to a dictionary.
    pub(crate) dictionaries: Mutex<()>,
    pub(crate) output: Output,
    pub(crate) reporter: Reporter,
}

impl Shared {
    /// # Errors
    /// If the heap is too small for the tables.
    pub(crate) fn new(heap: &Heap, m: &mut Mutator<'_>, reporter: Reporter) -> Result<Shared, OutOfMemory> {
        Ok(Shared {
            heap: heap.clone(),
            names: Mutex::new(Names::new()),
            shapes: Shapes::new(),
            strings: Strings::new(m)?,
            globals: Root::new(m, None),
            threads: Threads::new(),
            dictionaries: Mutex::new(()),
            output: Output::new(),
            reporter,
        })
    }

    /// Makes room for the globals that the names know and `spare` more, and defines the VM's
    /// functions in it. Once, before anything runs: all threads hold the same table.
    ///
    /// # Errors
    /// If the heap is too small.
    pub(crate) fn make_globals(&self, m: &mut Mutator<'_>, spare: usize) -> Result<(), OutOfMemory> {
        let natives = Native::ALL.map(|native| (self.names.lock().global(native.name().as_bytes()), native));
        let len = self.names.lock().globals() + spare;
        let objects = AllocSize::of::<crate::object::NativeFunction>().times(natives.len());
        let m = m.reserve(AllocSize::tail::<Globals>(len) + objects)?;
        let globals = m.place_array::<Globals>((), len, UNDEFINED);
        for (global, native) in natives {
            let function = m.place(NativeFunctionInit { native });
            globals.tail()[global as usize].set(m, function.into());
        }
        self.globals.set(m, Some(globals));
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Frame {
    code: &'static Code,
    /// Up to date in all frames but the running one.
    pc: usize,
    base: usize,
}

/// A thread's interpreter. It holds no reference but by its stack.
pub(crate) struct Vm {
    shared: Arc<Shared>,
    /// As long as any frame has reached, rounded up: its slots are the registers of the frames.
    /// What lies above those in use is left over, and cleared before each safepoint where the
    /// collector may look: it keeps nothing alive.
    stack: RootStack<Tagged>,
    frames: Box<[Frame; FRAMES]>,
    depth: usize,
    /// Slots from here up are nil.
    used: Cell<usize>,
    lookups: Lookups,
    waiter: Arc<Waiter>,
    text: Vec<u8>,
}

static NO_CODE: std::sync::LazyLock<Code> = std::sync::LazyLock::new(|| Code {
    source: Arc::new(Source { name: String::new(), text: Vec::new() }),
    name: None,
    arity: 0,
    closure: 0,
    registers: 0,
    instrs: Box::default(),
    ats: Box::default(),
    tops: Box::default(),
    numbers: Box::default(),
    sites: Box::default(),
    captures: Box::default(),
});

/// Why a script did not end well. It has been reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    Compiling,
    Running,
}

impl Vm {
    /// `thread`: its number.
    ///
    /// # Errors
    /// If there is no address space for the stack.
    pub(crate) fn new(shared: &Arc<Shared>, m: &Mutator<'_>, thread: u64) -> Result<Vm, OutOfMemory> {
        let stack = RootStack::with_capacity(&shared.heap, SLOTS)?;
        stack.resize(m, FIRST_SLOTS, Value::NIL);
        let frame = Frame { code: &NO_CODE, pc: 0, base: 0 };
        let frames = Box::new([frame; FRAMES]);
        Ok(Vm {
            shared: Arc::clone(shared),
            stack,
            frames,
            depth: 0,
            used: Cell::new(0),
            lookups: Lookups::new(),
            waiter: Waiter::new(thread),
            text: Vec::new(),
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn waiter(&self) -> &Arc<Waiter> {
        &self.waiter
    }

    /// A slot of the stack.
    pub(crate) fn slot<'g>(&'g self, m: &'g Mutator<'_>, index: usize) -> &'g RootSlot<Tagged> {
        &self.stack.slots(m)[index]
    }

    /// Compiles and runs a script; reports what goes wrong. `spare`: globals that later scripts may
    /// define, where this is the first.
    ///
    /// # Errors
    /// If it does not compile, or fails.
    pub(crate) fn interpret(&mut self, m: &mut Mutator<'_>, source: &Arc<Source>, spare: usize) -> Result<(), Failed> {
        let shared = Arc::clone(&self.shared);
        let known = shared.names.lock().known();
        let parsed = parser::parse(&source.text, &mut shared.names.lock());
        let proto = match parsed {
            Ok(function) => emit::emit(&function, source),
            Err(errors) => {
                shared.names.lock().forget_from(&known);
                m.blocking(|| {
                    shared.output.flush();
                    shared.reporter.compile_errors(source, &errors);
                });
                return Err(Failed::Compiling);
            }
        };
        self.depth = 0;
        let outcome = match self.has_globals(m, spare) {
            Ok(()) => self.start(m, proto),
            Err(fault) => {
                shared.names.lock().forget_from(&known);
                Err(fault)
            }
        };
        let outcome = outcome.map_err(|fault| {
            self.report(m, fault);
            Failed::Running
        });
        self.clear(m, FIRST);
        outcome
    }

    /// Whether the table of globals has a place for each that the names know. The first script
    /// makes it.
    fn has_globals(&self, m: &mut Mutator<'_>, spare: usize) -> Result<(), Fault> {
        match self.shared.globals.get(m).map(Gc::tail_len) {
            None => Ok(self.shared.make_globals(m, spare)?),
            Some(len) if len < self.shared.names.lock().globals() => {
                Err(Fault::error("Too many global variables in this session."))
            }
            Some(_) => Ok(()),
        }
    }

    fn start(&mut self, m: &mut Mutator<'_>, proto: crate::code::Proto) -> Result<(), Fault> {
        self.take_globals(m)?;
        self.load(m, proto)?;
        self.call(m, FIRST, 0)?;
        self.run(m)
    }

    /// Puts the globals where the code looks for them.
    fn take_globals(&mut self, m: &Mutator<'_>) -> Result<(), Fault> {
        let globals = self.shared.globals.get(m).ok_or_else(|| Fault::error("No globals."))?;
        self.slot(m, 0).set(m, globals.into());
        Ok(())
    }

    /// Calls the value in the first slot with the arguments above it, for a thread that has just
    /// begun. The result takes their place.
    ///
    /// # Errors
    /// What goes wrong, not yet reported.
    pub(crate) fn run_first(&mut self, m: &mut Mutator<'_>, arguments: Vec<Root<Tagged>>) -> Result<(), Fault> {
        self.take_globals(m)?;
        let count = arguments.len();
        for (index, argument) in arguments.iter().enumerate() {
            self.slot(m, FIRST + index).set(m, argument.get(m));
        }
        self.used.set(FIRST + arguments.len());
        drop(arguments);
        self.call(m, FIRST, count - 1)?;
        if self.depth > 0 { self.run(m) } else { Ok(()) }
    }

    /// What [`run_first`](Self::run_first) left.
    pub(crate) fn result<'g>(&'g self, m: &'g Mutator<'_>) -> Value<'g> {
        self.slot(m, FIRST).get(m)
    }

    /// Clears the slots from an index up.
    fn clear(&self, m: &Mutator<'_>, end: usize) {
        if let Some(left_over) = self.stack.slots(m).get(end..self.used.get()) {
            left_over.iter().for_each(|slot| slot.set(m, Value::NIL));
        }
        self.used.set(self.used.get().min(end));
    }

    /// Clears what lies above the registers in use at an instruction of the running frame.
    #[cold]
    fn tidy_at(&self, m: &Mutator<'_>, pc: usize) {
        // Where no frame is yet, the first slots hold what is about to be called.
        let Some(frame) = self.depth.checked_sub(1).map(|last| &self.frames[last]) else { return };
        self.clear(m, frame.base + usize::from(frame.code.tops[pc]));
        // A deep recursion has ended: what it used goes back.
        let wanted = (2 * (frame.base + frame.code.registers)).next_power_of_two().max(FIRST_SLOTS);
        if wanted < self.stack.len() / 4 {
            self.stack.truncate(m, wanted);
        }
    }

    /// Makes the stack reach to an index, which is not beyond its room.
    #[cold]
    fn reach(&self, m: &Mutator<'_>, end: usize) {
        self.stack.resize(m, end.next_power_of_two().min(SLOTS), Value::NIL);
    }

    /// Clears what is left over, in the middle of an instruction: before whatever may be a
    /// safepoint.
    pub(crate) fn tidy(&self, m: &Mutator<'_>) {
        if let Some(last) = self.depth.checked_sub(1) {
            self.tidy_at(m, self.frames[last].pc - 1);
        }
    }

    /// `Mutator::reserve` for an instruction: what is left over on the stack keeps nothing alive
    /// meanwhile.
    ///
    /// # Errors
    /// If the heap is full.
    #[inline(always)]
    pub(crate) fn reserve<'g, 's>(
        &self,
        m: &'g mut Mutator<'s>,
        room: AllocSize,
    ) -> Result<&'g Mutator<'s>, OutOfMemory> {
        if !m.has_room(room) {
            self.tidy(m);
        }
        m.reserve(room)
    }
}
