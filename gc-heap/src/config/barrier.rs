//! The barriers that a heap may have: their names, and what each needs.

use super::{Backing, Config};
use crate::error::{BuildError, NoPageBarrier};
use crate::space::PAGE_BYTES;
use crate::text::ParseOptionError;
use gc_core::views::{Gate, MIN_SPAN, Views};
use std::fmt;
use std::str::FromStr;

/// The relocation barrier, and with it the kind of collector. The program is the same with each;
/// try them to find the best for a program:
///
/// ```
/// use gc_heap::{Barrier, BuildError, Heap, OutOfMemory, AllocSize, Slot, Trace};
///
/// #[derive(Trace)]
/// struct Node { next: Slot<Option<Node>> }
///
/// for barrier in [Barrier::Load, Barrier::StopTheWorld, Barrier::Page] {
///     let heap = match Heap::builder().max_bytes(16 << 20).barrier(barrier).build() {
///         Err(BuildError::PageBarrier(why)) => {
///             eprintln!("{why}"); // there is no silent fallback
///             continue;
///         }
///         other => other?,
///     };
///     heap.enter(|m| -> Result<(), OutOfMemory> {
///         let list = m.local_of::<Option<Node>>(None);
///         for index in 0..1_000_000 {
///             let m = m.reserve(AllocSize::of::<Node>())?;
///             let node = m.place(NodeInit { next: list.get(m) });
///             list.set(m, (index % 1000 != 0).then_some(node));
///         }
///         Ok(())
///     })??;
///     heap.collect();
///     println!("{barrier:?}: {} cycles, {} slow paths", heap.stats().cycles, heap.slow_paths().count);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Barrier {
    /// Concurrent marking and relocation; loads test the color of what they load.
    #[default]
    Load,
    /// The same phases inside one pause: the baseline for comparisons.
    StopTheWorld,
    /// Concurrent marking and relocation, with the MMU as the barrier: a flip unmaps every page of
    /// the mutators' view (`MREMAP_DONTUNMAP`), and a page is repaired and mapped again when it is
    /// touched (userfaultfd). The test of a load never fails. Needs Linux 5.14 and permission to
    /// use userfaultfd; [`build`](crate::HeapBuilder::build) reports what is missing.
    Page,
}

impl Barrier {
    const ALL: [Barrier; 3] = [Barrier::Load, Barrier::StopTheWorld, Barrier::Page];

    /// The name that [`FromStr`](std::str::FromStr) reads: `load`, `page` or `stw`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Barrier::Load => "load",
            Barrier::StopTheWorld => "stw",
            Barrier::Page => "page",
        }
    }
}

/// Its [`name`](Barrier::name).
impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// ```
/// use gc_heap::Barrier;
///
/// assert_eq!("stw".parse(), Ok(Barrier::StopTheWorld));
/// assert_eq!(Barrier::StopTheWorld.to_string(), "stw");
/// ```
impl FromStr for Barrier {
    type Err = ParseOptionError;

    fn from_str(text: &str) -> Result<Barrier, ParseOptionError> {
        let named = Barrier::ALL.into_iter().find(|barrier| barrier.name() == text);
        named.ok_or_else(|| ParseOptionError::unknown(text, "a barrier", "load, page or stw"))
    }
}

impl Barrier {
    /// What it needs of the other options and of the machine.
    pub(super) fn check(self, config: &Config) -> Result<(), BuildError> {
        match self {
            Barrier::Page | Barrier::StopTheWorld if config.generations => Err(BuildError::Generations),
            Barrier::Page => check_page_size(gc_core::sys::page_size()),
            Barrier::Load | Barrier::StopTheWorld if config.backing == Backing::Anonymous => Err(BuildError::Backing),
            Barrier::Load | Barrier::StopTheWorld => Ok(()),
        }
    }

    /// What it needs of the kernel, as far as that is found out without building a heap: tries the
    /// calls of a flip once, on views of the minimum size.
    pub(super) fn try_out(self, config: &Config) -> Result<(), BuildError> {
        if self != Barrier::Page {
            return Ok(());
        }
        let views = match config.backing {
            Backing::Memfd => Views::new(&config.name, MIN_SPAN, config.mirror)?,
            Backing::Anonymous => Views::anonymous(MIN_SPAN)?,
        };
        Gate::new(&views)?;
        Ok(())
    }
}

/// The page barrier's tables are made for pages of one size.
fn check_page_size(bytes: usize) -> Result<(), BuildError> {
    if bytes == PAGE_BYTES {
        return Ok(());
    }
    let why = format!(
        "this machine has pages of {bytes} bytes, and the page barrier needs {PAGE_BYTES}; use the load barrier"
    );
    Err(BuildError::PageBarrier(NoPageBarrier::new(why, Vec::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_barrier_is_refused_where_pages_have_another_size() {
        assert!(check_page_size(4096).is_ok());
        let why = check_page_size(16 << 10).unwrap_err().to_string();
        assert!(why.contains("16384") && why.contains("4096") && why.contains("load barrier"), "{why}");
        assert!(!why.contains('\n'), "one line: {why}");
    }
}
