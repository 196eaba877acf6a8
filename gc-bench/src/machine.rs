//! The machine and its kernel, read from `/proc` and `/sys`.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

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
    /// Timer ticks a second, `CONFIG_HZ`; 0 where it cannot be told.
    pub(crate) hz: u64,
    /// How that was found.
    pub(crate) hz_from: String,
    /// When a thread in the kernel may be preempted: `none`, `voluntary`, `full`, `lazy` or `rt`;
    /// other words where it cannot be told exactly.
    pub(crate) preemption: String,
    /// How that was found.
    pub(crate) preemption_from: String,
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

/// The kernel's own configuration with the place where it was found, as far as it can be read.
fn config(release: &str) -> Option<(String, String)> {
    let path = format!("/boot/config-{release}");
    if let Ok(text) = fs::read_to_string(&path) {
        return Some((text, path));
    }
    let path = "/proc/config.gz";
    fs::metadata(path).ok()?;
    let out = Command::new("gzip").args(["-dc", path]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    out.status.success().then(|| (String::from_utf8_lossy(&out.stdout).into_owned(), path.to_owned()))
}

/// Ticks a second, and how they were found: the resolution of the clock that the tick advances.
fn ticks(tick: Option<Duration>) -> (u64, String) {
    match tick {
        Some(tick) if !tick.is_zero() => {
            ((1.0 / tick.as_secs_f64()).round() as u64, "resolution of CLOCK_MONOTONIC_COARSE".to_owned())
        }
        _ => (0, UNKNOWN.to_owned()),
    }
}

/// The preemption model, and how it was found. A kernel with `PREEMPT_DYNAMIC` chooses it when it
/// starts, so its own word comes first, then its command line, then what it was built with.
fn preemption(debug: &str, version: &str, cmdline: &str, config: Option<(&str, &str)>) -> (String, String) {
    let found = |model: &str, from: &str| (model.to_owned(), from.to_owned());
    if let Some((_, rest)) = debug.split_once('(')
        && let Some((model, _)) = rest.split_once(')')
    {
        return found(model, "/sys/kernel/debug/sched/preempt");
    }
    let has = |word: &str| version.split_whitespace().any(|part| part == word);
    if has("PREEMPT_RT") {
        return found("rt", "uname -v");
    }
    if let Some(model) = cmdline.split_whitespace().find_map(|word| word.strip_prefix("preempt="))
        && has("PREEMPT_DYNAMIC")
    {
        return found(model, "preempt= of /proc/cmdline");
    }
    if let Some((config, from)) = config {
        let models = [("NONE", "none"), ("VOLUNTARY", "voluntary"), ("LAZY", "lazy")];
        let is_set = |name: &str| config.lines().any(|line| line == format!("CONFIG_{name}=y"));
        let model = models.iter().find(|(name, _)| is_set(&format!("PREEMPT_{name}"))).map(|&(_, model)| model);
        if let Some(model) = model.or_else(|| is_set("PREEMPT").then_some("full")) {
            return found(model, from);
        }
    }
    match () {
        () if has("PREEMPT_DYNAMIC") => found("chosen at boot (PREEMPT_DYNAMIC)", "uname -v"),
        () if has("PREEMPT_LAZY") => found("lazy", "uname -v"),
        () if has("PREEMPT") => found("full", "uname -v"),
        () if version.is_empty() => found(UNKNOWN, UNKNOWN),
        () => found("none or voluntary", "uname -v"),
    }
}

/// Looks at the kernel.
pub(crate) fn kernel() -> Kernel {
    let (release, version) = (sys::kernel_release().unwrap_or_default(), read("/proc/sys/kernel/version"));
    let (hz, hz_from) = ticks(sys::tick_length().ok());
    let config = config(&release);
    let config = config.as_ref().map(|(text, from)| (text.as_str(), from.as_str()));
    let (debug, cmdline) = (read("/sys/kernel/debug/sched/preempt"), read("/proc/cmdline"));
    let (preemption, preemption_from) = preemption(&debug, &version, &cmdline, config);
    Kernel {
        release,
        version,
        hz,
        hz_from,
        preemption,
        preemption_from,
        thp: sys::anonymous_huge_pages().unwrap_or_else(|_| UNKNOWN.into()),
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
    fn fields_are_read() {
        assert_eq!(field("a : b\nmodel name\t: Some CPU", "model name"), Some("Some CPU"));
    }

    #[test]
    fn this_machine_has_a_kernel_and_memory() {
        let (m, k, free) = (machine(), kernel(), memory());
        assert!(m.cpus >= 1 && m.memory_bytes > 1 << 20 && !k.release.is_empty());
        assert!([100, 250, 300, 1000].contains(&k.hz) && !k.preemption.is_empty(), "{k:?}");
        assert!(free.available_bytes <= free.total_bytes);
    }

    #[test]
    fn a_tick_is_the_clock_s_resolution() {
        assert_eq!(ticks(Some(Duration::from_nanos(4_000_000))).0, 250);
        assert_eq!(ticks(Some(Duration::from_nanos(3_333_333))).0, 300);
        assert_eq!(ticks(Some(Duration::from_nanos(1_000_000))).0, 1000);
        assert_eq!(ticks(None), (0, "unknown".into()));
    }

    #[test]
    fn the_preemption_model_is_found_where_the_kernel_says_it() {
        let dynamic = "#1 SMP PREEMPT_DYNAMIC Mon Jan 1";
        let none =
            Some(("CONFIG_PREEMPT_BUILD=y\nCONFIG_PREEMPT_NONE=y\n# CONFIG_PREEMPT is not set", "/proc/config.gz"));
        let full = Some(("CONFIG_PREEMPT=y\n# CONFIG_PREEMPT_NONE is not set\n", "/boot/config-6"));
        for (debug, version, cmdline, config, model, from) in [
            ("none voluntary (full) lazy", dynamic, "preempt=none", none, "full", "/sys/kernel/debug/sched/preempt"),
            ("", dynamic, "quiet preempt=voluntary", none, "voluntary", "preempt= of /proc/cmdline"),
            ("", dynamic, "quiet", none, "none", "/proc/config.gz"),
            ("", dynamic, "quiet", full, "full", "/boot/config-6"),
            ("", dynamic, "quiet", None, "chosen at boot (PREEMPT_DYNAMIC)", "uname -v"),
            ("", "#1 SMP PREEMPT_RT x", "", None, "rt", "uname -v"),
            ("", "#1 SMP PREEMPT x", "", None, "full", "uname -v"),
            ("", "#1 SMP x", "preempt=full", None, "none or voluntary", "uname -v"),
            ("", "", "", None, "unknown", "unknown"),
        ] {
            let found = preemption(debug, version, cmdline, config);
            assert_eq!(found, (model.into(), from.into()), "{debug}, {version}, {cmdline}, {config:?}");
        }
    }
}
