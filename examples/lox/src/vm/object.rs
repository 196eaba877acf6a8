//! Operations that make objects.

use super::property::MAX_GUESSED;
use super::{Fault, Vm};
use crate::code::{Capture, Site};
use crate::names::INIT;
use crate::object::{
    Cell, CellInit, Class, ClassInit, Closure, ClosureInit, Function, MethodEntryInit, Methods, MethodsInit, Str,
    put_method,
};
use gc_heap::{AllocSize, Gc, Mutator, OutOfMemory, RootSlot, Tagged, Value};

/// Entries of a new class's methods.
const FIRST_METHODS: usize = 8;

fn place_methods<'g>(m: &'g Mutator<'_>, len: usize) -> Gc<'g, Methods> {
    m.place_array::<Methods>(MethodsInit { count: 0 }, len, MethodEntryInit { symbol: 0, method: None })
}

/// Adds all methods of one table to another, which has room.
fn copy_methods<'g>(m: &'g Mutator<'_>, from: Gc<'g, Methods>, to: Gc<'g, Methods>) {
    for entry in from.tail() {
        if let Some(method) = entry.method.get(m) {
            put_method(m, to, entry.symbol.get(), method);
        }
    }
}

/// Makes a closure of a function, within the room that was reserved. `registers` and `around` are
/// those of the function that makes it.
#[inline]
pub(super) fn place_closure<'g>(
    m: &'g Mutator<'_>,
    registers: &'g [RootSlot<Tagged>],
    around: Gc<'g, Closure>,
    function: Gc<'g, Function>,
) -> Gc<'g, Closure> {
    let code = function.code.get();
    let captures = code.captures.iter().map(|capture| match *capture {
        Capture::Register(register) => {
            let cell = registers[usize::from(register)].get(m).downcast::<Cell>();
            cell.expect("captured variables are cells")
        }
        Capture::Upvalue(upvalue) => around.tail()[usize::from(upvalue)].get(m),
    });
    m.place_tail::<Closure, _>(ClosureInit { function, code }, captures)
}

impl Vm {
    /// The closure of the running frame.
    fn closure<'g>(&self, m: &'g Mutator<'_>) -> Gc<'g, Closure> {
        let frame = &self.frames[self.depth - 1];
        let closure = self.slot(m, frame.base + usize::from(frame.code.closure)).get(m).downcast();
        closure.expect("a frame keeps its closure")
    }

    fn function<'g>(&self, m: &'g Mutator<'_>, index: usize) -> Gc<'g, Function> {
        Self::constant(m, self.closure(m), index).downcast().expect("the compiler put a function there")
    }

    /// `to = left + right` for two strings, by absolute slots.
    pub(super) fn concatenate(
        &mut self,
        m: &mut Mutator<'_>,
        to: usize,
        left: usize,
        right: usize,
    ) -> Result<(), Fault> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        for side in [left, right] {
            let Some(string) = self.slot(m, side).get(m).downcast::<Str>() else {
                return Err(Fault::error("Operands must be two numbers or two strings."));
            };
            text.extend_from_slice(string.tail());
        }
        let (m, string) = self.shared.strings.intern_with(m, &text, |m| self.tidy(m), |_, _| ())?;
        self.slot(m, to).set(m, string.into());
        self.text = text;
        Ok(())
    }

    /// `to = a closure of the function in constant `index``.
    pub(super) fn make_closure(&mut self, m: &mut Mutator<'_>, to: usize, index: usize) -> Result<(), OutOfMemory> {
        let base = self.frames[self.depth - 1].base;
        let captures = self.function(m, index).code.captures.len();
        let m = self.reserve(m, AllocSize::tail::<Closure>(captures))?;
        let function = self.function(m, index);
        let registers = &self.stack.slots(m)[base..];
        let closure = place_closure(m, registers, self.closure(m), function);
        self.slot(m, to).set(m, closure.into());
        Ok(())
    }

    /// What is in the slot goes to a new cell, which takes its place.
    pub(super) fn make_cell(&mut self, m: &mut Mutator<'_>, at: usize) -> Result<(), OutOfMemory> {
        let m = self.reserve(m, AllocSize::of::<Cell>())?;
        let slot = self.slot(m, at);
        slot.set(m, m.place(CellInit { value: slot.get(m) }).into());
        Ok(())
    }

    /// `to = a class named by constant `index``.
    pub(super) fn make_class(
        &mut self,
        m: &mut Mutator<'_>,
        to: usize,
        index: usize,
        fields: u32,
    ) -> Result<(), OutOfMemory> {
        let m = self.reserve(m, AllocSize::of::<Class>() + AllocSize::tail::<Methods>(FIRST_METHODS))?;
        let name = Self::constant(m, self.closure(m), index);
        let name = name.downcast::<Str>().expect("the compiler put a name there");
        let methods = place_methods(m, FIRST_METHODS);
        let class = m.place(ClassInit { name, methods, init: None, fields: fields.min(MAX_GUESSED) });
        self.slot(m, to).set(m, class.into());
        Ok(())
    }

    fn class<'g>(&self, m: &'g Mutator<'_>, at: usize) -> Option<Gc<'g, Class>> {
        self.slot(m, at).get(m).downcast()
    }

    /// A class takes all methods of another.
    pub(super) fn inherit(&mut self, m: &mut Mutator<'_>, class: usize, from: usize) -> Result<(), Fault> {
        let Some(superclass) = self.class(m, from) else { return Err(Fault::error("Superclass must be a class.")) };
        let mut len = superclass.methods.get(m).tail_len();
        loop {
            let m = self.reserve(m, AllocSize::tail::<Methods>(len))?;
            let superclass = self.class(m, from).expect("it stayed where it was");
            let from = superclass.methods.get(m);
            if from.tail_len() > len {
                len = from.tail_len(); // another thread is still at its class body
                continue;
            }
            let class = self.class(m, class).expect("it was just declared");
            let methods = place_methods(m, len);
            copy_methods(m, from, methods);
            class.methods.set(m, methods);
            class.init.set(m, superclass.init.get(m));
            class.fields.set((superclass.fields.get() + class.fields.get()).min(MAX_GUESSED));
            return Ok(());
        }
    }

    /// A class gets a method.
    pub(super) fn add_method(
        &mut self,
        m: &mut Mutator<'_>,
        class: usize,
        method: usize,
        site: &Site,
    ) -> Result<(), Fault> {
        let methods = self.class(m, class).expect("it was just declared").methods.get(m);
        let len = methods.tail_len();
        if (methods.count.get() as usize + 1) * 2 > len {
            let m = self.reserve(m, AllocSize::tail::<Methods>(len * 2))?;
            let class = self.class(m, class).expect("it stayed where it was");
            let methods = place_methods(m, len * 2);
            copy_methods(m, class.methods.get(m), methods);
            class.methods.set(m, methods);
        }
        let class = self.class(m, class).expect("it was just declared");
        let method = self.slot(m, method).get(m).downcast::<Closure>().expect("methods are closures");
        put_method(m, class.methods.get(m), site.symbol, method);
        if site.symbol == INIT {
            class.init.set(m, Some(method));
        }
        Ok(())
    }

    /// Prints the value in a slot, and a line's end. A safepoint if what was printed is written
    /// now.
    #[inline(never)]
    pub(super) fn print(&mut self, m: &mut Mutator<'_>, at: usize) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        crate::output::write_value(m, self.slot(m, at).get(m), &mut text);
        text.push(b'\n');
        if self.shared.output.append(&text) {
            self.tidy(m);
            m.blocking(|| self.shared.output.flush());
        }
        self.text = text;
    }

    /// The value of a string or function that the code names.
    pub(super) fn constant<'g>(m: &'g Mutator<'_>, closure: Gc<'g, Closure>, index: usize) -> Value<'g> {
        closure.function.get(m).tail()[index].get(m)
    }
}
