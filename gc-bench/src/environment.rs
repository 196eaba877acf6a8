//! What surrounds a session on its machine: how the processors are set, what control groups allow,
//! and what else had the machine before and while it was measured. Read from `/proc` and `/sys`;
//! what is not there is empty, or has no key.

pub(crate) mod cgroup;
mod files;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gc_core::sys;
use serde::{Deserialize, Serialize};

use crate::processors;
use cgroup::Limit;
use files::{entries, read};

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// Processors that the kernel runs, and of these the ones that this process may use: lists.
    pub(crate) online: String,
    pub(crate) affinity: String,
    /// Hardware threads that share a core: `on`, `off`, `notsupported`, ..
    pub(crate) smt: String,
    /// The governors of the processors' frequencies, each once.
    pub(crate) governors: Vec<String>,
    /// Whether processors may go beyond their base frequency; no key where the kernel does not say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) boost: Option<bool>,
    pub(crate) caches: Vec<Cache>,
    /// What the kernel does about flaws of the processor, by flaw; those that it has.
    pub(crate) mitigations: BTreeMap<String, String>,
    /// What the kernel was told about them when it started.
    pub(crate) mitigations_asked: String,
    /// What control groups around this process limit.
    pub(crate) limits: Vec<Limit>,
    /// How late the kernel may make a sleep end.
    pub(crate) timer_slack_ns: u64,
    pub(crate) swap_bytes: u64,
    /// When the session began.
    pub(crate) began: State,
    /// When its last run was over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) ended: Option<State>,
}

/// A cache of the first processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cache {
    pub(crate) level: String,
    /// `Data`, `Instruction` or `Unified`.
    pub(crate) kind: String,
    /// With its unit: `32K`.
    pub(crate) size: String,
    /// The processors that have it together.
    pub(crate) shared_by: String,
}

/// What the machine was doing at a moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// By the monotonic clock.
    pub(crate) at_ns: u64,
    /// Threads that ran or could have run, the mean of 1, 5 and 15 minutes.
    pub(crate) load: Vec<f64>,
    /// For what threads waited: `cpu`, `memory`, `io`. Kernels without that have none.
    pub(crate) pressure: BTreeMap<String, Pressure>,
    pub(crate) swap_used_bytes: u64,
    /// How long control groups kept this process's threads from running, so far.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) throttled_ns: Option<u64>,
}

/// Time in which some thread of the machine waited for a resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pressure {
    /// Of the last 10 s, in percent.
    pub(crate) avg10_percent: f64,
    /// Since the machine started.
    pub(crate) total_ns: u64,
}

impl Environment {
    /// Of this process, now.
    pub(crate) fn now() -> Self {
        let affinity = sys::affinity().map(|own| processors::list(&own)).unwrap_or_default();
        Self { affinity, began: State::now(), ..Self::below(Path::new("/")) }
    }

    /// What stays as it is, of a file system with this root.
    fn below(root: &Path) -> Self {
        let cpu = root.join("sys/devices/system/cpu");
        let mut governors: Vec<String> = entries(&cpu.join("cpufreq"), "policy")
            .iter()
            .map(|policy| read(policy.join("scaling_governor")))
            .filter(|governor| !governor.is_empty())
            .collect();
        governors.sort();
        governors.dedup();
        let boost = match (&*read(cpu.join("cpufreq/boost")), &*read(cpu.join("intel_pstate/no_turbo"))) {
            ("1", _) | (_, "0") => Some(true),
            ("0", _) | (_, "1") => Some(false),
            _ => None,
        };
        let cache = |index: &PathBuf| Cache {
            level: read(index.join("level")),
            kind: read(index.join("type")),
            size: read(index.join("size")),
            shared_by: read(index.join("shared_cpu_list")),
        };
        let flaw = |path: &PathBuf| {
            let text = read(path);
            let has_it = !text.is_empty() && text != "Not affected";
            has_it.then(|| (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text))
        };
        let cmdline = read(root.join("proc/cmdline"));
        let asked = cmdline.split_whitespace().find_map(|word| word.strip_prefix("mitigations="));
        Self {
            online: read(cpu.join("online")),
            affinity: String::new(),
            smt: read(cpu.join("smt/control")),
            governors,
            boost,
            caches: entries(&cpu.join("cpu0/cache"), "index").iter().map(cache).collect(),
            mitigations: entries(&cpu.join("vulnerabilities"), "").iter().filter_map(flaw).collect(),
            mitigations_asked: asked.unwrap_or_default().to_owned(),
            limits: cgroup::limits(root),
            timer_slack_ns: read(root.join("proc/self/timerslack_ns")).parse().unwrap_or_default(),
            swap_bytes: meminfo(root, "SwapTotal:"),
            began: State::default(),
            ended: None,
        }
    }

    /// The session is over.
    pub(crate) fn end(&mut self) {
        self.ended = Some(State::now());
    }
}

/// A line of `/proc/meminfo` in bytes; 0 where there is none.
fn meminfo(root: &Path, name: &str) -> u64 {
    let text = read(root.join("proc/meminfo"));
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

impl State {
    fn now() -> Self {
        Self { at_ns: sys::monotonic_ns(), ..Self::below(Path::new("/")) }
    }

    fn below(root: &Path) -> Self {
        let load = read(root.join("proc/loadavg"));
        let pressure = ["cpu", "memory", "io"].iter().filter_map(|&of| {
            let text = read(root.join("proc/pressure").join(of));
            Some((of.to_owned(), Pressure::parse(&text)?))
        });
        Self {
            at_ns: 0,
            load: load.split_whitespace().take(3).filter_map(|value| value.parse().ok()).collect(),
            pressure: pressure.collect(),
            swap_used_bytes: meminfo(root, "SwapTotal:").saturating_sub(meminfo(root, "SwapFree:")),
            throttled_ns: cgroup::throttled_ns(root),
        }
    }
}

impl Pressure {
    /// Of `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, microseconds.
    fn parse(text: &str) -> Option<Self> {
        let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
        let value = |name: &str| some.split(' ').find_map(|word| word.strip_prefix(name));
        let total: u64 = value("total=")?.parse().ok()?;
        Some(Self { avg10_percent: value("avg10=")?.parse().ok()?, total_ns: total.saturating_mul(1000) })
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use std::fs;

    /// A folder with these files, for tests of what is read.
    pub(crate) struct Root(pub(crate) PathBuf);

    impl Root {
        pub(crate) fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("gc-bench-root-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::Root;
    use super::*;

    #[test]
    fn a_machine_is_read_from_its_files() {
        let root = Root::new(
            "machine",
            &[
                ("sys/devices/system/cpu/online", "0-3\n"),
                ("sys/devices/system/cpu/smt/control", "on\n"),
                ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave\n"),
                ("sys/devices/system/cpu/cpufreq/policy1/scaling_governor", "powersave\n"),
                ("sys/devices/system/cpu/intel_pstate/no_turbo", "1\n"),
                ("sys/devices/system/cpu/cpu0/cache/index0/level", "1\n"),
                ("sys/devices/system/cpu/cpu0/cache/index0/type", "Data\n"),
                ("sys/devices/system/cpu/cpu0/cache/index0/size", "32K\n"),
                ("sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list", "0,2\n"),
                ("sys/devices/system/cpu/vulnerabilities/mds", "Not affected\n"),
                ("sys/devices/system/cpu/vulnerabilities/spectre_v2", "Mitigation: Retpolines\n"),
                ("proc/cmdline", "quiet mitigations=off\n"),
                ("proc/self/timerslack_ns", "50000\n"),
                ("proc/meminfo", "MemTotal: 9 kB\nSwapTotal:  40 kB\nSwapFree:  30 kB\n"),
                ("proc/loadavg", "1.50 0.25 0.00 2/300 4\n"),
                ("proc/pressure/cpu", "some avg10=7.50 avg60=1.00 avg300=0.50 total=12\nfull avg10=1.00\n"),
            ],
        );
        let found = Environment::below(&root.0);
        assert_eq!((&*found.online, &*found.smt, &*found.mitigations_asked), ("0-3", "on", "off"));
        assert_eq!((&found.governors[..], found.boost), (&["powersave".to_owned()][..], Some(false)));
        let cache = Cache { level: "1".into(), kind: "Data".into(), size: "32K".into(), shared_by: "0,2".into() };
        assert_eq!(found.caches, [cache]);
        assert_eq!(found.mitigations, [("spectre_v2".to_owned(), "Mitigation: Retpolines".to_owned())].into());
        assert_eq!((found.timer_slack_ns, found.swap_bytes, found.limits.len()), (50_000, 40 << 10, 0));
        let state = State::below(&root.0);
        assert_eq!((&state.load[..], state.swap_used_bytes), (&[1.5, 0.25, 0.0][..], 10 << 10));
        let pressure = Pressure { avg10_percent: 7.5, total_ns: 12_000 };
        assert_eq!((state.pressure, state.throttled_ns), ([("cpu".to_owned(), pressure)].into(), None));
    }

    #[test]
    fn what_is_not_there_is_empty() {
        let root = Root::new("nothing", &[]);
        assert_eq!(Environment::below(&root.0), Environment::default());
        assert_eq!(State::below(&root.0), State::default());
    }

    #[test]
    fn this_machine_says_something() {
        let mut found = Environment::now();
        found.end();
        assert!(!found.affinity.is_empty() && found.timer_slack_ns > 0 && found.began.load.len() == 3, "{found:?}");
        assert!(found.ended.is_some_and(|ended| ended.at_ns > found.began.at_ns));
    }
}
