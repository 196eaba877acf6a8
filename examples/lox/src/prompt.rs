//! The prompt: line after line, each a script of its own that sees the globals of those before.

use crate::code::Source;
use crate::output::{Output, give_up};
use crate::vm::Vm;
use gc_heap::Mutator;
use rustyline::error::ReadlineError;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;

/// Global variables that a session can define beside those of its first line.
const SPARE_GLOBALS: usize = 16 << 10;

/// Where lines come from.
enum Lines {
    Editor(Box<rustyline::DefaultEditor>, Option<PathBuf>),
    /// Standard input is no terminal: as the book's prompt.
    Plain,
}

fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("lox_history"))
}

fn write(output: &Output, text: &[u8]) {
    let _ = output.append(text);
    output.flush();
}

impl Lines {
    fn new() -> Lines {
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        match terminal.then(rustyline::DefaultEditor::new) {
            Some(Ok(mut editor)) => {
                let history = history_file();
                if let Some(file) = &history {
                    // The first session has no history.
                    let _ = editor.load_history(file);
                }
                Lines::Editor(Box::new(editor), history)
            }
            _ => Lines::Plain,
        }
    }

    /// The next line; `None` at the end. Outside the heap.
    fn next(&mut self, output: &Output) -> Option<Vec<u8>> {
        match self {
            Lines::Editor(editor, _) => loop {
                match editor.readline("> ") {
                    Ok(line) => {
                        let _ = editor.add_history_entry(&line);
                        return Some(line.into_bytes());
                    }
                    Err(ReadlineError::Interrupted) => {}
                    Err(ReadlineError::Eof) => return None,
                    Err(error) => give_up(&format!("the terminal has failed: {error}")),
                }
            },
            Lines::Plain => {
                write(output, b"> ");
                let mut line = Vec::new();
                match std::io::stdin().lock().read_until(b'\n', &mut line) {
                    Ok(read) if read > 0 => Some(line),
                    Err(error) => give_up(&format!("cannot read standard input: {error}")),
                    Ok(_) => {
                        write(output, b"\n");
                        None
                    }
                }
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Lines::Editor(editor, Some(file)) = self {
            // A session without a place for its history goes without.
            let _ = file.parent().map(std::fs::create_dir_all);
            let _ = editor.save_history(file);
        }
    }
}

/// Reads and runs lines until the end of the input.
pub(crate) fn run(vm: &mut Vm, m: &mut Mutator<'_>) {
    let mut lines = Lines::new();
    let shared = Arc::clone(vm.shared());
    let output = &shared.output;
    // Waiting for a line holds nobody up.
    while let Some(text) = m.blocking(|| {
        output.flush();
        lines.next(output)
    }) {
        let source = Arc::new(Source { name: "<line>".into(), text });
        // What went wrong has been said; the session goes on.
        let _ = vm.interpret(m, &source, SPARE_GLOBALS);
    }
}
