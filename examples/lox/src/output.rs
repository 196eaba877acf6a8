//! What programs print.

use crate::gc_log::end_log;
use crate::object::{BoundMethod, Channel, Class, Closure, Instance, NativeFunction, Str, ThreadHandle};
use crate::report::say;
use gc_heap::{AnyGc, Mutator, Unpacked, Value};
use parking_lot::Mutex;
use std::io::{ErrorKind, IsTerminal, Stdout, Write};

/// Buffered output, if standard output is not a terminal.
const FULL: usize = 1 << 16;
/// What a shell says of a process that ended by SIGPIPE.
const NOBODY_READS: i32 = 141;
/// `EX_IOERR` of `sysexits.h`: what is printed cannot be written, what is typed cannot be read.
const CANNOT_WRITE: i32 = 74;

/// Standard output, shared by all threads; buffered, lines are never torn.
pub(crate) struct Output {
    /// Text that has not been written. Threads append to it while they run, so a thread that holds
    /// this lock never blocks.
    pending: Mutex<Vec<u8>>,
    /// The thread that holds this lock writes, and may block until the reader of the pipe reads: it
    /// takes the lock outside the heap only.
    out: Mutex<Stdout>,
    /// What is pending is written when it is as long as this: on a terminal, at once.
    full: usize,
}

impl Output {
    pub(crate) fn new() -> Output {
        let out = std::io::stdout();
        let full = if out.is_terminal() { 1 } else { FULL };
        Output { pending: Mutex::new(Vec::new()), out: Mutex::new(out), full }
    }

    /// Adds text; whether it is time to [`flush`](Self::flush).
    #[must_use]
    pub(crate) fn append(&self, text: &[u8]) -> bool {
        let mut pending = self.pending.lock();
        pending.extend_from_slice(text);
        pending.len() >= self.full
    }

    /// Writes what is pending. The write blocks for as long as the reader of the pipe does, so the
    /// caller is outside the heap. What cannot be written ends the process, see [`cannot_write`].
    pub(crate) fn flush(&self) {
        if self.pending.lock().is_empty() {
            return;
        }
        let mut out = self.out.lock();
        // What another thread adds meanwhile is written behind this.
        let text = std::mem::take(&mut *self.pending.lock());
        if let Err(error) = out.write_all(&text).and_then(|()| out.flush()) {
            cannot_write(&error);
        }
    }
}

/// Ends the process, because standard output takes no more: the program's results are incomplete,
/// and it may go on for ever. Where nobody reads any more that is no news, and it ends as by
/// SIGPIPE.
pub(crate) fn cannot_write(error: &std::io::Error) -> ! {
    if error.kind() == ErrorKind::BrokenPipe {
        end_log();
        std::process::exit(NOBODY_READS)
    }
    give_up(&format!("cannot write to standard output: {error}"))
}

/// Ends the process with a line on standard error, because what it was told to read or write fails.
pub(crate) fn give_up(why: &str) -> ! {
    end_log();
    say(&format!("lox: {why}"));
    std::process::exit(CANNOT_WRITE)
}

/// A value as `print` shows it.
pub(crate) fn write_value(m: &Mutator<'_>, value: Value<'_>, out: &mut Vec<u8>) {
    match value.unpack() {
        Unpacked::Nil => out.extend_from_slice(b"nil"),
        Unpacked::Bool(truth) => out.extend_from_slice(if truth { b"true" } else { b"false" }),
        Unpacked::Num(number) => write_number(number, out),
        Unpacked::Int(_) | Unpacked::Special(_) => out.extend_from_slice(b"undefined"),
        Unpacked::Ref(object) => write_object(m, object, out),
    }
}

fn write_object(m: &Mutator<'_>, object: AnyGc<'_>, out: &mut Vec<u8>) {
    if let Some(string) = object.downcast::<Str>() {
        out.extend_from_slice(string.tail());
    } else if let Some(closure) = object.downcast::<Closure>() {
        write_function(closure.code.name.as_deref(), out);
    } else if let Some(bound) = object.downcast::<BoundMethod>() {
        write_function(bound.method.get(m).code.name.as_deref(), out);
    } else if let Some(class) = object.downcast::<Class>() {
        out.extend_from_slice(class.name.get(m).tail());
    } else if let Some(instance) = object.downcast::<Instance>() {
        out.extend_from_slice(instance.class.get(m).name.get(m).tail());
        out.extend_from_slice(b" instance");
    } else if object.downcast::<NativeFunction>().is_some() {
        out.extend_from_slice(b"<native fn>");
    } else if object.downcast::<Channel>().is_some() {
        out.extend_from_slice(b"<channel>");
    } else if object.downcast::<ThreadHandle>().is_some() {
        out.extend_from_slice(b"<thread>");
    } else {
        out.extend_from_slice(object.kind().name().as_bytes());
    }
}

fn write_function(name: Option<&[u8]>, out: &mut Vec<u8>) {
    match name {
        None => out.extend_from_slice(b"<script>"),
        Some(name) => [b"<fn ", name, b">"].iter().for_each(|part| out.extend_from_slice(part)),
    }
}

/// A number as C's `%g` has it: six significant digits, no trailing zeros.
fn write_number(number: f64, out: &mut Vec<u8>) {
    const DIGITS: i32 = 6;
    let sign = if number.is_sign_negative() { "-" } else { "" };
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    if number.is_nan() {
        put(sign);
        return put("nan");
    }
    if number.is_infinite() {
        put(sign);
        return put("inf");
    }
    if number.fract() == 0.0 && number.abs() < 1e6 {
        put(sign);
        return put(&format!("{}", number.abs() as u32));
    }
    let scientific = format!("{number:.5e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    if (-4..DIGITS).contains(&exponent) {
        let decimals = (DIGITS - 1 - exponent) as usize;
        let fixed = format!("{number:.decimals$}");
        put(&if decimals == 0 { fixed } else { trimmed(&fixed) });
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        put(&format!("{}e{sign}{:02}", trimmed(digits), exponent.abs()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn g(number: f64) -> String {
        let mut out = Vec::new();
        write_number(number, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_printed_as_by_c() {
        // What printf("%g") gives.
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (100.0, "100"),
            (999999.0, "999999"),
            (1e6, "1e+06"),
            (-1e6, "-1e+06"),
            (1234567.0, "1.23457e+06"),
            (123456.5, "123456"),
            (123457.5, "123458"),
            (999999.5, "1e+06"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.333333"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.00012345678, "0.000123457"),
            (0.000099999999, "0.0001"),
            (5.1234567, "5.12346"),
            (1e100, "1e+100"),
            (1.5e-7, "1.5e-07"),
            (f64::MAX, "1.79769e+308"),
            (5e-324, "4.94066e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (-f64::NAN, "-nan"),
        ] {
            assert_eq!(g(number), text);
        }
    }
}
