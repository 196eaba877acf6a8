//! The options of the standard workloads on one command line.
//!
//! `gc-bench table-churn gcbench --quick` names several workloads, so their options stand together:
//! each once, with what it is to each workload in the help. clap knows from the workloads' own
//! definitions which of them has which, and an option that a named workload does not have is
//! refused: a reader would believe that it changed something.

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Id};

use super::binary_trees::BinaryTrees;
use super::common::Standard;
use super::gcbench::GcBench;
use super::idle::Idle;
use super::lru_cache::LruCache;
use super::message_ring::MessageRing;
use super::robson::Robson;
use super::table_churn::TableChurn;
use super::tides::Tides;
use super::work::Work;
use crate::failure::Failure;

/// The four of a plain run, in its order, and those that are run by name alone.
static STANDARD: [Entry; 8] = [
    Entry::of::<GcBench>(),
    Entry::of::<BinaryTrees>(),
    Entry::of::<MessageRing>(),
    Entry::of::<TableChurn>(),
    Entry::of::<LruCache>(),
    Entry::of::<Tides>(),
    Entry::of::<Robson>(),
    Entry::of::<Idle>(),
];

/// A standard workload: its name, its options, and what it makes of them.
#[derive(Debug)]
struct Entry {
    name: &'static str,
    about: &'static str,
    in_a_plain_run: bool,
    with_options: fn(Command) -> Command,
    works: fn(&ArgMatches, bool) -> Result<Vec<Work>, Failure>,
}

impl Entry {
    const fn of<W: Standard + Into<Work>>() -> Self {
        Self {
            name: W::NAME,
            about: W::ABOUT,
            in_a_plain_run: W::IN_A_PLAIN_RUN,
            with_options: W::Args::augment_args,
            works: |matches, quick| {
                let args = W::Args::from_arg_matches(matches).map_err(|e| Failure::input(e.to_string()))?;
                Ok(W::works(args, quick)?.into_iter().map(W::into).collect())
            },
        }
    }

    fn options(&self) -> Vec<Arg> {
        (self.with_options)(Command::new(self.name)).get_arguments().cloned().collect()
    }
}

/// An option, and the workloads that have it.
struct Shared {
    arg: Arg,
    users: Vec<(&'static str, Arg)>,
}

/// Each option of the standard workloads, once.
fn shared() -> Vec<Shared> {
    let mut all: Vec<Shared> = Vec::new();
    for (entry, arg) in STANDARD.iter().flat_map(|entry| entry.options().into_iter().map(move |arg| (entry, arg))) {
        let known = all.iter_mut().find(|shared| shared.arg.get_id() == arg.get_id());
        match known {
            Some(shared) => shared.users.push((entry.name, arg)),
            None => all.push(Shared { arg: arg.clone(), users: vec![(entry.name, arg)] }),
        }
    }
    all
}

impl Shared {
    fn id(&self) -> &Id {
        self.arg.get_id()
    }

    fn long(&self) -> String {
        format!("--{}", self.arg.get_long().unwrap_or_default())
    }

    /// Whether a value means something else to each workload: then its name differs, too.
    fn differs(&self) -> bool {
        let first = self.arg.get_value_names();
        self.users.iter().any(|(_, arg)| arg.get_value_names() != first)
    }

    fn is_of(&self, name: &str) -> bool {
        self.users.iter().any(|&(user, _)| user == name)
    }

    fn names(&self) -> String {
        self.users.iter().map(|&(name, _)| name).collect::<Vec<_>>().join(", ")
    }

    fn into_arg(self) -> Arg {
        let text = |arg: &Arg| arg.get_help().map(ToString::to_string).unwrap_or_default();
        // What an option is to several workloads stands there once.
        let mut uses: Vec<(Vec<&str>, String)> = Vec::new();
        for (name, arg) in &self.users {
            let text = text(arg);
            match uses.iter_mut().find(|(_, known)| *known == text) {
                Some((names, _)) => names.push(name),
                None => uses.push((vec![name], text)),
            }
        }
        let uses = uses.iter().map(|(names, text)| format!("{}: {text}", names.join(", ")));
        let help = uses.collect::<Vec<_>>().join("; ");
        let differs = self.differs();
        let arg = self.arg.help(help);
        if differs { arg.value_name("X") } else { arg }
    }
}

const WORKLOADS: &str = "workloads";

/// Which workloads were named, with the options for them.
#[derive(Debug)]
pub(crate) struct WorkArgs {
    chosen: Vec<&'static Entry>,
    matches: ArgMatches,
}

impl WorkArgs {
    /// What is to be run, in order.
    pub(crate) fn works(&self, quick: bool) -> Result<Vec<Work>, Failure> {
        let works = self.chosen.iter().map(|entry| (entry.works)(&self.matches, quick));
        Ok(works.collect::<Result<Vec<_>, _>>()?.concat())
    }
}

impl Args for WorkArgs {
    fn augment_args(command: Command) -> Command {
        let names = STANDARD.iter().map(|entry| PossibleValue::new(entry.name).help(entry.about));
        let workloads = Arg::new(WORKLOADS)
            .value_name("WORKLOAD")
            .num_args(0..)
            .value_parser(PossibleValuesParser::new(names))
            .help("Which workloads to run [default: the first four]");
        command.arg(workloads).args(shared().into_iter().map(Shared::into_arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for WorkArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let refuse = |why: String| Err(clap::Error::raw(ErrorKind::ArgumentConflict, why));
        let mut chosen: Vec<&'static Entry> = Vec::new();
        for name in matches.get_many::<String>(WORKLOADS).into_iter().flatten() {
            if chosen.iter().any(|entry| entry.name == name) {
                return refuse(format!("{name} is named twice (--repeats N runs it N times)"));
            }
            chosen.extend(STANDARD.iter().find(|entry| entry.name == name));
        }
        let one_is_named = chosen.len() == 1;
        if chosen.is_empty() {
            chosen.extend(STANDARD.iter().filter(|entry| entry.in_a_plain_run));
        }
        let given = |option: &Shared| matches.value_source(option.id().as_str()) == Some(ValueSource::CommandLine);
        for option in shared().iter().filter(|option| given(option)) {
            let long = option.long();
            if option.differs() && !one_is_named {
                return refuse(format!("{long} means something else to each workload: name the one it is for"));
            }
            if let Some(entry) = chosen.iter().find(|entry| !option.is_of(entry.name)) {
                let (name, users) = (entry.name, option.names());
                return refuse(format!("{name} has no use for {long}: name the workloads that have ({users})"));
            }
        }
        Ok(Self { chosen, matches: matches.clone() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
