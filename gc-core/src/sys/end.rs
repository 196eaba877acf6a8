//! Aborts the process with a message, for errors after which it cannot continue.

use std::fmt::{self, Write};

/// Buffer for the message: on the stack, so that a signal handler can format it.
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

/// Writes `parallax: `, `why` (to 1 KiB) and the end of the line to standard error, by one
/// `write(2)`, and aborts. For a page of the heap that cannot be mapped: the thread that needs it
/// cannot continue, and unwinding would run code on damaged data.
///
/// Takes no lock and allocates nothing, unless what `why` displays does: a signal handler may call
/// it.
#[cold]
pub fn end_process(why: fmt::Arguments<'_>) -> ! {
    let mut line = Line { bytes: [0; 1024], len: 0 };
    // Writing to a `Line` never fails.
    let _ = write!(line, "parallax: {why}");
    let end = line.len.min(line.bytes.len() - 1);
    line.bytes[end] = b'\n';
    // SAFETY: bytes of this frame. A failed write is ignored.
    unsafe { libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), end + 1) };
    std::process::abort()
}
