//! Processors by their numbers: which of them a run's process may use.

use std::str::FromStr;

use gc_core::sys;

use crate::failure::Failure;

/// What `--cpus` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cpus {
    /// So many, whichever they are.
    Count(usize),
    /// These, in ascending order.
    These(Vec<usize>),
}

/// Larger numbers are no processor's: a range of them would only take memory.
const MOST: usize = 1 << 16;

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.parse::<usize>() {
            Ok(number) if number < MOST => Ok(number),
            Ok(_) => Err(format!("`{text}` is more than any machine has")),
            Err(_) => Err(format!("`{text}` is neither a number of processors nor a list such as 0,2-3")),
        };
        if !text.contains([',', '-']) {
            return match number(text)? {
                0 => Err("must be at least 1".into()),
                count => Ok(Self::Count(count)),
            };
        }
        let mut these = Vec::new();
        for part in text.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to) = (number(from)?, number(to)?);
            if from > to {
                return Err(format!("{part}: {from} is more than {to}"));
            }
            these.extend(from..=to);
        }
        these.sort_unstable();
        these.dedup();
        Ok(Self::These(these))
    }
}

impl Cpus {
    /// Those of the processors that this process has which are asked for, found usable: of a count
    /// the first ones.
    pub(crate) fn choose(&self) -> Result<Vec<usize>, Failure> {
        let refused = |e: sys::SysError| Failure::input(format!("--cpus: {e}"));
        let chosen = self.among(&sys::affinity().map_err(refused)?)?;
        within(&chosen, || ()).map_err(refused)?;
        Ok(chosen)
    }

    fn among(&self, own: &[usize]) -> Result<Vec<usize>, Failure> {
        match self {
            Self::Count(count) if *count > own.len() => {
                let (has, which) = (own.len(), list(own));
                Err(Failure::input(format!("--cpus {count}: this process has {has} ({which}) and can withhold some")))
            }
            Self::Count(count) => Ok(own[..*count].to_vec()),
            Self::These(these) => match these.iter().find(|at| !own.contains(at)) {
                Some(at) => {
                    Err(Failure::input(format!("--cpus: {at} is not among those of this process, {}", list(own))))
                }
                None => Ok(these.clone()),
            },
        }
    }
}

/// Has the calling thread run on these processors alone while it starts something, which then stays
/// on them: a process, or threads. On all that it has, where there are none.
pub(crate) fn within<T>(processors: &[usize], start: impl FnOnce() -> T) -> Result<T, sys::SysError> {
    if processors.is_empty() {
        return Ok(start());
    }
    let before = sys::affinity()?;
    sys::set_affinity(processors)?;
    let started = start();
    sys::set_affinity(&before)?;
    Ok(started)
}

/// As people and the kernel write them: `0-2,5`. They are in ascending order.
pub(crate) fn list(processors: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &at in processors {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == at => *last = at,
            _ => ranges.push((at, at)),
        }
    }
    let range = |(from, to): (usize, usize)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_count_and_all_else_a_list() {
        let these = |list: &[usize]| Ok(Cpus::These(list.to_vec()));
        assert_eq!("3".parse(), Ok(Cpus::Count(3)));
        assert_eq!(("0-2,7".parse(), "4,".parse::<Cpus>().is_err()), (these(&[0, 1, 2, 7]), true));
        assert_eq!(("3,1,1-2".parse(), "5-5".parse()), (these(&[1, 2, 3]), these(&[5])));
        for wrong in ["0", "", "-1", "2-1", "a", "1-b", "0-99999999", "65536"] {
            assert!(wrong.parse::<Cpus>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_process_does_not_have_is_refused() {
        let own = [0, 1, 4, 5];
        let of = |text: &str| text.parse::<Cpus>().unwrap().among(&own).map_err(|e| e.line());
        assert_eq!((of("3"), of("4"), of("1,4-5")), (Ok(vec![0, 1, 4]), Ok(own.to_vec()), Ok(vec![1, 4, 5])));
        assert!(of("5").is_err_and(|line| line.contains("has 4 (0-1,4-5)")));
        assert!(of("4-6").is_err_and(|line| line.contains("6 is not among") && line.contains("0-1,4-5")));
    }

    #[test]
    fn a_list_is_read_as_it_is_written() {
        for text in ["0-1", "0,2", "0-2,5,7-9"] {
            assert_eq!(text.parse().map(|cpus| matches!(cpus, Cpus::These(these) if list(&these) == text)), Ok(true));
        }
        assert_eq!((list(&[4]), list(&[])), ("4".into(), String::new()));
    }

    #[test]
    fn what_is_started_stays_and_who_starts_it_does_not() {
        let own = sys::affinity().unwrap();
        let last = own[own.len() - 1];
        let thread = within(&[last], || std::thread::spawn(sys::affinity)).unwrap();
        assert_eq!((thread.join().unwrap(), sys::affinity()), (Ok(vec![last]), Ok(own)));
    }
}
