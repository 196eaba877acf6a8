//! Calls that are made again where the reason of their refusal may pass.

use super::SysError;
use std::time::Duration;

/// How often a call is made again, and after what time. In between the thread yields its processor, then sleeps, twice as long
/// each time: who the call waits for (a change of mappings, memory that is being reclaimed) may need the processor.
///
/// It allocates nothing and takes no lock, so that a signal handler may use it.
#[derive(Debug)]
pub struct Patience {
    tries: u32,
    most: u32,
}

/// Tries that only yield.
const YIELDS: u32 = 8;

/// The first sleep, and the longest.
const SHORTEST: Duration = Duration::from_micros(10);
const LONGEST: Duration = Duration::from_millis(10);

impl Patience {
    /// For calls inside a stop, and where there is another way: 8 tries without a sleep.
    pub const fn short() -> Patience {
        Patience { tries: 0, most: YIELDS }
    }

    /// For calls without which the process cannot go on: tries for half a second.
    pub const fn long() -> Patience {
        Patience { tries: 0, most: YIELDS + 60 }
    }

    /// The call has got somewhere: all tries are left again.
    pub fn renew(&mut self) {
        self.tries = 0;
    }

    /// Waits, if the error may pass (`EINTR`, `EAGAIN`, `ENOMEM`, `EBUSY`) and there are tries left; `false`: it is to be taken as
    /// final.
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

    /// Makes a call until it succeeds, or its error is final.
    pub fn with<T>(mut self, mut call: impl FnMut() -> Result<T, SysError>) -> Result<T, SysError> {
        loop {
            match call() {
                Err(error) if self.again(&error) => {}
                done => return done,
            }
        }
    }
}
