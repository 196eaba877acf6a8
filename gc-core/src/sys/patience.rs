//! Retries of calls whose error may be temporary.

use super::SysError;
use std::time::Duration;

/// A retry policy: how often a call is repeated, and after what time. Between two tries the thread
/// yields its processor, later it sleeps, twice as long each time: the thread that causes the
/// refusal (it changes mappings, or reclaims memory) may need the processor.
///
/// It allocates nothing and takes no lock, so that a signal handler may use it.
#[derive(Debug)]
pub struct Patience {
    tries: u32,
    most: u32,
}

/// Tries after which the thread only yields.
const YIELDS: u32 = 8;

/// Length of the first sleep, and of the longest.
const SHORTEST: Duration = Duration::from_micros(10);
const LONGEST: Duration = Duration::from_millis(10);

impl Patience {
    /// For calls inside a pause, and where there is a fallback: 8 tries without a sleep.
    pub const fn short() -> Patience {
        Patience { tries: 0, most: YIELDS }
    }

    /// For calls without which the process cannot continue: tries for half a second.
    pub const fn long() -> Patience {
        Patience { tries: 0, most: YIELDS + 60 }
    }

    /// Restores all tries, after the call has made progress.
    pub fn renew(&mut self) {
        self.tries = 0;
    }

    /// Waits, if the error may be temporary (`EINTR`, `EAGAIN`, `ENOMEM`, `EBUSY`) and tries are
    /// left; `false`: the error is final.
    pub fn again(&mut self, error: &SysError) -> bool {
        if ![libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::EBUSY].contains(&error.errno()) || self.tries >= self.most {
            return false;
        }
        match self.tries.checked_sub(YIELDS) {
            None => std::thread::yield_now(),
            Some(sleeps) => std::thread::sleep((SHORTEST * (1 << sleeps.min(10))).min(LONGEST)),
        }
        self.tries += 1;
        true
    }

    /// Repeats a call until it succeeds, or its error is final.
    pub fn with<T>(mut self, mut call: impl FnMut() -> Result<T, SysError>) -> Result<T, SysError> {
        loop {
            match call() {
                Err(error) if self.again(&error) => {}
                done => return done,
            }
        }
    }
}
