//! What the threads of a run used of the machine, mutators and collector apart.
//!
//! The kernel keeps these figures for each thread: processor time, the time that the thread could
//! have run and waited for a processor (`/proc/PID/task/TID/schedstat`), context switches
//! (`status`) and page faults (`stat`); see [proc(5)] and [sched-stats]. A thread that ends takes
//! its figures with it, so each mutator reads its own when its work is done ([`Attendance`]).
//!
//! [proc(5)]: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
//! [sched-stats]: https://docs.kernel.org/scheduler/sched-stats.html

use std::collections::BTreeMap;
use std::fs;
use std::ops::AddAssign;
use std::sync::Mutex;

use gc_core::sys;
use serde::{Deserialize, Serialize};

/// The figures of one or more threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Threads whose figures these are.
    pub(crate) count: u64,
    /// Processor time, in user and in system mode.
    pub(crate) cpu_ns: u64,
    /// Time that they could have run and waited for a processor. None where the kernel does not
    /// record it (`CONFIG_SCHED_INFO`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) run_queue_wait_ns: Option<u64>,
    /// Context switches because the thread waited for something.
    pub(crate) voluntary_switches: u64,
    /// Context switches because the kernel gave the processor to another thread.
    pub(crate) involuntary_switches: u64,
    /// Page faults that needed no read from a disk.
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
}

/// The figures of a run, by role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Threads {
    pub(crate) mutators: Usage,
    /// The heap's own threads.
    pub(crate) collector: Usage,
    /// The bench's threads that are no mutators: the watcher, a main thread that waits.
    pub(crate) bench: Usage,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.cpu_ns += other.cpu_ns;
        self.run_queue_wait_ns = match (self.run_queue_wait_ns, other.run_queue_wait_ns) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
    }
}

impl Usage {
    /// Of one thread of this process so far; `None` where there is no such thread.
    fn of(thread: u32) -> Option<Self> {
        let read = |file: &str| fs::read_to_string(format!("/proc/self/task/{thread}/{file}"));
        let (stat, status) = (read("stat").ok()?, read("status").ok()?);
        let mut usage = Self::parse(&stat, &status, &read("schedstat").unwrap_or_default());
        usage.cpu_ns = sys::processor_time(thread).ok()?.as_nanos() as u64;
        Some(usage)
    }

    /// What the three files say, save for the processor time.
    fn parse(stat: &str, status: &str, schedstat: &str) -> Self {
        // The name, in parentheses, may have spaces. Behind it the state is field 3; fields 10 and
        // 12 are the faults.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field = |n: usize| fields.split_whitespace().nth(n - 3).and_then(|x| x.parse().ok()).unwrap_or(0);
        let line = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        Self {
            count: 1,
            cpu_ns: 0,
            run_queue_wait_ns: schedstat.split_whitespace().nth(1).and_then(|x| x.parse().ok()),
            voluntary_switches: line("voluntary_ctxt_switches"),
            involuntary_switches: line("nonvoluntary_ctxt_switches"),
            minor_faults: field(10),
            major_faults: field(12),
        }
    }

    /// What has come since `before`.
    fn since(&self, before: &Self) -> Self {
        Self {
            count: self.count,
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            run_queue_wait_ns: self
                .run_queue_wait_ns
                .map(|wait| wait.saturating_sub(before.run_queue_wait_ns.unwrap_or(0))),
            voluntary_switches: self.voluntary_switches.saturating_sub(before.voluntary_switches),
            involuntary_switches: self.involuntary_switches.saturating_sub(before.involuntary_switches),
            minor_faults: self.minor_faults.saturating_sub(before.minor_faults),
            major_faults: self.major_faults.saturating_sub(before.major_faults),
        }
    }
}

/// The threads of this process, by number, with their names.
fn all() -> BTreeMap<u32, String> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let threads = tasks.filter_map(|task| {
        let thread = task.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        Some((thread, name.trim_end().to_owned()))
    });
    threads.collect()
}

/// A mutator, and its figures when it began and when its work was done.
struct Mutator {
    thread: u32,
    before: Usage,
    after: Option<Usage>,
}

/// The threads of a run.
pub(crate) struct Roster {
    /// How the names of the heap's own threads begin.
    collector: String,
    mutators: Mutex<Vec<Mutator>>,
    /// The figures of the others where the measured part began.
    before: Mutex<BTreeMap<u32, Usage>>,
}

/// A mutator's presence. When it is dropped, by the same thread, the mutator's figures are read.
pub(crate) struct Attendance<'a> {
    roster: &'a Roster,
    thread: u32,
}

impl Roster {
    /// For a heap whose threads have names that begin like this.
    pub(crate) fn new(collector: &str) -> Self {
        Self { collector: collector.to_owned(), mutators: Mutex::new(Vec::new()), before: Mutex::new(BTreeMap::new()) }
    }

    /// The calling thread is a mutator until the result is dropped.
    pub(crate) fn attend(&self) -> Attendance<'_> {
        let thread = sys::this_thread().0;
        let before = Usage::of(thread).unwrap_or_default();
        self.mutators.lock().expect("no holder panics").push(Mutator { thread, before, after: None });
        Attendance { roster: self, thread }
    }

    /// The measured part begins: figures count from now on.
    pub(crate) fn begin(&self) {
        let mut mutators = self.mutators.lock().expect("no holder panics");
        mutators.retain(|mutator| mutator.after.is_none());
        for mutator in mutators.iter_mut() {
            mutator.before = Usage::of(mutator.thread).unwrap_or(mutator.before);
        }
        let usages = all().into_keys().filter_map(|thread| Some((thread, Usage::of(thread)?)));
        *self.before.lock().expect("no holder panics") = usages.collect();
    }

    /// What was used since [`begin`](Self::begin).
    pub(crate) fn end(&self) -> Threads {
        let mut threads = Threads::default();
        let mutators = self.mutators.lock().expect("no holder panics");
        for mutator in mutators.iter() {
            let after = mutator.after.or_else(|| Usage::of(mutator.thread)).unwrap_or(mutator.before);
            threads.mutators += after.since(&mutator.before);
        }
        let before = self.before.lock().expect("no holder panics");
        for (thread, name) in all() {
            if mutators.iter().any(|mutator| mutator.thread == thread) {
                continue;
            }
            let Some(after) = Usage::of(thread) else { continue };
            let used = after.since(&before.get(&thread).copied().unwrap_or_default());
            if name.starts_with(&self.collector) {
                threads.collector += used;
            } else {
                threads.bench += used;
            }
        }
        threads
    }
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        let after = Usage::of(self.thread);
        let mut mutators = self.roster.mutators.lock().expect("no holder panics");
        let own = mutators.iter_mut().rev().find(|mutator| mutator.thread == self.thread);
        own.expect("it was added by `attend`").after = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn the_kernel_s_files_are_read() {
        let stat = "7 (a) R (b) S 1 7 7 0 -1 4194304 123 9 4 8 50 60 0 0 20 0 1 0 5 6 7";
        let status = "Name:\ta\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t5\n";
        let usage = Usage::parse(stat, status, "1000 2500 42\n");
        let expected = Usage {
            count: 1,
            cpu_ns: 0,
            run_queue_wait_ns: Some(2500),
            voluntary_switches: 17,
            involuntary_switches: 5,
            minor_faults: 123,
            major_faults: 4,
        };
        assert_eq!(usage, expected);
        assert_eq!(Usage::parse(stat, status, "").run_queue_wait_ns, None, "not recorded is not 0");
        let twice = {
            let mut sum = usage;
            sum += usage;
            sum
        };
        assert_eq!((twice.count, twice.run_queue_wait_ns, twice.minor_faults), (2, Some(5000), 246));
        assert_eq!(twice.since(&usage).voluntary_switches, 17);
    }

    fn work(ms: u64) {
        let until = Instant::now() + Duration::from_millis(ms);
        let cpu = sys::thread_cpu_time() + Duration::from_millis(ms);
        while Instant::now() < until || sys::thread_cpu_time() < cpu {
            std::hint::black_box(0);
        }
    }

    /// One mutator ends before the measured part does, one works on, a collector's thread works,
    /// and what went before the beginning does not count.
    #[test]
    fn roles_are_told_apart_and_a_thread_that_has_ended_counts() {
        let roster = Roster::new("roster-gc");
        let (begun, ended) = (Barrier::new(4), Barrier::new(3));
        let found = thread::scope(|scope| {
            let early = scope.spawn(|| {
                let _attends = roster.attend();
                work(30);
                begun.wait();
                begun.wait();
                work(20);
                // More than what the C library serves from memory that was touched before.
                std::hint::black_box(vec![0u8; 64 << 20])[4096] = 1;
            });
            scope.spawn(|| {
                let _attends = roster.attend();
                begun.wait();
                begun.wait();
                for _ in 0..7 {
                    thread::sleep(Duration::from_millis(1));
                }
                ended.wait();
                ended.wait();
            });
            let collector = thread::Builder::new().name("roster-gc1".into());
            collector
                .spawn_scoped(scope, || {
                    begun.wait();
                    begun.wait();
                    work(10);
                    ended.wait();
                    ended.wait();
                })
                .unwrap();
            begun.wait();
            roster.begin();
            begun.wait();
            early.join().unwrap();
            ended.wait();
            let found = roster.end();
            ended.wait();
            found
        });
        let Threads { mutators, collector, bench } = found;
        assert_eq!((mutators.count, collector.count), (2, 1));
        let ms = |usage: Usage| usage.cpu_ns as f64 / 1e6;
        assert!((20.0..29.0).contains(&ms(mutators)), "the 30 ms before do not count: {mutators:?}");
        assert!((10.0..19.0).contains(&ms(collector)), "{collector:?}");
        assert!(mutators.voluntary_switches >= 7 && mutators.minor_faults > 0, "{mutators:?}");
        assert!(bench.count >= 1, "this thread: {bench:?}");
    }
}
