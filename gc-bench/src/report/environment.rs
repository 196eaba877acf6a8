//! What a reader needs to repeat a session, and what would make a reviewer doubt it.

use super::groups;
use crate::environment::cgroup;
use crate::record::{Head, Record};
use crate::results::Document;
use crate::size::{bytes, duration, three};

/// What the session ran on, and of what the program is built: names and values.
pub(crate) fn facts(of: &Head) -> Vec<(&'static str, String)> {
    let (machine, kernel, build, around) = (&of.machine, &of.kernel, &of.build, &of.environment);
    let mut facts = Vec::new();
    let mut add = |name, value: String| {
        if !value.is_empty() {
            facts.push((name, value));
        }
    };
    add(
        "revision",
        match build.dirty {
            _ if build.revision.is_empty() => String::new(),
            Some(true) => format!("{}, changed since", build.revision),
            _ => build.revision.clone(),
        },
    );
    add("Cargo.lock", if build.lock.is_empty() { String::new() } else { format!("{} (git hash-object)", build.lock) });
    add("compiler", build.rustc.clone());
    let level = if build.opt_level.is_empty() { String::new() } else { format!(", opt-level {}", build.opt_level) };
    add("built for", format!("{}{level}, profile {}", build.target, of.profile));
    add("flags", build.flags.clone());
    add("features", build.features.join(", "));
    add("processor's features", build.target_features.join(", "));
    add("processors", format!("{} of {} ({})", around.affinity, around.online, machine.cpu_model));
    add(
        "threads of a core",
        match &*around.smt {
            "on" => "two and more (SMT on)".into(),
            "off" | "forceoff" => "one (SMT off)".into(),
            "notsupported" => "one (no SMT)".into(),
            other => other.to_owned(),
        },
    );
    add("governor", around.governors.join(", "));
    add("frequency boost", around.boost.map_or(String::new(), |on| if on { "on" } else { "off" }.into()));
    let cache = |of: &crate::environment::Cache| {
        format!("L{} {} {} of processors {}", of.level, of.kind.to_lowercase(), of.size, of.shared_by)
    };
    add("caches", around.caches.iter().map(cache).collect::<Vec<_>>().join("; "));
    add("mitigations asked for", around.mitigations_asked.clone());
    let flaws = around.mitigations.iter().map(|(flaw, text)| format!("{flaw}: {text}"));
    add("mitigations", flaws.collect::<Vec<_>>().join("; "));
    let limits = around.limits.iter().map(|limit| format!("{} {}", limit.file, limit.value));
    add("control groups", limits.collect::<Vec<_>>().join("; "));
    add("kernel", format!("{} {}", kernel.release, kernel.version));
    add("timer tick", format!("{} Hz ({})", kernel.hz, kernel.hz_from));
    add("preemption", format!("{} ({})", kernel.preemption, kernel.preemption_from));
    add("clock", kernel.clocksource.clone());
    add("timer slack", if around.timer_slack_ns > 0 { duration(around.timer_slack_ns) } else { String::new() });
    add("huge pages", format!("{}, of shared memory {}", kernel.thp, kernel.shmem_thp));
    let states = [("load at the begin", Some(&around.began)), ("load at the end", around.ended.as_ref())];
    for (name, state) in states.into_iter().filter_map(|(name, state)| Some((name, state?))) {
        let load: Vec<String> = state.load.iter().map(|load| format!("{load:.2}")).collect();
        let waits = state.pressure.iter().map(|(of, p)| format!("{of} {} %", three(p.avg10_percent)));
        let waits = waits.collect::<Vec<_>>().join(", ");
        if !load.is_empty() {
            let waits = if waits.is_empty() { waits } else { format!("; some thread waited for {waits} of 10 s") };
            add(name, load.join(", ") + &waits);
        }
    }
    facts
}

/// Clocks that are read without a call of the kernel, or of the hypervisor.
const FAST_CLOCKS: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];
/// Above this share of the time before a session, someone else had the machine. (A build that has
/// just ended is in it.)
const BUSY_PERCENT: f64 = 5.0;

/// What of the build and the machine makes figures doubtful, a sentence each.
pub(crate) fn doubts(of: &Head) -> Vec<String> {
    let (build, around) = (&of.build, &of.environment);
    let mut doubts = Vec::new();
    let mut doubt = |text: String| doubts.push(text);
    if build.revision.is_empty() {
        doubt("the revision that the program was built of is not known".into());
    }
    if build.dirty == Some(true) {
        doubt(format!("the program was built of files that differ from revision {}", short(&build.revision)));
    }
    if build.features.iter().any(|feature| feature == "gc-core/inject") {
        doubt("the program was built with gc-core/inject, which is in the way of each system call".into());
    }
    if of.machine.virtual_machine {
        doubt("a virtual machine: what else its host does is in the figures, and not all of it in the steal".into());
    }
    let slow: Vec<&str> =
        around.governors.iter().map(String::as_str).filter(|governor| *governor != "performance").collect();
    if !slow.is_empty() {
        doubt(format!("the frequency governor is {}, not performance", slow.join(" and ")));
    }
    if !of.kernel.clocksource.is_empty() && !FAST_CLOCKS.contains(&&*of.kernel.clocksource) {
        doubt(format!("each reading of the clock is a system call: the clock is {}", of.kernel.clocksource));
    }
    if around.mitigations_asked.split(',').any(|word| word == "off") {
        doubt("the kernel's mitigations are off: few machines run like that".into());
    }
    if around.affinity != around.online {
        doubt(format!("the session may use the processors {} of {}", around.affinity, around.online));
    }
    for limit in &around.limits {
        if let Some(processors) = cgroup::processors(limit).filter(|&some| some < of.machine.cpus as f64) {
            let (some, cpus) = (three(processors), of.machine.cpus);
            doubt(format!("a control group allows the time of {some} processors, of {cpus} ({})", limit.file));
        }
    }
    let began = &around.began;
    match began.pressure.get("cpu") {
        Some(cpu) if cpu.avg10_percent > BUSY_PERCENT => {
            let percent = three(cpu.avg10_percent);
            doubt(format!("before the session, threads waited for a processor {percent} % of the time"));
        }
        None if began.load.first().is_some_and(|load| *load > 0.5) => {
            doubt(format!("before the session, the load was {:.2}", began.load[0]));
        }
        _ => {}
    }
    if began.swap_used_bytes > 0 {
        doubt(format!("{} of swap space were in use", bytes(began.swap_used_bytes)));
    }
    let Some(ended) = &around.ended else { return doubts };
    if let (Some(before), Some(after)) = (began.throttled_ns, ended.throttled_ns)
        && after > before
    {
        doubts.push(format!("a control group kept threads from running for {}", duration(after - before)));
    }
    if ended.swap_used_bytes > began.swap_used_bytes {
        let grown = bytes(ended.swap_used_bytes - began.swap_used_bytes);
        doubts.push(format!("{grown} were swapped out during the session"));
    }
    if let (Some(before), Some(after)) = (began.pressure.get("memory"), ended.pressure.get("memory")) {
        let (waited, all) = (after.total_ns.saturating_sub(before.total_ns), ended.at_ns.saturating_sub(began.at_ns));
        if waited * 100 > all {
            doubts.push(format!("some thread waited for memory for {} of the session", duration(waited)));
        }
    }
    doubts
}

/// As [`doubts`], of a session's runs.
pub(crate) fn doubts_of_runs(document: &Document) -> Vec<String> {
    let mut doubts = Vec::new();
    for group in groups(document) {
        let stolen = group.mean(|run| run.stolen_percent);
        if stolen > 1.0 {
            let (percent, label) = (three(stolen), &group.label);
            doubts.push(format!("{label}: the hypervisor took {percent} % of a processor for others"));
        }
        let is_own = |run: &Record| run.settings.heap.barrier.peer().is_none();
        // A parser beside the operations has no rate, and is not watched.
        let is_watched = |run: &Record| {
            let mutators = run.tracks.iter().filter(|track| track.metered).count() as u64;
            run.standstills.is_some_and(|found| found.watched >= mutators)
        };
        if group.runs.iter().any(|run| run.settings.rate > 0 && is_own(run) && !is_watched(run)) {
            let label = &group.label;
            doubts.push(format!(
                "{label}: not all mutators were watched for processors that stand still: the kernel allows it with \
                 CAP_PERFMON, or with kernel.perf_event_paranoid=1, within kernel.perf_event_mlock_kb"
            ));
        }
        let lost = group.runs.iter().filter(|run| run.lost_events > 0).count();
        if lost > 0 {
            doubts.push(format!("{}: the heap could not keep all events of {lost} runs", group.label));
        }
    }
    doubts
}

/// As people name a revision.
fn short(revision: &str) -> &str {
    revision.get(..12).unwrap_or(revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::cgroup::Limit;
    use crate::environment::{Environment, Pressure, State};
    use crate::report::samples::{document, head, of_runs};

    #[test]
    fn a_rate_without_a_watch_is_a_doubt() {
        let mut runs = document().runs;
        assert_eq!(doubts_of_runs(&document()), [""; 0], "as fast as it goes nobody is watched");
        runs[0].settings.rate = 1000;
        let doubts = doubts_of_runs(&of_runs(runs.clone()));
        assert!(doubts[0].contains("watched for processors that stand still"), "{doubts:?}");
        runs[0].standstills = Some(crate::standstill::Standstills { watched: 9, ..Default::default() });
        assert_eq!(doubts_of_runs(&of_runs(runs)), [""; 0]);
    }

    #[test]
    fn a_quiet_machine_and_a_known_build_leave_no_doubt() {
        assert_eq!(doubts(&head()), [""; 0]);
        assert_eq!(doubts_of_runs(&document()), [""; 0]);
    }

    type Change = fn(&mut Head);

    /// Each doubt comes from its own cause, and from nothing else.
    #[test]
    fn what_makes_a_reviewer_doubt_is_said() {
        let limit = |value: &str| Limit { file: "/sys/fs/cgroup/cpu.max".into(), value: value.into() };
        let causes: [(Change, &str); 14] = [
            (|of| of.build.revision.clear(), "revision that the program was built of is not known"),
            (|of| of.build.dirty = Some(true), "differ from revision 0123456789ab"),
            (|of| of.build.features.push("gc-core/inject".into()), "gc-core/inject"),
            (|of| of.machine.virtual_machine = true, "a virtual machine"),
            (|of| of.environment.governors = vec!["performance".into(), "powersave".into()], "is powersave, not"),
            (|of| of.kernel.clocksource = "hpet".into(), "the clock is hpet"),
            (|of| of.environment.mitigations_asked = "off".into(), "mitigations are off"),
            (|of| of.environment.affinity = "0".into(), "the processors 0 of 0-1"),
            (|of| of.environment.began.load = vec![0.6, 0.0, 0.0], "the load was 0.60"),
            (|of| of.environment.began.swap_used_bytes = 1 << 20, "1 MiB of swap space"),
            (
                |of| {
                    let cpu = Pressure { avg10_percent: 7.5, total_ns: 0 };
                    of.environment.began.pressure.insert("cpu".into(), cpu);
                },
                "waited for a processor 7.50 % of the time",
            ),
            (|of| of.environment.ended.as_mut().unwrap().throttled_ns = Some(6_000_000), "for 5.00 ms"),
            (|of| of.environment.ended.as_mut().unwrap().swap_used_bytes = 1 << 20, "were swapped out"),
            (
                |of| {
                    let memory = Pressure { avg10_percent: 0.0, total_ns: 30_000_000 };
                    of.environment.ended.as_mut().unwrap().pressure.insert("memory".into(), memory);
                },
                "waited for memory for 30.0 ms",
            ),
        ];
        for (change, part) in causes {
            let mut of = head();
            let memory = [("memory".to_owned(), Pressure::default())];
            of.environment.began.pressure = memory.into();
            let ended = State { at_ns: 1_000_000_000, throttled_ns: Some(1_000_000), ..State::default() };
            (of.environment.began.throttled_ns, of.environment.ended) = (Some(1_000_000), Some(ended));
            change(&mut of);
            let found = doubts(&of);
            assert!(found.len() == 1 && found[0].contains(part), "{found:?} is not {part}");
        }
        let mut of = head();
        (of.machine.cpus, of.environment.limits) = (2, vec![limit("150000 100000")]);
        assert!(doubts(&of)[0].contains("the time of 1.50 processors, of 2"), "{:?}", doubts(&of));
        of.environment.limits = vec![limit("200000 100000")];
        assert_eq!(doubts(&of), [""; 0], "all of the machine");
    }

    #[test]
    fn runs_have_doubts_of_their_own() {
        let mut document = document();
        document.runs[0].stolen_percent = 6.0;
        document.runs[4].lost_events = 3;
        let found = doubts_of_runs(&document);
        assert!(found.len() == 2 && found[0].starts_with("gcbench: the hypervisor took 2.00 %"), "{found:?}");
        assert!(found[1].starts_with("message-ring") && found[1].contains("events of 1 runs"), "{found:?}");
    }

    #[test]
    fn what_is_not_known_is_no_fact() {
        let mut of = head();
        of.environment = Environment::default();
        let names: Vec<&str> = facts(&of).iter().map(|fact| fact.0).collect();
        for name in ["caches", "governor", "control groups", "timer slack", "load at the begin", "flags"] {
            assert!(!names.contains(&name), "{name}");
        }
        let all = facts(&Head::now(1));
        for name in ["compiler", "features", "processors", "kernel", "timer tick", "preemption", "timer slack"] {
            assert!(all.iter().any(|(fact, value)| *fact == name && !value.is_empty()), "{name} in {all:?}");
        }
    }
}
