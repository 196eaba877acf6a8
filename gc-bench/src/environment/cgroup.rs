//! What control groups around this process limit, and how long they kept its threads from running:
//! of version 2, and of version 1.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::read;

/// A limit that a group sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// The file that says so.
    pub(crate) file: String,
    pub(crate) value: String,
}

/// The files of limits, and what stands in them where there is none.
const FILES: [(&str, &str); 10] = [
    ("cpu.max", "max"),
    ("cpu.cfs_quota_us", "-1"),
    ("cpuset.cpus", ""),
    ("memory.max", "max"),
    ("memory.high", "max"),
    ("memory.swap.max", "max"),
    // No limit is the largest number of whole pages.
    ("memory.limit_in_bytes", "9223372036854771712"),
    ("pids.max", "max"),
    ("io.max", ""),
    ("hugetlb.2MB.max", "max"),
];

/// The folders of the groups that this process is in, from its own to the topmost, of every
/// hierarchy.
fn groups(root: &Path) -> Vec<PathBuf> {
    let mounts = root.join("sys/fs/cgroup");
    let mut found = Vec::new();
    for line in read(root.join("proc/self/cgroup")).lines() {
        // `0::/path`, and of version 1 `4:memory:/path`.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let mount = match controllers.strip_prefix("name=").unwrap_or(controllers) {
            "" if mounts.join("cgroup.controllers").exists() => mounts.clone(),
            "" => mounts.join("unified"),
            named => mounts.join(named),
        };
        let own = mount.join(path.trim_start_matches('/'));
        // In a container the path may be that of another mount: then what of it is there.
        let above = own.ancestors().take_while(|folder| folder.starts_with(&mount));
        found.extend(above.filter(|folder| folder.is_dir()).map(Path::to_owned));
    }
    found
}

/// Every limit, the innermost group's first.
pub(super) fn limits(root: &Path) -> Vec<Limit> {
    let mut found = Vec::new();
    for group in groups(root) {
        for (name, none) in FILES {
            let (file, value) = (group.join(name), read(group.join(name)));
            // `max 100000` is a period and no limit.
            let is_none = value.is_empty() || value == none || none == "max" && value.starts_with("max ");
            if is_none {
                continue;
            }
            let value = match name {
                "cpu.cfs_quota_us" => format!("{value} {}", read(group.join("cpu.cfs_period_us"))),
                _ => value,
            };
            let file = Path::new("/").join(file.strip_prefix(root).unwrap_or(&file));
            found.push(Limit { file: file.display().to_string(), value });
        }
    }
    found
}

/// How many processors' time a limit allows; `None` where it is about something else.
pub(crate) fn processors(limit: &Limit) -> Option<f64> {
    let of_time = ["/cpu.max", "/cpu.cfs_quota_us"].iter().any(|name| limit.file.ends_with(name));
    let mut numbers = limit.value.split_whitespace().map(str::parse::<f64>);
    match (of_time, numbers.next(), numbers.next()) {
        (true, Some(Ok(quota)), Some(Ok(period))) if period > 0.0 => Some(quota / period),
        _ => None,
    }
}

/// For how long groups that this process is in were kept from running because their time was used
/// up, so far; `None` where none says that.
pub(super) fn throttled_ns(root: &Path) -> Option<u64> {
    let of_group = |group: PathBuf| {
        let text = read(group.join("cpu.stat"));
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        value("throttled_usec ").map(|us| us.saturating_mul(1000)).or_else(|| value("throttled_time "))
    };
    groups(root).into_iter().filter_map(of_group).reduce(|sum, ns| sum.saturating_add(ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::samples::Root;

    fn limit(file: &str, value: &str) -> Limit {
        Limit { file: file.into(), value: value.into() }
    }

    #[test]
    fn groups_of_version_2_limit_and_throttle() {
        let root = Root::new(
            "cgroup-2",
            &[
                ("proc/self/cgroup", "0::/a/b\n"),
                ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
                ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/a/cpu.stat", "usage_usec 9\nnr_throttled 2\nthrottled_usec 7\n"),
                ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/a/b/memory.max", "1048576\n"),
                ("sys/fs/cgroup/a/b/memory.high", "max\n"),
                ("sys/fs/cgroup/a/b/cpu.stat", "throttled_usec 1\n"),
                // Not around this process.
                ("sys/fs/cgroup/c/memory.max", "1\n"),
            ],
        );
        let quota = limit("/sys/fs/cgroup/a/cpu.max", "150000 100000");
        assert_eq!(limits(&root.0), [limit("/sys/fs/cgroup/a/b/memory.max", "1048576"), quota.clone()]);
        assert_eq!((processors(&quota), processors(&limits(&root.0)[0])), (Some(1.5), None));
        assert_eq!(throttled_ns(&root.0), Some(8_000));
    }

    #[test]
    fn groups_of_version_1_do_so_too() {
        let root = Root::new(
            "cgroup-1",
            &[
                ("proc/self/cgroup", "4:memory:/m\n1:cpu,cpuacct:/\n0::/\n"),
                ("sys/fs/cgroup/memory/m/memory.limit_in_bytes", "9223372036854771712\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.stat", "nr_periods 0\nthrottled_time 12\n"),
            ],
        );
        let found = limits(&root.0);
        assert_eq!(found[0], limit("/sys/fs/cgroup/memory/memory.limit_in_bytes", "4096"));
        assert_eq!(found[1], limit("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000 100000"));
        assert_eq!((found.len(), processors(&found[1]), throttled_ns(&root.0)), (2, Some(0.5), Some(12)));
    }
}
