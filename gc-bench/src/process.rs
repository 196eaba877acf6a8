//! What this process used, and what the rest of the machine did meanwhile.

use std::fs;
use std::time::{Duration, Instant};

/// Processor time of all threads of this process so far, user and system.
pub(crate) fn cpu_time() -> Duration {
    gc_core::sys::process_cpu_time()
}

/// The proportional set size in bytes, without pages of files such as the program's own: private
/// pages, and of shared ones this process's part. A heap's pages count once, however many views map
/// them. 0 where the kernel does not say.
///
/// The kernel walks every page table for it (some 15 ms a GiB and four views) and holds the address
/// space's lock meanwhile, so this is read outside the measured part only.
pub(crate) fn pss_bytes() -> u64 {
    pss_bytes_of("self")
}

/// As [`pss_bytes`], for another process, by its number.
pub(crate) fn pss_bytes_of(process: &str) -> u64 {
    without_files(&fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default())
}

/// A program that several processes run counts in parts, so its pages say nothing. Before Linux 5.9
/// the parts are not told.
fn without_files(rollup: &str) -> u64 {
    let field = |name: &str| {
        let value = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    let (private, shared) = (field("Pss_Anon:"), field("Pss_Shmem:"));
    private.zip(shared).map(|(private, shared)| private + shared).or(field("Pss:")).map_or(0, |kib| kib << 10)
}

/// The most memory that this process had so far, without pages of files. 0 where the kernel does
/// not say.
///
/// It is the peak of the resident set, which the kernel keeps, and no proportional one: for a
/// process that shares no memory but that of files.
pub(crate) fn peak_bytes() -> u64 {
    peak_without_files(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// Pages of files are the program's own, and as many at the peak as now.
fn peak_without_files(status: &str) -> u64 {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    let peak = field("VmHWM:").map(|peak| peak.saturating_sub(field("RssFile:").unwrap_or(0)));
    peak.map_or(0, |kib| kib << 10)
}

/// What the machine's processors did since it started, in ticks of 1/100 s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    idle: u64,
    stolen: u64,
    processors: u64,
}

impl Ticks {
    fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let line = text.lines().next().unwrap_or("");
        let v: Vec<u64> = line.split_whitespace().skip(1).filter_map(|x| x.parse().ok()).collect();
        let at = |i: usize| v.get(i).copied().unwrap_or(0);
        let is_processor = |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| !rest.starts_with(' '));
        // user, nice, system, idle, iowait, irq, softirq, steal
        Self {
            busy: at(0) + at(1) + at(2) + at(5) + at(6),
            idle: at(3) + at(4),
            stolen: at(7),
            processors: text.lines().filter(is_processor).count() as u64,
        }
    }

    /// Seconds in which processors were busy for anyone, of so many since `before`.
    ///
    /// The kernel may count busy time by looking at each timer tick who runs
    /// (`CONFIG_TICK_CPU_ACCOUNTING`). Threads that wake every millisecond run whenever a tick
    /// comes, and seem to run all the time. How long a processor without a tick was idle it
    /// measures (`CONFIG_NO_HZ_IDLE`): so what was not idle bounds what was busy.
    fn busy_seconds(&self, before: &Self, seconds: f64) -> f64 {
        let since = |of: fn(&Self) -> u64| of(self).saturating_sub(of(before)) as f64 / 100.0;
        let not_idle = self.processors as f64 * seconds - since(|t| t.idle) - since(|t| t.stolen);
        since(|t| t.busy).min(not_idle)
    }
}

/// A stretch of time, and who used the processors in it.
pub(crate) struct Usage {
    since: Instant,
    cpu: Duration,
    machine: Ticks,
}

/// What [`Usage`] found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) cpu: Duration,
    /// Processor time of other processes, in percent of one processor.
    pub(crate) other_percent: f64,
    /// Time the hypervisor gave to others, in percent of one processor.
    pub(crate) stolen_percent: f64,
}

impl Usage {
    pub(crate) fn start() -> Self {
        // The clock last: what the reading itself costs is not the workload's.
        let (machine, cpu) = (Ticks::now(), cpu_time());
        Self { since: Instant::now(), cpu, machine }
    }

    /// When the stretch began.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    pub(crate) fn end(&self) -> Used {
        self.ended(|| cpu_time().saturating_sub(self.cpu))
    }

    /// The end of a stretch in which the work was that of another process, which used so much.
    pub(crate) fn ended(&self, cpu: impl FnOnce() -> Duration) -> Used {
        let cpu = cpu();
        let seconds = self.since.elapsed().as_secs_f64().max(1e-6);
        let now = Ticks::now();
        let busy = now.busy_seconds(&self.machine, seconds);
        let stolen = now.stolen.saturating_sub(self.machine.stolen);
        let percent = |s: f64| ((s / seconds * 1000.0).round() / 10.0).max(0.0);
        // Ticks of 10 ms say nothing about others in a run that is hardly longer.
        let others = if seconds > 0.2 { percent(busy - cpu.as_secs_f64()) } else { 0.0 };
        Used { cpu, other_percent: others, stolen_percent: percent(stolen as f64 / 100.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted() {
        let usage = Usage::start();
        let mut x = 1u64;
        while usage.since().elapsed() < Duration::from_millis(30) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let used = usage.end();
        assert!(used.cpu >= Duration::from_millis(5), "{used:?}");
    }

    /// Two processors for two seconds, of which they were idle for 2.8 and stolen for 0.2: whatever
    /// the ticks saw, nobody was busy for more than 1.
    #[test]
    fn what_was_idle_was_not_busy() {
        let before = Ticks::parse("cpu  100 0 50 1000 10 0 5 3 0 0\ncpu0 1 2\ncpu1 1 2\nctxt 5\n");
        assert_eq!(before, Ticks { busy: 155, idle: 1010, stolen: 3, processors: 2 });
        let after = |busy: u64, idle: u64| Ticks { busy: 155 + busy, idle: 1010 + idle, stolen: 23, processors: 2 };
        assert_eq!(after(90, 280).busy_seconds(&before, 2.0), 0.9);
        assert!((after(380, 280).busy_seconds(&before, 2.0) - 1.0).abs() < 1e-9);
        assert_eq!(Ticks::parse(""), Ticks::default());
    }

    #[test]
    fn pages_of_files_do_not_count() {
        let rollup =
            "Rss: 70 kB\nPss:      60 kB\nPss_Dirty: 9 kB\nPss_Anon: 20 kB\nPss_File: 30 kB\nPss_Shmem: 10 kB\n";
        assert_eq!(without_files(rollup), 30 << 10);
        assert_eq!((without_files("Pss: 60 kB\n"), without_files("")), (60 << 10, 0));
    }

    /// What was given back counts: it was there.
    #[test]
    fn a_peak_is_kept() {
        let status = "VmPeak:\t  900 kB\nVmHWM:\t     500 kB\nVmRSS:\t 90 kB\nRssAnon: 60 kB\nRssFile:\t  30 kB\n";
        assert_eq!((peak_without_files(status), peak_without_files("")), (470 << 10, 0));
        drop(std::hint::black_box(vec![1u8; 48 << 20]));
        assert!(peak_bytes() >= 48 << 20, "{}", peak_bytes());
    }

    #[test]
    fn memory_of_this_process_is_counted() {
        // Other tests of this process give memory back meanwhile.
        let grows = |_| {
            let before = pss_bytes();
            let block = std::hint::black_box(vec![1u8; 32 << 20]);
            let after = pss_bytes();
            drop(block);
            after >= before + (30 << 20)
        };
        assert!((0..20).any(grows));
    }
}
