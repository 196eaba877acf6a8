//! The end of the process where it cannot go on, with a line that says why.

use std::fmt::{self, Write};

/// A line in the making: on the stack, so that a signal handler may make it.
struct Line {
    bytes: [u8; 1024],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let len = text.len().min(room.len());
        room[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

/// Writes `parallax: `, `why` (to 1 KiB) and the end of the line to standard error, by one `write(2)`, and aborts: where a page of the program
/// cannot be had, so that neither the thread that wants it can go on nor unwinding would find the data whole.
///
/// Takes no lock and allocates nothing, unless what `why` displays does: a signal handler may call it.
#[cold]
pub fn end_process(why: fmt::Arguments<'_>) -> ! {
    let mut line = Line { bytes: [0; 1024], len: 0 };
    // A line takes all that it is given.
    let _ = write!(line, "parallax: {why}");
    let end = line.len.min(line.bytes.len() - 1);
    line.bytes[end] = b'\n';
    // SAFETY: bytes of this frame. What cannot be written is not heard.
    unsafe { libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), end + 1) };
    std::process::abort()
}
