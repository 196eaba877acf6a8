//! Names of properties and of global variables: numbers, given by the compiler once and kept for
//! the life of the process.
//!
//! Both come from the program's text alone, so their number is bounded by it.

use rustc_hash::FxHashMap;

/// A set of numbered names.
#[derive(Default)]
struct Numbered {
    ids: FxHashMap<Box<[u8]>, u32>,
    names: Vec<Box<[u8]>>,
}

impl Numbered {
    fn id(&mut self, name: &[u8]) -> u32 {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = self.names.len() as u32;
        self.names.push(name.into());
        self.ids.insert(name.into(), id);
        id
    }

    fn forget_from(&mut self, len: usize) {
        for name in self.names.drain(len..) {
            self.ids.remove(&name);
        }
    }

    fn name(&self, id: u32) -> String {
        String::from_utf8_lossy(&self.names[id as usize]).into_owned()
    }
}

/// All names of a program.
pub(crate) struct Names {
    symbols: Numbered,
    globals: Numbered,
}

/// How many names there were.
pub(crate) struct Known {
    symbols: usize,
    globals: usize,
}

/// The number of the name `init`.
pub(crate) const INIT: u32 = 0;

impl Names {
    pub(crate) fn new() -> Names {
        let mut names = Names { symbols: Numbered::default(), globals: Numbered::default() };
        let init = names.symbol(b"init");
        debug_assert_eq!(init, INIT);
        names
    }

    /// The number of a property's name.
    pub(crate) fn symbol(&mut self, name: &[u8]) -> u32 {
        self.symbols.id(name)
    }

    /// The number of a global variable.
    pub(crate) fn global(&mut self, name: &[u8]) -> u32 {
        self.globals.id(name)
    }

    /// How many names there are: for [`forget_from`](Self::forget_from).
    pub(crate) fn known(&self) -> Known {
        Known { symbols: self.symbols.names.len(), globals: self.globals.names.len() }
    }

    /// Forgets the names that are newer than `known`, which only code knows that does not run.
    pub(crate) fn forget_from(&mut self, known: &Known) {
        self.symbols.forget_from(known.symbols);
        self.globals.forget_from(known.globals);
    }

    pub(crate) fn symbol_name(&self, id: u32) -> String {
        self.symbols.name(id)
    }

    pub(crate) fn global_name(&self, id: u32) -> String {
        self.globals.name(id)
    }

    /// How many global variables have a number.
    pub(crate) fn globals(&self) -> usize {
        self.globals.names.len()
    }
}
