//! Calls of all that can be called, off the fast path.

use super::{FRAMES, Fault, Frame, SLOTS, Vm};
use crate::object::{BoundMethod, Class, Closure, Instance, InstanceInit, NativeFunction, find_method};
use gc_heap::{AllocSize, Gc, Mutator, Value};

fn wrong_arguments(expected: u32, got: usize) -> Fault {
    Fault::Error(format!("Expected {expected} arguments but got {got}."))
}

/// Whether a value can be called with that many arguments, for a call that another thread makes.
///
/// # Errors
/// What would be wrong with the call.
pub(crate) fn check_callable(m: &Mutator<'_>, callee: Value<'_>, arguments: usize) -> Result<(), Fault> {
    let arity = if let Some(closure) = callee.downcast::<Closure>() {
        closure.code.arity
    } else if let Some(class) = callee.downcast::<Class>() {
        class.init.get(m).map_or(0, |init| init.code.arity)
    } else if let Some(bound) = callee.downcast::<BoundMethod>() {
        bound.method.get(m).code.arity
    } else if let Some(native) = callee.downcast::<NativeFunction>() {
        return native.native.get().check_arguments(arguments);
    } else {
        return Err(Fault::error("Can only spawn functions and classes."));
    };
    if arity as usize == arguments { Ok(()) } else { Err(wrong_arguments(arity, arguments)) }
}

impl Vm {
    /// Begins a call of a closure whose callee and arguments are in place.
    fn enter(&mut self, m: &Mutator<'_>, closure: Gc<'_, Closure>, base: usize, arguments: usize) -> Result<(), Fault> {
        let code = closure.code.get();
        if code.arity as usize != arguments {
            return Err(wrong_arguments(code.arity, arguments));
        }
        let end = base + code.registers;
        if self.depth == FRAMES || end > SLOTS {
            return Err(Fault::error("Stack overflow."));
        }
        if end > self.stack.len() {
            self.reach(m, end);
        }
        self.slot(m, base + usize::from(code.closure)).set(m, closure.into());
        self.frames[self.depth] = Frame { code, pc: 0, base };
        self.depth += 1;
        self.used.set(self.used.get().max(end));
        Ok(())
    }

    /// Calls the value in a slot, with the arguments above it. Either a frame is pushed, or the
    /// result is in the slot.
    pub(super) fn call(&mut self, m: &mut Mutator<'_>, base: usize, arguments: usize) -> Result<(), Fault> {
        let callee = self.slot(m, base).get(m);
        if let Some(closure) = callee.downcast::<Closure>() {
            return self.enter(m, closure, base, arguments);
        }
        if callee.downcast::<Class>().is_some() {
            return self.instantiate(m, base, arguments);
        }
        if let Some(bound) = callee.downcast::<BoundMethod>() {
            self.slot(m, base).set(m, bound.receiver.get(m));
            return self.enter(m, bound.method.get(m), base, arguments);
        }
        if let Some(native) = callee.downcast::<NativeFunction>() {
            let native = native.native.get();
            return native.call(self, m, base, arguments);
        }
        Err(Fault::error("Can only call functions and classes."))
    }

    fn instantiate(&mut self, m: &mut Mutator<'_>, base: usize, arguments: usize) -> Result<(), Fault> {
        let class = self.slot(m, base).get(m).downcast::<Class>().expect("the caller has looked");
        let fields = class.fields.get() as usize;
        let m = self.reserve(m, AllocSize::tail::<Instance>(fields))?;
        let slot = self.slot(m, base);
        let class = slot.get(m).downcast::<Class>().expect("it stayed where it was");
        let init = InstanceInit { class, more: Value::NIL, shape: crate::shapes::EMPTY };
        slot.set(m, m.place_array::<Instance>(init, fields, Value::NIL).into());
        match class.init.get(m) {
            Some(init) => self.enter(m, init, base, arguments),
            None if arguments != 0 => Err(wrong_arguments(0, arguments)),
            None => Ok(()),
        }
    }

    /// Calls a method of a class on the receiver in a slot.
    pub(super) fn invoke_of(
        &mut self,
        m: &Mutator<'_>,
        class: Gc<'_, Class>,
        symbol: u32,
        base: usize,
        arguments: usize,
    ) -> Result<(), Fault> {
        match find_method(m, class.methods.get(m), symbol) {
            Some(method) => self.enter(m, method, base, arguments),
            None => Err(self.undefined_property(symbol)),
        }
    }
}
