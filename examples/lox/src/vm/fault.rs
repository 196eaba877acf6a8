//! Errors while a program runs.

use super::{FIRST, Vm};
use crate::code::Source;
use crate::front::scanner::At;
use gc_heap::{Mutator, OutOfMemory};
use std::sync::Arc;

/// Why a thread stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What the program did wrong.
    Error(String),
    /// The script has ended while this thread waited for what can never come. Nothing is wrong.
    Ended,
}

impl Fault {
    #[cold]
    pub(crate) fn error(message: &str) -> Fault {
        Fault::Error(message.to_owned())
    }
}

impl From<OutOfMemory> for Fault {
    #[cold]
    fn from(_: OutOfMemory) -> Fault {
        Fault::error("Out of memory.")
    }
}

/// A call that was under way.
#[derive(Clone, Debug)]
pub(crate) struct TraceLine {
    pub(crate) at: At,
    /// `None`: the script.
    pub(crate) function: Option<String>,
    pub(crate) source: Arc<Source>,
}

/// A message, and the calls that were under way, the innermost first.
#[derive(Clone, Debug)]
pub(crate) struct RuntimeError {
    pub(crate) message: String,
    pub(crate) trace: Vec<TraceLine>,
}

impl Vm {
    /// Reports a fault with the calls under way, and ends them.
    pub(crate) fn report(&mut self, m: &mut Mutator<'_>, fault: Fault) {
        let frames = &self.frames[..self.depth];
        self.depth = 0;
        let Fault::Error(message) = fault else { return };
        let trace = frames.iter().rev().map(|frame| TraceLine {
            at: frame.code.ats.get(frame.pc.saturating_sub(1)).copied().unwrap_or_default(),
            function: frame.code.name.as_deref().map(|name| String::from_utf8_lossy(name).into_owned()),
            source: Arc::clone(&frame.code.source),
        });
        let error = RuntimeError { message, trace: trace.collect() };
        self.clear(m, FIRST);
        // Whoever reads the messages may take his time.
        m.blocking(|| {
            self.shared.output.flush();
            self.shared.reporter.runtime_error(&error);
        });
    }
}
