//! HotSpot's log of safepoints ([unified logging](https://openjdk.org/jeps/158), tag `safepoint`).

use crate::timeline::Stop;

/// The stops in a log whose lines begin with the monotonic clock's nanoseconds, as far as they lie
/// in a stretch; times from its start. A line is written when its stop has ended:
///
/// `[62669102116499ns] Safepoint "G1CollectForAllocation", Time since last: 51119694 ns, Reaching
/// safepoint: 3275 ns, At safepoint: 90949033 ns, Total: 90957085 ns`
pub(super) fn stops(log: &str, from_ns: u64, to_ns: u64) -> Vec<Stop> {
    let stop = |line: &str| {
        let (time, rest) = line.strip_prefix('[')?.split_once("ns]")?;
        let ended_ns: u64 = time.trim().parse().ok()?;
        let kind = rest.trim_start().strip_prefix("Safepoint \"")?.split('"').next()?;
        let field = |name: &str| {
            let (_, value) = rest.split_once(name)?;
            value.trim_start().split(' ').next()?.parse::<u64>().ok()
        };
        let (duration_ns, safepoint_ns) = (field("Total:")?, field("Reaching safepoint:")?);
        let start_ns = ended_ns.checked_sub(duration_ns)?;
        (ended_ns > from_ns && start_ns < to_ns).then(|| Stop {
            mutator: None,
            kind: kind.to_owned(),
            start_ns: start_ns.saturating_sub(from_ns),
            duration_ns,
            safepoint_ns,
            before_ns: from_ns.saturating_sub(start_ns),
        })
    };
    let mut stops: Vec<Stop> = log.lines().filter_map(stop).collect();
    stops.sort_by_key(|stop| stop.start_ns);
    stops
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of JDK 17 and of JDK 25, one that is not of a stop, and stops before and behind.
    #[test]
    fn stops_that_lie_in_the_measured_part_are_read() {
        let log = "\
[900ns] Safepoint \"Cleanup\", Time since last: 5 ns, Reaching safepoint: 3 ns, Cleanup: 1 ns, At safepoint: 90 ns, Total: 94 ns
[1050ns] Safepoint \"G1CollectForAllocation\", Time since last: 51 ns, Reaching safepoint: 7 ns, Cleanup: 4 ns, At safepoint: 90 ns, Total: 101 ns
[1700ns] Safepoint \"XMarkStart\", Time since last: 51 ns, Reaching safepoint: 20 ns, At safepoint: 60 ns, Leaving safepoint: 10 ns, Total: 90 ns, Threads: 2 runnable, 12 total
[1800ns] nothing of that kind
[2400ns] Safepoint \"Behind\", Time since last: 51 ns, Reaching safepoint: 20 ns, At safepoint: 60 ns, Total: 90 ns
";
        let stop = |kind: &str, start_ns, duration_ns, safepoint_ns, before_ns| Stop {
            mutator: None,
            kind: kind.into(),
            start_ns,
            duration_ns,
            safepoint_ns,
            before_ns,
        };
        assert_eq!(
            stops(log, 1000, 2300),
            [stop("G1CollectForAllocation", 0, 101, 7, 51), stop("XMarkStart", 610, 90, 20, 0)]
        );
    }
}
