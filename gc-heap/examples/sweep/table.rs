//! What became of the cases, by call, errno and barrier.

use crate::cases::{BARRIERS, Case};
use crate::child::End;
use std::collections::BTreeMap;

/// How often each end came, by barrier.
type Row = BTreeMap<&'static str, BTreeMap<&'static str, usize>>;

#[derive(Default)]
pub(crate) struct Table {
    cells: BTreeMap<(String, i32), Row>,
    failures: Vec<String>,
}

impl Table {
    pub(crate) fn add(&mut self, case: &Case, end: End) {
        let row = self.cells.entry((case.call.clone(), case.errno)).or_default();
        *row.entry(case.barrier).or_default().entry(end.name()).or_default() += 1;
        if !end.is_fine() {
            let Case { barrier, call, errno, skip, count } = case;
            let count = if *count == u64::MAX { "all".into() } else { count.to_string() };
            self.failures.push(format!("{}: --child {barrier} '{call}' {errno} {skip} {count}: {end:?}", end.name()));
        }
    }

    /// The cases that ended as none should, each with what repeats it.
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    fn rows(&self) -> impl Iterator<Item = (&str, String, [String; 4])> {
        self.cells.iter().map(|((call, errno), row)| {
            let cell = |barrier: &'static str| {
                let Some(ends) = row.get(barrier) else { return String::new() };
                ends.iter().map(|(end, count)| format!("{count} {end}")).collect::<Vec<_>>().join(", ")
            };
            (call.as_str(), errno_name(*errno), BARRIERS.map(cell))
        })
    }

    pub(crate) fn text(&self) -> String {
        let mut text =
            format!("{:32} {:10} {:30} {:30} {:30} {}\n", "call", "errno", "load", "stw", "page", "anonymous");
        for (call, errno, [load, stw, page, anonymous]) in self.rows() {
            text += &format!("{call:32} {errno:10} {load:30} {stw:30} {page:30} {anonymous}\n");
        }
        text
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = "| call | errno | load | stop the world | page | page, anonymous |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
        for (call, errno, cells) in self.rows() {
            text += &format!("| `{call}` | {errno} | {} |\n", cells.join(" | "));
        }
        text
    }
}

fn errno_name(errno: i32) -> String {
    const NAMES: [(i32, &str); 17] = [
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::ESRCH, "ESRCH"),
        (libc::EINTR, "EINTR"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EACCES, "EACCES"),
        (libc::EFAULT, "EFAULT"),
        (libc::EBUSY, "EBUSY"),
        (libc::EEXIST, "EEXIST"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENFILE, "ENFILE"),
        (libc::EMFILE, "EMFILE"),
        (libc::EFBIG, "EFBIG"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    ];
    NAMES.iter().find(|(number, _)| *number == errno).map_or_else(|| errno.to_string(), |(_, name)| (*name).into())
}
