//! The machine and its kernel, read from `/proc` and `/sys`.

use std::fs;

use gc_core::probe::Support;
use gc_core::sys;
use serde::{Deserialize, Serialize};

/// The machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu_model: String,
    /// Processors this process may run on.
    pub(crate) cpus: u64,
    /// Memory this process may use: the machine's, or less where a control group says so.
    pub(crate) memory_bytes: u64,
    /// Whether the processor says that it is a virtual one.
    pub(crate) virtual_machine: bool,
    pub(crate) architecture: String,
}

/// The kernel, and those of its settings that change what a heap costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kernel {
    pub(crate) release: String,
    pub(crate) version: String,
    /// Transparent huge pages of anonymous memory: `always`, `madvise` or `never`.
    pub(crate) thp: String,
    /// The same for shared memory, which is what a heap is.
    pub(crate) shmem_thp: String,
    pub(crate) max_map_count: u64,
    pub(crate) clocksource: String,
    /// Which features for a heap work here, determined by trying each.
    pub(crate) capabilities: Vec<Capability>,
}

/// A feature of the kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Capability {
    pub(crate) name: String,
    pub(crate) available: bool,
    /// In what way, or why not.
    pub(crate) detail: String,
}

/// A value that the kernel does not report.
const UNKNOWN: &str = "unknown";

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|s| s.trim().to_owned()).unwrap_or_default()
}

/// `always [madvise] never` is `madvise`.
fn chosen(setting: &str) -> String {
    let inside = setting.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(inside, _)| inside);
    inside.unwrap_or(UNKNOWN).to_owned()
}

/// The value of `name` in a list of `name   : value` lines.
fn field<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    list.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// What the machine, or the control groups around us, let this process have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) total_bytes: u64,
    pub(crate) available_bytes: u64,
}

/// The memory this process may use now. Where the kernel does not say, more than any machine has.
pub(crate) fn memory() -> Memory {
    let total_bytes = sys::total_memory().map_or(u64::MAX, |bytes| bytes as u64);
    let available_bytes = sys::available_memory().map_or(total_bytes, |bytes| bytes as u64);
    Memory { total_bytes, available_bytes }
}

/// Looks at the machine.
pub(crate) fn machine() -> Machine {
    let cpuinfo = read("/proc/cpuinfo");
    Machine {
        cpu_model: field(&cpuinfo, "model name").unwrap_or(UNKNOWN).to_owned(),
        cpus: std::thread::available_parallelism().map_or(0, |n| n.get() as u64),
        memory_bytes: memory().total_bytes,
        virtual_machine: field(&cpuinfo, "flags").is_some_and(|f| f.split(' ').any(|f| f == "hypervisor")),
        architecture: std::env::consts::ARCH.to_owned(),
    }
}

fn capabilities() -> Vec<Capability> {
    let found = gc_core::probe::Capabilities::probe();
    let one = |item: &gc_core::probe::Item| {
        let (available, detail) = match &item.support {
            Support::Yes { how } => (true, how.clone()),
            Support::No { why, since } => (false, format!("{why} (since {since})")),
        };
        Capability { name: item.name.to_owned(), available, detail }
    };
    found.iter().map(one).collect()
}

/// Looks at the kernel.
pub(crate) fn kernel() -> Kernel {
    Kernel {
        release: sys::kernel_release().unwrap_or_default(),
        version: read("/proc/sys/kernel/version"),
        thp: chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
        shmem_thp: sys::shmem_huge_pages().unwrap_or_else(|_| UNKNOWN.into()),
        max_map_count: sys::max_map_count().map_or(0, |count| count as u64),
        clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        capabilities: capabilities(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_fields_are_read() {
        assert_eq!(chosen("always [madvise] never"), "madvise");
        assert_eq!(chosen(""), "unknown");
        assert_eq!(field("a : b\nmodel name\t: Some CPU", "model name"), Some("Some CPU"));
    }

    #[test]
    fn this_machine_has_a_kernel_and_memory() {
        let (m, k, free) = (machine(), kernel(), memory());
        assert!(m.cpus >= 1 && m.memory_bytes > 1 << 20 && !k.release.is_empty());
        assert!(free.available_bytes <= free.total_bytes);
    }
}
