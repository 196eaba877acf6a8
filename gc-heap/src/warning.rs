//! What building a heap has to say although it succeeded.

use crate::config::{Backing, Config, HugePages};
use crate::heap::Heap;
use gc_core::sys::{self, MemoryLimit, SysError};
use std::path::PathBuf;

/// The share of the memory that a heap may take before it is likely to be killed when full, in percent: beside its objects
/// there are the collector's tables, page tables of each view, and the rest of the program.
const SHARE: usize = 80;

/// Something about a heap that was built and that its builder should know: it is larger than is wise, or has less than it was
/// asked for. `Display` gives one line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildWarning {
    /// When the heap is full, the process is likely to be killed, where a smaller one would have said
    /// [`OutOfMemory`](crate::OutOfMemory).
    #[error(
        "a heap of {bytes} bytes is more than {SHARE} % of the {limit} bytes of memory that this process may use ({}): when \
         it is full, the kernel may kill the process; give `max_bytes` at most {most}, or raise the limit",
        file.display()
    )]
    NearMemoryLimit {
        /// The heap's maximum.
        bytes: usize,
        /// What the process may use.
        limit: usize,
        /// Where the limit stands: of the tightest control group above the process, or `/proc/meminfo`.
        file: PathBuf,
        /// The most that is likely to be well.
        most: usize,
    },
    /// The heap has fewer collector threads than it was asked for: it is too small for more.
    #[error(
        "a heap of {bytes} bytes has room for {workers} collector threads, not for {asked}; ask for fewer, or for more memory"
    )]
    Workers {
        /// What was asked for.
        asked: usize,
        /// What it got.
        workers: usize,
        /// The heap's maximum.
        bytes: usize,
    },
    /// [`HugePages::Advise`] has no effect here.
    #[error(
        "2 MiB pages are turned off here ({file} says `{setting}`), so the heap has small ones; set it to `advise` or `madvise`"
    )]
    HugePagesOff {
        /// Of the system.
        setting: String,
        /// Where it stands.
        file: &'static str,
    },
    /// [`HugePages::Collapse`] left some of the heap in small pages.
    #[error(
        "some of the heap stays in pages of 4 KiB, because they were in use all the time: {0}; build it again, or do without"
    )]
    SmallPages(SysError),
    /// With [`Backing::Anonymous`]: this kernel has no `UFFDIO_MOVE`, so a page that a mutator touches is copied.
    #[error(
        "pages of the heap are copied when they are touched after a flip, because they cannot be moved: {0}; Linux 6.8 can"
    )]
    PagesCopied(SysError),
}

/// Of a maximum near what the process may use.
pub(crate) fn near_memory_limit(bytes: usize, limit: &MemoryLimit) -> Option<BuildWarning> {
    let most = limit.bytes / 100 * SHARE;
    let file = || limit.file.clone();
    (bytes > most).then(|| BuildWarning::NearMemoryLimit { bytes, limit: limit.bytes, file: file(), most })
}

/// Of advice that has no effect. Where the system does not say, nothing is said here.
pub(crate) fn huge_pages(config: &Config) -> Option<BuildWarning> {
    if config.huge_pages != HugePages::Advise {
        return None;
    }
    let (setting, file) = match config.backing {
        Backing::Memfd => (sys::shmem_huge_pages(), "/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
        Backing::Anonymous => (sys::anonymous_huge_pages(), "/sys/kernel/mm/transparent_hugepage/enabled"),
    };
    let setting = setting.ok().filter(|setting| ["never", "deny"].contains(&setting.as_str()))?;
    Some(BuildWarning::HugePagesOff { setting, file })
}

impl Heap {
    /// What [`build`](crate::HeapBuilder::build) had to say of this heap. It is for the program to print it, or not.
    ///
    /// ```
    /// let heap = gc_heap::Heap::builder().max_bytes(16 << 20).build()?;
    /// for warning in heap.warnings() {
    ///     eprintln!("warning: {warning}");
    /// }
    /// # Ok::<(), gc_heap::BuildError>(())
    /// ```
    #[must_use]
    pub fn warnings(&self) -> &[BuildWarning] {
        &self.owner.warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Barrier, MIN_HEAP_BYTES};

    #[test]
    fn more_than_four_fifths_of_the_limit_is_warned_of() {
        let limit = MemoryLimit { bytes: 1000 << 20, file: "/sys/fs/cgroup/unit/memory.max".into() };
        assert_eq!(near_memory_limit(800 << 20, &limit), None);
        let warning = near_memory_limit((800 << 20) + 1, &limit).expect("a byte more");
        let text = warning.to_string();
        for part in ["838860801", "1048576000", "/sys/fs/cgroup/unit/memory.max", "at most 838860800"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\n'), "one line: {text}");
    }

    /// Addresses alone: nothing of so large a heap is touched.
    #[test]
    fn a_heap_says_that_it_is_near_the_limit() {
        let limit = sys::memory_limit().unwrap();
        let heap = Heap::builder().max_bytes(limit.bytes / 100 * 85).build().unwrap();
        let [BuildWarning::NearMemoryLimit { bytes, limit: of, file, .. }] = heap.warnings() else {
            panic!("{:?}", heap.warnings())
        };
        assert_eq!((*bytes, *of, file), (heap.max_bytes(), limit.bytes, &limit.file));
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        assert_eq!(heap.warnings(), []);
    }

    #[test]
    fn a_heap_says_what_it_has_less_of() {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).workers(64).build().unwrap();
        let warning = BuildWarning::Workers { asked: 64, workers: 15, bytes: MIN_HEAP_BYTES };
        assert_eq!(heap.warnings(), [warning]);

        // What the machine says of itself decides; both outcomes are looked at.
        let advised = |backing, setting: Result<String, SysError>| {
            let builder = Heap::builder().max_bytes(MIN_HEAP_BYTES).huge_pages(HugePages::Advise).backing(backing);
            let heap = match builder.barrier(Barrier::Page).build() {
                Err(error) => return println!("not tested: {error}"),
                Ok(heap) => heap,
            };
            let off = setting.is_ok_and(|setting| setting == "never" || setting == "deny");
            let said = |warning: &BuildWarning| matches!(warning, BuildWarning::HugePagesOff { .. });
            assert_eq!(heap.warnings().iter().any(said), off, "{:?}", heap.warnings());
        };
        advised(Backing::Memfd, sys::shmem_huge_pages());
        advised(Backing::Anonymous, sys::anonymous_huge_pages());
    }
}
