//! The control groups above this process that limit its memory,
//! [`cgroups(7)`](https://man7.org/linux/man-pages/man7/cgroups.7.html).

use super::memory::{field, read};
use std::path::{Path, PathBuf};

/// Limits and usage of one memory cgroup, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cgroup {
    /// Where the limit stands.
    pub(super) file: PathBuf,
    /// No limit is `usize::MAX`, or a number that is nearly as large.
    pub(super) limit: usize,
    /// From here on the kernel takes pages away and slows the processes down.
    pub(super) high: usize,
    pub(super) used: usize,
    pub(super) reclaimable: usize,
}

impl Cgroup {
    /// Bytes that the group may still use at full speed.
    pub(super) fn left(&self) -> usize {
        self.limit.min(self.high).saturating_sub(self.used.saturating_sub(self.reclaimable))
    }
}

/// The file and field names of one version of cgroups.
struct Version {
    mounts: &'static [&'static str],
    limit: &'static str,
    high: Option<&'static str>,
    used: &'static str,
    reclaimable: &'static str,
}

/// "No limit" is a number near 2^63 here, which `min` never selects.
static VERSION_1: Version = Version {
    mounts: &["sys/fs/cgroup/memory"],
    limit: "memory.limit_in_bytes",
    high: None,
    used: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file ",
};

/// "No limit" is the word `max` here. Where both versions run, this one is mounted a level deeper.
static VERSION_2: Version = Version {
    mounts: &["sys/fs/cgroup", "sys/fs/cgroup/unified"],
    limit: "memory.max",
    high: Some("memory.high"),
    used: "memory.current",
    reclaimable: "inactive_file ",
};

impl Version {
    /// Reads the group of a directory; `None` if it has no limit or cannot be read.
    fn group(&self, directory: &Path) -> Option<Cgroup> {
        let text = |name| read(&directory.join(name), "read(cgroup)").unwrap_or_default();
        let bytes = |name| text(name).trim().parse().ok();
        let (limit, high) = (bytes(self.limit), self.high.and_then(bytes));
        // No limit of either sort: the group says nothing.
        limit.or(high)?;
        let [limit, high] = [limit, high].map(|bytes| bytes.unwrap_or(usize::MAX));
        let used = text(self.used).trim().parse().unwrap_or(0);
        let reclaimable = field(&text("memory.stat"), self.reclaimable).unwrap_or(0);
        Some(Cgroup { file: directory.join(self.limit), limit, high, used, reclaimable })
    }
}

/// The memory cgroups with a limit, from the one of this process up to the root of each hierarchy,
/// `cgroups(7)`. Groups that cannot be read (a container shows only its own part of the tree) are
/// skipped.
pub(super) fn cgroups(root: &Path) -> impl Iterator<Item = Cgroup> {
    let directories = group_directories(root);
    directories.into_iter().filter_map(|(directory, version)| version.group(&directory))
}

/// The directories of version 2 of the process's cgroup and of those above it, the lowest first.
pub(super) fn version_2_groups(root: &Path) -> Vec<PathBuf> {
    let is_2 = |version: &Version| std::ptr::eq(version, &VERSION_2);
    group_directories(root).into_iter().filter(|(_, version)| is_2(version)).map(|(directory, _)| directory).collect()
}

/// The directories where the files of the process's memory cgroups may be, and of those above them.
fn group_directories(root: &Path) -> Vec<(PathBuf, &'static Version)> {
    let lines = read(&root.join("proc/self/cgroup"), "read(/proc/self/cgroup)").unwrap_or_default();
    let mut found = Vec::new();
    for line in lines.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let version = match controllers {
            "" => &VERSION_2,
            names if names.split(',').any(|name| name == "memory") => &VERSION_1,
            _ => continue,
        };
        for mount in version.mounts {
            let mount = root.join(mount);
            let own = mount.join(path.trim_start_matches('/'));
            let up = own.ancestors().take_while(|directory| directory.starts_with(&mount));
            found.extend(up.map(|directory| (directory.to_owned(), version)));
        }
    }
    found
}
