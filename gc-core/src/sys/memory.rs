//! How much memory there is, and the limits on mapping it.

use super::SysError;
use super::cgroup::cgroups;
use super::inject::refused;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes in a page, `sysconf(_SC_PAGESIZE)`: 4096 on x86-64.
pub fn page_size() -> usize {
    // Not a `OnceLock`, here and elsewhere: an initialization that is running while another thread
    // forks never completes in the child.
    static SIZE: AtomicUsize = AtomicUsize::new(0);
    let known = SIZE.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: sysconf takes no pointer.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let size = usize::try_from(size).expect("every kernel tells its page size");
    SIZE.store(size, Ordering::Relaxed);
    size
}

/// Bytes of memory that this process can use at most: the machine's (`MemTotal` of
/// `proc_meminfo(5)`), or less if a memory cgroup above it sets a limit (`memory.max` of version 2,
/// `memory.limit_in_bytes` of version 1).
pub fn total_memory() -> Result<usize, SysError> {
    memory_limit().map(|limit| limit.bytes)
}

/// The most memory that this process can hope for, and the file that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// As [`total_memory`].
    pub bytes: usize,
    /// Of the tightest memory cgroup, or `/proc/meminfo` where none has less than the machine.
    pub file: PathBuf,
    /// The least `memory.high` of a memory cgroup (version 2), where that is less: above it the
    /// kernel takes pages away and slows the processes down, but fails nothing.
    pub high: Option<usize>,
}

impl MemoryLimit {
    /// The bytes that this process can use at full speed.
    pub fn unslowed_bytes(&self) -> usize {
        self.high.unwrap_or(self.bytes)
    }
}

/// As [`total_memory`], with where it stands.
///
/// # Errors
/// What reading `/proc/meminfo` gives. Cgroups that cannot be read are passed over.
pub fn memory_limit() -> Result<MemoryLimit, SysError> {
    memory_limit_below(Path::new("/"))
}

/// As [`memory_limit`], of a file system with this root.
fn memory_limit_below(root: &Path) -> Result<MemoryLimit, SysError> {
    let mut tightest = MemoryLimit { bytes: meminfo(root, "MemTotal:")?, file: root.join("proc/meminfo"), high: None };
    let mut high = usize::MAX;
    for group in cgroups(root) {
        high = high.min(group.high);
        if group.limit < tightest.bytes {
            (tightest.bytes, tightest.file) = (group.limit, group.file);
        }
    }
    tightest.high = Some(high).filter(|&high| high < tightest.bytes);
    Ok(tightest)
}

/// Bytes that can be allocated now without swapping: `MemAvailable` (Linux 3.14), or less if a
/// memory cgroup has less left below its limit, or below what slows its processes down
/// (`memory.high`). A cgroup's reclaimable page cache counts as left.
pub fn available_memory() -> Result<usize, SysError> {
    let available = meminfo(Path::new("/"), "MemAvailable:")?;
    Ok(cgroups(Path::new("/")).fold(available, |available, group| available.min(group.left())))
}

/// Maximum number of mappings of a process, `vm.max_map_count` (65530 unless set otherwise).
pub fn max_map_count() -> Result<usize, SysError> {
    let text = read(Path::new("/proc/sys/vm/max_map_count"), "read(/proc/sys/vm/max_map_count)")?;
    text.trim().parse().map_err(|_| SysError::new("read(/proc/sys/vm/max_map_count)", &[], libc::EINVAL))
}

/// The system's setting for 2 MiB pages in shared memory, of
/// `/sys/kernel/mm/transparent_hugepage/shmem_enabled` (Linux 4.8): `always`, `within_size`,
/// `advise`, `never`, `deny` or `force`.
pub fn shmem_huge_pages() -> Result<String, SysError> {
    huge_pages("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "read(transparent_hugepage/shmem_enabled)")
}

/// The setting for private anonymous memory, from `/sys/kernel/mm/transparent_hugepage/enabled`
/// (Linux 2.6.38): `always`, `madvise` or `never`.
///
/// # Errors
/// What reading the file gives; `EINVAL` where it has another form.
pub fn anonymous_huge_pages() -> Result<String, SysError> {
    huge_pages("/sys/kernel/mm/transparent_hugepage/enabled", "read(transparent_hugepage/enabled)")
}

/// Bytes of each of these ranges that this process maps by huge pages of shared memory:
/// `ShmemPmdMapped` of `/proc/self/smaps` (Linux 4.8), added up over the mappings that begin in the
/// range. The kernel walks the page tables of the whole process for it: milliseconds per GiB of
/// small pages.
///
/// # Errors
/// What reading the file gives; `ENOMEM` where there is no memory for its text.
pub fn huge_mapped_bytes(ranges: &[Range<usize>]) -> Result<Vec<usize>, SysError> {
    let text = read(Path::new("/proc/self/smaps"), "read(smaps)")?;
    Ok(ranges.iter().map(|range| huge_in(&text, range)).collect())
}

fn huge_in(smaps: &str, range: &Range<usize>) -> usize {
    let (mut is_inside, mut kib) = (false, 0);
    for line in smaps.lines() {
        if let Some(amount) = line.strip_prefix("ShmemPmdMapped:") {
            let amount: usize = amount.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            kib += if is_inside { amount } else { 0 };
        } else if let Some((start, _)) = line.split_once('-')
            && let Ok(start) = usize::from_str_radix(start, 16)
        {
            is_inside = range.contains(&start);
        }
    }
    kib << 10
}

fn huge_pages(path: &str, call: &'static str) -> Result<String, SysError> {
    let text = read(Path::new(path), call)?;
    chosen(&text).map(str::to_owned).ok_or(SysError::new(call, &[], libc::EINVAL))
}

/// The release of the running kernel, such as `6.18.44`, of `/proc/sys/kernel/osrelease`.
pub fn kernel_release() -> Result<String, SysError> {
    let text = read(Path::new("/proc/sys/kernel/osrelease"), "read(/proc/sys/kernel/osrelease)")?;
    Ok(text.trim().to_owned())
}

/// The word in brackets of a line such as `always [never] force`.
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

pub(super) fn read(path: &Path, call: &'static str) -> Result<String, SysError> {
    if refused(call) {
        return Err(SysError::last(call, &[]));
    }
    fs::read_to_string(path).map_err(|error| SysError::from_io(call, &[], &error))
}

/// A line of `/proc/meminfo` in bytes.
fn meminfo(root: &Path, name: &str) -> Result<usize, SysError> {
    let call = "read(/proc/meminfo)";
    let text = read(&root.join("proc/meminfo"), call)?;
    field(&text, name).map(|kib| kib * 1024).ok_or(SysError::new(call, &[], libc::EINVAL))
}

/// The number that follows `name` at the start of a line.
pub(super) fn field(text: &str, name: &str) -> Option<usize> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::cgroup::Cgroup;
    use super::*;

    /// A file tree for tests, deleted when dropped.
    pub(in crate::sys) struct Root(PathBuf);

    impl Root {
        pub(in crate::sys) fn path(&self) -> &Path {
            &self.0
        }

        pub(in crate::sys) fn new(name: &str, files: &[(&str, &str)]) -> Root {
            let root = std::env::temp_dir().join(format!("parallax-{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Root(root)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_tightest_cgroup_of_version_2_on_the_way_up_counts() {
        let root = Root::new(
            "v2",
            &[
                ("proc/self/cgroup", "0::/slice/unit\n"),
                ("sys/fs/cgroup/slice/memory.max", "1000000\n"),
                ("sys/fs/cgroup/slice/memory.current", "400000\n"),
                ("sys/fs/cgroup/slice/memory.stat", "anon 1\ninactive_file 100000\n"),
                ("sys/fs/cgroup/slice/unit/memory.max", "max\n"),
                ("sys/fs/cgroup/slice/unit/memory.high", "max\n"),
            ],
        );
        let found: Vec<_> = cgroups(&root.0).collect();
        let file = root.0.join("sys/fs/cgroup/slice/memory.max");
        let (limit, high) = (1_000_000, usize::MAX);
        assert_eq!(found, [Cgroup { file, limit, high, used: 400_000, reclaimable: 100_000 }]);
        assert_eq!(found[0].left(), 700_000);
    }

    #[test]
    fn what_slows_a_cgroup_down_is_no_limit_and_leaves_less() {
        let root = Root::new(
            "high",
            &[
                ("proc/meminfo", "MemTotal:       2000 kB\n"),
                ("proc/self/cgroup", "0::/unit\n"),
                ("sys/fs/cgroup/unit/memory.max", "max\n"),
                ("sys/fs/cgroup/unit/memory.high", "600000\n"),
                ("sys/fs/cgroup/unit/memory.current", "400000\n"),
            ],
        );
        let left: Vec<_> = cgroups(&root.0).map(|group| group.left()).collect();
        let limit = memory_limit_below(&root.0).unwrap();
        assert_eq!((left, limit.bytes, limit.unslowed_bytes()), (vec![200_000], 2000 << 10, 600_000));
    }

    /// One of a group further up slows the processes down as well, and one above the limit does not
    /// come to that.
    #[test]
    fn the_least_of_all_groups_slows_down_where_it_is_below_the_limit() {
        let root = |name, high: &'static str, max: &'static str| {
            Root::new(
                name,
                &[
                    ("proc/meminfo", "MemTotal:       2000 kB\n"),
                    ("proc/self/cgroup", "0::/slice/unit\n"),
                    ("sys/fs/cgroup/slice/memory.max", "max\n"),
                    ("sys/fs/cgroup/slice/memory.high", high),
                    ("sys/fs/cgroup/slice/unit/memory.max", max),
                    ("sys/fs/cgroup/slice/unit/memory.high", "900000\n"),
                ],
            )
        };
        let cases = [
            ("above", "800000\n", "max\n", 2000 << 10, Some(800_000)),
            ("below", "max\n", "1000000\n", 1_000_000, Some(900_000)),
            ("not", "max\n", "900000\n", 900_000, None),
        ];
        for (name, high, max, bytes, least) in cases {
            let limit = memory_limit_below(&root(name, high, max).0).unwrap();
            assert_eq!((limit.bytes, limit.high), (bytes, least), "{name}");
        }
    }

    #[test]
    fn version_1_is_read_beside_version_2() {
        let root = Root::new(
            "v1",
            &[
                ("proc/self/cgroup", "4:cpu,memory:/job\n1:cpuset:/\n0::/\n"),
                ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "5000\n"),
                ("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "9000\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
        );
        let limits: Vec<_> = cgroups(&root.0).map(|group| (group.limit, group.left())).collect();
        assert_eq!(limits, [(5000, 0), (9_223_372_036_854_771_712, 9_223_372_036_854_771_712)]);
    }

    #[test]
    fn the_limit_names_the_file_that_it_stands_in() {
        let files = |limit: &'static str| {
            [
                ("proc/meminfo", "MemTotal:       2000 kB\n"),
                ("proc/self/cgroup", "4:memory:/job/part\n0::/unit\n"),
                ("sys/fs/cgroup/memory/job/part/memory.limit_in_bytes", "9223372036854771712\n"),
                ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", limit),
                ("sys/fs/cgroup/unified/unit/memory.max", "1024000\n"),
            ]
        };
        let cases = [
            ("1023999\n", 1_023_999, "sys/fs/cgroup/memory/job/memory.limit_in_bytes"),
            ("1024001\n", 1_024_000, "sys/fs/cgroup/unified/unit/memory.max"),
        ];
        for (limit, bytes, file) in cases {
            let root = Root::new("limit", &files(limit));
            let limit = MemoryLimit { bytes, file: root.0.join(file), high: None };
            assert_eq!((memory_limit_below(&root.0).unwrap(), limit.unslowed_bytes()), (limit, bytes));
        }
        let root = Root::new("no-limit", &files("9223372036854771712\n")[..2]);
        let machine = MemoryLimit { bytes: 2000 << 10, file: root.0.join("proc/meminfo"), high: None };
        assert_eq!(memory_limit_below(&root.0).unwrap(), machine);
    }

    #[test]
    fn lines_of_meminfo_are_kibibytes() {
        let root = Root::new("mem", &[("proc/meminfo", "MemTotal:       24684096 kB\nMemFree: 12 kB\n")]);
        assert_eq!(meminfo(&root.0, "MemTotal:").unwrap(), 24_684_096 * 1024);
        assert_eq!(meminfo(&root.0, "MemAvailable:").unwrap_err().errno(), libc::EINVAL);
    }

    #[test]
    fn huge_pages_are_counted_by_the_range_in_which_their_mapping_begins() {
        let smaps = "7f0000000000-7f0000400000 rw-s 00000000 00:01 12 /memfd:a (deleted)\n\
                     Size:               4096 kB\nShmemPmdMapped:     2048 kB\n\
                     7f0000400000-7f0000800000 rw-s 00400000 00:01 12 /memfd:a (deleted)\n\
                     ShmemPmdMapped:     4096 kB\n\
                     7f0000800000-7f0000c00000 rw-s 00000000 00:01 12 /memfd:a (deleted)\n\
                     AnonHugePages:      8192 kB\nShmemPmdMapped:        0 kB\n";
        let huge = |range| huge_in(smaps, &range);
        assert_eq!(huge(0x7f00_0000_0000..0x7f00_0080_0000), 6 << 20);
        assert_eq!(huge(0x7f00_0040_0000..0x7f00_0080_0000), 4 << 20);
        assert_eq!(huge(0x7f00_0080_0000..0x7f00_00c0_0000), 0);
    }

    #[test]
    fn the_word_in_brackets_is_the_setting() {
        assert_eq!(chosen("always within_size advise [never] deny force\n"), Some("never"));
        assert_eq!(chosen("nothing chosen"), None);
    }
}
