//! How long threads wait for memory, by the kernel's [pressure stall information].
//!
//! [pressure stall information]: https://docs.kernel.org/accounting/psi.html

use super::SysError;
use super::cgroup::version_2_groups;
use super::memory::read;
use std::path::Path;

/// The share of the last ten seconds, in hundredths of a percent, in which some thread of this
/// process's control group has waited for memory: that the kernel reclaimed some for it, or read
/// again what it had reclaimed (`some avg10` of `memory.pressure`, Linux 4.20, of version 2 alone).
/// Where no group from that of the process upwards says so: some thread of the machine
/// (`/proc/pressure/memory`). The kernel averages every two seconds.
///
/// # Errors
/// `ENOENT` from a kernel built without it, `EOPNOTSUPP` where it is turned off (`psi=0`); `EINVAL`
/// where the text has another form.
pub fn memory_stalls() -> Result<u32, SysError> {
    memory_stalls_below(Path::new("/"))
}

/// As [`memory_stalls`], of a file system with this root.
fn memory_stalls_below(root: &Path) -> Result<u32, SysError> {
    let of_group = |directory: &Path| read(&directory.join("memory.pressure"), "read(memory.pressure)").ok();
    let groups = version_2_groups(root);
    let (text, call) = match groups.iter().find_map(|directory| of_group(directory)) {
        Some(text) => (text, "read(memory.pressure)"),
        None => {
            let call = "read(/proc/pressure/memory)";
            (read(&root.join("proc/pressure/memory"), call)?, call)
        }
    };
    average(&text).ok_or(SysError::new(call, &[], libc::EINVAL))
}

/// The `12.34` of a line `some avg10=12.34 avg60=5.67 avg300=0.89 total=123456`.
fn average(text: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix("some avg10="))?;
    let (percent, hundredths) = line.split_whitespace().next()?.split_once('.')?;
    Some(percent.parse::<u32>().ok()? * 100 + hundredths.parse::<u32>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::Root;
    use super::*;

    /// A file of which the second line says less.
    fn says(percent: &str) -> String {
        let full = "full avg10=0.01 avg60=0.00 avg300=0.00 total=7";
        format!("some avg10={percent} avg60=0.50 avg300=0.02 total=11220657\n{full}\n")
    }

    #[test]
    fn the_own_group_says_it_or_one_above_or_the_machine() {
        let [machine, above, own] = ["1.00", "22.05", "100.00"].map(says);
        let proc = [("proc/self/cgroup", "4:memory:/job\n0::/slice/unit\n"), ("proc/pressure/memory", &*machine)];
        let above = ("sys/fs/cgroup/slice/memory.pressure", &*above);
        let deeper = ("sys/fs/cgroup/unified/slice/unit/memory.pressure", &*own);
        let own = ("sys/fs/cgroup/slice/unit/memory.pressure", &*own);
        let cases = [
            ("own", vec![own, above], 10_000),
            ("above", vec![above], 2205),
            // Where version 1 runs as well.
            ("deeper", vec![deeper], 10_000),
            ("machine", vec![], 100),
        ];
        for (name, groups, stalls) in cases {
            let root = Root::new(&format!("stalls-{name}"), &[&proc[..], &groups[..]].concat());
            assert_eq!(memory_stalls_below(root.path()).unwrap(), stalls, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let root = Root::new("stalls-none", &[("proc/self/cgroup", "0::/\n")]);
        assert_eq!(memory_stalls_below(root.path()).unwrap_err().errno(), libc::ENOENT);
        let root = Root::new("stalls-other", &[("proc/pressure/memory", "some avg10=much\n")]);
        assert_eq!(memory_stalls_below(root.path()).unwrap_err().errno(), libc::EINVAL);
    }
}
