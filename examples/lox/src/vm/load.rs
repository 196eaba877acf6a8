//! Compiled code goes to the heap.

use super::{FIRST, Vm};
use crate::code::{Constant, Proto};
use crate::object::{Closure, ClosureInit, Function, FunctionInit};
use gc_heap::{AllocSize, Local, Mutator, OutOfMemory, Tagged, Value};

impl Vm {
    /// Makes a closure of a script, in the first slot.
    pub(super) fn load(&mut self, m: &mut Mutator<'_>, proto: Proto) -> Result<(), OutOfMemory> {
        let m = &mut *m.frame();
        let function = self.load_function(m, proto)?;
        let m = m.reserve(AllocSize::tail::<Closure>(0))?;
        let code = function.get(m).code.get();
        let closure = m.place_tail::<Closure, _>(ClosureInit { function: function.get(m), code }, []);
        self.slot(m, FIRST).set(m, closure.into());
        Ok(())
    }

    /// The functions inside come first. Code is text: it stays for the life of the process.
    fn load_function<'s>(&self, m: &mut Mutator<'s>, proto: Proto) -> Result<Local<'s, Function>, OutOfMemory> {
        let mut constants: Vec<Local<'_, Tagged>> = Vec::with_capacity(proto.constants.len());
        for constant in proto.constants {
            constants.push(match constant {
                Constant::String(text) => {
                    let (m, string) = self.shared.strings.intern_with(m, &text, |_| (), |_, _| ())?;
                    m.local(Value::from(string))
                }
                Constant::Function(proto) => {
                    let function = self.load_function(m, *proto)?;
                    m.local(Value::from(function.get(m)))
                }
            });
        }
        let code = Box::leak(Box::new(proto.code));
        let m = m.reserve(AllocSize::tail::<Function>(constants.len()))?;
        let constants = constants.iter().map(|constant| constant.get(m));
        Ok(m.local(m.place_tail::<Function, _>(FunctionInit { code }, constants)))
    }
}
