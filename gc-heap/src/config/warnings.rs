//! What a configuration warns of, although it is possible.

use super::{Backing, Config, HugePages};
use crate::warning::{BuildWarning, SHARE};
use gc_core::sys::{self, MemoryLimit};

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

/// Of huge pages in the background where none can be made: the heap has small ones then.
pub(crate) fn background(config: &mut Config) -> Option<BuildWarning> {
    if config.huge_pages != HugePages::Background {
        return None;
    }
    let warning = match config.backing {
        Backing::Memfd => BuildWarning::NoCollapse(sys::collapse_supported().err()?),
        Backing::Anonymous => BuildWarning::PrivateHugePages,
    };
    config.huge_pages = HugePages::Never;
    Some(warning)
}

/// Of stalls that the kernel does not tell: the heap does not look then.
pub(crate) fn memory_stalls(config: &mut Config) -> Option<BuildWarning> {
    config.memory_stall_limit?;
    let error = sys::memory_stalls().err()?;
    config.memory_stall_limit = None;
    Some(BuildWarning::NoMemoryStalls(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Heap;
    use crate::{Barrier, MIN_HEAP_BYTES};
    use gc_core::sys::SysError;

    #[test]
    fn more_than_four_fifths_of_the_limit_is_warned_of() {
        let limit = MemoryLimit { bytes: 1000 << 20, file: "/sys/fs/cgroup/unit/memory.max".into(), high: None };
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
