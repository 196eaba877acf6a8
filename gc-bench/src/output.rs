//! Files that appear whole or not at all.
//!
//! Whether the files can be written is checked before anything is run; results go to a temporary
//! file beside the target and are renamed over it, so that a reader never meets half a report and a
//! failed run leaves the last one alone. An earlier report stays, unless `--force` is given. A link
//! stays one, and the file that it leads to is replaced; a device or a pipe is written to as it is,
//! because a rename would put a file in its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;

/// Where the results go.
#[derive(Debug, Clone, Args)]
pub(crate) struct OutputArgs {
    /// Write the JSON there and, unless asked for too, no page; `-`: to standard output, and
    /// nothing else there
    #[arg(long, value_name = "FILE|-")]
    pub(crate) json: Option<PathBuf>,

    /// Write the page there and, unless asked for too, no JSON; `-`: to standard output, and
    /// nothing else there
    #[arg(long, value_name = "FILE|-")]
    pub(crate) html: Option<PathBuf>,

    /// Folder of gc-bench-report.json and gc-bench-report.html, made if it is not there [default:
    /// the current one]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Overwrite an earlier report; without it, nothing is run where one of the files is there
    #[arg(long)]
    pub(crate) force: bool,
}

impl OutputArgs {
    /// Whether anything was said of files.
    pub(crate) fn is_asked(&self) -> bool {
        self.json.is_some() || self.html.is_some() || self.out.is_some() || self.force
    }

    /// Where the JSON and the page go, which are called so where nothing else is said. Without any
    /// wish there are both; with `--out` both there; otherwise what was asked for and no more.
    fn targets(&self, name: &str) -> (Target, Target) {
        let folder = self.out.clone().unwrap_or_else(|| PathBuf::from("."));
        let both = self.out.is_some() || self.json.is_none() && self.html.is_none();
        let usual = |ending: &str| both.then(|| folder.join(format!("{name}.{ending}")));
        (Target::new(self.json.as_ref(), usual("json")), Target::new(self.html.as_ref(), usual("html")))
    }

    /// The file of the JSON, if it goes to one.
    pub(crate) fn json_file(&self, name: &str) -> Option<PathBuf> {
        self.targets(name).0.file().map(Path::to_owned)
    }
}

/// What a report is called where nothing else is said.
pub(crate) const REPORT: &str = "gc-bench-report";

/// Where the JSON or the page goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Nowhere,
    StandardOutput,
    File(PathBuf),
}

impl Target {
    /// What was asked for; `usual` where nothing was.
    fn new(asked: Option<&PathBuf>, usual: Option<PathBuf>) -> Self {
        match asked {
            Some(path) if path.as_os_str() == "-" => Self::StandardOutput,
            Some(path) => Self::File(path.clone()),
            None => usual.map_or(Self::Nowhere, Self::File),
        }
    }

    fn file(&self) -> Option<&Path> {
        if let Self::File(path) = self { Some(path) } else { None }
    }
}

/// Where everything goes, found writable.
#[derive(Debug)]
pub(crate) struct Outputs {
    json: Target,
    html: Target,
    /// Folders made for this report, outermost last: taken away again if it is never written.
    made: Vec<PathBuf>,
    written: bool,
}

impl Outputs {
    /// Works out the targets and tries each folder.
    pub(crate) fn prepare(args: &OutputArgs) -> Result<Self, Failure> {
        Self::prepare_as(args, REPORT)
    }

    /// The same, of a report of that name.
    pub(crate) fn prepare_as(args: &OutputArgs, name: &str) -> Result<Self, Failure> {
        let (json, html) = args.targets(name);
        if (&json, &html) == (&Target::StandardOutput, &Target::StandardOutput) {
            return Err(Failure::input("standard output cannot hold both the JSON and the page: name a file for one"));
        }
        let mut outputs = Self { json, html, made: Vec::new(), written: false };
        if let Some(out) = &args.out {
            outputs.make_folder(out)?;
        }
        let targets: Vec<PathBuf> = outputs.files().map(Path::to_owned).collect();
        for target in &targets {
            try_target(target)?;
        }
        if targets.len() == 2 && led_to(&targets[0]) == led_to(&targets[1]) {
            return Err(Failure::input(format!("{} cannot hold both the JSON and the page", targets[0].display())));
        }
        let earlier: Vec<String> = targets
            .iter()
            .filter(|target| holds_something(target))
            .map(|target| target.display().to_string())
            .collect();
        if !earlier.is_empty() && !args.force {
            let (files, are) = (earlier.join(" and "), if earlier.len() == 1 { "is" } else { "are" });
            let elsewhere = "--force overwrites, --out DIR writes elsewhere";
            return Err(Failure::input(format!("{files} {are} there already: {elsewhere}")));
        }
        Ok(outputs)
    }

    /// The files that will be written.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.json.file().into_iter().chain(self.html.file())
    }

    /// Whether the JSON or the page goes to standard output, which then has nothing else.
    pub(crate) fn use_standard_output(&self) -> bool {
        self.json == Target::StandardOutput || self.html == Target::StandardOutput
    }

    fn make_folder(&mut self, out: &Path) -> Result<(), Failure> {
        let missing: Vec<PathBuf> =
            out.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).map(Path::to_owned).collect();
        fs::create_dir_all(out)
            .map_err(|e| Failure::input(format!("cannot make the folder {}: {e}", out.display())))?;
        self.made = missing;
        Ok(())
    }

    /// Writes the texts of the files asked for.
    pub(crate) fn write(&mut self, json: &str, html: &str) -> Result<(), Failure> {
        let both = || [(&self.json, json), (&self.html, html)].into_iter();
        replace(both().filter_map(|(target, text)| Some((target.file()?, text))))?;
        self.written = true;
        for (_, text) in both().filter(|(target, _)| **target == Target::StandardOutput) {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())
                .and_then(|()| out.flush())
                .map_err(|e| Failure::run(format!("cannot write to standard output: {e}")))?;
        }
        Ok(())
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        if !self.written {
            for folder in &self.made {
                // Not empty means that someone else uses it by now.
                let _ = fs::remove_dir(folder);
            }
        }
    }
}

/// Gives each file its text. All are complete on disk before any gets its name.
pub(crate) fn replace<'a>(files: impl Iterator<Item = (&'a Path, &'a str)>) -> Result<(), Failure> {
    let (plain, special): (Vec<_>, Vec<_>) = files.partition(|(path, _)| !is_special(path));
    let staged: Vec<Staged<'_>> = plain.iter().map(|(path, text)| Staged::new(path, text)).collect::<Result<_, _>>()?;
    for (path, text) in special {
        let written = OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|e| cannot_write(path, &e))?;
    }
    staged.into_iter().try_for_each(Staged::publish)
}

fn cannot_write(target: &Path, e: &io::Error) -> Failure {
    Failure::run(format!("cannot write {}: {e}", target.display()))
}

/// Whether something else than a file has that name.
fn is_special(target: &Path) -> bool {
    fs::metadata(target).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Whether a file has that name, or a link there leads to one, and it is not empty.
fn holds_something(target: &Path) -> bool {
    fs::metadata(target).is_ok_and(|found| found.is_file() && found.len() > 0)
}

/// The file that a link leads to, and its folder's own name.
fn led_to(target: &Path) -> PathBuf {
    let in_folder = || Some(fs::canonicalize(parent(target)).ok()?.join(target.file_name()?));
    fs::canonicalize(target).ok().or_else(in_folder).unwrap_or_else(|| target.to_owned())
}

/// The folder a file is in.
fn parent(target: &Path) -> &Path {
    match target.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// A name beside the target that no other run of the bench uses.
fn temporary(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    parent(target).join(format!(".{name}.{}.tmp", std::process::id()))
}

fn try_target(target: &Path) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::input(format!("cannot write {}: {why}", target.display())));
    if target.file_name().is_none() || target.is_dir() {
        return refuse("it is a folder".into());
    }
    let folder = parent(target);
    if !folder.is_dir() {
        return refuse(format!("there is no folder {}", folder.display()));
    }
    if is_special(target) {
        // To open a pipe would wait for its reader.
        return Ok(());
    }
    let probe = temporary(&led_to(target));
    match File::create(&probe) {
        Ok(_) => {
            let _ = fs::remove_file(&probe);
            Ok(())
        }
        Err(e) => refuse(e.to_string()),
    }
}

/// A file complete on disk that has not got its name yet.
struct Staged<'a> {
    temporary: PathBuf,
    target: &'a Path,
    led_to: PathBuf,
    published: bool,
}

impl<'a> Staged<'a> {
    fn new(target: &'a Path, text: &str) -> Result<Self, Failure> {
        let led_to = led_to(target);
        let staged = Self { temporary: temporary(&led_to), target, led_to, published: false };
        let write = || -> io::Result<()> {
            let mut file = File::create(&staged.temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        match write() {
            Ok(()) => Ok(staged),
            Err(e) => Err(cannot_write(target, &e)),
        }
    }

    fn publish(mut self) -> Result<(), Failure> {
        fs::rename(&self.temporary, &self.led_to).map_err(|e| cannot_write(self.target, &e))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests;
